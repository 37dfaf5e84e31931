"""A UDP socket on an event loop, without asyncio's datagram transport (which costs a loop turn per datagram).

Each time the socket is readable a bounded batch is taken and handed over at once; what the kernel's send buffer does
not take waits in a short queue, beyond which datagrams are dropped, as any router would. Where the owner has patience,
a socket with a steady flow of small batches is read by the clock, as network drivers do (Linux's NAPI): a turn costs
more than a packet.
"""

import asyncio
import contextlib
import errno
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kwik.quic.adapter import Address, Datagram

BATCH = 64
"""Datagrams taken per wake-up; then the loop may do other work."""
ENOUGH = 16
"""A batch of so many needs no patience: its turn is shared already, and the kernel's buffer must not overflow."""
STEADY_READS = 16
"""So many reads in close succession make a steady flow; a request and its answer never do."""
BUFFER_BYTES = 4 * 1024 * 1024
QUEUE_DATAGRAMS = 1024
LARGEST_UDP_BYTES = 65_535

FEWEST_SEGMENTS, MOST_SEGMENTS = 3, 48
"""Datagrams that the kernel cuts out of one piece: below, it costs more than it gains; above, it may be too much."""
LARGEST_PIECE_BYTES = 60_000

# Numbers from <linux/in.h>, <linux/in6.h> and <linux/udp.h>; Python names only some of them.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DO = 10, 23, 2
_SOL_UDP, _UDP_SEGMENT = 17, 103
_CANNOT_CUT = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
"""What a card without checksums, a short route or an old kernel answers."""


class DatagramPort(Protocol):
    """Where datagrams come from and go to: a socket, or a simulated network."""

    local_address: Address
    patience_s: float
    """How long what arrives in a steady flow may wait for more."""

    def start(self, on_batch: Callable[[list[Datagram]], None], on_error: Callable[[OSError], None]) -> None:
        """From now on hand over what arrives, and what the network complains about."""

    def send(self, datagrams: list[Datagram]) -> None:
        """Send them in order, now or soon, or lose them. Never blocks, never raises."""

    def close(self) -> None:
        """Stop and free everything; idempotent."""


class UdpPort:
    """A real UDP socket. IPv4 or IPv6, connected (client) or not (server)."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, remote: Address | None) -> None:
        self.local_address: Address = sock.getsockname()
        self.dropped = 0
        """Datagrams that the kernel refused or that found the queue full."""
        self.patience_s = 0.0
        self._socket = sock
        self._loop = loop
        self._cuts = _can_cut(sock)
        self._read_at = 0.0
        self._steady = 0
        self._rest: asyncio.TimerHandle | None = None
        self._remote = remote
        self._waiting: deque[Datagram] = deque()
        self._on_batch: Callable[[list[Datagram]], None] | None = None
        self._on_error: Callable[[OSError], None] | None = None

    @classmethod
    def bind(cls, family: int, address: Address, loop: asyncio.AbstractEventLoop) -> "UdpPort":
        """A socket that hears everybody. Raises OSError when the address cannot be had."""
        return cls._open(family, loop, address, None)

    @classmethod
    def connect(cls, family: int, remote: Address, local: Address | None, loop: asyncio.AbstractEventLoop) -> "UdpPort":
        """A socket of its own towards one address. Raises OSError when there is no way there."""
        return cls._open(family, loop, local, remote)

    @classmethod
    def _open(
        cls, family: int, loop: asyncio.AbstractEventLoop, local: Address | None, remote: Address | None
    ) -> "UdpPort":
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            _set_options(sock, family)
            if local is not None:
                sock.bind(local)
            if remote is not None:
                sock.connect(remote)
            return cls(sock, loop, remote)
        except BaseException:
            sock.close()
            raise

    def start(self, on_batch: Callable[[list[Datagram]], None], on_error: Callable[[OSError], None]) -> None:
        """See DatagramPort."""
        self._on_batch, self._on_error = on_batch, on_error
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def send(self, datagrams: list[Datagram]) -> None:
        """See DatagramPort."""
        if self._socket.fileno() < 0:
            return
        if self._waiting:
            self._enqueue(datagrams)
            return
        index = 0
        while index < len(datagrams):
            count = run_length(datagrams, index) if self._cuts else 1
            if count >= FEWEST_SEGMENTS and self._send_run(datagrams[index : index + count]):
                index += count
            elif self._send_one(datagrams[index]):
                index += 1
            else:
                self._enqueue(datagrams[index:])
                self._loop.add_writer(self._socket.fileno(), self._writable)
                return

    def close(self) -> None:
        """See DatagramPort."""
        if self._socket.fileno() >= 0:
            if self._rest is not None:
                self._rest.cancel()
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._waiting.clear()

    def _send_one(self, datagram: Datagram) -> bool:
        """False when the kernel's buffer is full; any other trouble costs this datagram only."""
        try:
            if self._remote is None:
                self._socket.sendto(datagram[0], datagram[1])
            else:
                self._socket.send(datagram[0])
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # An earlier ICMP message, a missing route, EMSGSIZE: loss, for all that QUIC cares.
            self.dropped += 1
            self._complain(error)
        return True

    def _send_run(self, run: list[Datagram]) -> bool:
        """Send datagrams of one length to one address in a single call; False: try one by one, which tells why."""
        sizes = [(_SOL_UDP, _UDP_SEGMENT, len(run[0][0]).to_bytes(2, sys.byteorder))]
        address = [] if self._remote is not None else [run[0][1]]
        try:
            self._socket.sendmsg([data for data, _ in run], sizes, 0, *address)
        except OSError as error:
            if error.errno in _CANNOT_CUT:
                self._cuts = False
            return False
        return True

    def _enqueue(self, datagrams: list[Datagram]) -> None:
        free = QUEUE_DATAGRAMS - len(self._waiting)
        self._waiting.extend(datagrams[:free])
        self.dropped += max(0, len(datagrams) - free)

    def _writable(self) -> None:
        while self._waiting:
            if not self._send_one(self._waiting[0]):
                return
            if not self._waiting:
                return  # closed in answer to an error
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        count = self._take_batch()
        now = self._loop.time()
        self._steady = self._steady + 1 if now - self._read_at < self.patience_s else 0
        self._read_at = now
        if self._steady >= STEADY_READS and count < ENOUGH and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._rest = self._loop.call_later(self.patience_s, self._look)

    def _look(self) -> None:
        """Read by the clock; back to the kernel's notice when that gains nothing."""
        count = self._take_batch()
        if self._socket.fileno() < 0:
            return
        if 1 < count < ENOUGH and self.patience_s > 0:
            self._rest = self._loop.call_later(self.patience_s, self._look)
        else:
            self._rest, self._steady = None, 0
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def _take_batch(self) -> int:
        """Hand over what is there; the number of datagrams."""
        batch: list[Datagram] = []
        remote, sock = self._remote, self._socket
        failure: OSError | None = None
        try:
            for _ in range(BATCH):
                # Python cuts the buffer to size: cheaper than a shared one and a copy out of it.
                if remote is None:
                    batch.append(sock.recvfrom(LARGEST_UDP_BYTES))
                else:
                    batch.append((sock.recv(LARGEST_UDP_BYTES), remote))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            failure = error
        if batch and self._on_batch is not None:
            self._on_batch(batch)
        if failure is not None:
            self._complain(failure)
        return len(batch)

    def _complain(self, error: OSError) -> None:
        if self._on_error is not None:
            self._on_error(error)


def run_length(datagrams: list[Datagram], start: int) -> int:
    """How many from there on are of one length and go to one address; the last may be shorter."""
    data, address = datagrams[start]
    size = len(data)
    most = min(len(datagrams), start + MOST_SEGMENTS, start + LARGEST_PIECE_BYTES // max(size, 1))
    at = start + 1
    while at < most and datagrams[at][1] == address and len(datagrams[at][0]) <= size:
        at += 1
        if len(datagrams[at - 1][0]) < size:
            break
    return at - start


def _can_cut(sock: socket.socket) -> bool:
    """Whether the kernel cuts one piece into datagrams (UDP generic segmentation offload, Linux 4.18)."""
    if sys.platform != "linux":
        return False
    try:
        sock.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _set_options(sock: socket.socket, family: int) -> None:
    """Large buffers and no fragmentation, as far as the system lets us."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    if family == socket.AF_INET6:
        # An address "::" serves IPv4 as well; datagrams then come from mapped addresses.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if sys.platform == "linux":
        # QUIC must not be fragmented (RFC 9000 §14): a datagram that is too large fails here instead.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
