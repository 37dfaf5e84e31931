"""`kwik serve` as a process: ready line, graceful stop, signals, what keeps it from starting, the parent's end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

import pytest

import kwik
from tests.proc.cli.commands import Commands, Process

SERVICE = "files.example:80"


def dial(commands: Commands, address: str) -> kwik.Conn:
    conn = kwik.dial(SERVICE, servers=[address], cafile=commands.folder / "certs" / "ca.pem", timeout=20)
    conn.settimeout(20)
    return conn


def request(conn: kwik.Conn, path: str = "/big.bin") -> None:
    conn.sendall(f"GET {path} HTTP/1.1\r\nHost: files.example\r\n\r\n".encode())


def test_ready_line_names_everything(files: Commands):
    process = files.start(
        *("serve", "--listen", "127.0.0.1:0", "--service", SERVICE, "--files", "files", "--id", "mirror-1"),
        *("--cert", "certs/files.example.pem", "--key", "certs/files.example.key"),
    )
    line = process.line()
    assert line.startswith(f"ready: serving {SERVICE} on 127.0.0.1:")
    assert line.endswith(", id mirror-1\n")
    process.signal(signal.SIGTERM)
    assert process.finish() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(files: Commands, number: int):
    process, _ = files.serve(SERVICE, "--files", "files")
    process.signal(number)
    assert process.finish()[0] == 0


def test_a_graceful_stop_finishes_what_is_under_way(files: Commands):
    process, address = files.serve(SERVICE, "--files", "files")
    with dial(files, address) as conn:
        request(conn)
        received = conn.recv(1000)
        process.signal(signal.SIGTERM)
        conn.shutdown(socket.SHUT_WR)
        while data := conn.recv(65536):
            received += data
    assert received.endswith(bytes(range(256)))
    assert received.partition(b"\r\n\r\n")[2] == bytes(range(256)) * 8000
    assert process.finish()[0] == 0


def test_drain_has_an_end(files: Commands):
    process, address = files.serve(SERVICE, "--files", "files", "--drain", "200ms")
    with dial(files, address) as conn:
        request(conn)
        conn.recv(1000)
        process.signal(signal.SIGTERM)
        assert process.finish()[0] == 0


def test_a_second_signal_stops_at_once(files: Commands):
    process, address = files.serve(SERVICE, "--files", "files", "--drain", "1000s")
    with dial(files, address) as conn:
        request(conn)
        conn.recv(1000)
        process.signal(signal.SIGTERM)
        check = ["discover", SERVICE, "--check", "--server", address, "--cafile", "certs/ca.pem"]
        while "drains" not in files.run(*check)[1]:  # until the first signal was taken
            assert process.popen.poll() is None
        process.signal(signal.SIGTERM)
        assert process.finish()[0] == 0


def test_hang_up_is_ignored(files: Commands):
    process, address = files.serve(SERVICE, "--files", "files")
    process.signal(signal.SIGHUP)
    with dial(files, address) as conn:
        request(conn)
        assert conn.recv(8) == b"HTTP/1.1"


def test_it_ends_with_its_parent(files: Commands):
    process, _ = files.serve(SERVICE, "--files", "files", stdin=subprocess.DEVNULL)
    assert process.popen.poll() is None  # only when it was asked to
    command = ["--exit-with-stdin", "serve", "--listen", "127.0.0.1:0", "--service", SERVICE, "--files", "files"]
    command += ["--cert", "certs/files.example.pem", "--key", "certs/files.example.key", "--json"]
    child = files.start(*command, stdin=subprocess.PIPE)
    child.ready()
    assert child.popen.stdin is not None
    child.popen.stdin.close()
    child.popen.stdin = None
    assert child.finish()[0] == 0


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (["--cert", "certs/ca.pem"], 2, "key"),
        (["--files", "nowhere"], 2, "not a directory"),
        (["--listen", "192.0.2.1:0"], 1, "assign"),
        (["--service", "other.example:80"], 2, "other.example"),
        (["--advertise", "127.0.0.1:1"], 2, "--announce"),
    ],
)
def test_what_keeps_it_from_serving(files: Commands, change: list[str], code: int, text: str):
    base = {"--listen": "127.0.0.1:0", "--service": SERVICE, "--files": "files"}
    base |= {"--cert": "certs/files.example.pem", "--key": "certs/files.example.key"}
    base |= dict([change])
    found, out, err = files.run("serve", *(part for pair in base.items() for part in pair))
    assert (found, out) == (code, "")
    assert text in err
    assert err.count("\n") == 1, err


def test_port_in_use(files: Commands):
    _, address = files.serve(SERVICE, "--files", "files")
    options = ["--service", SERVICE, "--files", "files", "--cert", "certs/files.example.pem"]
    code, _, err = files.run("serve", "--listen", address, *options, "--key", "certs/files.example.key")
    assert code == 1
    assert "in use" in err


@pytest.mark.multicast
def test_announced_servers_are_found_by_mdns(files: Commands):
    service = f"files-{os.urandom(4).hex()}.example:80"
    files.certificate(service.removesuffix(":80"))
    loopback = ["--mdns-interface", "127.0.0.1"]
    process, address = files.serve(service, "--files", "files", "--announce", *loopback, "--id", "near")
    code, out, err = files.run("discover", service, "--check", "--cafile", "certs/ca.pem", "--json", *loopback)
    assert code == 0, err
    (server,) = [each for each in json.loads(out)["servers"] if each["source"] == "mdns"]
    assert server["id"] == "near"
    assert server["addresses"] == [address]
    assert server["checks"][0]["ok"]
    code, out, err = files.run("get", f"http://{service}/big.bin", "--cafile", "certs/ca.pem", *loopback)
    assert code == 0, err
    code, out, _ = files.run("discover", *loopback, "--json")
    assert {"service": service, "servers": ["near"]} in json.loads(out)
    stop(process)
    code, out, err = files.run("discover", service, *loopback, "--json", "--timeout", "2s")
    assert [each["source"] for each in json.loads(out)["servers"]] == [], "it said good-bye"
    assert code == 3


@pytest.mark.multicast
def test_another_address_can_be_advertised(files: Commands):
    service = f"files-{os.urandom(4).hex()}.example:80"
    files.certificate(service.removesuffix(":80"))
    loopback = ["--mdns-interface", "127.0.0.1"]
    files.serve(service, "--files", "files", "--announce", *loopback, "--advertise", "127.0.0.1:9999")
    code, out, _ = files.run("discover", service, "--json", *loopback)
    assert code == 0
    assert [each["addresses"] for each in json.loads(out)["servers"]] == [["127.0.0.1:9999"]]


def stop(process: Process) -> None:
    process.signal(signal.SIGTERM)
    assert process.finish()[0] == 0
