"""TLS through gateways that are declared replicated: one application alone sees the stream (SPEC §6.2)."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable

import pytest

import kwik
from kwik.quic.certs import issue, make_ca, write_issued
from tests.proc.cli.commands import Commands
from tests.proc.cli.test_cli_gateway import SERVICE, Behaviour, application, reached

ANSWER = os.urandom(3_000_000)


@pytest.fixture
def speaks_tls(commands: Commands) -> tuple[ssl.SSLContext, Callable[[list[int]], Behaviour]]:
    """A client's context, and an application over TLS that notes how much each of its connections brought."""
    ca = make_ca()
    write_issued(issue(ca, ["app.example"]), commands.folder / "app.pem", commands.folder / "app.key")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(commands.folder / "app.pem", commands.folder / "app.key")
    client = ssl.create_default_context(cadata=ca.cert_pem.decode())

    def application_of(seen: list[int]) -> Behaviour:
        def behave(accepted: socket.socket) -> None:
            head = accepted.recv(5, socket.MSG_PEEK)
            seen.append(len(head))
            if head:
                with server.wrap_socket(accepted, server_side=True) as secure:
                    assert secure.recv(100) == b"all of it, please"
                    secure.sendall(ANSWER)

        return behave

    return client, application_of


@pytest.mark.parametrize("replicas", [1, 2])
def test_tls_through_replicated_gateways_reaches_one_application(commands: Commands, speaks_tls, replicas: int):
    client, application_of = speaks_tls
    commands.certificate("app.example")
    seen: list[list[int]] = [[], []]
    with application(application_of(seen[0])) as one, application(application_of(seen[1])) as two:
        servers = [
            commands.serve(SERVICE, "--upstream", reached(app), "--replicated", "--id", name)[1]
            for app, name in ((one, "one"), (two, "two"))
        ]
        # Everything tempts the client to bring in the other server: a standby, and a backlog of nothing at all.
        config = kwik.Config(recruit_backlog_bytes=16384, replicas=replicas)
        conn = kwik.dial(
            SERVICE, servers=servers, cafile=commands.folder / "certs" / "ca.pem", timeout=20, config=config
        )
        conn.settimeout(20)
        with client.wrap_socket(conn, server_hostname="app.example") as secure:
            secure.sendall(b"all of it, please")
            got = b""
            while len(got) < len(ANSWER):
                got += secure.recv(65536)
        assert got == ANSWER
        assert one.errors == two.errors == []
    assert sorted(size for sizes in seen for size in sizes if size) == [5]
