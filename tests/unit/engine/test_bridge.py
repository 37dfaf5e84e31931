"""The bridge over AF_UNIX pairs, without any network: every way in which the two sides may end."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from kwik.engine.handle import registry
from kwik.engine.watch import Watcher
from kwik.errors import StreamReset
from tests.unit.engine.fakes import EchoPort, bridged_pair, wait_until_asleep


@pytest_asyncio.fixture
async def watcher() -> AsyncIterator[Watcher]:
    watcher = Watcher(asyncio.get_running_loop())
    yield watcher
    assert len(watcher.descriptors()) == 1, "a bridge was left open"
    watcher.close()


def receive_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; returns how much it took."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += sock.send(bytes(65536))
    return size


async def in_thread(call, *args):
    return await asyncio.to_thread(call, *args)


async def test_bytes_come_and_go(watcher):
    port = EchoPort()
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"a")
        assert await in_thread(app.recv, 10) == b"a"
        app.sendall(b"hello")
        assert await in_thread(app.recv, 10) == b"hello"
    await port.until(lambda: port.closed is not None)
    assert port.closed is False
    assert bytes(port.received) == b"ahello"
    bridge.finish()


async def test_a_megabyte_each_way_in_odd_pieces(watcher):
    port = EchoPort(window=100_001)
    bridge, app = bridged_pair(watcher, port)
    data = os.urandom(1_000_003)
    with app:

        def write():
            app.sendall(data)
            app.shutdown(socket.SHUT_WR)

        writer = asyncio.create_task(in_thread(write))
        assert await in_thread(receive_all, app) == data
        await writer
    await port.until(lambda: port.closed is not None)
    assert port.closed is False
    assert bytes(port.received) == data
    assert port.largest <= 65536
    bridge.finish()


async def test_nothing_is_read_without_an_allowance(watcher):
    port = EchoPort(window=0, echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"12345")
        app.shutdown(socket.SHUT_WR)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not port.received
        assert not port.eof
        port.open_window(3)
        assert bytes(port.received) == b"123"
        assert not port.eof
        port.open_window(5)
        assert bytes(port.received) == b"12345"
        assert port.eof, "the end is told even when no byte more would be allowed"
        port.say(b"", end=True)
        assert app.recv(10) == b""
    await port.until(lambda: port.closed is not None)
    bridge.finish()


async def test_half_close_at_the_very_start(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.shutdown(socket.SHUT_WR)
        await port.until(lambda: port.eof)
        assert port.closed is None
        port.say(b"answer", end=True)
        assert await in_thread(receive_all, app) == b"answer"
    await port.until(lambda: port.closed is not None)
    assert port.closed is False
    bridge.finish()


async def test_the_other_side_ends_first(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        port.say(b"greeting", end=True)
        assert await in_thread(receive_all, app) == b"greeting"
        app.sendall(b"still here")
    await port.until(lambda: port.closed is not None)
    assert bytes(port.received) == b"still here"
    assert port.closed is False
    bridge.finish()


@pytest.mark.parametrize("wrote", [False, True])
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("pending", [b"", b"partial"])
async def test_a_reset_is_never_an_end_of_file(watcher, wrote, half_closed, pending):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        if wrote:
            app.sendall(b"request")
            await port.until(lambda: len(port.received) == 7)
        if half_closed:
            app.shutdown(socket.SHUT_WR)
            await port.until(lambda: port.eof)
        if pending:
            port.say(pending)
        bridge.reset(StreamReset("gone"))
        if pending:
            assert app.recv(100) == pending
        with pytest.raises(ConnectionResetError):
            app.recv(100)
    assert port.closed is None


async def test_a_reset_wakes_a_blocked_reader(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def read():
            loop.call_soon_threadsafe(begun.set_result, threading.get_native_id())
            return app.recv(10)

        reader = asyncio.create_task(in_thread(read))
        wait_until_asleep(await begun)
        bridge.reset(StreamReset("gone"))
        with pytest.raises(ConnectionResetError):
            await reader


async def test_a_clean_end_takes_the_held_byte(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"x")
        await port.until(lambda: bool(port.received))
        bridge.finish()
        assert app.recv(10) == b""
        with pytest.raises(BrokenPipeError):
            app.send(b"y")


async def test_close_with_unread_bytes_is_an_abort_after_the_written_data(watcher):
    port = EchoPort(window=0, echo=False)
    bridge, app = bridged_pair(watcher, port)
    port.say(b"nobody reads this")
    app.sendall(b"last words")
    app.close()
    port.open_window(100)
    await port.until(lambda: port.closed is not None)
    assert bytes(port.received) == b"last words"
    assert port.closed is True
    bridge.finish()


async def test_output_for_a_closed_application_aborts(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    app.sendall(b"request")
    app.close()
    port.say(b"answer" * 1000)
    await port.until(lambda: port.closed is not None)
    assert bytes(port.received) == b"request"
    bridge.finish()


async def test_shut_reading_side_swallows_output(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.shutdown(socket.SHUT_RD)
        port.say(b"x" * 1000)
        assert not port.output
        app.sendall(b"goes on")
        await port.until(lambda: bool(port.received))
        assert port.closed is None
    await port.until(lambda: port.closed is not None)
    bridge.finish()


async def test_shutdown_of_both_sides_is_a_close(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"all")
        app.shutdown(socket.SHUT_RDWR)
        await port.until(lambda: port.closed is not None)
        assert bytes(port.received) == b"all"
        assert port.closed is False
        assert app.recv(1) == b""
    bridge.finish()


async def test_an_announced_abort_does_not_wait_for_what_was_written(watcher):
    port = EchoPort(window=0, echo=False)
    bridge, app = bridged_pair(watcher, port)
    app.sendall(b"lost")
    bridge.handle.aborted = True
    app.close()
    await port.until(lambda: port.closed is not None)
    assert port.closed is True
    assert not port.received
    bridge.finish()


async def test_a_copy_of_the_descriptor_keeps_the_stream_open(watcher):
    port = EchoPort()
    bridge, app = bridged_pair(watcher, port)
    copy = app.dup()
    app.close()
    with copy:
        copy.sendall(b"alive")
        assert await in_thread(copy.recv, 10) == b"alive"
        assert port.closed is None
    await port.until(lambda: port.closed is not None)
    bridge.finish()


async def test_urgent_bytes_are_in_line(watcher):
    port = EchoPort()
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"before")
        app.send(b"urgent", socket.MSG_OOB)
        app.sendall(b"after")
        await port.until(lambda: len(port.received) == 17)
        assert bytes(port.received) == b"beforeurgentafter"
    await port.until(lambda: port.closed is not None)
    bridge.finish()


async def test_back_pressure_reaches_the_writer(watcher):
    port = EchoPort(window=65536, echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.setblocking(False)
        written = 0
        for _ in range(20):
            written += fill(app)
            await asyncio.sleep(0)
        assert len(port.received) == 65536
        assert written < 4 << 20
    bridge.reset(StreamReset("over"))


async def test_back_pressure_reaches_the_core(watcher):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        port.say(bytes(16 << 20), end=True)
        left = len(port.output)
        assert 0 < left < 16 << 20
        assert len(await in_thread(receive_all, app)) == 16 << 20
    await port.until(lambda: port.closed is not None)
    bridge.finish()


async def test_one_stream_does_not_keep_the_loop(watcher):
    port = EchoPort(window=1 << 30, echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.setblocking(False)
        turns = 0
        fill(app)
        size = 0
        while len(port.received) > size or turns < 2:
            size = len(port.received)
            await asyncio.sleep(0)
            turns += 1
            assert len(port.received) - size <= 2 * 4 * 65536
    bridge.reset(StreamReset("over"))


async def test_drained_is_told_once_everything_was_read(watcher):
    port = EchoPort(window=0, echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        told = []
        bridge.when_drained(lambda: told.append(0))
        assert told == [0]
        app.sendall(b"more")
        bridge.when_drained(lambda: told.append(1))
        assert told == [0]
        port.open_window(100)
        await port.until(lambda: len(port.received) == 4)
        await asyncio.sleep(0)
        assert told == [0, 1]
    bridge.reset(StreamReset("over"))


@pytest.mark.parametrize("size", [1, 70_000, 200_000])
async def test_leaving_reads_what_is_written_and_closes(watcher, size):
    port = EchoPort(echo=False)
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"x" * size)
        bridge.leave()
        await port.until(lambda: port.closed is not None)
        assert len(port.received) == size
        assert port.closed is False
        assert port.defects == [], "its own descriptor is closed by then, and not to be asked anything"
    bridge.finish()


async def test_a_defect_of_the_core_is_reported_and_the_loop_lives(watcher):
    class Broken(EchoPort):
        def on_app_bytes(self, key, data, now):
            raise ZeroDivisionError

    port = Broken()
    bridge, app = bridged_pair(watcher, port)
    with app:
        app.sendall(b"boom")
        await port.until(lambda: bool(port.defects))
        bridge.reset(StreamReset("internal error"))
        with pytest.raises(ConnectionResetError):
            app.recv(1)


async def test_the_registry_finds_copies_and_forgets(watcher):
    port = EchoPort()
    bridge, app = bridged_pair(watcher, port)
    with app, app.dup() as copy:
        assert registry.find(copy.fileno()) is bridge.handle
        bridge.reset(StreamReset("over"))
        assert registry.find(copy.fileno()) is None
        assert bridge.handle.done.is_set()
    assert registry.find(-1) is None


@pytest.mark.parametrize("abort", [False, True])
async def test_a_foreign_unix_socket(watcher, abort):
    """As a gateway's unix: application: nothing was put in beforehand."""
    from kwik.engine.local import end_of
    from tests.unit.engine.fakes import start_bridge

    ours, app = socket.socketpair()
    port = EchoPort(echo=False)
    bridge = start_bridge(watcher, port, end_of(ours), None)
    with app:
        app.sendall(b"abc")
        await port.until(lambda: len(port.received) == 3)
        app.sendall(b"d")
        await port.until(lambda: len(port.received) == 4)
        assert bytes(port.received) == b"abcd"
        if abort:
            bridge.reset(StreamReset("client went"))
            with pytest.raises(ConnectionResetError):
                app.recv(1)
        else:
            port.say(b"bye", end=True)
            assert await in_thread(receive_all, app) == b"bye"
    if not abort:
        await port.until(lambda: port.closed is not None)
        bridge.finish()


async def test_numbers_that_are_used_again_in_one_batch(watcher):
    """A descriptor closed and taken anew while its old events wait must not hear them."""
    events = []
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    number = d.fileno()

    done = asyncio.Event()

    def on_first(mask):
        events.append("first")
        done.set()
        watcher.remove(number)
        d.close()
        e, f = socket.socketpair()
        fds.extend([e, f])
        assert number in (e.fileno(), f.fileno())
        watcher.add(number, events.append)

    fds = [a, b, c]
    watcher.add(b.fileno(), on_first)
    watcher.add(number, lambda mask: events.append("stale"))
    a.send(b"x")
    c.send(b"x")
    # What else was in the batch is told before anybody who waits for this goes on.
    await done.wait()
    assert events[0] == "first"
    assert "stale" not in events
    watcher.remove(number)
    watcher.remove(b.fileno())
    for sock in fds:
        sock.close()
