"""The engine's end of an application's own Unix socket: nothing it leaves unread may keep the application waiting."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kwik.engine.local import LocalEnd, end_of, make_pair

LARGE = 300_000
PLENTY = 1 << 20


@pytest.fixture
def ends() -> Iterator[tuple[LocalEnd, socket.socket]]:
    """The engine's end, and the application's, with buffers as the system makes them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.setblocking(False)
    end = end_of(ours)
    with ours, theirs:
        yield end, theirs


def drain(end: LocalEnd, limit: int = PLENTY) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := end.receive(limit):
            data += piece
    return data


def may_write(application: socket.socket) -> bool:
    poll = select.poll()
    poll.register(application, select.POLLOUT)
    return any(mask & select.POLLOUT for _, mask in poll.poll(0))


@pytest.mark.parametrize("limit", [PLENTY, 65536, 5000], ids=str)
def test_an_application_that_uses_sendfile_is_never_kept_from_writing(ends, tmp_path: Path, limit: int):
    """What sendfile() sends lies in the queue as 64 KiB at a time, and one unread byte keeps all of it charged."""
    end, application = ends
    content = os.urandom(LARGE)
    (tmp_path / "file").write_bytes(content)
    got = b""
    with (tmp_path / "file").open("rb") as file:
        while len(got) < LARGE:
            with contextlib.suppress(BlockingIOError):
                while os.sendfile(application.fileno(), file.fileno(), None, LARGE):
                    pass
            got += drain(end, limit)
            assert may_write(application), f"after {len(got)} bytes"
    assert got == content


@pytest.mark.parametrize("small", [4096, 60_000])
def test_a_small_send_buffer_does_not_hang_either(ends, small: int):
    end, application = ends
    application.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, small)
    sent, got = os.urandom(LARGE), b""
    left = memoryview(sent)
    while len(got) < LARGE:
        with contextlib.suppress(BlockingIOError):
            while left:
                left = left[application.send(left) :]
        got += drain(end)
        assert may_write(application), f"after {len(got)} bytes"
    assert got == sent


def is_reset_seen(application: socket.socket) -> bool:
    application.setblocking(True)
    try:
        return application.recv(1) != b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sizes", [[1], [500], [1, 1, 1], [LARGE // 4, 20], [LARGE // 4, 20, 30]], ids=str)
def test_an_abort_is_a_reset_for_an_application_that_last_wrote_little(ends, sizes: list[int]):
    end, application = ends
    for size in sizes:
        application.send(bytes(size))
        assert len(drain(end)) == size
    end.close(reset=True)
    assert is_reset_seen(application)


def test_bytes_are_given_once_whatever_is_held(ends):
    end, application = ends
    sent = b""
    for size in (1, 5000, 3, 70_000, 1, 1, 4095, 4096, 4097, 12):
        data = os.urandom(size)
        application.send(data)
        sent += data
        assert drain(end) == data
        assert end.is_drained()
    application.close()
    end.on_event(select.EPOLLRDHUP)
    assert end.receive(10) == b""


@pytest.mark.parametrize("first", [1, 600])
def test_urgent_bytes_behind_a_held_one_are_no_end(ends, first: int):
    end, application = ends
    application.send(bytes(first))
    assert len(drain(end)) == first
    application.send(b"!", socket.MSG_OOB)
    application.send(bytes(1000))
    assert drain(end) == b"!" + bytes(1000)
    assert end.is_drained()


def test_it_knows_when_it_has_taken_all(ends):
    """What is left, and an end that was told already, no event will tell of: then one must ask again."""
    end, application = ends
    application.send(bytes(5000))
    assert (len(end.receive(2000)), end.emptied) == (2000, False)
    assert (len(end.receive(PLENTY)), end.emptied) == (3000, True)
    application.send(b"last")
    application.close()
    end.on_event(select.EPOLLRDHUP)
    assert (end.receive(PLENTY), end.emptied) == (b"last", False)
    assert end.receive(PLENTY) == b""


def test_an_end_of_our_own_holds_its_byte_always():
    end, application = make_pair()
    with application:
        for size in (1, 100_000):
            application.send(bytes(size))
            assert len(drain(end)) == size
        end.close(reset=True)
        assert is_reset_seen(application)
