"""Client: streams x paths of one session; no policy. What goes out on a path is made when it has room (SPEC §3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kwik.config import Config
from kwik.errors import ErrorCode, KwikError, LocalProtocolError
from kwik.kdp import answers, failover, granting, pending, sending, takeover
from kwik.kdp.actions import Flushed, StreamSent, WakePath
from kwik.kdp.flow import MemoryPool
from kwik.kdp.path import ClientPath
from kwik.kdp.replica_view import ViewState
from kwik.kdp.scheduler.names import by_name
from kwik.kdp.stream import ClientStream, Phase
from kwik.kdp.wants import Wants
from kwik.types import Instance, Instant, PathId
from kwik.wire import frames
from kwik.wire.codec import ClientFrame, DataPiece, ServerFrame, encode

BLAME_WAIT_S = 1.0
"""If every path is silent blame waits, but at most this long (SPEC §6.3)."""
LAG_S = 0.010
"""A timer that fires this late tells of our own event loop, not of the servers."""
DATA_PIPES = 2
RETRY_S = 0.2
"""A stream without a server looks around again this often."""


@dataclass(slots=True)
class Hints:
    """What the control plane knows and the data plane asks."""

    replicated: dict[Instance, bool]
    upstream_credit: dict[PathId, int]
    may_find_more: Callable[[], bool]
    is_rebound: bool = True
    """Some replica was bound to a path, or unbound, since this was last looked at."""
    early_path: PathId | None = None
    """The one path that may carry OPEN before its hello was read (SPEC §4.1)."""


@dataclass(slots=True)
class Flush:
    """A flush under way: so many replicas must have taken everything up to `end`."""

    stream: int
    end: int
    replicas: int
    token: int


@dataclass(slots=True)
class Clockwork:
    """What judging silence and deadlines needs to remember."""

    all_silent_since: Instant | None = None
    lag_until: Instant | None = None
    seen: Instant = 0.0
    """The last on_timeout."""


@dataclass(slots=True)
class Marked:
    """Streams by what they have to do, in the order in which it came up."""

    touched: dict[int, None] = field(default_factory=dict)
    lit: dict[int, None] = field(default_factory=dict)
    """Bytes came or went, nothing else."""
    hungry: dict[int, None] = field(default_factory=dict)
    """Blocks wait for room on a path."""


@dataclass(slots=True)
class Numbers:
    """The next numbers to draw; none is used twice."""

    key: int = 1
    replica: int = 1


class DataSession:
    """The data plane of one session. Inputs mark streams as touched; settle() lets them act, once per turn."""

    def __init__(self, service: str, config: Config, actions: list[object]) -> None:
        self.service = service
        self.config = config
        self.actions = actions
        self.pool = MemoryPool(config.memory_bytes)
        self.scheduler = by_name(config.scheduler)
        self.order_counts: dict[PathId, int] = {}
        self.hints = Hints({}, {}, lambda: True)
        self.streams: dict[int, ClientStream] = {}
        self.ended: dict[int, ClientStream] = {}
        self.wants = Wants()
        self.paths: dict[PathId, ClientPath] = {}
        self.to_recover: list[Instance] = []
        self._admitted: dict[PathId, ClientPath] = {}
        self._by_replica: dict[int, ClientStream] = {}
        self._numbers = Numbers()
        self._marked = Marked()
        self._flushes: list[Flush] = []
        self._clock = Clockwork()

    # -- what streams ask (StreamContext) --------------------------------------------------------------------------

    def send(self, path: ClientPath, frame: ClientFrame) -> None:
        """Queue a control frame; it is encoded when the path has room."""
        path.outbox.append(frame)
        self.actions.append(WakePath(path.id))

    def release(self, path: PathId, size: int, now: Instant) -> None:
        """A path no longer owes these bytes."""
        state = self.paths.get(path)
        if state is not None and size:
            state.release(size, now)

    def draw_replica(self, stream: ClientStream) -> int:
        """A replica number that was never used."""
        self.hints.is_rebound = True
        number, self._numbers.replica = self._numbers.replica, self._numbers.replica + 1
        self._by_replica[number] = stream
        return number

    def forget_replica(self, number: int) -> None:
        """Late frames for it are ignored from now on."""
        self._by_replica.pop(number, None)

    def admitted(self) -> list[ClientPath]:
        """Admitted paths, in the order of their numbers."""
        return list(self._admitted.values())

    def is_replicated(self, instance: Instance | None) -> bool | None:
        """What that server's hello said."""
        return None if instance is None else self.hints.replicated.get(instance)

    def recover(self, instance: Instance | None) -> None:
        """A stream is stuck on this instance."""
        if instance is not None and instance not in self.to_recover:
            self.to_recover.append(instance)

    def may_find_more(self) -> bool:
        """Whether further servers may still turn up."""
        return self.hints.may_find_more()

    def upstream_credit(self, path: ClientPath) -> int | None:
        """The first upstream credit that the path's hello named."""
        return self.hints.upstream_credit.get(path.id)

    # -- paths -----------------------------------------------------------------------------------------------------

    def on_path_writable(self, path: PathId, address: str) -> None:
        """Handshake and name check are done; the hello may not be read yet."""
        self.paths[path] = ClientPath(path, address)

    def on_path_admitted(
        self, path: PathId, instance: Instance, replicated: bool, upstream_credit: int, now: Instant
    ) -> None:
        """The path belongs to the session (SPEC §4.2)."""
        state = self.paths.get(path)
        if state is None:
            return
        state.instance = instance
        self.hints.is_rebound = True
        self._admitted[path] = state
        self._admitted = dict(sorted(self._admitted.items()))
        self.hints.replicated[instance] = replicated
        self.hints.upstream_credit[path] = upstream_credit
        self._name_early_views(state, instance, replicated)
        silent = [p.id for p in self._admitted.values() if p.instance == instance and p.is_silent and p is not state]
        for stream in self.streams.values():
            failover.reattach(stream, state, [*silent, *self._lost_paths(stream, instance)], now)
        self.touch_all()

    def _name_early_views(self, path: ClientPath, instance: Instance, replicated: bool) -> None:
        """OPEN went out before the hello was read: now it is known to whom."""
        for stream in self.streams.values():
            for view in stream.views.values():
                if view.opened_on == path.id and view.instance is None:
                    view.instance = instance
                    stream.attempts.instances.add(instance)
                    if not replicated:
                        stream.down.stop_hashing()

    def _lost_paths(self, stream: ClientStream, instance: Instance) -> list[int]:
        return sorted({old for v in stream.views.values() if v.instance == instance for old in v.dropped_paths})

    def on_path_gone(self, path: PathId, now: Instant) -> None:
        """A path ended; its server instance may live on."""
        state = self.paths.pop(path, None)
        self.hints.is_rebound = True
        self._admitted.pop(path, None)
        self.hints.upstream_credit.pop(path, None)
        if state is None:
            return
        for stream in list(self.streams.values()):
            for view in stream.usable_views():
                view.attaching.discard(path)
                if path in view.paths:
                    failover.unbind(stream, view, state, now)
                    self._after_loss(stream, view.number)
            self._move_to_others(stream, state, now)
        self.order_counts.pop(path, None)
        self.touch_all()

    def _move_to_others(self, stream: ClientStream, gone: ClientPath, now: Instant) -> None:
        """Replicas that have lost their last path go on on another one that leads to their server."""
        for other in self._admitted.values():
            if other.instance is not None and other.instance == gone.instance and not other.is_silent:
                failover.reattach(stream, other, [gone.id], now, again=True)
                return

    def _after_loss(self, stream: ClientStream, number: int) -> None:
        view = stream.views[number]
        if view.open_sent or view.state is not ViewState.OPENING:
            return
        # OPEN never left: this server has not seen the stream, another one may be asked (SPEC §5.2).
        stream.views.retire(view, ViewState.REFUSED)
        if view.instance is not None:
            stream.attempts.instances.discard(view.instance)
        del stream.views[number]
        self.forget_replica(number)
        if stream.anchor is view:
            answers.unanchor(stream)

    def on_wrong_service(self, path: PathId) -> None:
        """The hello names another service: such a server refuses OPEN for certain, so it may be sent elsewhere."""
        for stream in list(self.streams.values()):
            for view in stream.usable_views():
                if view.opened_on == path and view.first_data_at is None:
                    stream.attempts.refusals.append(f"{view.address}: serves another service")
                    stream.attempts.last_code = ErrorCode.WRONG_SERVICE
                    view.open_sent = False
                    stream.drop_view(view, ViewState.REFUSED, ErrorCode.NO_ERROR)
                    if view is stream.anchor:
                        answers.unanchor(stream)
        self.touch_all()

    def on_instance_dead(self, instance: Instance) -> None:
        """A server instance is gone: its replicas are too."""
        for stream in list(self.streams.values()):
            for view in stream.usable_views():
                if view.instance == instance:
                    view.open_sent = False
                    stream.drop_view(view, ViewState.DEAD, ErrorCode.SERVER_GONE)
        self.touch_all()

    def on_draining(self, instance: Instance) -> None:
        """A server takes no new streams and is about to leave."""
        for path in self._admitted.values():
            path.is_draining |= path.instance == instance
        self.touch_all()

    # -- frames ----------------------------------------------------------------------------------------------------

    def on_frame(self, path: PathId, frame: ServerFrame, now: Instant) -> None:
        """A KDP frame of a server's control pipe. Raises LocalProtocolError."""
        state = self.paths.get(path)
        if state is not None and state.outbox.on_answer(frame):
            self.actions.append(WakePath(path))
        self._route(path, getattr(frame, "replica", -1), frame, now)

    def on_data(self, path: PathId, piece: DataPiece, now: Instant) -> None:
        """A piece of downstream. Raises LocalProtocolError."""
        self._route(path, piece.replica, piece, now)

    def _route(self, path: PathId, number: int, what: ServerFrame | DataPiece, now: Instant) -> None:
        stream, state = self._by_replica.get(number), self.paths.get(path)
        if stream is None or state is None:
            if number >= self._numbers.replica:
                raise LocalProtocolError(f"replica {number} was never opened", field="replica")
            return
        view = stream.views.get(number)
        if view is None or not view.is_usable:
            return
        if path not in view.paths and path not in view.attaching:
            if path in view.dropped_paths:
                return
            raise LocalProtocolError(f"replica {number} is not bound to this path", field="replica")
        if isinstance(what, DataPiece):
            self._marked.lit[stream.key] = None
            if answers.on_data(stream, view, state, what, now) or state.is_silent:
                self._marked.touched[stream.key] = None
        else:
            self.hints.is_rebound |= isinstance(what, frames.Attached)
            answers.on_frame(stream, view, state, what, now)
            self._marked.touched[stream.key] = None

    # -- streams ---------------------------------------------------------------------------------------------------

    def dial(self, now: Instant, replicas: int) -> int:
        """A new stream. Raises KwikError if no memory is left for it."""
        key, self._numbers.key = self._numbers.key, self._numbers.key + 1
        if not self.pool.admit(key, granting.guarantee_bytes(self.config.block_bytes)):
            raise KwikError("no memory is left for another stream: close one, or raise Config.memory_bytes")
        stream = ClientStream(key, self, replicas=replicas, now=now)
        self.streams[key] = stream
        granting.extend_credit(stream, now)
        self.touch(stream)
        return key

    def open_pending(self, now: Instant) -> dict[int, PathId]:
        """Place streams that wait for a server without waiting for settle(); by key, the paths of those placed."""
        waiting = [stream for stream in self.streams.values() if stream.phase is Phase.PENDING]
        for stream in waiting:
            self._place(stream, now)
        return {stream.key: stream.anchor.opened_on for stream in waiting if stream.anchor is not None}

    def drop(self, stream: ClientStream) -> None:
        """The stream is over; it can be looked at until the actions of this turn are performed."""
        self.wants.forget(stream.key)
        self._marked.hungry.pop(stream.key, None)
        self.hints.is_rebound = True
        if self.streams.pop(stream.key, None) is not None:
            self.ended[stream.key] = stream

    def touch(self, stream: ClientStream) -> None:
        """Let the stream act at the next settle."""
        self._marked.touched[stream.key] = None

    def touch_all(self) -> None:
        """Something changed that may matter to every stream."""
        self._marked.touched.update(dict.fromkeys(self.streams))

    def flush(self, key: int, replicas: int, token: int) -> None:
        """Flushed(token) when so many replicas have taken everything written (0: every usable one)."""
        stream = self.streams.get(key)
        if stream is not None:
            self._flushes.append(Flush(key, stream.log.end, replicas, token))
            self.touch(stream)

    @property
    def is_touched(self) -> bool:
        """Whether some stream has more to do than to show its application what has arrived."""
        return bool(self._marked.touched)

    def light(self, stream: ClientStream) -> None:
        """Bytes came or went and nothing else changed."""
        self._marked.lit[stream.key] = None

    def settle_lit(self, now: Instant) -> None:
        """Streams to which bytes came and nothing else: their applications are told, no decision is due."""
        if not self._marked.lit:
            return
        lit, self._marked.lit = self._marked.lit, {}
        for key in lit:
            stream = self.streams.get(key)
            if stream is not None:
                stream.tell_readable(now)

    def settle(self, now: Instant) -> None:
        """Every touched stream acts: places, credits, plans, fails over, tells its application."""
        self.settle_lit(now)
        self._judge_silence(now)
        touched, hungry = self._marked.touched, self._marked.hungry
        if touched and hungry and not hungry.keys() <= touched.keys():
            # Room on a path is shared: what one stream has freed another may be waiting for.
            rooms = granting.paths_with_room(self.admitted(), self.config, now)
            touched |= {k: None for k in hungry if granting.may_go_on(self.streams[k], rooms)}
        for _ in range(4):
            touched = self._marked.touched
            if not touched:
                break
            self._marked.touched = {}
            for key in touched:
                stream = self.streams.get(key)
                if stream is not None:
                    self._act(stream, now)
        if self._flushes:
            self._check_flushes()

    def _act(self, stream: ClientStream, now: Instant) -> None:
        if stream.phase is Phase.PENDING:
            self._place(stream, now)
        failover.step(stream, now)
        if not stream.is_over:
            granting.extend_credit(stream, now)
            failover.recruit(stream, now)
            granting.plan(stream, now)
            sending.acknowledge(stream)
            sending.drop_laggards(stream)
            stream.down.prune(stream.views.values())
            stream.discard(now)
            stream.finish_if_settled()
            stream.tell_readable(now)
            stream.tell_writable()
            self._wake_upstream(stream)
        if stream.is_over:
            self.drop(stream)
            return
        self.wants.note(stream.key, self._wanted(stream), now)
        if stream.down.book.unassigned:
            self._marked.hungry[stream.key] = None
        else:
            self._marked.hungry.pop(stream.key, None)
        seen = self._clock.seen
        stream.next_due = min([at for at in self._stream_dues(stream) if at is not None and at > seen], default=None)

    def _place(self, stream: ClientStream, now: Instant) -> None:
        """OPEN goes to exactly one server: the best admitted one, or the first that ever became writable."""
        able = [
            path
            for path in self._admitted.values()
            if path.instance is not None
            and not path.is_silent
            and not path.is_draining
            and not pending.is_tried(stream, path.instance)
        ]
        if not able and self.hints.early_path in self.paths:
            able = [self.paths[self.hints.early_path]]
        if able:
            best = min(able, key=lambda path: (path.rtt_s * (1 + path.outstanding_bytes / 65536), path.id))
            failover.open_on(stream, best, frames.MODE_FIRST, now)
            # Now, not when OPEN has left: what the application says at once leaves with it.
            self.actions.append(StreamSent(stream.key))

    def _wake_upstream(self, stream: ClientStream) -> None:
        for view in stream.usable_views():
            path = view.control_path()
            if path is not None and sending.has_upstream(stream, view, path):
                self.actions.append(WakePath(path.id))

    def _check_flushes(self) -> None:
        for flush in list(self._flushes):
            stream = self.streams.get(flush.stream)
            if stream is None:
                self._flushes.remove(flush)
                continue
            usable = stream.usable_views()
            done = sum(view.taken >= flush.end for view in usable)
            if done >= (flush.replicas or max(1, len(usable))):
                self._flushes.remove(flush)
                self.actions.append(Flushed(flush.token))

    # -- silence ---------------------------------------------------------------------------------------------------

    def on_lag(self, late_s: float, now: Instant) -> None:
        """Our own loop was late by this much: no path is blamed until as much time has passed again."""
        if late_s > LAG_S:
            self._clock.lag_until = now + min(late_s, BLAME_WAIT_S)

    def _silent_at(self, path: ClientPath) -> Instant | None:
        due: Instant | None = None
        if self.order_counts.get(path.id):
            for stream in self.streams.values():
                # Orders of one path come due in the order in which they were given: the first that is owed decides.
                for order in stream.down.book.under_way(path.id):
                    view, start = stream.views.get(order.replica), order.remaining.start
                    if view is not None and start is not None and view.produced > start:
                        due = order.first_due if due is None else min(due, order.first_due)
                        break
        path.owed_due, path.silent_due = due, path.silent_at(due)
        return path.silent_due

    def _judge_silence(self, now: Instant) -> None:
        """Blame paths that owe something and say nothing; forgive those that speak again."""
        if self._clock.lag_until is not None and now < self._clock.lag_until:
            return
        overdue = {}
        for path in self._admitted.values():
            due = self._silent_at(path)
            overdue[path.id] = due is not None and now >= due
        if overdue and all(overdue.values()) and len(overdue) > 1:
            self._clock.all_silent_since = now if self._clock.all_silent_since is None else self._clock.all_silent_since
            if now < self._clock.all_silent_since + BLAME_WAIT_S:
                return
        else:
            self._clock.all_silent_since = None
        for path in self._admitted.values():
            if overdue[path.id] != path.is_silent:
                self._set_silent(path, now, silent=overdue[path.id])

    def _set_silent(self, path: ClientPath, now: Instant, *, silent: bool) -> None:
        path.is_silent = silent
        for stream in self.streams.values():
            if silent:
                stream.counters.regrants += len(stream.down.book.suspend(path.id))
                for view in stream.usable_views():
                    live = view.live_paths()
                    if path.id in view.paths and live:
                        # News come on the path bound last: bind one that speaks once more, and say again what was said.
                        view.rewind()
                        failover.reattach(stream, live[0], [], now, again=True)
            else:
                stream.down.book.resume(path.id)
        self.touch_all()

    # -- time ------------------------------------------------------------------------------------------------------

    def on_timeout(self, now: Instant) -> None:
        """Some deadline has passed: the streams that it concerns act, and paths are judged."""
        self._clock.seen = now
        for stream in self.streams.values():
            if stream.next_due is not None and stream.next_due <= now:
                self.touch(stream)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        due = [path.silent_due for path in self._admitted.values() if not path.is_silent]
        due += [stream.next_due for stream in self.streams.values()]
        if self._clock.all_silent_since is not None:
            due.append(self._clock.all_silent_since + BLAME_WAIT_S)
        if self._clock.lag_until is not None:
            due.append(self._clock.lag_until)
        # An instant that on_timeout has seen is over; one that has merely passed is still due.
        seen = self._clock.seen
        return min([at for at in due if at is not None and at > seen], default=None)

    def _wanted(self, stream: ClientStream) -> int:
        """How many distinct servers the stream could use; those that are of no use to it do not count."""
        usable = [view.instance for view in stream.usable_views()]
        spent = [
            path
            for path in self._admitted.values()
            if path.instance is not None and path.instance not in usable and pending.is_tried(stream, path.instance)
        ]
        return failover.replicas_wanted(stream) + len(spent)

    def _stream_dues(self, stream: ClientStream) -> list[Instant | None]:
        dues: list[Instant | None] = [
            granting.late_head_at(stream),
            granting.patience_ends_at(stream),
            stream.end_due(),
            failover.behind_at(stream),
            failover.stuck_at(stream),
            self.wants.ends_at(stream.key),
            failover.candidacy_ends_at(stream),
        ]
        change = stream.takeover
        if change.changed_at is not None:
            dues.append(change.changed_at + takeover.HOLD_S)
        if change.stood_since is not None:
            dues.append(change.stood_since[1] + failover.WITHHELD_PARTS * self.config.recovery_time_s)
            dues.append(change.stood_looked_at + failover.MIN_STUCK_S)
        if stream.recovering_since is not None:
            dues.append(stream.recovering_since + self.config.recovery_time_s)
        if stream.phase in (Phase.PENDING, Phase.RECOVERING):
            dues.append(max(self._clock.seen, stream.began_at) + RETRY_S)
        return dues

    # -- room ------------------------------------------------------------------------------------------------------

    def wants_room(self, path: PathId) -> bool:
        """Whether room would give something."""
        state = self.paths.get(path)
        if state is None:
            return False
        if state.outbox:
            return True
        for stream in self.streams.values():
            for view in stream.views.usable():
                if path in view.paths and sending.has_upstream(stream, view, state):
                    return True
        return False

    def room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        """What goes out on this path now: control first, then upstream, the anchors' before the helpers'."""
        state = self.paths.get(path)
        if state is None:
            return []
        control: list[bytes] = []
        used = 0
        while state.outbox and used < size:
            frame = state.outbox.popleft()
            control.append(encode(frame))
            used += len(control[-1])
            if isinstance(frame, frames.Open):
                self._on_open_sent(frame.replica)
        output: list[tuple[int, bytes]] = []
        for pipe, data in self._upstream(state, size - used):
            if pipe == 0:
                control.append(data)
            else:
                output.append((pipe, data))
        return [(0, b"".join(control)), *output] if control else output

    def _upstream(self, path: ClientPath, size: int) -> list[tuple[int, bytes]]:
        pieces: list[tuple[int, bytes]] = []
        pairs = [(s, v) for s in self.streams.values() for v in s.usable_views() if path.id in v.paths]
        if len(pairs) > 1:
            pairs.sort(key=lambda pair: pair[0].anchor is not pair[1])
        for stream, view in pairs:
            while size > sending.UPSTREAM_HEAD_BYTES:
                frame = sending.upstream_frame(stream, view, path, size)
                if frame is None:
                    break
                # Until OPENED the upstream follows OPEN on the control pipe, so that it needs no order between pipes.
                pipe = 0 if view.state is ViewState.OPENING else 1 + view.number % DATA_PIPES
                pieces.append((pipe, encode(frame)))
                size -= len(pieces[-1][1])
                self.touch(stream)
        return pieces

    def _on_open_sent(self, number: int) -> None:
        stream = self._by_replica.get(number)
        view = None if stream is None else stream.views.get(number)
        if view is not None:
            view.open_sent = True
