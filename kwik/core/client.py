"""The client endpoint: control plane and data plane of one session, joined (SPEC §4 to §6).

Pure: the engine and the simulator drive the very same object. Inputs are on_… and the port calls; settle happens once
per turn, in actions() and before room is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kwik.core.actions import Action, PortReadable, SessionIdle, WakePath
from kwik.core.border import PipeReader
from kwik.errors import ErrorCode, RemoteProtocolError
from kwik.kcp.actions import (
    ClosePath,
    InstanceDraining,
    NoCandidates,
    OpenPath,
    PathAdmitted,
    PathGone,
    PingPath,
    SendMessage,
)
from kwik.kcp.control import Control, Want
from kwik.kdp import granting, slept
from kwik.kdp.session import DataSession
from kwik.kdp.snapshots import PathSnapshot, ShareSnapshot, StreamStats
from kwik.kdp.stream import Phase
from kwik.wire.codec import DataPiece, Received, UpstreamPiece, encode
from kwik.wire.messages import Drain, Joined, ServerHello

if TYPE_CHECKING:
    from random import Random

    from kwik.config import Config
    from kwik.core.port import FactsView, PortKey
    from kwik.kcp.sighting import Sighting
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instant, PathId

MIN_STEP_S = 0.001
"""on_timeout is due at most this often."""
SLEPT_S = 1.0
"""A deadline that passed so long ago, at whatever input, says that this process (or its machine) did not run."""
SETTLE_ROUNDS = 8
"""How often the planes may hand work to each other within one turn; two suffice, more is a defect."""


@dataclass(slots=True)
class _Haste:
    """OPEN leaves before the decisions of the turn are made."""

    is_on: bool = False
    """It is queued; room is given without settling until the next actions()."""
    is_due: bool = False
    """A path has become writable: `urgent` looks for streams that wait for it."""


@dataclass(slots=True)
class _Timer:
    due: Instant | None = None
    is_known: bool = False
    fired_at: Instant = 0.0
    woken_at: Instant = 0.0
    """What was due before has been excused: it stays due, and must not be excused twice."""


class ClientCore:
    """One session. See `kwik.core.port` for the port calls."""

    def __init__(
        self,
        service: str,
        config: Config,
        *,
        facts: FactsView,
        token_bytes: Callable[[int], bytes],
        rng: Random,
        trace: Callable[[object], None] | None = None,
    ) -> None:
        self._config = config
        self._facts = facts
        self._actions: list[object] = []
        self._control = Control(service, config, facts=facts, token_bytes=token_bytes, rng=rng, trace=trace)
        self._data = DataSession(service, config, self._actions)
        self._readers: dict[PathId, PipeReader] = {}
        self._messages: dict[PathId, list[bytes]] = {}
        self._want = Want(0, "")
        self._now: Instant = 0.0
        self._idle_since: Instant | None = None
        self._discovery_detail: str | None = None
        self._no_candidates = ""
        self._is_closed = False
        self._is_stale = False
        self._is_due = True
        self._haste = _Haste()
        self._told_over: list[int] = []
        self._timer = _Timer()
        self._data.hints.may_find_more = self._may_find_more

    # -- discovery and paths ---------------------------------------------------------------------------------------

    def on_sighting(self, sighting: Sighting, now: Instant) -> None:
        """Discovery has a hint."""
        self._tick(now)
        self._control.on_sighting(sighting, now)

    def on_discovery_done(self, detail: str, now: Instant) -> None:
        """The providers had their time; dials without any candidate fail with `detail` in the text."""
        self._tick(now)
        # The control plane may not have heard yet of a dial of this very turn.
        self._settle()
        self._tick(now)
        self._discovery_detail = detail
        if not self._control.paths():
            self._fail_pending()
        self._data.touch_all()

    def on_path_writable(self, path: PathId, binding: bytes, now: Instant) -> None:
        """The handshake is complete and the certificate names the service."""
        self._tick(now)
        self._readers[path] = PipeReader("server")
        self._messages[path] = []
        self._data.on_path_writable(path, str(self._control.address_of(path) or ""))
        self._control.on_path_writable(path, binding, now)
        self._data.touch_all()
        self._haste.is_due = True

    def on_path_data(self, path: PathId, pipe: int, data: bytes, now: Instant) -> None:
        """Bytes of one of the server's pipes."""
        reader = self._readers.get(path)
        if reader is None:
            return
        self._tick(now, light=True)
        try:
            reader.feed(pipe, data, partial(self._on_received, path))
        except RemoteProtocolError as error:
            self._on_breach(path, error, now)

    def _on_breach(self, path: PathId, error: RemoteProtocolError, now: Instant) -> None:
        """A server that breaks the protocol is not asked again for what it had: its replicas are dead."""
        instance = self._control.instance_of(path)
        self._actions.append(ClosePath(path, error.code, str(error)[:200]))
        self.on_path_down(path, f"protocol error: {error}", now)
        if instance is not None:
            self._data.on_instance_dead(instance)

    def on_path_down(self, path: PathId, reason: str, now: Instant) -> None:
        """The path ended."""
        self._tick(now)
        self._control.on_path_down(path, reason, now)
        self._forget_path(path)

    def on_pong(self, path: PathId, ping: int, now: Instant) -> None:
        """The acknowledgement of a ping."""
        self._tick(now)
        self._control.on_pong(path, ping, now)

    def on_room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        """What goes out on the path now, control first."""
        self._tick(now, light=True)
        if not self._haste.is_on:
            self._settle()
        messages = self._messages.get(path)
        output: list[tuple[int, bytes]] = []
        if messages:
            output.append((0, b"".join(messages)))
            messages.clear()
        if not self._may_carry_streams(path):
            return output
        output += self._data.room(path, max(0, size - len(output[0][1])) if output else size, now)
        # A stream may be over with its last frame, which nobody answers.
        self._is_stale |= self._data.is_touched
        return output

    def wants_room(self, path: PathId) -> bool:
        """Whether on_room would give something."""
        if self._messages.get(path):
            return True
        return self._may_carry_streams(path) and self._data.wants_room(path)

    def on_timeout(self, now: Instant) -> None:
        """The deadline has passed; early or repeated calls are harmless."""
        due = self._timer.due
        self._tick(now)
        self._timer.fired_at = now
        if due is not None:
            self._data.on_lag(now - due, now)
        self._control.on_timeout(now)
        self._data.on_timeout(now)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        if self._timer.is_known:
            return self._timer.due
        self._timer.is_known = True
        times = [self._control.deadline(), self._data.deadline()]
        if self._idle_since is not None and not self._is_closed:
            times.append(self._idle_since + self._config.session_idle_s)
        # Never an instant that on_timeout has seen already; yet a due one must not move away while other inputs come.
        fired = self._timer.fired_at
        later = [when if when > fired else fired + MIN_STEP_S for when in times if when is not None]
        self._timer.due = min(later, default=None)
        return self._timer.due

    def readable(self) -> list[PortKey]:
        """Ports for which PortReadable is due: may be asked before actions(), so that no decision delays bytes."""
        if not self._is_stale:
            return []
        self._data.settle_lit(self._now)
        if not self._actions:
            return []
        told = [action for action in self._actions if isinstance(action, PortReadable)]
        if told:
            self._actions[:] = [action for action in self._actions if not isinstance(action, PortReadable)]
        return [action.key for action in told]

    def urgent(self) -> list[object]:
        """What is to be done before anything is decided: something can leave at once, and actions() has time."""
        if not self._haste.is_due:
            return []
        self._haste.is_due = False
        # By now the hello was read, if it came along.
        self._perform_control()
        self._data.hints.early_path = self._control.early_path()
        if not self._data.open_pending(self._now):
            return []
        self._haste.is_on = True
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def actions(self) -> list[object]:
        """What is to be done; a second call is empty."""
        self._haste.is_on = False
        for key in self._told_over:
            self._data.ended.pop(key, None)
        self._settle()
        self._told_over = list(self._data.ended)
        if not self._actions:
            return []
        actions = self._actions[:]
        self._actions.clear()
        return actions

    # -- streams ---------------------------------------------------------------------------------------------------

    def dial(self, now: Instant, *, replicas: int = 1) -> PortKey:
        """A new stream; raises KwikError if no memory is left for it."""
        self._tick(now)
        key = self._data.dial(now, replicas)
        self._idle_since = None
        return key

    def open_now(self, key: PortKey, now: Instant) -> PathId | None:
        """Queue OPEN of a new stream at once, if it can be; returns the path.

        Room that is offered on it before the next actions() is used without any other decision: those can wait until
        the request has left.
        """
        self._tick(now)
        path = self._data.open_pending(now).get(key)
        self._haste.is_on = path is not None
        return path

    def may_open_now(self) -> bool:
        """Whether a dial would not have to wait for a path. Changes nothing; may be asked by another thread."""
        able = any(not path.is_silent and not path.is_draining for path in self._data.admitted())
        size = 2 * granting.guarantee_bytes(self._config.block_bytes)
        return able and not self._is_closed and self._data.pool.has_room(size)

    def flush(self, key: PortKey, replicas: int, token: int, now: Instant) -> None:
        """Flushed(token) when so many replicas have taken everything written so far (0: all)."""
        self._tick(now)
        self._data.flush(key, replicas, token)

    def on_allowance(self, size: int, now: Instant) -> None:
        """A new memory budget for this session's undelivered bytes."""
        self._tick(now)
        self._data.pool.total_bytes = size
        self._data.touch_all()

    def close(self, now: Instant) -> None:
        """The session is given up."""
        self._tick(now)
        for stream in list(self._data.streams.values()):
            stream.fail(ErrorCode.STREAM_ABORTED, "the session was closed")
            self._data.drop(stream)
        self._is_closed = True
        self._control.on_close(now)

    def allowance(self, key: PortKey) -> int:
        """See BytePort."""
        stream = self._data.streams.get(key)
        return 0 if stream is None else stream.allowance()

    def on_app_bytes(self, key: PortKey, data: bytes, now: Instant) -> None:
        """See BytePort."""
        stream = self._touched(key, now)
        if stream is not None:
            stream.on_app_bytes(data)

    def on_app_eof(self, key: PortKey, now: Instant) -> None:
        """See BytePort."""
        stream = self._touched(key, now)
        if stream is not None:
            stream.on_app_eof()

    def on_app_closed(self, key: PortKey, now: Instant, *, aborted: bool) -> None:
        """See BytePort."""
        stream = self._touched(key, now)
        if stream is not None:
            stream.on_app_closed(aborted=aborted)

    def peek(self, key: PortKey) -> memoryview | None:
        """See BytePort."""
        stream = self._data.streams.get(key)
        return None if stream is None else stream.peek()

    def consume(self, key: PortKey, size: int, now: Instant) -> None:
        """See BytePort."""
        stream = self._data.streams.get(key)
        if stream is None:
            return
        self._tick(now, light=True)
        stream.consume(size, now)
        if stream.is_over or granting.is_credit_due(stream):
            self._data.touch(stream)
        else:
            self._data.light(stream)

    def at_end(self, key: PortKey) -> bool:
        """See BytePort. Asking when it is true shows the end: the stream may then be done."""
        stream = self._data.streams.get(key)
        if stream is None or not stream.may_end(self._now):
            return False
        stream.show_end()
        self._data.touch(stream)
        self._is_stale = True
        return True

    # -- pictures --------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Stream bytes kept in memory: undelivered downstream and upstream that may be needed again."""
        streams = self._data.streams.values()
        return sum(stream.down.parts.held_bytes + stream.log.held_bytes for stream in streams)

    def path_views(self, now: Instant) -> list[PathSnapshot]:
        """All open paths."""
        return [self._path_view(path, now) for path in self._control.paths()]

    def stream_stats(self, key: PortKey, now: Instant) -> StreamStats | None:
        """One stream; one that is over can be looked at until the next actions()."""
        stream = self._data.streams.get(key) or self._data.ended.get(key)
        return None if stream is None else _stats(stream)

    def anchor_of(self, key: PortKey) -> str:
        """Id of the server that is a stream's anchor, as in its stats; empty while that is not known."""
        stream = self._data.streams.get(key) or self._data.ended.get(key)
        return "" if stream is None else _anchor_id(stream)

    def _path_view(self, path: PathId, now: Instant) -> PathSnapshot:
        state, reason = self._control.state_of(path)
        address, instance = self._control.address_of(path), self._control.instance_of(path)
        data, facts = self._data.paths.get(path), self._facts(path, now)
        return PathSnapshot(
            path=path,
            address=str(address or ""),
            server_id=instance.id if instance is not None else "",
            state=state.value if isinstance(state.value, str) else state.name.lower(),
            smoothed_rtt_s=facts.smoothed_rtt_s if facts is not None else None,
            rate_bytes_s=data.rate_bytes_s(now) if data is not None else None,
            outstanding_bytes=data.outstanding_bytes if data is not None else 0,
            received_bytes=data.received_bytes if data is not None else 0,
            silent=data.is_silent if data is not None else False,
            reason=reason,
        )

    # -- the two planes meet ---------------------------------------------------------------------------------------

    def _tick(self, now: Instant, *, light: bool = False) -> None:
        """Time goes on; `light`: an input that by itself asks for no decision."""
        timer = self._timer
        if timer.is_known and timer.due is not None and now - SLEPT_S > timer.due > timer.woken_at:
            self._wake_up(now - timer.due, now)
        self._now = now if now > self._now else self._now
        self._is_stale = True
        if not light:
            self._is_due = True
            self._timer.is_known = False

    def _wake_up(self, late_s: float, now: Instant) -> None:
        """Before what waited in the sockets is looked at: nobody is to blame for this time, and who is still there?"""
        self._timer.is_known = False
        self._timer.woken_at = now
        self._is_due = True
        slept.excuse(self._data, late_s, now)
        self._control.on_timeout(now, slept=True)

    def _touched(self, key: PortKey, now: Instant) -> ClientStream | None:
        self._tick(now)
        stream = self._data.streams.get(key)
        if stream is not None:
            self._data.touch(stream)
        return stream

    def _may_carry_streams(self, path: PathId) -> bool:
        return self._control.is_admitted(path) or self._control.early_path() == path

    def _on_received(self, path: PathId, received: Received) -> None:
        if isinstance(received, DataPiece):
            self._data.on_data(path, received, self._now)
        elif isinstance(received, ServerHello | Joined | Drain):
            self._is_due = True
            self._control.on_message(path, received, self._now)
            self._perform_control()
        elif not isinstance(received, UpstreamPiece):
            self._data.on_frame(path, received, self._now)  # type: ignore[arg-type]

    def _settle(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False
        if not self._is_due and not self._data.is_touched:
            self._data.settle_lit(self._now)
            return
        now = self._now
        self._is_due = False
        self._timer.is_known = False
        for path, state in self._data.paths.items():
            state.on_facts(self._facts(path, now), now)
        for _ in range(SETTLE_ROUNDS):
            self._data.hints.early_path = self._control.early_path()
            self._data.settle(now)
            if not self._tell_control(now) and not self._perform_control():
                break
        self._check_idle(now)

    def _may_find_more(self) -> bool:
        if self._is_closed:
            return False
        return self._discovery_detail is None or self._control.may_find_more(self._now)

    def _tell_control(self, now: Instant) -> bool:
        most = self._data.wants.most()
        changed = most != self._want.paths
        if changed:
            self._want = Want(most, "streams are open" if most else "no stream")
            self._control.on_want(self._want, now)
        if self._data.to_recover:
            recover, self._data.to_recover = self._data.to_recover, []
            for instance in recover:
                self._control.on_recover(instance, now)
        if self._data.hints.is_rebound:
            self._data.hints.is_rebound = False
            used = {path for stream in self._data.streams.values() for v in stream.usable_views() for path in v.paths}
            for path in self._control.admitted_paths():
                self._tell_use(path, path in used, now)
        return changed

    def _tell_use(self, path: PathId, in_use: bool, now: Instant) -> None:
        state = self._data.paths.get(path)
        if state is not None and state.in_use != in_use:
            state.in_use = in_use
            self._control.on_path_use(path, in_use, now)

    def _perform_control(self) -> bool:
        actions = self._control.actions()
        for action in actions:
            if isinstance(action, ClosePath) and action.code == ErrorCode.WRONG_SERVICE:
                self._data.on_wrong_service(action.path)
            if isinstance(action, OpenPath | ClosePath | PingPath):
                self._actions.append(action)
            elif isinstance(action, SendMessage):
                self._messages.setdefault(action.path, []).append(encode(action.message))  # type: ignore[arg-type]
                self._actions.append(WakePath(action.path))
            elif isinstance(action, PathAdmitted):
                hello = action.hello
                self._data.on_path_admitted(
                    action.path, action.instance, hello.replicated, hello.upstream_credit, self._now
                )
            elif isinstance(action, PathGone):
                self._on_gone(action)
            elif isinstance(action, InstanceDraining):
                self._data.on_draining(action.instance)
            elif isinstance(action, NoCandidates):
                self._no_candidates = action.detail
                self._fail_pending()
        return bool(actions)

    def _on_gone(self, gone: PathGone) -> None:
        self._forget_path(gone.path)
        self._data.on_path_gone(gone.path, self._now)
        if gone.instance_dead and gone.instance is not None:
            self._data.on_instance_dead(gone.instance)

    def _forget_path(self, path: PathId) -> None:
        self._readers.pop(path, None)
        self._messages.pop(path, None)

    def _fail_pending(self) -> None:
        """Nobody is left to try now: cold dials fail once discovery has had its time."""
        if self._discovery_detail is None:
            return
        text = "; ".join(part for part in (self._no_candidates, self._discovery_detail) if part)
        for stream in list(self._data.streams.values()):
            if stream.phase is Phase.PENDING:
                stream.fail(ErrorCode.SERVER_GONE, text, refused=True)
                self._data.drop(stream)

    def _check_idle(self, now: Instant) -> None:
        if self._data.streams:
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = now
        elif now >= self._idle_since + self._config.session_idle_s and not self._is_closed:
            self._is_closed = True
            self._control.on_close(now)
            self._perform_control()
            self._actions.append(SessionIdle())


def _anchor_id(stream: ClientStream) -> str:
    anchor = stream.anchor
    return anchor.instance.id if anchor is not None and anchor.instance is not None else ""


def _stats(stream: ClientStream) -> StreamStats:
    anchor = stream.anchor
    return StreamStats(
        stream=stream.key,
        state=stream.phase.name.lower(),
        anchor=_anchor_id(stream),
        epoch=stream.epoch,
        delivered_bytes=stream.down.delivered,
        produced_bytes=anchor.produced if anchor is not None else 0,
        written_bytes=stream.log.end,
        duplicate_bytes=stream.counters.duplicate_bytes,
        rejected_blocks=stream.counters.rejected_blocks,
        regrants=stream.counters.regrants,
        takeovers=stream.counters.takeovers,
        recruitable=stream.is_recruitable,
        shares=tuple(
            ShareSnapshot(
                server_id=view.instance.id if view.instance is not None else "",
                address=view.address,
                role="anchor" if view is anchor else "helper",
                delivered_bytes=view.delivered_bytes,
                first_block_at=view.first_data_at,
                last_block_at=view.last_data_at,
                state=view.state.name.lower(),
            )
            for view in stream.views.values()
        ),
    )


__all__ = ["Action", "ClientCore"]
