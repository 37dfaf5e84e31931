"""The socket below an endpoint: a full kernel buffer delays, an overflow drops, trouble is told and never raised."""

import asyncio
import errno
import socket

import pytest

from kwik.quic import udp
from kwik.quic.adapter import Datagram
from kwik.quic.udp import UdpPort


class Stubborn(socket.socket):
    """A UDP socket whose send buffer seems full for a while."""

    refusals = 0
    failure: OSError | None = None

    pieces = 0

    def send(self, data, flags=0):
        self._perhaps_not()
        return super().send(data, flags)

    def sendmsg(self, *args):
        self._perhaps_not()
        self.pieces += 1
        return super().sendmsg(*args)

    def _perhaps_not(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def sockets():
    near, far = Stubborn(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with near, far:
        for sock in (near, far):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        yield near, far


async def received(sock: socket.socket, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [await asyncio.get_running_loop().sock_recv(sock, 2000) for _ in range(count)]


async def test_a_full_buffer_keeps_the_order(sockets):
    near, far = sockets
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    near.refusals = 3
    pieces: list[Datagram] = [(b"%d" % n, far.getsockname()) for n in range(6)]
    port.send(pieces[:4])
    port.send(pieces[4:])
    assert await received(far, 6) == [piece for piece, _ in pieces]
    assert port.dropped == 0
    port.close()
    port.close()
    port.send(pieces)


async def test_datagrams_of_one_length_leave_together(sockets, monkeypatch):
    monkeypatch.setattr(udp, "MOST_SEGMENTS", 8)
    near, far = sockets
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    if not port._cuts:
        pytest.skip("this kernel has no UDP_SEGMENT")
    data = [bytes([n]) * size for n, size in enumerate([1200] * 5 + [300] + [1200] * 2 + [40] + [1200] * 20)]
    port.send([(each, far.getsockname()) for each in data])
    assert await received(far, len(data)) == data
    assert near.pieces == 2 + 3
    port.close()


@pytest.mark.parametrize(("number", "goes_on"), [(errno.EIO, False), (errno.ECONNREFUSED, True)])
async def test_what_cannot_leave_together_leaves_one_by_one(sockets, number, goes_on):
    near, far = sockets
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    port._cuts = True

    def fail(*args):
        raise OSError(number, "no")

    near.sendmsg = fail
    data = [bytes(100)] * 6
    port.send([(each, far.getsockname()) for each in data])
    assert await received(far, 6) == data
    assert port._cuts == goes_on
    assert port.dropped == 0
    port.close()


async def test_an_overflow_is_dropped_and_counted(sockets, monkeypatch):
    near, far = sockets
    monkeypatch.setattr(udp, "QUEUE_DATAGRAMS", 4)
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    near.refusals = 2  # together, and the first one alone
    port.send([(b"%d" % n, far.getsockname()) for n in range(3)])
    port.send([(b"%d" % n, far.getsockname()) for n in range(3, 9)])
    assert port.dropped == 5
    assert await received(far, 4) == [b"0", b"1", b"2", b"3"]
    port.close()


async def test_trouble_costs_its_datagram_and_is_told(sockets):
    near, far = sockets
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    told: list[OSError] = []
    port.start(lambda batch: None, told.append)
    near.failure = OSError(90, "Message too long")
    port.send([(b"x", far.getsockname())] * 2)
    assert [error.errno for error in told] == [90, 90]
    assert port.dropped == 2
    near.failure = None
    port.send([(b"y", far.getsockname())])
    assert await received(far, 1) == [b"y"]
    port.close()


async def test_a_batch_is_bounded(sockets):
    near, far = sockets
    batches: list[list[Datagram]] = []
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    for number in range(udp.BATCH + 6):
        far.sendto(b"%d" % number, near.getsockname())
    port.start(batches.append, lambda error: None)
    async with asyncio.timeout(10):
        while sum(map(len, batches)) < udp.BATCH + 6:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert [len(batch) for batch in batches] == [udp.BATCH, 6]
    assert [data for batch in batches for data, _ in batch] == [b"%d" % number for number in range(udp.BATCH + 6)]
    assert batches[0][0][1] == far.getsockname()
    port.close()


async def test_a_steady_flow_is_read_by_the_clock(sockets, monkeypatch):
    near, far = sockets
    monkeypatch.setattr(udp, "STEADY_READS", 3)
    batches: list[list[Datagram]] = []
    loop = asyncio.get_running_loop()
    port = UdpPort(near, loop, far.getsockname())
    port.start(batches.append, lambda error: None)

    async def one(name: bytes) -> None:
        seen = len(batches)
        far.sendto(name, near.getsockname())
        async with asyncio.timeout(10):
            while len(batches) == seen:  # noqa: ASYNC110
                await asyncio.sleep(0)

    for _ in range(9):
        await one(b"without patience")
    assert port._rest is None
    port.patience_s = 5.0
    for _ in range(3):
        await one(b"at once")
    assert port._rest is not None
    for _ in range(2):
        far.sendto(b"later", near.getsockname())
    for _ in range(20):
        await asyncio.sleep(0)
    assert [data for data, _ in batches[-1]] == [b"at once"]
    port._rest.cancel()
    port._look()  # its time has come
    assert [data for data, _ in batches[-1]] == [b"later"] * 2
    assert port._rest is not None
    far.sendto(b"alone", near.getsockname())
    port._rest.cancel()
    port._look()
    assert port._rest is None
    await one(b"at once again")
    port.close()


async def test_closing_ends_the_rest(sockets):
    near, far = sockets
    port = UdpPort(near, asyncio.get_running_loop(), far.getsockname())
    port.start(lambda batch: port.close(), lambda error: None)
    port.patience_s, port._steady, port._read_at = 5.0, 100, asyncio.get_running_loop().time()
    far.sendto(b"x", near.getsockname())
    async with asyncio.timeout(10):
        while near.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert port._rest is None
    port._look()
    assert port._rest is None
