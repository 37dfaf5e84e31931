"""Streams are stuck on an instance: when to try another path to it (SPEC §6.4).

At once, then with back-off. Attempts overlap: after a change of network the first one may sit in its own
retransmission timer on a dead interface while a fresh one gets through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kwik.types import Instance, Instant, PathId

FIRST_DELAY_S: Final = 0.2
MAX_DELAY_S: Final = 5.0
MAX_ATTEMPTS: Final = 3
"""Attempts under way for one instance."""
REPLACE_AFTER_S: Final = 1.0
"""An attempt this old makes room for a fresh one."""


@dataclass(frozen=True, slots=True)
class TryInstance:
    """Open a path to the instance; `turn` counts from 0, to go round its addresses."""

    instance: Instance
    turn: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Close this attempt: a fresher one takes its place, or it is no longer needed."""

    path: PathId


RecoveryAction = TryInstance | GiveUp


@dataclass(slots=True)
class _Case:
    until: Instant
    due_at: Instant
    delay_s: float
    turn: int
    attempts: dict[PathId, Instant]


class Recovery:
    """One case per stuck instance; it ends by on_recovered, or some time after the last on_recover."""

    def __init__(self, max_time_s: float) -> None:
        """`max_time_s` is how long a case goes on without another on_recover."""
        self._max_time_s = max_time_s
        self._cases: dict[Instance, _Case] = {}
        self._actions: list[RecoveryAction] = []

    def on_recover(self, instance: Instance, now: Instant) -> None:
        """Begin; the first attempt comes at once. A repeat only makes the case last longer."""
        case = self._cases.get(instance)
        if case is not None:
            case.until = now + self._max_time_s
            return
        case = _Case(now + self._max_time_s, now, FIRST_DELAY_S, 0, {})
        self._cases[instance] = case
        self._try(instance, case, now)

    def on_attempt(self, instance: Instance, path: PathId, now: Instant) -> None:
        """TryInstance was answered by opening this path."""
        case = self._cases.get(instance)
        if case is not None:
            case.attempts[path] = now

    def on_attempt_ended(self, path: PathId) -> None:
        """The attempt failed, or ended at another server. Unknown paths are ignored."""
        for case in self._cases.values():
            case.attempts.pop(path, None)

    def on_recovered(self, instance: Instance) -> None:
        """The instance is back, dead, or no longer needed: the attempts still under way are given up."""
        case = self._cases.pop(instance, None)
        if case is not None:
            self._actions += [GiveUp(path) for path in case.attempts]

    def is_stuck(self, instance: Instance) -> bool:
        """Whether a case is open for it."""
        return instance in self._cases

    def on_timeout(self, now: Instant) -> None:
        """Try again where it is due, and end what has lasted too long."""
        for instance, case in list(self._cases.items()):
            if case.due_at > now:
                continue
            if case.until <= now:
                self.on_recovered(instance)
            else:
                self._try(instance, case, now)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        return min([case.due_at for case in self._cases.values()], default=None) if self._cases else None

    def actions(self) -> list[RecoveryAction]:
        """What is to be done; a second call is empty."""
        actions, self._actions = self._actions, []
        return actions

    def _try(self, instance: Instance, case: _Case, now: Instant) -> None:
        case.due_at = now + case.delay_s
        case.delay_s = min(MAX_DELAY_S, 2 * case.delay_s)
        if len(case.attempts) >= MAX_ATTEMPTS:
            oldest = min(case.attempts, key=lambda path: (case.attempts[path], path))
            if now - case.attempts[oldest] < REPLACE_AFTER_S:
                return
            del case.attempts[oldest]
            self._actions.append(GiveUp(oldest))
        self._actions.append(TryInstance(instance, case.turn))
        case.turn += 1
