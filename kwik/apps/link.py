"""An emulated UDP link between clients and one server: real sockets around two `Direction` models.

Upstream is client to server, downstream the reverse; all clients share the one link. Towards the server each client has
a socket of its own, so that the server can tell them apart. A server that is gone looks silent, never refused.
Packets are never early. A lone one is late by next to nothing on the loop of `exact`, by up to 2 ms on asyncio's own;
those of a stream by up to 1 ms more. That moves no later packet, and not the rate.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from dataclasses import dataclass
from random import Random
from types import TracebackType

from kwik.apps.link_model import (
    OVERHEAD_IPV4_BYTES,
    OVERHEAD_IPV6_BYTES,
    Direction,
    DirectionStats,
    LinkShape,
    changed,
)

CLIENTS_MAX = 4096
CLIENT_IDLE_S = 120.0
"""A client that neither sent nor was sent anything for this long is forgotten."""
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""Asked of the kernel for each socket, in each direction; it may grant less."""
DRAIN_MAX = 256
"""Most datagrams read from one socket in one turn of the event loop."""
MIN_STEP_S = 0.001
"""A link in full flow hands over what has come due once in so long, not packet by packet: that saves wake-ups. The
first packet after a pause is not affected."""
RETIRED_MAX = 64
"""Sockets kept open, unread, after a rebind, so that what the server still sends there vanishes as in a NAT."""
_DATAGRAM_MAX_BYTES = 65_535

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Counts of a link: per direction, clients known now, rebinds so far, datagrams that the kernel would not take."""

    up: DirectionStats
    down: DirectionStats
    clients: int
    rebinds: int
    unsent: int


class _Client:
    __slots__ = ("address", "seen", "socket")

    def __init__(self, address: SocketAddress, to_server: socket.socket, now: float) -> None:
        self.address = address
        self.socket = to_server
        self.seen = now


class Link:
    """A running link; made by `Link.start`, ended by `close` or by leaving `async with`. For one event loop only."""

    def __init__(
        self, listener: socket.socket, server: SocketAddress, *, up: LinkShape, down: LinkShape, seed: int
    ) -> None:
        """Use `Link.start`, which resolves the addresses and binds `listener` (non-blocking; the link closes it)."""
        self._loop = asyncio.get_running_loop()
        overhead_bytes = OVERHEAD_IPV6_BYTES if len(server) == 4 else OVERHEAD_IPV4_BYTES
        self._up: Direction[_Client] = Direction(up, Random(f"{seed}/up"), overhead_bytes=overhead_bytes)
        self._down: Direction[_Client] = Direction(down, Random(f"{seed}/down"), overhead_bytes=overhead_bytes)
        self._listener = listener
        self._server = server
        self._local_host: str | None = None  # where the sockets towards the server are bound; None: the kernel decides
        self._clients: OrderedDict[SocketAddress, _Client] = OrderedDict()  # least recently heard of first
        self._retired: deque[socket.socket] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        self._rebinds = 0
        self._unsent = 0
        self._closed = False
        self._loop.add_reader(listener, self._on_clients_readable)
        self._sweeper = self._loop.call_later(CLIENT_IDLE_S / 4, self._sweep)

    @classmethod
    async def start(
        cls,
        to: Address,
        *,
        listen: Address = ("127.0.0.1", 0),
        up: LinkShape | None = None,
        down: LinkShape | None = None,
        seed: int = 0,
    ) -> Link:
        """Listen on `listen` (port 0: any) and carry datagrams to and from the server at `to`.

        `up` None is a link without limits; `down` None is a link shaped as `up`. Equal seeds draw equal randomness.
        Raises OSError when an address cannot be resolved or bound.
        """
        loop = asyncio.get_running_loop()
        server = await _resolve(loop, to)
        near = await _resolve(loop, listen)
        up = up if up is not None else LinkShape()
        listener = _udp_socket(near)
        try:
            listener.bind(near)
            return cls(listener, server, up=up, down=down if down is not None else up, seed=seed)
        except BaseException:
            listener.close()
            raise

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> Address:
        """Host and port that clients send to."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def server(self) -> Address:
        """Host and port of the server, resolved."""
        return self._server[0], self._server[1]

    @property
    def shapes(self) -> tuple[LinkShape, LinkShape]:
        """The shapes in force, up and down."""
        return self._up.shape, self._down.shape

    def set(self, /, **changes: object) -> None:
        """Change the shapes in mid-traffic; keys as in `link_model.changed`, such as `rate_bps` or `down_loss`.

        `blackhole` is "both", "up", "down" or None. Raises ValueError, naming the key, and then nothing has changed.
        """
        up, down = changed(self._up.shape, self._down.shape, changes)
        now = self._loop.time()
        self._up.reshape(up, now)
        self._down.reshape(down, now)
        self._pump()

    def rebind(self, local_host: str | None = None) -> None:
        """Give every client a new port towards the server, and a new address too if `local_host` (numeric) is given.

        What the server sends to an old port is lost from now on. Raises OSError, changing nothing, if a bind fails.
        """
        previous, self._local_host = self._local_host, local_host or self._local_host
        fresh: list[socket.socket] = []
        try:
            fresh.extend(self._connect() for _ in self._clients)  # what was made before an error stays in the list
        except OSError:
            self._local_host = previous
            for to_server in fresh:
                to_server.close()
            raise
        for client, to_server in zip(self._clients.values(), fresh, strict=True):
            self._loop.remove_reader(client.socket)
            self._retire(client.socket)
            client.socket = to_server
            self._loop.add_reader(to_server, self._on_server_readable, client)
        self._rebinds += 1

    def stats(self) -> LinkStats:
        """Counts up to now; a copy."""
        now = self._loop.time()
        return LinkStats(self._up.stats(now), self._down.stats(now), len(self._clients), self._rebinds, self._unsent)

    def close(self) -> None:
        """Close all sockets; what is under way is lost. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        while self._clients:
            self._forget_oldest()
        for old in self._retired:
            old.close()
        self._retired.clear()

    def _on_clients_readable(self) -> None:
        now = self._loop.time()
        receive, clients, enter = self._listener.recvfrom, self._clients, self._up.send
        for _ in range(DRAIN_MAX):
            try:
                packet, address = receive(_DATAGRAM_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error reported late is no packet
                continue
            client = clients.get(address)
            if client is None:
                client = self._admit(address, now)
                if client is None:
                    continue
            client.seen = now
            clients.move_to_end(address)
            enter(packet, client, now)
        self._pump()

    def _on_server_readable(self, client: _Client) -> None:
        now = self._loop.time()
        receive, enter = client.socket.recv, self._down.send
        for _ in range(DRAIN_MAX):
            try:
                packet = receive(_DATAGRAM_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError:  # ConnectionRefusedError: the server is gone; behind this link that looks like silence
                continue
            client.seen = now
            enter(packet, client, now)
        self._pump()

    def _pump(self) -> None:
        """Send what is due and set the timer for what is next."""
        now = self._loop.time()
        for packet, client in self._up.due(now):
            self._send_up(packet, client)
        for packet, client in self._down.due(now):
            try:
                self._listener.sendto(packet, client.address)
            except OSError:
                self._unsent += 1
        self._arm()

    def _send_up(self, packet: bytes, client: _Client) -> None:
        for _ in range(2):
            try:
                client.socket.send(packet)
                return
            except ConnectionRefusedError:  # the answer to an earlier packet, reported in place of sending this one
                continue
            except OSError:
                break
        self._unsent += 1

    def _arm(self) -> None:
        up, down = self._up.deadline(), self._down.deadline()
        when = up if down is None or (up is not None and up < down) else down
        if when is None:
            return
        when = max(when, self._woken_at + MIN_STEP_S)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._woken_at = self._loop.time()
        self._pump()

    def _admit(self, address: SocketAddress, now: float) -> _Client | None:
        if len(self._clients) >= CLIENTS_MAX:
            self._forget_oldest()
        try:
            to_server = self._connect()
        except OSError:  # out of descriptors or ports: to the client the network is just bad
            self._unsent += 1
            return None
        client = self._clients[address] = _Client(address, to_server, now)
        self._loop.add_reader(to_server, self._on_server_readable, client)
        return client

    def _connect(self) -> socket.socket:
        to_server = _udp_socket(self._server)
        try:
            if self._local_host is not None:
                to_server.bind((self._local_host, 0))
            to_server.connect(self._server)
        except BaseException:
            to_server.close()
            raise
        return to_server

    def _retire(self, old: socket.socket) -> None:
        if len(self._retired) >= RETIRED_MAX:
            self._retired.popleft().close()
        self._retired.append(old)

    def _forget_oldest(self) -> None:
        _, client = self._clients.popitem(last=False)
        self._loop.remove_reader(client.socket)
        client.socket.close()

    def _sweep(self) -> None:
        """Forget idle clients, looking from the one that has not been heard of for longest."""
        stale = self._loop.time() - CLIENT_IDLE_S
        for address, client in list(self._clients.items()):
            if client.seen < stale:
                self._clients.move_to_end(address, last=False)
                self._forget_oldest()
        self._sweeper = self._loop.call_later(CLIENT_IDLE_S / 4, self._sweep)


async def _resolve(loop: asyncio.AbstractEventLoop, address: Address) -> SocketAddress:
    found = await loop.getaddrinfo(*address, type=socket.SOCK_DGRAM)
    resolved: SocketAddress = found[0][4]  # type: ignore[assignment]  # of an IP family, since the address is host and port
    return resolved


def _udp_socket(address: SocketAddress) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    return made
