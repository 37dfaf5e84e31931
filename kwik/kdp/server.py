"""Server: replicas x paths of all sessions; no policy (SPEC §5).

Frames come in per (session, path), leave when a path has room. Raises LocalProtocolError; the core names the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kwik.base.ranges import RangeSet
from kwik.config import MIN_STREAM_EXTRA_BYTES, ServerConfig
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.actions import Accept, PortDone, PortReadable, PortReset, PortWritable, WakePath
from kwik.kdp.digest import ALGORITHMS
from kwik.kdp.flow import MemoryPool
from kwik.kdp.outbox import REQUESTS, Unanswered
from kwik.kdp.replica import ReplicaInput, ReplicaState, ServerReplica
from kwik.kdp.upstream_sink import UpstreamSink
from kwik.types import Instant, PathId
from kwik.wire import frames
from kwik.wire.codec import ClientFrame, ServerFrame, UpstreamPiece, encode, encode_data_head

SessionName = bytes
DATA_HEAD_BYTES = 32
"""Room kept for the head of a DATA frame."""
SMALL_REST_BYTES = 512
"""A call to room ends rather than cut a piece smaller than this."""
DATA_PIPES = 2
MAX_CLOSES = 65536
"""CLOSEs that are not answered on a path (SPEC §7); a client that sends more does not read."""
MAX_TOMBSTONES = 1024
"""Ranges of dead numbers of a session. Numbers are drawn in order, so an honest client needs very few."""
MAX_PATH_ORDERS = 4096
"""Orders outstanding on a path, over all replicas (SPEC §7)."""
MIN_UPSTREAM_BYTES = 65536
"""Upstream that any replica may be sent before anything is known (SPEC §4.1)."""


@dataclass(slots=True)
class SessionReplicas:
    """What one session has on this server. Numbers in `dead` are tombstones (SPEC §5.3)."""

    replicas: dict[int, ServerReplica] = field(default_factory=dict)
    dead: RangeSet = field(default_factory=RangeSet)
    ran: RangeSet = field(default_factory=RangeSet)
    """Those of the dead whose application was reached: never 'unknown', so that nobody opens them elsewhere."""


@dataclass(slots=True)
class ServerPath:
    """One admitted path."""

    session: SessionName
    remote: tuple[str, int] | None
    replies: list[ServerFrame] = field(default_factory=list)
    farewells: list[ServerFrame] = field(default_factory=list)
    """CLOSED for each CLOSE."""
    replicas: dict[int, ServerReplica] = field(default_factory=dict)
    unanswered: Unanswered = field(default_factory=Unanswered)
    busy: dict[int, ServerReplica] = field(default_factory=dict)
    """Those to which something has happened since they last had nothing to say: the others are not asked."""


class DataServer:
    """All replicas of one server."""

    def __init__(self, config: ServerConfig, actions: list[object]) -> None:
        self._config = config
        self._actions = actions
        self._sessions: dict[SessionName, SessionReplicas] = {}
        self._paths: dict[PathId, ServerPath] = {}
        self._ports: dict[int, tuple[SessionName, ServerReplica]] = {}
        self._next_key = 1
        self.pool = MemoryPool(config.memory_bytes)
        self.draining = False
        self.has_changed = False
        """`counts` may say something else than when this was last set to False."""
        self._seen: Instant = 0.0

    # -- paths -----------------------------------------------------------------------------------------------------

    def on_path(self, path: PathId, session: SessionName, remote: tuple[str, int] | None) -> None:
        """A path was admitted to a session."""
        self._paths[path] = ServerPath(session, remote)
        self._sessions.setdefault(session, SessionReplicas())

    def on_path_gone(self, path: PathId, now: Instant) -> None:
        """A path ended; replicas left without any linger (SPEC §5.10)."""
        state = self._paths.pop(path, None)
        for replica in list(state.replicas.values()) if state else []:
            replica.detach(path, now)
            self._mark_busy(replica)  # another path says now what this one would have said

    def counts(self) -> dict[SessionName, int]:
        """Replicas per session, lingering ones included."""
        return {name: len(session.replicas) for name, session in self._sessions.items() if session.replicas}

    def session_of(self, key: int) -> SessionName | None:
        """The session of a port's replica."""
        entry = self._ports.get(key)
        return None if entry is None else entry[0]

    def forget_session(self, session: SessionName) -> None:
        """The session is over; aborts what is left of it."""
        self.has_changed = True
        known = self._sessions.pop(session, None)
        for replica in list(known.replicas.values()) if known else []:
            self._abort(session, replica, ErrorCode.LINGER_EXPIRED)

    # -- frames ----------------------------------------------------------------------------------------------------

    def on_frame(self, path: PathId, frame: ClientFrame, now: Instant) -> None:
        """A KDP frame of the control pipe."""
        state = self._paths[path]
        if isinstance(frame, REQUESTS):
            if not state.unanswered.may_take(frame):
                raise LocalProtocolError(
                    "too many of these are unanswered on this path", code=ErrorCode.LIMIT, field="replica"
                )
            if isinstance(frame, frames.Open):
                self._on_open(path, state, frame)
            else:
                self._on_attach(path, state, frame, now)
            state.unanswered.on_request(frame)
        else:
            replica = self._replica_for(path, state, getattr(frame, "replica", -1))
            if replica is not None:
                _DISPATCH[type(frame)](self, path, replica, frame)
        heard = state.replicas.get(getattr(frame, "replica", -1))
        if heard is not None:
            self._mark_busy(heard)
        self._actions.append(WakePath(path))

    def on_upstream(self, path: PathId, piece: UpstreamPiece) -> None:
        """Upstream bytes, from any pipe."""
        replica = self._replica_for(path, self._paths[path], piece.replica)
        if replica is not None:
            replica.on_upstream(piece)
            self._actions.append(PortReadable(replica.key))
            self._wake(replica)

    def _replica_for(self, path: PathId, state: ServerPath, number: int) -> ServerReplica | None:
        replica = state.replicas.get(number)
        if replica is not None:
            return replica
        session = self._sessions[state.session]
        # Late frames: of a replica that is gone, or that an ATTACH has moved to another path.
        if number in session.dead or number in session.replicas:
            return None
        raise LocalProtocolError(f"replica {number} is not open on this path", field="replica")

    def _on_open(self, path: PathId, state: ServerPath, opened: frames.Open) -> None:
        session = self._sessions[state.session]
        if opened.replica in session.replicas:
            raise LocalProtocolError(f"replica {opened.replica} was opened twice", field="replica")
        # Before anything is reserved: a broken OPEN leaves nothing behind.
        if opened.floor + opened.first_grant_blocks * opened.block_bytes >= opened.credit + opened.block_bytes > 0:
            raise LocalProtocolError(
                "the first grant reaches beyond the credit", code=ErrorCode.LIMIT, field="first_grant_blocks"
            )
        refusal = self._why_not(session, opened)
        cap = 0 if refusal else self._reserve(opened.block_bytes)
        if refusal is None and cap == 0:
            refusal = (ErrorCode.OVERLOADED, "no memory is left for another stream; try again later")
        if refusal is not None:
            self._kill_number(session, opened.replica)
            state.replies.append(frames.Refused(opened.replica, refusal[0], _short(refusal[1])))
            return
        key, self._next_key = self._next_key, self._next_key + 1
        hashed = self._config.replicated and opened.digest in ALGORITHMS
        credit = max(MIN_UPSTREAM_BYTES, self._config.upstream_credit_bytes)
        window = self.pool.start_with(("upstream", key), max(credit, self._config.upstream_window_bytes))
        sink = UpstreamSink(credit, max(credit, window))
        replica = ServerReplica(key, opened, hashed=hashed, cap_bytes=cap, upstream=sink)
        session.replicas[opened.replica] = replica
        self.has_changed = True
        self._ports[key] = (state.session, replica)
        duty = replica.attach(path)
        state.replicas[opened.replica] = replica
        if opened.first_grant_blocks:
            first = opened.floor // opened.block_bytes
            grant = frames.Grant(opened.replica, 0, urgent=False, blocks=((first, opened.first_grant_blocks),))
            replica.on_grant(path, grant)
        del duty
        self._actions.append(Accept(key, opened.service, state.remote))

    def _kill_number(self, session: SessionReplicas, number: int) -> None:
        _add_number(session.dead, number)

    def _why_not(self, session: SessionReplicas, opened: frames.Open) -> tuple[ErrorCode, str] | None:
        config = self._config
        if opened.replica in session.dead:
            return ErrorCode.TOMBSTONE, "this replica number is dead; draw a new one"
        if opened.service != config.service:
            return ErrorCode.WRONG_SERVICE, f"this server serves {config.service[:120]}"
        if opened.mode == frames.MODE_REPLAY and not config.replicated:
            return ErrorCode.NOT_REPLICATED, "streams of this service run on one server only"
        if self.draining:
            return ErrorCode.DRAINING, "this server is stopping; use another one"
        size = opened.block_bytes
        if size < config.min_block_bytes or size > 65536 or size & (size - 1) or opened.floor % size:
            return ErrorCode.UNSUPPORTED, "block size and floor must be as SPEC 5.2 says"
        if opened.digest not in (frames.DIGEST_NONE, frames.DIGEST_BLAKE3):
            return ErrorCode.UNSUPPORTED, "the digest must be none or BLAKE3"
        if len(self._ports) >= config.max_replicas:
            return ErrorCode.OVERLOADED, "too many streams; try again later"
        return None

    def _reserve(self, block_bytes: int) -> int:
        """What the next replica may hold (0: not even the guarantee); reserved under its key-to-be."""
        guarantee = block_bytes + min(MIN_STREAM_EXTRA_BYTES, block_bytes)
        upstream = max(MIN_UPSTREAM_BYTES, self._config.upstream_credit_bytes)
        if not self.pool.admit(self._next_key, guarantee):
            return 0
        if not self.pool.admit(("upstream", self._next_key), upstream):
            self.pool.release(self._next_key)
            return 0
        return self.pool.start_with(self._next_key, self._config.send_window_bytes)

    def _on_attach(self, path: PathId, state: ServerPath, attach: frames.Attach, now: Instant) -> None:
        session = self._sessions[state.session]
        replica = session.replicas.get(attach.replica)
        if replica is None and attach.replica in session.ran:
            state.replies.append(frames.Closed(attach.replica))
            return
        if replica is None:
            self._kill_number(session, attach.replica)
            state.replies.append(frames.Attached(attach.replica, False, 0, 0, 0, 0))
            return
        for old in [PathId(number) for number in attach.replaces]:
            self._replace(replica, old, state.session, path, now)
        duty = replica.attach(path, role=attach.role)
        state.replicas[attach.replica] = replica
        sink = replica.sink
        # The answer goes first: what follows on this path is judged by it.
        duty.replies.appendleft(
            frames.Attached(attach.replica, True, sink.received, sink.taken, sink.credit, replica.producer.produced)
        )
        if replica.state is not ReplicaState.CONNECTING:
            duty.replies.appendleft(self._opened(replica))
        replica.on_ack(attach.floor, attach.credit)
        self._after_ack(replica)

    def _replace(self, replica: ServerReplica, number: int, session: SessionName, path: PathId, now: Instant) -> None:
        for other, state in self._paths.items():
            if other != path and state.session == session and self.client_path(other) == number:
                replica.detach(other, now)
                state.replicas.pop(replica.number, None)
                state.unanswered.forget(replica.number)
                state.busy.pop(replica.number, None)

    client_path: Callable[[PathId], int | None] = staticmethod(lambda _path: None)
    """The client's own number of a path; set by the core, which read the hello."""

    def _on_ack(self, _path: PathId, replica: ServerReplica, ack: frames.Ack) -> None:
        replica.on_ack(ack.floor, ack.credit)
        self._after_ack(replica)

    def _after_ack(self, replica: ServerReplica) -> None:
        if replica.allowance():
            self._actions.append(PortWritable(replica.key))

    def _on_grant(self, path: PathId, replica: ServerReplica, grant: frames.Grant) -> None:
        owed = sum(len(other.duties[path].orders) for other in self._paths[path].replicas.values())
        if owed >= MAX_PATH_ORDERS:
            raise LocalProtocolError(
                f"more than {MAX_PATH_ORDERS} orders on a path", code=ErrorCode.LIMIT, field="order"
            )
        replica.on_grant(path, grant)

    def _on_revoke(self, path: PathId, replica: ServerReplica, revoke: frames.Revoke) -> None:
        replica.on_revoke(path, revoke)

    def _on_probe(self, path: PathId, replica: ServerReplica, probe: frames.Probe) -> None:
        replica.on_probe(path, probe)

    def _on_ask(self, path: PathId, replica: ServerReplica, ask: frames.AskDigests) -> None:
        replica.on_ask(path, ask)

    def _on_anchor(self, _path: PathId, replica: ServerReplica, anchor: frames.Anchor) -> None:
        replica.on_anchor(anchor.first_block)

    def _on_close(self, path: PathId, replica: ServerReplica, close: frames.Close) -> None:
        if len(self._paths[path].farewells) >= MAX_CLOSES:
            raise LocalProtocolError(
                f"more than {MAX_CLOSES} CLOSEs are unanswered", code=ErrorCode.LIMIT, field="replica"
            )
        aborted = close.code != ErrorCode.NO_ERROR
        session = self._paths[path].session
        was_connecting = replica.state is ReplicaState.CONNECTING
        replica.close(aborted=aborted)
        self._paths[path].farewells.append(frames.Closed(replica.number))
        if replica.state is ReplicaState.GONE:
            self._bury(session, replica, reset=aborted or was_connecting, told=path)
        else:
            self._actions += [PortReadable(replica.key), PortWritable(replica.key)]

    # -- the applications' ends ------------------------------------------------------------------------------------

    def replica_of(self, key: int) -> ServerReplica | None:
        """The replica behind a port."""
        entry = self._ports.get(key)
        return None if entry is None else entry[1]

    def ports(self) -> list[int]:
        """All ports, oldest first."""
        return list(self._ports)

    def accepted(self, key: int) -> None:
        """The application has been reached."""
        replica = self.replica_of(key)
        if replica is None or not replica.machine.accepts(ReplicaInput.ACCEPTED):
            return
        replica.machine.on(ReplicaInput.ACCEPTED)
        for duty in replica.duties.values():
            duty.replies.append(self._opened(replica))
        replica.sink.update_credit()
        self._actions += [PortWritable(key), PortReadable(key)]
        self._wake(replica)

    def refused(self, key: int, code: int, text: str) -> None:
        """The application cannot be reached; it has not been touched."""
        entry = self._ports.get(key)
        if entry is None or not entry[1].machine.accepts(ReplicaInput.REFUSED):
            return
        session, replica = entry
        replica.machine.on(ReplicaInput.REFUSED)
        for path in replica.duties:
            self._paths[path].replies.append(frames.Refused(replica.number, code, _short(text)))
        self._wake(replica)
        self._bury(session, replica, reset=False, refused=True)

    def on_app_bytes(self, key: int, data: bytes, now: Instant) -> None:
        """Output of an application."""
        replica = self.replica_of(key)
        if replica is not None:
            replica.on_output(data, now)
            self._after_output(replica)

    def on_app_eof(self, key: int) -> None:
        """An application ended its output."""
        replica = self.replica_of(key)
        if replica is not None:
            replica.on_output_end()
            self._after_output(replica)

    def on_app_closed(self, key: int, *, aborted: bool) -> None:
        """An application closed its end altogether."""
        entry = self._ports.get(key)
        if entry is None:
            return
        session, replica = entry
        replica.app_gone = True
        if aborted:
            replica.on_output_reset(ErrorCode.STREAM_ABORTED)
        else:
            replica.on_output_end()
        replica.settle()
        self._after_output(replica)
        if replica.state is ReplicaState.GONE:
            self._bury(session, replica, reset=False)

    def consume(self, key: int, size: int) -> None:
        """An application took upstream bytes."""
        entry = self._ports.get(key)
        if entry is None:
            return
        session, replica = entry
        replica.sink.consume(size)
        replica.sink.update_credit()
        replica.settle()
        self._wake(replica)
        if replica.state is ReplicaState.GONE:
            self._bury(session, replica, reset=False)

    def _after_output(self, replica: ServerReplica) -> None:
        # Output that reached a mark may let upstream through.
        if replica.state is ReplicaState.CLOSING:
            replica.peek()
            replica.settle()
            if replica.is_gone:
                self._bury(self.session_of(replica.key) or b"", replica, reset=False)
                return
        if replica.sink.next_mark() is not None:
            self._actions.append(PortReadable(replica.key))
        self._wake(replica)

    def _opened(self, replica: ServerReplica) -> frames.Opened:
        return frames.Opened(
            replica.number, replica.producer.cap_bytes, self._config.replicated, replica.announcer is not None
        )

    def _wake(self, replica: ServerReplica) -> None:
        self._mark_busy(replica)
        self._actions += [WakePath(path) for path in replica.duties]

    def _mark_busy(self, replica: ServerReplica) -> None:
        for path in replica.duties:
            self._paths[path].busy[replica.number] = replica

    # -- ends ------------------------------------------------------------------------------------------------------

    def _abort(self, session: SessionName, replica: ServerReplica, code: int) -> None:
        replica.on_output_reset(code)
        if replica.machine.accepts(ReplicaInput.ABORT):
            replica.machine.on(ReplicaInput.ABORT)
        self._bury(session, replica, reset=True)

    def _bury(
        self,
        session: SessionName,
        replica: ServerReplica,
        *,
        reset: bool,
        refused: bool = False,
        told: PathId | None = None,
    ) -> None:
        """The replica is gone: its number stays dead, its memory is free, its application is told.

        Paths on which a request of it waits are told as well; `told` is one where the answer is under way.
        """
        self._ports.pop(replica.key, None)
        self.pool.release(replica.key)
        self.pool.release(("upstream", replica.key))
        known = self._sessions.get(session)
        if known is not None:
            known.replicas.pop(replica.number, None)
            self.has_changed = True
            self._kill_number(known, replica.number)
            if not refused:
                _add_number(known.ran, replica.number)
        for path in replica.duties:
            state = self._paths[path]
            state.replicas.pop(replica.number, None)
            state.busy.pop(replica.number, None)
            if not refused and path != told and state.unanswered.waits_for(replica.number):
                state.replies.append(frames.Closed(replica.number))
                self._actions.append(WakePath(path))
        if reset:
            self._actions.append(
                PortReset(
                    replica.key, ErrorCode.STREAM_ABORTED, "the client is gone or gave the stream up", refused=False
                )
            )
        else:
            self._actions.append(PortDone(replica.key))

    def on_timeout(self, now: Instant) -> None:
        """Lingering replicas whose time is up are aborted; short runs become due."""
        self._seen = now
        for session, replica in list(self._ports.values()):
            since = replica.pathless_since
            if since is not None and now >= since + self._config.linger_s:
                self._abort(session, replica, ErrorCode.LINGER_EXPIRED)
                continue
            due = replica.deadline()
            if due is not None and due <= now:
                self._wake(replica)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        due: list[Instant] = []
        for _, replica in self._ports.values():
            if replica.pathless_since is not None:
                due.append(replica.pathless_since + self._config.linger_s)
            run_at = replica.deadline()
            if run_at is not None and run_at > self._seen:
                due.append(run_at)
        return min(due, default=None)

    def abort_all(self) -> None:
        """The server stops now."""
        for session, replica in list(self._ports.values()):
            self._abort(session, replica, ErrorCode.SERVER_GONE)

    # -- room ------------------------------------------------------------------------------------------------------

    def wants_room(self, path: PathId) -> bool:
        """Whether room may give something."""
        state = self._paths.get(path)
        if state is None:
            return False
        return bool(state.replies or state.farewells) or any(replica.has_duty(path) for replica in state.busy.values())

    def room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        """What goes out on this path now, control first; about `size` bytes."""
        state = self._paths.get(path)
        if state is None:
            return []
        control, silent = self._control(path, state, size, now)
        output: list[tuple[int, bytes]] = [(0, control)] if control else []
        left = size - len(control)
        replicas = list(state.busy.values())
        while replicas and left > DATA_HEAD_BYTES and (not output or left >= SMALL_REST_BYTES):
            replica = replicas.pop(0)
            piece = replica.next_data(path, left - DATA_HEAD_BYTES)
            if piece is None:
                # It had nothing to say, nor to send; after sending it might have (BUSY), and time may bring it (RUN).
                if replica.number in silent and replica.deadline() is None:
                    del state.busy[replica.number]
                continue
            order, offset, payload = piece
            head = encode_data_head(replica.number, order, offset, len(payload))
            pipe = 1 + replica.key % DATA_PIPES
            output += [(pipe, head), (pipe, payload)]
            left -= len(head) + len(payload)
            replicas.append(replica)
            silent.discard(replica.number)
        return output

    def _control(self, path: PathId, state: ServerPath, size: int, now: Instant) -> tuple[bytes, set[int]]:
        """Control frames, and the numbers of the replicas that have no more of them."""
        parts: list[bytes] = []
        silent = set[int]()
        used = 0
        for waiting in (state.replies, state.farewells):
            while waiting and used < size:
                frame = waiting.pop(0)
                state.unanswered.on_answer(frame)
                parts.append(encode(frame))
                used += len(parts[-1])
        for number, replica in list(state.busy.items()):
            while used < size:
                due = replica.next_control(path, now)
                if due is None:
                    silent.add(number)
                    break
                state.unanswered.on_answer(due)
                parts.append(encode(due))
                used += len(parts[-1])
        return b"".join(parts), silent


def _short(text: str) -> str:
    """What fits REFUSED.reason, whose bound is in bytes."""
    return text.encode()[:180].decode(errors="ignore")


def _add_number(numbers: RangeSet, number: int) -> None:
    """Enter a number; beyond 1024 ranges the oldest gap is closed.

    Numbers are drawn in ascending order: those that were never seen here and are long passed never will be.
    """
    numbers.add(number, number + 1)
    if len(numbers) > MAX_TOMBSTONES:
        (first, _), (second, _) = list(numbers)[:2]
        numbers.add(first, second)


_DISPATCH: dict[type, Callable[..., None]] = {
    frames.Ack: DataServer._on_ack,
    frames.Grant: DataServer._on_grant,
    frames.Revoke: DataServer._on_revoke,
    frames.Probe: DataServer._on_probe,
    frames.AskDigests: DataServer._on_ask,
    frames.Anchor: DataServer._on_anchor,
    frames.Close: DataServer._on_close,
}
