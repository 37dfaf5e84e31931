"""Client: one stream: what it consists of, its phases, and the application's end of it.

The rules live beside it, one idea a file: `answers` (frames from servers), `granting` (credit, orders, copies),
`failover` (trouble, change of anchor, recruiting, giving up), `sending` (upstream and acknowledgements).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from kwik.base.transitions import Machine, TransitionTable
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.actions import PortDone, PortReadable, PortReset, PortWritable
from kwik.kdp.digest import ALGORITHMS, Pair
from kwik.kdp.downstream import Downstream
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.kdp.roster import Roster
from kwik.kdp.takeover import Takeover
from kwik.kdp.upstream_log import UpstreamLog
from kwik.kdp.upstream_sink import Mark
from kwik.wire import frames

if TYPE_CHECKING:
    from kwik.config import Config
    from kwik.kdp.flow import MemoryPool
    from kwik.kdp.path import ClientPath
    from kwik.kdp.scheduler import Scheduler
    from kwik.types import Instance, Instant, Offset, PathId
    from kwik.wire.codec import ClientFrame

MIN_WAIT_FOR_END_S = 0.1
"""A FIN waits max(this, 2 RTT) for an agreeing replica that produces more (SPEC §6.5)."""
MIN_UPSTREAM_BUFFER_BYTES = 65536
"""A writer may always run this far ahead of the anchor."""


class Phase(Enum):
    """Where a stream stands."""

    PENDING = auto()
    """No server has been sent OPEN yet."""
    OPENING = auto()
    LIVE = auto()
    RECOVERING = auto()
    """The anchor is lost and nobody may take over yet."""
    OVER = auto()


class Event(Enum):
    """What changes the phase."""

    OPENED_ON = auto()
    REFUSED = auto()
    CONFIRMED = auto()
    LOST = auto()
    RECOVERED = auto()
    ENDED = auto()


_P, _E = Phase, Event
STREAM_TABLE = TransitionTable(
    "stream",
    _P.PENDING,
    {
        (_P.PENDING, _E.OPENED_ON): _P.OPENING,
        (_P.PENDING, _E.ENDED): _P.OVER,
        (_P.OPENING, _E.REFUSED): _P.PENDING,
        (_P.OPENING, _E.CONFIRMED): _P.LIVE,
        (_P.OPENING, _E.LOST): _P.RECOVERING,
        (_P.OPENING, _E.ENDED): _P.OVER,
        (_P.LIVE, _E.LOST): _P.RECOVERING,
        (_P.LIVE, _E.CONFIRMED): _P.LIVE,
        (_P.LIVE, _E.ENDED): _P.OVER,
        (_P.RECOVERING, _E.RECOVERED): _P.LIVE,
        (_P.RECOVERING, _E.CONFIRMED): _P.LIVE,
        (_P.RECOVERING, _E.REFUSED): _P.PENDING,
        (_P.RECOVERING, _E.ENDED): _P.OVER,
    },
)


class StreamContext(Protocol):
    """What a stream needs of its session."""

    config: Config
    service: str
    pool: MemoryPool
    scheduler: Scheduler
    actions: list[object]
    order_counts: dict[PathId, int]

    def send(self, path: ClientPath, frame: ClientFrame) -> None:
        """Queue a control frame on a path."""

    def release(self, path: PathId, size: int, now: Instant) -> None:
        """A path no longer owes these bytes."""

    def draw_replica(self, stream: ClientStream) -> int:
        """A replica number that was never used."""

    def forget_replica(self, number: int) -> None:
        """The replica is closed; late frames for it are ignored."""

    def admitted(self) -> list[ClientPath]:
        """Admitted paths, in the order of their numbers."""

    def is_replicated(self, instance: Instance | None) -> bool | None:
        """What that server's hello said; None if it was not read."""

    def recover(self, instance: Instance | None) -> None:
        """A stream is stuck on this instance: try new paths to it."""

    def may_find_more(self) -> bool:
        """Whether further servers may still turn up."""

    def upstream_credit(self, path: ClientPath) -> int | None:
        """The first upstream credit that the path's hello named; None before the hello."""


@dataclass(slots=True)
class AppEnd:
    """What is known of the application's end."""

    eof: bool = False
    closed: bool = False
    end_shown: bool = False
    readable_told: bool = False
    starved: bool = False
    """The last allowance was 0: PortWritable is owed."""
    last_taken_at: Instant | None = None
    write_failed: bool = False


@dataclass(slots=True)
class Counters:
    """What stats() tells."""

    duplicate_bytes: int = 0
    rejected_blocks: int = 0
    regrants: int = 0
    takeovers: int = 0
    copied_bytes: int = 0
    written_marks: int = 0


@dataclass(slots=True)
class Attempts:
    """Servers that were tried for this stream, and what they said."""

    instances: set[Instance] = field(default_factory=set)
    refusals: list[str] = field(default_factory=list)
    refused_since: Instant | None = None
    """Since when some server has refused, or drains, and none has taken the stream."""
    last_code: int = ErrorCode.SERVER_GONE
    any_answered: bool = False


class ClientStream:
    """One stream of a session."""

    def __init__(self, key: int, context: StreamContext, *, replicas: int, now: Instant) -> None:
        config = context.config
        self.key = key
        self.context = context
        self.machine = Machine(STREAM_TABLE)
        self.log = UpstreamLog(config.replay_limit_bytes)
        self.down = Downstream(config.block_bytes, ALGORITHMS[frames.DIGEST_BLAKE3], context.order_counts)
        self.views = Roster()
        self.anchor: ReplicaView | None = None
        self.epoch = 0
        self.takeover = Takeover()
        self.app = AppEnd()
        self.counters = Counters()
        self.attempts = Attempts()
        self.credit: Offset = 0
        self.replicas_wanted = replicas
        self.began_at = now
        self.recovering_since: Instant | None = None
        self.idle_head: tuple[int, Instant] | None = None
        self.next_due: Instant | None = None

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Present phase."""
        return self.machine.state

    @property
    def is_over(self) -> bool:
        """Nothing more happens here."""
        return self.machine.state is Phase.OVER

    @property
    def is_replicated(self) -> bool:
        """Whether replicas of it are possible, as far as is known."""
        said = [
            self.context.is_replicated(view.instance)
            for view in self.views.values()
            if view.state is not ViewState.REFUSED
        ]
        return self.down.running is not None and bool(said) and all(said)

    @property
    def is_recruitable(self) -> bool:
        """Whether a new server could be given everything from byte 0."""
        return self.is_replicated and self.log.is_recruitable

    def usable_views(self) -> list[ReplicaView]:
        """Replicas that may still help."""
        return self.views.usable()

    def helpers(self) -> list[ReplicaView]:
        """Usable replicas other than the anchor."""
        return self.views.others(self.anchor)

    def most_produced(self) -> Offset:
        """What the usable replica that is ahead of the others has produced."""
        most = 0
        for view in self.views.usable():
            most = view.produced if view.produced > most else most
        return most

    def longest_rtt_s(self) -> float:
        """Of all paths that its usable replicas have and that speak; 0 if there are none."""
        longest_s = 0.0
        for view in self.views.usable():
            for path in view.live_paths():
                longest_s = path.rtt_s if path.rtt_s > longest_s else longest_s
        return longest_s

    def own_mark(self) -> Mark:
        """The mark of bytes written now (SPEC §5.9)."""
        after = self.down.delivered
        running = self.down.running
        pair: Pair | None = running.pair if running is not None and after > 0 else None
        return Mark(after, pair)

    # -- the application's end -------------------------------------------------------------------------------------

    def allowance(self) -> int:
        """Bytes that may be read from the application now."""
        if self.is_over or self.app.eof:
            return 0
        received = self.anchor.received if self.anchor is not None else 0
        limit = max(self.context.config.replay_limit_bytes, MIN_UPSTREAM_BUFFER_BYTES)
        left = max(0, limit - (self.log.end - received))
        self.app.starved = left == 0
        return left

    def on_app_bytes(self, data: bytes) -> None:
        """Bytes that the application wrote."""
        if self.is_over or self.app.eof or not data:
            return
        if self.app.write_failed:
            self.fail(ErrorCode.STREAM_ABORTED, "the service closed the stream and reads no more of it")
            return
        self.log.append(data, self.own_mark())

    def on_app_eof(self) -> None:
        """The application ended the upstream."""
        if not self.app.eof and not self.is_over:
            self.app.eof = True
            self.log.finish(self.own_mark())

    def on_app_closed(self, *, aborted: bool) -> None:
        """The application closed its socket altogether."""
        if self.is_over:
            return
        self.app.closed = True
        if aborted:
            self.finish(ErrorCode.STREAM_ABORTED)
            return
        self.on_app_eof()
        self.finish_if_settled()

    def peek(self) -> memoryview | None:
        """The next bytes for the application."""
        if self.is_over or self.app.closed:
            return None
        view = self.down.peek(self.anchor, self.takeover.stop_at(self.down.delivered))
        if view is None:
            self.app.readable_told = False
        return view

    def consume(self, size: int, now: Instant) -> None:
        """The application's socket took bytes."""
        if self.anchor is None or self.is_over or not size:
            return
        try:
            number, released = self.down.consume(size, self.anchor)
        except LocalProtocolError as error:
            self.fail(ErrorCode.DIVERGED, f"the server contradicts itself ({error}); do not trust what was read")
            return
        source = self.views.get(number)
        if source is not None:
            source.delivered_bytes += size
        for path, owed in released:
            self.context.release(path, owed, now)
        self.app.last_taken_at = now

    def discard(self, now: Instant) -> None:
        """The application has closed its socket: what still comes is read and dropped, so that the service may end."""
        while self.app.closed and not self.is_over and self.anchor is not None:
            view = self.down.peek(self.anchor, None)
            if view is None:
                return
            self.consume(len(view), now)

    def tell_readable(self, now: Instant) -> None:
        """Say PortReadable when there is something to read and it was not said already."""
        app = self.app
        if app.readable_told or app.closed or self.is_over:
            return
        if self.down.peek(self.anchor, self.takeover.stop_at(self.down.delivered)) is not None or self.may_end(now):
            self.app.readable_told = True
            self.context.actions.append(PortReadable(self.key))

    def tell_writable(self) -> None:
        """Say PortWritable when allowance has grown from nothing."""
        if self.app.starved and self.allowance() > 0:
            self.app.starved = False
            self.context.actions.append(PortWritable(self.key))

    # -- its end ---------------------------------------------------------------------------------------------------

    def may_end(self, now: Instant) -> bool:
        """Whether the end of file may be shown now (SPEC §6.5)."""
        due = self.end_due()
        return due is not None and now >= due and not self.app.end_shown

    def end_due(self) -> Instant | None:
        """When the end of file may be shown; None if the stream does not stand at its end."""
        anchor = self.anchor
        if anchor is None or anchor.final is None or anchor.final_at is None or not anchor.is_usable:
            return None
        if self.down.delivered != anchor.final:
            return None
        agreeing = [
            view
            for view in self.helpers()
            if view.live_paths()
            and (view.agreement.has_agreed or (view.agreement.is_open and not view.agreement.differing))
        ]
        if any(view.agreement.has_agreed and view.produced > anchor.final for view in agreeing):
            return None
        if not agreeing or any(view.final == anchor.final for view in agreeing):
            return anchor.final_at
        rtt = max(path.rtt_s for view in agreeing for path in view.live_paths())
        return anchor.final_at + max(MIN_WAIT_FOR_END_S, 2 * rtt)

    def show_end(self) -> None:
        """The end of file was shown to the application."""
        self.app.end_shown = True
        self.finish_if_settled()

    def finish_if_settled(self) -> None:
        """Both directions have ended and the anchor has all of the upstream: nothing more is to be done."""
        if self.is_over or not (self.app.end_shown or self.app.closed) or not self.log.is_finished:
            return
        anchor = self.anchor
        if (
            anchor is not None
            and anchor.fin_sent
            and anchor.received >= self.log.end
            and anchor.state is ViewState.LIVE
        ):
            self.finish(ErrorCode.NO_ERROR)

    def finish(self, code: int) -> None:
        """Close all replicas; the port is done."""
        self._close_all(code)
        self.context.actions.append(PortDone(self.key))

    def fail(self, code: int, text: str, *, refused: bool = False) -> None:
        """The application must see a reset (SPEC §2)."""
        if self.is_over:
            return
        self._close_all(ErrorCode.STREAM_ABORTED)
        self.context.actions.append(PortReset(self.key, code, text, refused))

    def drop_view(self, view: ReplicaView, state: ViewState, code: int) -> None:
        """A replica is of no use any more: close it and forget what it owes."""
        was_usable = view.is_usable
        self.views.retire(view, state)
        path = view.control_path()
        for other in view.paths.values():
            # What it still owes will not be waited for.
            other.outstanding_bytes = max(0, other.outstanding_bytes - self._owed(view, other))
        self.down.book.drop_replica(view.number)
        if not view.open_sent:
            for other in view.paths.values():
                other.outbox.recall(view.number)
        if was_usable and path is not None and view.open_sent:
            self.context.send(path, frames.Close(view.number, code))
        if self.takeover.candidate is view:
            self.takeover.end()

    def _owed(self, view: ReplicaView, path: ClientPath) -> int:
        book = self.down.book
        return book.owed_by(path.id, view.number)

    def _close_all(self, code: int) -> None:
        self.machine.on(Event.ENDED)
        for view in self.usable_views():
            self.drop_view(view, ViewState.DEAD, code)
        for view in self.views.values():
            self.context.forget_replica(view.number)
        self.context.pool.release(self.key)
