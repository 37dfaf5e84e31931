"""Does a path live? Idle paths are pinged; a missed ping is followed by ten fast ones (SPEC §6.3, annex A).

Any authenticated packet is life. This is the slow judgement that ends a path; the data plane's silence, which only
grants again elsewhere, is faster and none of it is here. One miss and ten fast pings find a dead path within 3.6 s and
blame a live one about once in ten hours of 20 % loss; an accrual detector would get slower just where loss is high.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from kwik.base.timers import TimerTable
from kwik.base.transitions import Machine, TransitionTable
from kwik.kcp.actions import PingPath

if TYPE_CHECKING:
    from kwik.types import Instant, PathId

CONNECT_TIME_S: Final = 10.0
"""A path that is not admitted by then has failed: handshake, hello and, if need be, the join."""
MIN_REPLY_S: Final = 0.2
MAX_REPLY_S: Final = 0.4
"""Bounds of the wait for the answer to a ping; a round trip that is longer than that raises the upper one."""
FAST_PINGS: Final = 10
FAST_EVERY_S: Final = 0.2
FAILING_AFTER: Final = 3
"""Fast pings missed until a degraded path counts as failing, so that a replacement is looked for."""
LATE_S: Final = 0.1
"""A timer that fires later than this says more about this process than about the path."""
MAX_POSTPONE_S: Final = 1.0
"""Longest postponement for lateness. After a longer pause (a laptop's sleep) the fast pings also start again."""


class PathState(Enum):
    """Where a path stands in its life; the value is the word for people."""

    CONNECTING = "connecting"
    ACTIVE = "active"
    DEGRADED = "degraded"
    FAILING = "failing"
    CLOSED = "closed"


class Cue(Enum):
    """What moves a path from one state to the next."""

    ADMITTED = "admitted"
    MISSED = "missed"
    SILENT = "silent"
    ALIVE = "alive"
    LOST = "lost"


PATH_HEALTH: Final = TransitionTable(
    "path health",
    PathState.CONNECTING,
    {
        (PathState.CONNECTING, Cue.ADMITTED): PathState.ACTIVE,
        (PathState.CONNECTING, Cue.LOST): PathState.CLOSED,
        (PathState.ACTIVE, Cue.MISSED): PathState.DEGRADED,
        (PathState.ACTIVE, Cue.LOST): PathState.CLOSED,
        (PathState.DEGRADED, Cue.SILENT): PathState.FAILING,
        (PathState.DEGRADED, Cue.ALIVE): PathState.ACTIVE,
        (PathState.DEGRADED, Cue.LOST): PathState.CLOSED,
        (PathState.FAILING, Cue.ALIVE): PathState.ACTIVE,
        (PathState.FAILING, Cue.LOST): PathState.CLOSED,
    },
)


class PathVitals(Protocol):
    """The part of a path's facts that the control plane looks at; units as in the facts of the data plane."""

    @property
    def last_packet_at(self) -> float | None: ...
    @property
    def smoothed_rtt_s(self) -> float | None: ...
    @property
    def rtt_variance_s(self) -> float: ...
    @property
    def congestion_window(self) -> int: ...


class FactsView(Protocol):
    """How the control plane looks at a path; None if the transport does not know it (any more)."""

    def __call__(self, path: PathId, now: Instant) -> PathVitals | None: ...


@dataclass(frozen=True, slots=True)
class PathStateChanged:
    """A path went from one state to another, and why; also a trace event."""

    path: PathId
    old: PathState
    new: PathState
    reason: str


@dataclass(frozen=True, slots=True)
class PathLost:
    """The path is given up. Health watches it no more."""

    path: PathId
    reason: str


HealthAction = PingPath | PathStateChanged | PathLost


@dataclass(slots=True)
class _Watch:
    """What is known of one path. `pinged_at` is None unless an answer is awaited."""

    machine: Machine[PathState, Cue]
    life_at: Instant
    due_at: Instant
    reason: str
    pinged_at: Instant | None = None
    fast_pings: int = 0
    excused: bool = False
    restarted: bool = False


class Health:
    """All paths of one session. Costs one timer and a few words a path."""

    def __init__(self, keepalive_s: float, facts: FactsView) -> None:
        """`facts` is asked when a judgement is due, at most about five times a second and path."""
        self._keepalive_s = keepalive_s
        self._facts = facts
        self._watches: dict[PathId, _Watch] = {}
        self._timers: TimerTable[PathId] = TimerTable()
        self._actions: list[HealthAction] = []
        self._last_ping = 0

    def on_opened(self, path: PathId, now: Instant) -> None:
        """A handshake begins; it has CONNECT_TIME_S until on_admitted. A number that is in use is ignored."""
        if path not in self._watches:
            watch = _Watch(Machine(PATH_HEALTH), now, now, "handshake begun")
            self._watches[path] = watch
            self._arm(path, watch, now + CONNECT_TIME_S)

    def on_admitted(self, path: PathId, reason: str, now: Instant) -> None:
        """The path may be used; from now on it is pinged when idle."""
        watch = self._watches.get(path)
        if watch is not None and watch.machine.accepts(Cue.ADMITTED):
            watch.life_at = now
            watch.excused = False
            self._move(path, watch, Cue.ADMITTED, reason)
            self._arm(path, watch, now + self._keepalive_s)

    def on_packet(self, path: PathId, now: Instant) -> None:
        """An authenticated packet came. Nobody has to tell (the facts do); telling clears a suspicion sooner."""
        watch = self._watches.get(path)
        if watch is None or watch.machine.state is PathState.CONNECTING:
            return
        watch.life_at = max(watch.life_at, now)
        if watch.pinged_at is not None:
            self._revive(path, watch, now)

    def on_doubt(self, path: PathId, now: Instant) -> None:
        """Somebody hints that the server is gone: ask the path itself, now."""
        watch = self._watches.get(path)
        if watch is not None and watch.pinged_at is None and watch.machine.state is PathState.ACTIVE:
            self._ping_first(path, watch, now)

    def on_closed(self, path: PathId, reason: str) -> None:
        """The path ended for another cause. Unknown paths are ignored."""
        watch = self._watches.pop(path, None)
        if watch is not None:
            self._timers.cancel(path)
            self._move(path, watch, Cue.LOST, reason)

    def state_of(self, path: PathId) -> tuple[PathState, str]:
        """The state and why it came about; closed for a path that is not watched."""
        watch = self._watches.get(path)
        return (PathState.CLOSED, "not open") if watch is None else (watch.machine.state, watch.reason)

    def on_timeout(self, now: Instant) -> None:
        """Judge every path that is due, later than asked for with the lateness taken off (see LATE_S)."""
        for path in self._timers.expired(now):
            watch = self._watches[path]
            if watch.machine.state is PathState.CONNECTING:
                self._judge_handshake(path, watch, now)
            elif watch.pinged_at is None:
                self._judge_idle(path, watch, now)
            else:
                self._judge_answer(path, watch, watch.pinged_at, now)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        return self._timers.deadline()

    def actions(self) -> list[HealthAction]:
        """What is to be done or told; a second call is empty."""
        actions, self._actions = self._actions, []
        return actions

    def _judge_handshake(self, path: PathId, watch: _Watch, now: Instant) -> None:
        if not self._excuse(path, watch, now):
            self._lose(path, watch, f"no admission within {CONNECT_TIME_S:g} s")

    def _judge_idle(self, path: PathId, watch: _Watch, now: Instant) -> None:
        heard_at = self._heard_at(path, watch, now)
        if heard_at + self._keepalive_s > now:
            self._arm(path, watch, heard_at + self._keepalive_s)
        else:
            self._ping_first(path, watch, now)

    def _judge_answer(self, path: PathId, watch: _Watch, pinged_at: Instant, now: Instant) -> None:
        heard_at = self._heard_at(path, watch, now)
        if heard_at >= pinged_at:
            self._revive(path, watch, now)
            return
        if self._excuse(path, watch, now):
            return
        silent = f"nothing heard for {now - heard_at:.1f} s"
        if watch.machine.state is PathState.ACTIVE:
            self._move(path, watch, Cue.MISSED, f"a ping was missed, {silent}")
        elif watch.fast_pings == FAILING_AFTER and watch.machine.accepts(Cue.SILENT):
            self._move(path, watch, Cue.SILENT, f"{FAILING_AFTER} fast pings were missed, {silent}")
        if watch.fast_pings == FAST_PINGS:
            self._lose(path, watch, f"{FAST_PINGS} fast pings were missed, {silent}")
            return
        watch.fast_pings += 1
        self._ping(path)
        last = watch.fast_pings == FAST_PINGS
        self._arm(path, watch, now + (self._reply_time_s(path, now) if last else FAST_EVERY_S))

    def _excuse(self, path: PathId, watch: _Watch, now: Instant) -> bool:
        """Put the judgement off if we ourselves are late: what waits in the sockets must be read first.

        Each step is put off once, or a process that is always late would never find a dead path.
        """
        lag_s = now - watch.due_at
        if lag_s <= LATE_S or watch.excused:
            watch.excused = False
            return False
        if lag_s > MAX_POSTPONE_S and watch.pinged_at is not None and not watch.restarted:
            watch.restarted = True
            watch.fast_pings = 0
            self._ping(path)
        self._arm(path, watch, now + min(lag_s, MAX_POSTPONE_S))
        watch.excused = True
        return True

    def _revive(self, path: PathId, watch: _Watch, now: Instant) -> None:
        watch.pinged_at = None
        watch.excused = watch.restarted = False
        if watch.machine.accepts(Cue.ALIVE):
            self._move(path, watch, Cue.ALIVE, "it was heard again")
        self._judge_idle(path, watch, now)

    def _ping_first(self, path: PathId, watch: _Watch, now: Instant) -> None:
        watch.pinged_at = now
        watch.fast_pings = 0
        self._ping(path)
        # A long round trip is not a miss: below one round trip nothing can have come.
        self._arm(path, watch, now + self._reply_time_s(path, now))

    def _reply_time_s(self, path: PathId, now: Instant) -> float:
        vitals = self._facts(path, now)
        if vitals is None or vitals.smoothed_rtt_s is None:
            return MAX_REPLY_S
        longest_s = max(MAX_REPLY_S, 1.25 * vitals.smoothed_rtt_s)
        return min(max(vitals.smoothed_rtt_s + 4 * vitals.rtt_variance_s, MIN_REPLY_S), longest_s)

    def _heard_at(self, path: PathId, watch: _Watch, now: Instant) -> Instant:
        vitals = self._facts(path, now)
        if vitals is not None and vitals.last_packet_at is not None:
            watch.life_at = max(watch.life_at, min(vitals.last_packet_at, now))
        return watch.life_at

    def _ping(self, path: PathId) -> None:
        self._last_ping += 1
        self._actions.append(PingPath(path, self._last_ping))

    def _arm(self, path: PathId, watch: _Watch, when: Instant) -> None:
        watch.due_at = when
        self._timers.set(path, when)

    def _lose(self, path: PathId, watch: _Watch, reason: str) -> None:
        del self._watches[path]
        self._timers.cancel(path)
        self._move(path, watch, Cue.LOST, reason)
        self._actions.append(PathLost(path, reason))

    def _move(self, path: PathId, watch: _Watch, cue: Cue, reason: str) -> None:
        old = watch.machine.state
        watch.reason = reason
        self._actions.append(PathStateChanged(path, old, watch.machine.on(cue), reason))
