"""A reader and a writer at once: what waits in the socket is there, and all else is as asyncio has it."""

import asyncio
import socket

import pytest

from kwik.engine.quick import quick_streams


@pytest.fixture
def ends():
    made = socket.socketpair()
    yield made
    for each in made:
        each.close()


async def test_what_has_come_is_there(ends):
    ours, theirs = ends
    theirs.sendall(b"request\n")
    streams = quick_streams(ours, asyncio.get_running_loop())
    assert streams is not None
    reader, writer = streams
    assert await reader.readline() == b"request\n"
    theirs.sendall(b"more\n")
    assert await reader.readline() == b"more\n"
    writer.write(b"answer")
    await writer.drain()
    assert theirs.recv(100) == b"answer"
    theirs.shutdown(socket.SHUT_WR)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert theirs.recv(1) == b""


async def test_an_end_of_file_comes_by_itself(ends):
    ours, theirs = ends
    theirs.close()
    streams = quick_streams(ours, asyncio.get_running_loop())
    assert streams is not None
    reader, writer = streams
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_other_loops_are_left_to_asyncio(ends):
    class Foreign:
        pass

    assert quick_streams(ends[0], Foreign()) is None  # type: ignore[arg-type]
