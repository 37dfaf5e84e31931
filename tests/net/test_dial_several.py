"""dial over real QUIC with several replicated servers: together, and when one of them dies in mid-stream."""

import asyncio
import os

import pytest

from tests.net.services import receive_all

DATA = os.urandom(8_000_000)


def answer(conn):
    with conn:
        assert conn.makefile("rb").readline() == b"GET\n"
        conn.sendall(DATA)


@pytest.fixture
def three(echo_service):
    listeners = [echo_service.start(answer, replicated=True) for _ in range(3)]
    return {listener.server.instance.id: listener for listener in listeners}


@pytest.mark.slow
def test_three_servers_give_one_stream(echo_service, three):
    with echo_service.dial(replicas=3) as conn:
        conn.sendall(b"GET\n")
        got = conn.recv(1)
        got += receive_all(conn)
        assert got == DATA
        stats = conn.stats()
        assert stats.delivered_bytes == len(DATA)
        assert stats.rejected_blocks == 0


@pytest.mark.slow
@pytest.mark.parametrize("role", ["anchor", "helper"])
def test_a_server_dies_in_mid_stream(echo_service, three, role):
    with echo_service.dial(replicas=3) as conn:
        conn.sendall(b"GET\n")
        got = bytearray()
        while len(got) < 1_000_000:
            got += conn.recv(65536)
        stats = conn.stats()
        assert stats.delivered_bytes < len(DATA)
        victim = next(share.server_id for share in stats.shares if share.role == role)
        asyncio.run(three[victim].server.close())
        got += receive_all(conn)
        assert got == DATA
        assert conn.stats().epoch == (2 if role == "anchor" else 1)
