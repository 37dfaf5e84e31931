"""The loop of emulated links: its time-outs are never rounded up, and it sees what any loop sees."""

from __future__ import annotations

import asyncio
import select
import socket
import sys

import pytest

from kwik.apps import exact

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only epoll rounds")

DELAYS_S = [0.0003, 0.0087, 0.009, 0.0125]
"""asyncio's own loop asks epoll for 1, 10, 10 and 13 ms."""


def test_no_wait_is_longer_than_its_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    waiting = select.select

    def listen(reading, writing, failing, timeout):
        asked.append(timeout)
        return waiting(reading, writing, failing, timeout)

    async def sleep() -> None:
        for delay_s in DELAYS_S:
            asked.clear()
            await asyncio.sleep(delay_s)
            assert asked
            assert max(asked) <= delay_s

    monkeypatch.setattr(select, "select", listen)
    exact.run(sleep())


def test_what_becomes_ready_ends_the_wait() -> None:
    async def echo() -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, theirs.send, b"x")
            async with asyncio.timeout(60):
                return await loop.sock_recv(ours, 10)

    assert exact.run(echo()) == b"x"


def test_a_number_too_large_for_select_is_waited_for_by_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "SELECT_LIMIT", 0)
    monkeypatch.setattr(select, "select", None)
    exact.run(asyncio.sleep(0.001))
