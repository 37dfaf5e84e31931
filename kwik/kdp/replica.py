"""Server: one replica, one instance of a stream: its application's output, its upstream, what it owes on each path.

States (SPEC §5.10) stand in REPLICA_TABLE. Frames leave only when a path has room: `next_control` and `next_data` make
them on demand, so that nothing is queued as bytes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from kwik.base.transitions import Machine, TransitionTable
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.announcer import Announcer
from kwik.kdp.digest import ALGORITHMS, ZERO_CHAIN, Pair
from kwik.kdp.order_queue import OrderQueue
from kwik.kdp.producer import Producer
from kwik.kdp.upstream_sink import Gate, Mark, UpstreamSink
from kwik.types import Instant, Offset, OrderId, PathId, ReplicaId
from kwik.wire import frames
from kwik.wire.codec import ServerFrame, UpstreamPiece

MAX_PROBES = 16
MAX_ASKED_BLOCKS = 64
MAX_REVOKES = 256
"""Unanswered requests per replica and path (SPEC §7)."""
NOWHERE = 1 << 61
"""A floor that no output reaches: whatever is produced is hashed and dropped."""
NO_PAIR = Pair(ZERO_CHAIN, ZERO_CHAIN)


class ReplicaState(Enum):
    """Where a replica stands."""

    CONNECTING = auto()
    LIVE = auto()
    ENDED = auto()
    RESET = auto()
    CLOSING = auto()
    GONE = auto()


class ReplicaInput(Enum):
    """What changes it."""

    ACCEPTED = auto()
    REFUSED = auto()
    OUTPUT_FIN = auto()
    OUTPUT_RESET = auto()
    CLOSE = auto()
    ABORT = auto()
    SETTLED = auto()


_S, _I = ReplicaState, ReplicaInput
REPLICA_TABLE = TransitionTable(
    "replica",
    _S.CONNECTING,
    {
        (_S.CONNECTING, _I.ACCEPTED): _S.LIVE,
        (_S.CONNECTING, _I.REFUSED): _S.GONE,
        (_S.CONNECTING, _I.CLOSE): _S.GONE,
        (_S.CONNECTING, _I.ABORT): _S.GONE,
        (_S.LIVE, _I.OUTPUT_FIN): _S.ENDED,
        (_S.LIVE, _I.OUTPUT_RESET): _S.RESET,
        (_S.LIVE, _I.CLOSE): _S.CLOSING,
        (_S.LIVE, _I.ABORT): _S.GONE,
        (_S.ENDED, _I.OUTPUT_RESET): _S.RESET,
        (_S.ENDED, _I.CLOSE): _S.CLOSING,
        (_S.ENDED, _I.ABORT): _S.GONE,
        (_S.RESET, _I.CLOSE): _S.GONE,
        (_S.RESET, _I.ABORT): _S.GONE,
        (_S.CLOSING, _I.SETTLED): _S.GONE,
        (_S.CLOSING, _I.OUTPUT_RESET): _S.GONE,
        (_S.CLOSING, _I.ABORT): _S.GONE,
    },
)


@dataclass(slots=True)
class PathDuty:
    """What a replica owes on one path; dies with the path."""

    orders: OrderQueue
    replies: deque[ServerFrame] = field(default_factory=deque)
    """OPENED and ATTACHED; as many as there are unanswered OPENs and ATTACHs on the path."""
    revoked: deque[frames.Revoked] = field(default_factory=deque)
    probes: list[frames.Probe] = field(default_factory=list)
    asks: list[frames.AskDigests] = field(default_factory=list)
    end_told: bool = False
    fin_told: bool = False


@dataclass(slots=True)
class Told:
    """What the client has been told on the primary path, so that only changes are said again."""

    produced: Offset = 0
    received: Offset = 0
    taken: Offset = 0
    credit: Offset = 0
    diverged: bool = False


class ServerReplica:
    """One replica. Raises LocalProtocolError on frames that break SPEC; the core closes the path with its code."""

    def __init__(self, key: int, opened: frames.Open, *, hashed: bool, cap_bytes: int, upstream: UpstreamSink) -> None:
        self.key = key
        self.number = opened.replica
        self.block_bytes = opened.block_bytes
        algorithm = ALGORITHMS.get(opened.digest) if hashed else None
        self.producer = Producer(
            opened.block_bytes, algorithm, floor=opened.floor, credit=opened.credit, cap_bytes=cap_bytes
        )
        self.sink = upstream
        self.machine = Machine(REPLICA_TABLE)
        self.duties: dict[PathId, PathDuty] = {}
        self.pathless_since: Instant | None = None
        self.reset_code: int | None = None
        self.diverged_at: Offset | None = None
        self.app_gone = False
        self.output_over = False
        self.announcer = (
            Announcer(
                ReplicaId(self.number),
                algorithm,
                opened.floor // opened.block_bytes,
                block_by_block=opened.role == frames.ROLE_ANCHOR,
            )
            if algorithm
            else None
        )
        self._told = Told(credit=upstream.credit)
        self._gates: dict[Mark, Gate] = {}

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> ReplicaState:
        """Present state."""
        return self.machine.state

    @property
    def is_gone(self) -> bool:
        """Nothing is left to be done."""
        return self.state is ReplicaState.GONE

    @property
    def primary(self) -> PathId | None:
        """The path that carries announcements and other restated values: the one attached last."""
        return next(reversed(self.duties), None)

    @property
    def held_bytes(self) -> int:
        """Output and upstream kept in memory."""
        return self.producer.held_bytes + self.sink.held_bytes

    def attach(self, path: PathId, *, role: int | None = None) -> PathDuty:
        """Bind a path; announcements start again there, from the floor."""
        duty = self.duties.pop(path, None) or PathDuty(OrderQueue(self.block_bytes))
        self.duties[path] = duty
        self.pathless_since = None
        self._restate(role)
        return duty

    def detach(self, path: PathId, now: Instant) -> None:
        """A path is gone, and its orders with it."""
        was_primary = self.primary == path
        if self.duties.pop(path, None) is None:
            return
        if not self.duties:
            self.pathless_since = now
        elif was_primary:
            self._restate(None)

    def _restate(self, role: int | None) -> None:
        self._told = Told()
        primary = self.primary
        if primary is not None:
            self.duties[primary].end_told = self.duties[primary].fin_told = False
        if self.announcer is not None:
            first = self.producer.floor // self.block_bytes
            anchor = self.announcer.block_by_block if role is None else role == frames.ROLE_ANCHOR
            self.announcer.restart(first, block_by_block=anchor)

    # -- from the client -------------------------------------------------------------------------------------------

    def on_upstream(self, piece: UpstreamPiece) -> None:
        """A piece of the upstream."""
        pair = Pair(piece.chain, piece.prefix) if piece.chain and piece.prefix else None
        mark = Mark(piece.after, pair)
        fin = bool(piece.flags & frames.UPSTREAM_FIN) and piece.is_last
        if self.app_gone:
            self._refuse_upstream(piece)
            return
        if self.sink.on_piece(piece.offset, bytes(piece.payload), mark, fin=fin):
            # Judged at once, or watched for: the floor may pass the mark before the bytes are fed.
            self.gate(mark)

    def on_ack(self, floor: Offset, credit: Offset) -> None:
        """Floor and credit, absolute and monotone."""
        if floor % self.block_bytes:
            raise LocalProtocolError(f"floor {floor} is not the start of a block", field="floor")
        self.producer.credit = max(self.producer.credit, credit)
        self.producer.set_floor(floor)

    def on_grant(self, path: PathId, grant: frames.Grant) -> None:
        """A numbered order."""
        orders = self.duties[path].orders
        orders.add(OrderId(grant.order), grant.blocks, urgent=grant.urgent, credit=self.producer.credit)
        if self.producer.final is not None:
            orders.end_at(self.producer.final)

    def on_revoke(self, path: PathId, revoke: frames.Revoke) -> None:
        """Orders to drop; confirmed one by one."""
        duty = self.duties[path]
        if len(duty.revoked) >= MAX_REVOKES:
            raise LocalProtocolError(
                f"more than {MAX_REVOKES} REVOKEs are unanswered", code=ErrorCode.LIMIT, field="orders"
            )
        confirmed = tuple((number, duty.orders.revoke(OrderId(number), block)) for number, block in revoke.orders)
        duty.revoked.append(frames.Revoked(self.number, confirmed))

    def on_probe(self, path: PathId, probe: frames.Probe) -> None:
        """A question for the pair at an offset; answered when the output gets there."""
        duty = self.duties[path]
        if len(duty.probes) >= MAX_PROBES:
            raise LocalProtocolError(
                f"more than {MAX_PROBES} probes are unanswered", code=ErrorCode.LIMIT, field="probe"
            )
        if probe.offset < self.producer.floor:
            raise LocalProtocolError(f"probe at {probe.offset}, below the floor {self.producer.floor}", field="offset")
        if self.announcer is None:
            raise LocalProtocolError("probe of a stream that is not hashed", field="replica")
        duty.probes.append(probe)

    def on_ask(self, path: PathId, ask: frames.AskDigests) -> None:
        """A question for the digests of single blocks."""
        duty = self.duties[path]
        asked = sum(waiting.count for waiting in duty.asks) + ask.count
        if asked > MAX_ASKED_BLOCKS or ask.count == 0:
            raise LocalProtocolError(
                f"{asked} digests are asked for at once, 1 to {MAX_ASKED_BLOCKS} may",
                code=ErrorCode.LIMIT,
                field="count",
            )
        duty.asks.append(ask)

    def on_anchor(self, first_block: int) -> None:
        """Announce block by block from here on."""
        if self.announcer is not None:
            self.announcer.restart(first_block, block_by_block=True)

    def close(self, *, aborted: bool) -> None:
        """The client needs the replica no longer."""
        if self.machine.accepts(ReplicaInput.ABORT if aborted else ReplicaInput.CLOSE):
            self.machine.on(ReplicaInput.ABORT if aborted else ReplicaInput.CLOSE)
        if self.state is ReplicaState.CLOSING:
            self.producer.set_floor(NOWHERE - NOWHERE % self.block_bytes)
        self.settle()

    def settle(self) -> None:
        """In CLOSING: once the application has all of the upstream that arrived, the replica is gone."""
        if self.state is not ReplicaState.CLOSING:
            return
        fed = self.sink.taken == self.sink.received or self.diverged_at is not None
        mark = self.sink.next_mark()
        never = self.output_over and mark is not None and mark.after > self.producer.produced
        if fed or never or self.app_gone:
            self.machine.on(ReplicaInput.SETTLED)

    # -- the application's end -------------------------------------------------------------------------------------

    def allowance(self) -> int:
        """Bytes that may be read from the application now."""
        if self.state is ReplicaState.CLOSING:
            return 65536
        return self.producer.allowance() if self.state is ReplicaState.LIVE else 0

    def on_output(self, data: bytes, now: Instant) -> None:
        """Output of the application; in CLOSING nobody wants it any more."""
        if self.state is ReplicaState.CLOSING:
            # Nobody wants it any more, yet it may reach a mark behind which upstream waits.
            self.producer.append(data)
        if self.state is not ReplicaState.LIVE:
            return
        self.producer.append(data)
        if self.announcer is not None:
            self.announcer.on_output(now)

    def on_output_end(self) -> None:
        """The application ended its output."""
        self.output_over = True
        if self.machine.accepts(ReplicaInput.OUTPUT_FIN):
            self.machine.on(ReplicaInput.OUTPUT_FIN)
            self.producer.finish()
            for duty in self.duties.values():
                duty.orders.end_at(self.producer.produced)

    def on_output_reset(self, code: int) -> None:
        """The application aborted, or cannot be served any more."""
        if self.machine.accepts(ReplicaInput.OUTPUT_RESET):
            self.machine.on(ReplicaInput.OUTPUT_RESET)
            self.reset_code = code
            for duty in self.duties.values():
                duty.end_told = False

    def gate(self, mark: Mark) -> Gate:
        """Whether bytes behind this mark may be fed now (SPEC §5.9)."""
        known = self._gates.get(mark)
        if known is not None:
            return known
        if mark.after > self.producer.produced and self.announcer is not None:
            self.producer.watch(mark.after)
            return Gate.WAIT
        verdict = self._judge(mark)
        if len(self._gates) > 2048:
            waiting = set(self.sink.marks())
            self._gates = {kept: gate for kept, gate in self._gates.items() if kept in waiting}
        self._gates[mark] = verdict
        self.producer.unwatch(mark.after)
        if verdict is Gate.DIVERGED and self.diverged_at is None:
            self.diverged_at = mark.after
        return verdict

    def _judge(self, mark: Mark) -> Gate:
        if mark.pair is None or self.announcer is None:
            return Gate.OPEN
        own = self.producer.pair_at(mark.after)
        # Only the end's mark may be overtaken by the floor, as nothing confirms it: then it is too late to compare.
        if own is None:
            return Gate.OPEN if mark == self.sink.final_mark else Gate.DIVERGED
        return Gate.OPEN if own == mark.pair else Gate.DIVERGED

    def peek(self) -> memoryview | None:
        """Upstream that may be fed now."""
        return None if self.diverged_at is not None else self.sink.peek(self.gate)

    def at_end(self) -> bool:
        """The upstream's end may be shown to the application now."""
        return self.diverged_at is None and self.sink.at_end(self.gate)

    def _refuse_upstream(self, piece: UpstreamPiece) -> None:
        if piece.payload and piece.offset + len(piece.payload) > self.sink.received:
            self.on_output_reset(ErrorCode.STREAM_ABORTED)

    # -- frames, on demand -----------------------------------------------------------------------------------------

    def next_control(self, path: PathId, now: Instant) -> ServerFrame | None:
        """The next control frame for this path, or None."""
        duty = self.duties[path]
        if duty.replies:
            return duty.replies.popleft()
        if duty.revoked:
            return duty.revoked.popleft()
        answer = self._answer_probe(duty) or self._answer_ask(duty)
        if answer is not None:
            return answer
        if path == self.primary and self.state is not ReplicaState.CONNECTING:
            frame = self._restated(duty, now)
            if frame is not None:
                return frame
        return self._busy(duty)

    def next_data(self, path: PathId, limit: int) -> tuple[int, Offset, bytes] | None:
        """(order, offset, payload) of the next DATA frame, payload at most `limit` bytes; None if nothing is due."""
        orders, producer = self.duties[path].orders, self.producer
        while (order := orders.next(producer.produced)) is not None:
            start, stop = order.ranges[0]
            if start < producer.floor:
                # Delivered already: nobody waits for it.
                orders.advance(order, min(stop, producer.floor) - start)
                continue
            size = min(limit, stop - start, producer.produced - start, frames.MAX_DATA_PAYLOAD)
            payload = producer.read(start, size)
            number = order.number
            orders.advance(order, len(payload))
            return number, start, payload
        return None

    def has_duty(self, path: PathId) -> bool:
        """Whether next_control or next_data may have something; may be true in vain."""
        duty = self.duties[path]
        return bool(
            duty.replies
            or duty.revoked
            or duty.probes
            or duty.asks
            or duty.orders.has_due(self.producer.produced)
            or (path == self.primary and self._is_news(duty))
        )

    def deadline(self) -> Instant | None:
        """When a short run becomes due."""
        if self.announcer is None or not self.duties:
            return None
        return self.announcer.deadline(self.producer)

    def _is_news(self, duty: PathDuty) -> bool:
        if self._told.produced != self.producer.produced or self._upstream_news():
            return True
        if self.announcer is not None and self.announcer.is_pending(self.producer):
            return True
        is_over = self.reset_code is not None or self.producer.final is not None
        return (is_over and not duty.end_told) or (self.diverged_at is not None and not self._told.diverged)

    def _upstream_news(self) -> bool:
        told, sink = self._told, self.sink
        return told.received != sink.received or told.taken != sink.taken or told.credit != sink.credit

    def _restated(self, duty: PathDuty, now: Instant) -> ServerFrame | None:
        told, sink = self._told, self.sink
        if self.diverged_at is not None and not told.diverged:
            told.diverged = True
            return frames.Diverged(self.number, self.diverged_at)
        if self._upstream_news():
            told.received, told.taken, told.credit = sink.received, sink.taken, sink.credit
            return frames.UpstreamState(self.number, sink.received, sink.taken, sink.credit)
        if self.announcer is not None and self.state is not ReplicaState.CLOSING:
            announcement = self.announcer.next_frame(self.producer, now)
            if announcement is not None:
                return announcement
        if told.produced != self.producer.produced:
            told.produced = self.producer.produced
            return frames.Produced(self.number, self.producer.produced)
        return self._end(duty)

    def _end(self, duty: PathDuty) -> ServerFrame | None:
        if duty.end_told:
            return None
        if self.producer.final is not None and not duty.fin_told:
            duty.fin_told, duty.end_told = True, self.reset_code is None
            return frames.Fin(self.number, self.producer.final)
        if self.reset_code is not None:
            duty.end_told = True
            return frames.Reset(self.number, self.producer.produced, self.reset_code)
        return None

    def _answer_probe(self, duty: PathDuty) -> ServerFrame | None:
        for probe in duty.probes:
            answer = self._probed(probe)
            if answer is not None:
                duty.probes.remove(probe)
                return answer
        return None

    def _probed(self, probe: frames.Probe) -> frames.Probed | None:
        pair = self.producer.pair_at(probe.offset)
        if pair is not None:
            return frames.Probed(self.number, probe.probe, probe.offset, frames.PROBE_REACHED, *pair)
        over = self.producer.final is not None or self.reset_code is not None
        if over or probe.offset < self.producer.floor:
            return frames.Probed(self.number, probe.probe, probe.offset, frames.PROBE_ENDED, *NO_PAIR)
        return None

    def _answer_ask(self, duty: PathDuty) -> ServerFrame | None:
        while duty.asks:
            ask = duty.asks.pop(0)
            digests = [self.producer.digest(block) for block in range(ask.first, ask.first + ask.count)]
            known = tuple(digest for digest in digests if digest is not None)
            if len(known) == len(digests):
                return frames.Digests(self.number, ask.first, known)
        return None

    def _busy(self, duty: PathDuty) -> ServerFrame | None:
        if self.state is not ReplicaState.LIVE:
            return None
        order = duty.orders.waiting(self.producer.produced)
        if order is None:
            return None
        order.busy_told = True
        return frames.Busy(self.number, order.number, self.producer.produced)
