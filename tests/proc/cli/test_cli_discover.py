"""`kwik discover` as a process: what a check says of servers that are not what they should be, and watching."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.proc.cli.commands import Commands

SERVICE = "files.example:80"


def checks(commands: Commands, *servers: str, service: str = SERVICE) -> tuple[int, list[str]]:
    """Exit code and what the check says of each server, in the order of the addresses given."""
    named = [part for server in servers for part in ("--server", server)]
    code, out, err = commands.run(
        "discover", service, *named, "--check", "--cafile", "certs/ca.pem", "--timeout", "2s", "--json"
    )
    assert err == ""
    found = {check["address"]: check for each in json.loads(out)["servers"] for check in each["checks"]}
    return code, ["ok" if found[server]["ok"] else found[server]["detail"] for server in servers]


def test_each_server_is_judged_by_itself(files: Commands, server: str):
    good = server
    files.certificate("other.example", "files.example")
    _, other = files.serve("other.example:80", "--files", "files")
    hole = files.start("link", "--to", good, "--loss", "100%", "--json").ready()["listen"]
    code, found = checks(files, good, other, hole, "127.0.0.1:9")
    assert code == 0
    assert found == [
        "ok",
        "serves other.example:80, not files.example:80",
        "no answer within 2 s",
        "error: nobody listens there (port unreachable)",
    ]


def test_a_server_without_the_name_is_none(files: Commands, server: str):
    code, (found,) = checks(files, server, service="app.example:80")
    assert code == 3
    assert found.startswith("refused tls")


def test_the_check_names_the_server(files: Commands, server: str):
    code, out, _ = files.run("discover", SERVICE, "--server", server, "--check", "--cafile", "certs/ca.pem")
    assert code == 0
    assert f"    {server}: ok, one#" in out
    assert ", replicated, handshake " in out


def test_no_application_notices_a_check(commands: Commands):
    commands.certificate("app.example")
    _, server = commands.serve("app.example:80", "--upstream", "127.0.0.1:1")
    assert checks(commands, server, service="app.example:80") == (0, ["ok"])


def test_a_name_that_does_not_resolve(files: Commands):
    code, out, _ = files.run("discover", SERVICE, "--server", "nobody.invalid")
    assert code == 3
    assert "no server of files.example:80 was found" in out
    assert "nobody.invalid does not resolve" in out


def test_watching_ends_with_an_interrupt(files: Commands):
    process = files.start("discover", SERVICE, "--server", "127.0.0.1:9", "--watch")
    assert process.line() == "found  127.0.0.1:9  127.0.0.1:9  (static)\n"
    process.signal(signal.SIGINT)
    assert process.finish()[0] == 130


@pytest.mark.multicast
def test_watching_sees_servers_come_and_go(files: Commands):
    service = f"files-{os.urandom(4).hex()}.example:80"
    files.certificate(service.removesuffix(":80"))
    loopback = ["--mdns-interface", "127.0.0.1"]
    watch = files.start("discover", service, "--watch", "--json", *loopback)
    server, address = files.serve(service, "--files", "files", "--announce", *loopback, "--id", "one")
    came = json.loads(watch.line())
    assert (came["event"], came["id"], came["addresses"]) == ("found", "one", [address])
    server.signal(signal.SIGTERM)
    drains = json.loads(watch.line())
    if drains["event"] == "found":  # it may be gone before anybody hears that it drains
        assert drains["state"] == "drain"
        drains = json.loads(watch.line())
    assert drains["event"] == "gone"
