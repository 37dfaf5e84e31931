"""One QUIC connection as one path: pipes in, pipes out, room, facts, one death.

`QuicPath` does no I/O. Whoever owns the sockets feeds it datagrams and time, asks it to `dispatch` what happened,
to `fill` its room and to `flush`; `QuicEndpoint` does so on an event loop, tests do so in virtual time.
"""

import logging
from collections.abc import Callable
from typing import Protocol

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    HandshakeCompleted,
    PingAcknowledged,
    QuicEvent,
    StreamDataReceived,
)

from kwik.errors import ErrorCode
from kwik.kdp.facts import PathFacts
from kwik.quic.connection import PACKET_OVERHEAD_BYTES, PathConnection
from kwik.quic.ends import LONGEST_DETAIL, EndKind, PathEnd
from kwik.quic.limits import QuicLimits

__all__ = ["Address", "Datagram", "EndKind", "PathEnd", "PathEvents", "PathHome", "QuicPath"]

Address = tuple[str, int] | tuple[str, int, int, int]
"""A socket address as the kernel gives it: host and port, for IPv6 with flow and scope."""
Datagram = tuple[bytes, Address]

LATE_S = 0.1
"""A path that nobody looked at for longer may belong to a process that did not run."""

_log = logging.getLogger(__name__)


class PathEvents(Protocol):
    """What a path tells its owner, from inside a turn of the event loop. Must not block.

    The order is: `on_writable`, `on_up`, then anything, and `on_down` last and exactly once (also when nothing came
    before it). A call may use the path it came from and any other one.
    """

    def on_writable(self, path: "QuicPath", binding: bytes, now: float) -> None:
        """1-RTT keys exist: what is sent now travels with the handshake. `binding` is 32 bytes, equal on both sides.

        Server: with its first flight. Client: the handshake is complete, certificate and name are verified.
        """

    def on_up(self, path: "QuicPath", now: float) -> None:
        """The handshake is complete. Client: directly after `on_writable`; server: the client proved its keys."""

    def on_data(self, path: "QuicPath", pipe: int, data: bytes, now: float) -> None:
        """The next bytes of the other side's pipe number `pipe` (0 is its control pipe), never empty."""

    def on_room(self, path: "QuicPath", n_bytes: int, now: float) -> None:
        """`n_bytes` of pipe data may be sent now. Asked only while `path.wants_room`, until nothing more is taken."""

    def on_pong(self, path: "QuicPath", ping_id: int, now: float) -> None:
        """The packet with this ping was acknowledged."""

    def on_down(self, path: "QuicPath", reason: PathEnd, now: float) -> None:
        """The path is over; nothing else will be told, and what is sent on it vanishes."""


class PathHome(Protocol):
    """What a path needs of the owner of its socket."""

    def schedule_flush(self, path: "QuicPath") -> None:
        """Send what this path has to send, in this turn or soon."""

    def flush(self, path: "QuicPath | None" = None) -> None:
        """Send now what was to be sent soon, and what this path has to send."""

    def after_turn(self, callback: Callable[[], None]) -> None:
        """Call this once, after the running turn has sent everything."""

    async def close(self) -> None:
        """End all paths there and free the socket."""


class QuicPath:
    """One path. Not thread-safe; all instants are on one monotonic clock that never runs backwards.

    `wants_room` is the owner's: while True, free room is offered in every turn that touches the path.
    """

    def __init__(
        self,
        connection: PathConnection,
        limits: QuicLimits,
        *,
        started_at: float,
        local_address: Address,
        endpoint: PathHome | None = None,
    ) -> None:
        self.wants_room = False
        self.endpoint = endpoint
        """Who flushes this path; closing it closes a client's path, or all paths of a server."""
        self.local_address = local_address
        self.connection = connection
        """For the owner of the sockets and for tests; nobody else looks behind the path."""
        self._limits = limits
        self._events: PathEvents | None = None
        self._handshake_until: float | None = started_at + limits.handshake_timeout_s
        self._told_writable = False
        self._told_down = False
        self._closing = False
        self._handed_bytes = 0
        self._farewell: list[Datagram] = []
        self._late_datagrams = 0
        self._ran_at = started_at

    # ------------------------------------------------------------ for the owner of the path

    @property
    def is_client(self) -> bool:
        """True on the side that dialled."""
        return self.connection.is_client

    @property
    def remote_address(self) -> Address | None:
        """Where packets go at present. A server's view changes when the client's address does."""
        address: Address | None = self.connection.get_peer_address()
        return address

    @property
    def description(self) -> str:
        """For logs: role, both addresses and the connection id that both sides' logs share."""
        role = "to" if self.is_client else "from"
        name = self.connection.original_destination_connection_id.hex()[:8]
        return f"path {name} {role} {_text(self.remote_address)} at {_text(self.local_address)}"

    def send(self, pipe: int, data: bytes) -> None:
        """Append to pipe 0 (control) or 1..max_data_pipes (data). Never blocks; lost when the path is over.

        Raises ValueError for a pipe that does not exist, RuntimeError before `on_writable`.
        """
        if not 0 <= pipe <= self._limits.max_data_pipes:
            raise ValueError(f"a path has the pipes 0 to {self._limits.max_data_pipes}, not {pipe}")
        if self.connection.end() is not None or self._told_down:
            return
        if not self.connection.can_write:
            raise RuntimeError("a path takes data from on_writable on")
        self.connection.write(pipe, data)
        self._handed_bytes += len(data)
        self._wake()

    def room(self, now: float) -> int:
        """Bytes of pipe data that may be handed over now.

        So many that the unsent bytes stay at what the congestion window lets go at once plus `ahead_s` at window per
        RTT; one datagram's worth when nothing is unsent; 0 when full. Before the handshake is complete a client
        has none, a server what the amplification limit (RFC 9000 §8.1) leaves beside its handshake.
        """
        return self.connection.room(self.connection.unsent())

    @property
    def is_at_rest(self) -> bool:
        """Nothing is under way: whoever waits at the other end waits for what is sent next."""
        return self.connection.is_complete and not self.connection.has_in_flight

    @property
    def datagram_payload_bytes(self) -> int:
        """Pipe bytes that one datagram carries: less room than this is not offered."""
        return self._limits.datagram_bytes - PACKET_OVERHEAD_BYTES

    def facts(self, now: float) -> PathFacts:
        """Measurements as of now."""
        return self.connection.facts(self.connection.unsent())

    def ping(self, ping_id: int) -> None:
        """Ask for a sign of life; `on_pong` tells the id. Repeated by QUIC when its packet is lost."""
        if not self._told_down:
            self.connection.send_ping(ping_id)
            self._wake()

    def close(self, code: int, reason: str, now: float) -> None:
        """End the path; the other side is told code and reason. Only `on_down` follows, in this turn or the next."""
        self._closing = True
        self.connection.close(error_code=code, frame_type=None, reason_phrase=reason[:LONGEST_DETAIL])
        self._wake()

    def _wake(self) -> None:
        if self.endpoint is not None:
            self.endpoint.schedule_flush(self)

    # ------------------------------------------------------------ for the owner of the sockets

    def attach(self, events: PathEvents) -> None:
        """Say who hears about this path; before the first `dispatch`."""
        self._events = events

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """Take one datagram. Whatever it holds, nothing is raised."""
        if self._farewell:
            self._late_datagrams += 1
            return
        self._notice_sleep(now)
        try:
            self.connection.receive_datagram(data, address, now)
        except Exception:  # noqa: BLE001 - whatever a stranger's bytes provoke ends this path, not the process
            _log.exception("%s: a datagram of %d bytes upset the QUIC stack", self.description, len(data))
            self.connection.fail(EndKind.ERROR, ErrorCode.INTERNAL, "a datagram upset the QUIC stack")

    def abort(self, detail: str) -> None:
        """End the path because of a defect on this side. Its owner hears of nothing but the end."""
        self._closing = True
        self.connection.fail(EndKind.ERROR, ErrorCode.INTERNAL, detail)

    def handle_timer(self, now: float) -> None:
        """The deadline has passed. Early and repeated calls are harmless."""
        self._notice_sleep(now)
        if self._handshake_until is not None and now >= self._handshake_until:
            self._handshake_until = None
            self.connection.vanish(EndKind.IDLE, f"no handshake within {self._limits.handshake_timeout_s:.1f} s")
            return
        due = self.connection.get_timer()
        if due is not None and now >= due:
            self.connection.handle_timer(now)

    def owes_only_ack(self, now: float) -> bool:
        """True when `deadline` has passed for the sake of an ACK alone, which is no news for the owner."""
        return self._handshake_until is None and self.connection.owes_only_ack(now)

    @property
    def patience_s(self) -> float:
        """How long datagrams of a steady flow may wait for more before they are read, hardly noticed on this path."""
        return self.connection.patience_s

    def refused_by_network(self, detail: str) -> None:
        """The network says that nobody is there. Believed only while connecting: later silence decides."""
        if not self.connection.is_started:
            self.connection.vanish(EndKind.ERROR, detail)

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None when never."""
        due = self.connection.get_timer()
        if self._handshake_until is None:
            return due
        return self._handshake_until if due is None else min(due, self._handshake_until)

    @property
    def is_over(self) -> bool:
        """True when the path was told down and has nothing left to repeat to the other side."""
        return self._told_down and (self.connection.is_gone or not self._farewell)

    def dispatch(self, now: float) -> list[ConnectionIdIssued | ConnectionIdRetired]:
        """Tell the owner what happened since the last call; hand back the changes of connection ids."""
        changes: list[ConnectionIdIssued | ConnectionIdRetired] = []
        if not self._told_writable and not self.is_client and self.connection.can_write:
            self._tell_writable(now)
        pipe, pieces = 0, list[bytes]()
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                if pieces and pipe != event.stream_id >> 2:
                    self._tell_data(pipe, pieces, now)
                    pieces = []
                pipe = event.stream_id >> 2
                pieces.append(event.data)
            elif isinstance(event, ConnectionIdIssued | ConnectionIdRetired):
                changes.append(event)
            else:
                self._tell_event(event, now)
        if pieces:
            self._tell_data(pipe, pieces, now)
        end = self.connection.end()
        if end is not None and not self._told_down and end.kind is not EndKind.CLOSED_BY_US:
            self._tell_down(end, now)
        return changes

    def fill(self, now: float, most: int | None = None) -> None:
        """Offer the room that is free, until it is used up or nobody takes any; with `most` so much of it, once."""
        while self.wants_room and (listener := self._listener()) is not None:
            room = self.room(now)
            before = self._handed_bytes
            if room < self.datagram_payload_bytes:
                return
            listener.on_room(self, room if most is None else min(room, most), now)
            if self._handed_bytes == before or most is not None:
                return

    def flush(self, now: float) -> list[Datagram]:
        """Datagrams that go out now. A closing path repeats its last word to the 1st, 2nd, 4th, ... late packet."""
        if self._farewell:
            late = self._late_datagrams
            return self._farewell if late and not late & (late - 1) else []
        self._notice_sleep(now)
        end = self.connection.end()
        try:
            datagrams = self.connection.datagrams_to_send(now)
        except Exception:  # noqa: BLE001 - as in receive
            _log.exception("%s: the QUIC stack failed to send", self.description)
            self.connection.vanish(EndKind.ERROR, "the QUIC stack failed to send")
            return []
        if end is not None and not self.connection.is_gone:
            self._farewell = datagrams
            self._tell_down(end, now)
        return datagrams

    def _notice_sleep(self, now: float) -> None:
        """Before anything is read or sent: the one and the other would start the connection's timers again."""
        if now - self._ran_at > LATE_S:
            self.connection.on_gap(now)
        self._ran_at = now

    # ------------------------------------------------------------ telling, in order, once

    def _listener(self) -> PathEvents | None:
        return None if self._told_down or self._closing else self._events

    def _tell_writable(self, now: float) -> None:
        self._told_writable = True
        if (listener := self._listener()) is not None and (binding := self.connection.binding) is not None:
            listener.on_writable(self, binding, now)

    def _tell_event(self, event: QuicEvent, now: float) -> None:
        if isinstance(event, HandshakeCompleted):
            self._handshake_until = None
            if not self._told_writable:
                self._tell_writable(now)
            if (listener := self._listener()) is not None:
                listener.on_up(self, now)
        elif isinstance(event, PingAcknowledged) and (listener := self._listener()) is not None:
            listener.on_pong(self, event.uid, now)

    def _tell_data(self, pipe: int, pieces: list[bytes], now: float) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.connection.received_bytes += len(data)
        if (listener := self._listener()) is not None:
            listener.on_data(self, pipe, data, now)

    def _tell_down(self, end: PathEnd, now: float) -> None:
        self._handshake_until = None
        if not self._told_down and self._events is not None:
            self._told_down = True
            self._events.on_down(self, end, now)


def _text(address: Address | None) -> str:
    if address is None:
        return "nowhere"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"
