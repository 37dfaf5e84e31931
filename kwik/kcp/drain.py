"""Leaving in good order: a server that stops says so, takes nothing new, lets its streams go, leaves (SPEC §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.wire.messages import Drain

if TYPE_CHECKING:
    from kwik.types import Instance, Instant

HELLO_DRAIN_S: Final = 5.0
"""How long a server that says in its hello that it drains, and no more, is left alone."""
MAX_DRAIN_S: Final = 600.0
"""A longer deadline than this counts as this."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Send the message on every path that is admitted, and on those that come (see ServerDrain.message)."""

    message: Drain


@dataclass(frozen=True, slots=True)
class DrainOver:
    """Leave now."""

    reason: str


DrainAction = Announce | DrainOver


class ServerDrain:
    """Whether this server is leaving, and when."""

    def __init__(self, drain_s: float) -> None:
        """`drain_s` is how long the streams have."""
        self._drain_s = drain_s
        self._until: Instant | None = None
        self._replicas = 0
        self._over = False
        self._actions: list[DrainAction] = []

    @property
    def is_draining(self) -> bool:
        """Whether new streams are refused."""
        return self._until is not None

    def on_drain(self, now: Instant) -> None:
        """Begin to leave; repeats are harmless and do not move the deadline."""
        if self._until is None:
            self._until = now + self._drain_s
            self._actions.append(Announce(self.message(now)))
            self._check(now)

    def on_replicas(self, count: int, now: Instant) -> None:
        """How many replicas the server has now; with none left the drain is over."""
        self._replicas = count
        self._check(now)

    def message(self, now: Instant) -> Drain:
        """What a path is told at this moment."""
        left_s = 0.0 if self._until is None else max(0.0, self._until - now)
        return Drain(deadline_ms=round(left_s * 1000))

    def on_timeout(self, now: Instant) -> None:
        """The deadline has passed."""
        self._check(now)

    def deadline(self) -> Instant | None:
        """When on_timeout is due; None before the drain and after its end."""
        return None if self._over else self._until

    def actions(self) -> list[DrainAction]:
        """What is to be done; a second call is empty."""
        actions, self._actions = self._actions, []
        return actions

    def _check(self, now: Instant) -> None:
        if self._until is None or self._over:
            return
        if self._replicas == 0 or now >= self._until:
            self._over = True
            left = f"{self._replicas} replicas were still open" if self._replicas else "every replica has ended"
            self._actions.append(DrainOver(left))


class DrainingInstances:
    """The client's view: which instances have said that they leave."""

    def __init__(self) -> None:
        self._until: dict[Instance, Instant] = {}

    def on_drain(self, instance: Instance, deadline_s: float, now: Instant) -> bool:
        """It said so; False if that is no news."""
        is_news = instance not in self._until
        self._until[instance] = now + min(deadline_s, MAX_DRAIN_S)
        return is_news

    def until(self, instance: Instance) -> Instant | None:
        """By when it will have left; None if it stays."""
        return self._until.get(instance)

    def forget(self, instance: Instance) -> None:
        """It is gone."""
        self._until.pop(instance, None)

    def __contains__(self, instance: object) -> bool:
        return instance in self._until
