"""Sockets, timers and turns: drives paths on an asyncio loop.

A turn is: take a batch of datagrams (or due timers), tell the paths' owners what happened, call `on_turn`, then for
each touched path offer its room and send, once; then do what was put off until `after_turn`. What an owner sends
outside a turn is collected by `call_soon`, or leaves when the owner says `flush`. There are no tasks. All methods
must be called on the loop's thread.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from kwik.errors import ErrorCode
from kwik.quic.adapter import Address, Datagram, PathEvents, QuicPath
from kwik.quic.connection import PathConnection
from kwik.quic.demux import Demux, Newcomer, refusal
from kwik.quic.fast import connection_class
from kwik.quic.limits import QuicLimits
from kwik.quic.timers import PathTimers
from kwik.quic.tls import ClientTls, ServerTls
from kwik.quic.udp import DatagramPort, UdpPort

__all__ = ["QuicEndpoint"]

Accept = Callable[[QuicPath], PathEvents]
"""Makes the listener of a new path; called before anything is told about it."""
OnTurn = Callable[[set[QuicPath], float], None]

FIRST_DATAGRAMS = 10
"""As many as RFC 9002 §7.2 lets a new path send at once."""

_log = logging.getLogger(__name__)


class QuicEndpoint:
    """One datagram port and the paths on it: all paths of a server, or the one path of a client.

    `on_turn(paths, now)`, when set, is called once in each turn after all that arrived was told and before anything
    is sent, so that answers leave in the same turn.
    """

    def __init__(
        self,
        port: DatagramPort,
        limits: QuicLimits,
        *,
        accept: Accept | None = None,
        tls: ServerTls | None = None,
        on_turn: OnTurn | None = None,
    ) -> None:
        self.on_turn = on_turn
        self.limits = limits
        self._port = port
        self._accept = accept
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._demux = Demux()
        self._only: QuicPath | None = None
        self._timers = PathTimers(self._loop, self._on_due)
        self._touched: dict[QuicPath, None] = {}
        self._after: dict[Callable[[], None], None] = {}
        self._in_turn = False
        self._soon: asyncio.Handle | None = None
        self._closed = False
        port.start(self._on_batch, self._on_error)

    # ------------------------------------------------------------ opening and closing

    @classmethod
    async def listen(
        cls,
        address: tuple[str, int],
        tls: ServerTls,
        accept: Accept,
        limits: QuicLimits | None = None,
        *,
        on_turn: OnTurn | None = None,
    ) -> "QuicEndpoint":
        """Serve at host and port (0: chosen by the system). Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        family, resolved = await _resolve(address, loop)
        for problem in tls.problems():
            _log.warning("%s", problem)
        port = UdpPort.bind(family, resolved, loop)
        return cls(port, limits or QuicLimits(), accept=accept, tls=tls, on_turn=on_turn)

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        tls: ClientTls,
        accept: Accept,
        limits: QuicLimits | None = None,
        *,
        local_address: tuple[str, int] | None = None,
        on_turn: OnTurn | None = None,
    ) -> QuicPath:
        """Start a path and return it as soon as its first flight is sent; `on_up` or `on_down` tell the result.

        The path has a socket of its own; `path.endpoint` is its endpoint. A numeric host is not looked up. Raises
        OSError for an address that cannot be used (no route, wrong family, unknown name).
        """
        loop = asyncio.get_running_loop()
        family, remote = await _resolve(address, loop)
        local = None if local_address is None else (await _resolve(local_address, loop, family))[1]
        port = UdpPort.connect(family, remote, local, loop)
        try:
            return cls(port, limits or QuicLimits(), on_turn=on_turn).open_path(remote, tls, accept)
        except BaseException:
            port.close()
            raise

    def open_path(self, remote: Address, tls: ClientTls, accept: Accept) -> QuicPath:
        """Client: start the one path of this endpoint (connect does so; for other kinds of ports)."""
        if self._only is not None or self._accept is not None:
            raise RuntimeError("a client's endpoint has exactly one path")
        now = self._loop.time()
        connection = connection_class()(configuration=tls.configuration(self.limits), limits=self.limits)
        path = self._only = self._new_path(connection, now)
        path.attach(accept(path))
        connection.connect(remote, now)
        self._touched[path] = None
        self._run_turn(now)
        return path

    @property
    def local_address(self) -> Address:
        """Where this endpoint is; the port is the one that the system chose."""
        return self._port.local_address

    @property
    def paths(self) -> list[QuicPath]:
        """Paths that are not over, those that only say good-bye included."""
        return self._demux.paths if self._only is None else [self._only]

    async def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """End all paths (`on_down` is told), send their last words and free the socket at once. Idempotent."""
        if self._closed:
            return
        now = self._loop.time()
        for path in self.paths:
            path.close(code, reason, now)
        self._run_turn(now)
        self._shut()

    def schedule_flush(self, path: QuicPath) -> None:
        """Have this path sent soon: in the running turn, or in one of its own. Many calls cost one turn.

        `QuicPath.send`, `ping` and `close` do this by themselves; call it after setting `wants_room`.
        """
        if self._closed:
            return
        self._touched[path] = None
        if not self._in_turn and self._soon is None:
            self._soon = self._loop.call_soon(self._on_soon)

    def flush(self, path: QuicPath | None = None) -> None:
        """Run the turn that `schedule_flush` has asked for now, not in the loop's next round: who knows that nothing
        more is to come saves the way there. With `path` it is asked for that one here."""
        if path is not None:
            self._touched[path] = None
        if self._soon is not None:
            self._soon.cancel()
            self._on_soon()
        elif path is not None:
            self._run_turn(self._loop.time())

    def after_turn(self, callback: Callable[[], None]) -> None:
        """Call this once, when the running turn has sent everything; what it sends leaves in the turn as well."""
        if self._in_turn:
            self._after[callback] = None
        else:
            self._loop.call_soon(callback)

    def _shut(self) -> None:
        self._closed = True
        for callback in self._after:
            self._loop.call_soon(callback)
        self._after.clear()
        self._timers.stop()
        if self._soon is not None:
            self._soon.cancel()
        self._port.close()

    # ------------------------------------------------------------ what starts a turn

    def _on_batch(self, batch: list[Datagram]) -> None:
        now = self._loop.time()
        for data, address in batch:
            path = self._only or self._path_of(data, address, now)
            if path is not None:
                path.receive(data, address, now)
                self._touched[path] = None
        if self._only is not None:
            self._port.patience_s = self._only.patience_s
        self._run_turn(now)

    def _on_due(self) -> None:
        now = self._loop.time()
        for path in self._timers.take_due(now):
            deadline = path.deadline()
            if deadline is None or deadline > now:
                self._timers.set(path, deadline)  # it had moved
            elif path.owes_only_ack(now):
                self._guarded(path, self._flush, now)
            else:
                path.handle_timer(now)
                self._touched[path] = None
        if self._touched:
            self._run_turn(now)
        else:
            self._timers.arm()

    def _on_soon(self) -> None:
        self._soon = None
        self._run_turn(self._loop.time())

    def _on_error(self, error: OSError) -> None:
        # Only a connected socket hears of ICMP, and only a path that never heard its server believes it.
        if self._only is not None and isinstance(error, ConnectionRefusedError):
            self._only.refused_by_network("nobody listens there (port unreachable)")
            self.schedule_flush(self._only)

    def _path_of(self, data: bytes, address: Address, now: float) -> QuicPath | None:
        found = self._demux.find(data)
        if isinstance(found, bytes):
            self._port.send([(found, address)])
            return None
        return self._admit(found, data, address, now) if isinstance(found, Newcomer) else found

    def _admit(self, newcomer: Newcomer, data: bytes, address: Address, now: float) -> QuicPath | None:
        """A path for a first packet. None when it was refused or is taken in already."""
        if self._accept is None or self._tls is None:
            return None
        if self._demux.is_full(self.limits):
            self._port.send([(refusal(newcomer), address)])
            return None
        connection = connection_class()(
            configuration=self._tls.configuration(self.limits),
            limits=self.limits,
            original_destination_connection_id=newcomer.destination_id,
        )
        path = self._new_path(connection, now)
        path.receive(data, address, now)
        if connection.is_started:
            path.attach(self._accept(path))
            self._demux.add(path, newcomer.destination_id, connection.host_cid)
            self._touched[path] = None
        return None

    def _new_path(self, connection: PathConnection, now: float) -> QuicPath:
        local = self._port.local_address
        return QuicPath(connection, self.limits, started_at=now, local_address=local, endpoint=self)

    # ------------------------------------------------------------ the turn

    def _run_turn(self, now: float) -> None:
        if self._in_turn or self._closed:
            return
        self._in_turn = True
        try:
            for path in list(self._touched):
                self._guarded(path, self._dispatch, now)
            self._tell_turn(now)
            now = self._loop.time()  # the owner may have taken its time, and round trips are measured from sending
            self._send_touched(now)
            self._finish(now)
        finally:
            self._in_turn = False
        if self._only is not None and self._only.is_over:
            self._shut()
        else:
            self._timers.arm()

    def _tell_turn(self, now: float) -> None:
        if self.on_turn is not None and self._touched:
            try:
                self.on_turn(set(self._touched), now)
            except Exception as error:  # noqa: BLE001 - reported; what was sent before must still leave
                self._report("on_turn raised", error)

    def _send_touched(self, now: float) -> None:
        while self._touched:
            path = next(iter(self._touched))
            del self._touched[path]
            self._guarded(path, self._send, now)

    def _finish(self, now: float) -> None:
        """What was put off until after the turn; what it puts off in its turn is left to the loop's next round."""
        if not self._after:
            return
        callbacks, self._after = self._after, {}
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - as in _tell_turn
                self._report("a callback after a turn raised", error)
        self._send_touched(now)
        for callback in self._after:
            self._loop.call_soon(callback)
        self._after.clear()

    def _guarded(self, path: QuicPath, step: Callable[[QuicPath, float], None], now: float) -> None:
        """A defect in the owner of one path must not stop the others."""
        try:
            step(path, now)
        except Exception as error:  # noqa: BLE001 - reported, and the path ends
            self._report(f"the owner of {path.description} raised", error)
            path.abort("internal error")
            self._touched[path] = None

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})

    def _dispatch(self, path: QuicPath, now: float) -> None:
        changes = path.dispatch(now)
        if self._only is None:
            self._demux.apply(path, changes)

    def _send(self, path: QuicPath, now: float) -> None:
        if path.wants_room and path.is_at_rest:
            # The first datagrams of an answer leave before the rest is built, which takes milliseconds.
            path.fill(now, FIRST_DATAGRAMS * path.datagram_payload_bytes)
            if path.wants_room:
                self._port.send(path.flush(now))
        path.fill(now)
        # What the owner handed over just now leaves here: no second round for it.
        self._touched.pop(path, None)
        self._flush(path, now)

    def _flush(self, path: QuicPath, now: float) -> None:
        datagrams = path.flush(now)
        if datagrams:
            self._port.send(datagrams)
        # Sending hands out connection ids, and a failure to send ends the path.
        self._dispatch(path, now)
        if path.is_over:
            self._timers.forget(path)
            self._demux.remove(path)
            if not self._in_turn:
                self._touched[path] = None  # a turn must follow: it closes a client's socket
        else:
            self._timers.set(path, path.deadline())


async def _resolve(
    address: tuple[str, int], loop: asyncio.AbstractEventLoop, family: int = socket.AF_UNSPEC
) -> tuple[int, Address]:
    """The first address of that name. Raises OSError (socket.gaierror) when there is none."""
    host, port = address
    try:
        # Numbers need no look-up, hence no thread.
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    return found[0][0], cast("Address", found[0][4])
