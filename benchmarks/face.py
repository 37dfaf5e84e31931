"""Between the two: Kwik's sockets for applications over the bare QUIC adapter, without the data and control planes.

What this takes more than the bare callbacks is the price of two applications on threads of their own; what Kwik takes
more than this is the price of its planes. One stream at a time on a path; the client knows how long the answer is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kwik.aio import ClientConnected, _Acceptor  # the very way in which a server's application is reached
from kwik.conn import Conn
from kwik.core.port import PortKey
from kwik.engine.bridge import Bridge
from kwik.engine.handle import SocketName, StreamHandle, registry
from kwik.engine.local import LocalEnd, make_pair
from kwik.engine.server import Reached
from kwik.engine.thread import Engine, engine, on_engine
from kwik.quic import ClientTls, PathEnd, QuicEndpoint, QuicPath, ServerTls
from kwik.types import Address

AHEAD_BYTES = 256 * 1024
"""How far an application's output is read ahead of the path."""
NOBODY: SocketName = ("0.0.0.0", 0)


class Side:
    """One end of a path: implements PathEvents, BytePort and BridgeOwner. On the engine's thread."""

    def __init__(self, current: Engine, pipe: int, begin: Callable[[Side], None] | None = None) -> None:
        self.path: QuicPath
        self.up = asyncio.get_running_loop().create_future()
        self._engine = current
        self._pipe = pipe
        self._begin = begin
        self._bridge: Bridge | None = None
        self._came = bytearray()
        self._goes = bytearray()

    def adopt(self, end: LocalEnd, handle: StreamHandle, tell: Callable[[], None] = lambda: None) -> None:
        """An application for the next stream."""
        self._bridge = Bridge(end, self, 1, watcher=self._engine.watcher, handle=handle, owner=self)
        self._bridge.start(look=True)
        tell()
        if self._goes:
            self.on_input()

    def on_turn(self) -> None:
        """Everything that arrived was told: let the application have it, and take what it answers."""
        if self._bridge is None and self._begin is not None and self._came:
            self._begin(self)
        elif self._bridge is not None:
            self._bridge.pump()
        self._engine.handover.settle()

    # ------------------------------------------------------------ PathEvents

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        """Nothing to say by itself."""

    def on_up(self, path: QuicPath, now: float) -> None:
        """The handshake is complete."""
        self.up.set_result(None)

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        """For the application."""
        self._came += data

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        """From the application."""
        piece = bytes(memoryview(self._goes)[:n_bytes])
        if piece:
            path.send(self._pipe, piece)
            del self._goes[: len(piece)]
        if self._bridge is not None:
            self._bridge.pump()
        path.wants_room = bool(self._goes)

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        """Never asked for."""

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        """Whoever waits for the path is told."""
        if not self.up.done():
            self.up.set_exception(ConnectionResetError(str(reason)))

    # ------------------------------------------------------------ BytePort

    def allowance(self, key: PortKey) -> int:
        """See BytePort."""
        return max(0, AHEAD_BYTES - len(self._goes))

    def on_app_bytes(self, key: PortKey, data: bytes, now: float) -> None:
        """See BytePort."""
        self._goes += data
        self.path.wants_room = True

    def on_app_eof(self, key: PortKey, now: float) -> None:
        """The other side counts bytes."""

    def on_app_closed(self, key: PortKey, now: float, *, aborted: bool) -> None:
        """The next stream may come."""
        self._bridge = None

    def peek(self, key: PortKey) -> memoryview | None:
        """See BytePort."""
        return memoryview(self._came) if self._came else None

    def consume(self, key: PortKey, size: int, now: float) -> None:
        """See BytePort."""
        del self._came[:size]

    def at_end(self, key: PortKey) -> bool:
        """The other side counts bytes."""
        return False

    # ------------------------------------------------------------ BridgeOwner

    def on_input(self) -> None:
        """See BridgeOwner."""
        if self.path.endpoint is not None and self._goes:
            self.path.endpoint.schedule_flush(self.path)
            self.path.endpoint.flush()

    def on_handed_over(self, *, answered: bool) -> None:
        """See BridgeOwner."""
        self._engine.handover.note(is_answer=answered)

    def on_port_defect(self, key: PortKey, error: Exception) -> None:
        """See BridgeOwner."""
        raise error


class FaceClient:
    """One path; `dial` gives a socket for one transfer."""

    def __init__(self, current: Engine, side: Side) -> None:
        self._engine = current
        self._side = side

    @classmethod
    def connect(cls, address: Address, tls: ClientTls) -> FaceClient:
        """Handshake included. In an application's thread."""
        return engine().call(cls._connect(address, tls))

    @classmethod
    async def _connect(cls, address: Address, tls: ClientTls) -> FaceClient:
        side = Side(engine(), 0)
        side.path = await QuicEndpoint.connect(address, tls, lambda path: side, on_turn=lambda *_: side.on_turn())
        await side.up
        return cls(engine(), side)

    def dial(self) -> Conn:
        """A socket, as Kwik's dial on a ready session makes it."""
        end, application = make_pair()
        handle = StreamHandle(NOBODY, NOBODY)
        conn = Conn(fileno=application.detach()).attach(handle)
        registry.add(conn.fileno(), handle)
        self._engine.loop.call_soon_threadsafe(self._side.adopt, end, handle)
        return conn

    def close(self) -> None:
        """Say good-bye."""
        if self._side.path.endpoint is not None:
            self._engine.call(self._side.path.endpoint.close())


async def serve_face(callback: ClientConnected, certfile: str, keyfile: str) -> QuicEndpoint:
    """A server whose application is `callback` on this loop, as in kwik.aio.start_server."""
    acceptor = _Acceptor(asyncio.get_running_loop(), callback, None)
    return await on_engine(_serve(acceptor, ServerTls(certfile=certfile, keyfile=keyfile)))


async def _serve(acceptor: _Acceptor, tls: ServerTls) -> QuicEndpoint:
    current, sides = engine(), dict[QuicPath, Side]()

    def begin(side: Side) -> None:
        reached = acceptor.reach(NOBODY)
        assert isinstance(reached, Reached)
        side.adopt(reached.end, reached.handle, reached.tell)
        current.handover.note_accept()

    def accept(path: QuicPath) -> Side:
        side = sides[path] = Side(current, 1, begin)
        side.path = path
        return side

    def on_turn(paths: set[QuicPath], now: float) -> None:
        for path in paths:
            sides[path].on_turn()

    return await QuicEndpoint.listen(("127.0.0.1", 0), tls, accept, on_turn=on_turn)
