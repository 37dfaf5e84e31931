"""How many paths the session should have, given what the data plane could use; hysteresis for letting them go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from kwik.types import Instant

RELEASE_AFTER_S: Final = 10.0
"""An extra path must have been unneeded this long: opening it again costs round trips and a slow start."""
RELEASE_EVERY_S: Final = 2.0
"""Cool-down between two releases, so that the effect of one is seen before the next."""


@dataclass(frozen=True, slots=True)
class ScalingView:
    """What a policy sees."""

    wanted: int
    """Distinct servers that the data plane could use now; 0: no streams."""
    distinct: int
    """Distinct servers with a usable path."""
    paths: int
    """Usable paths, several to one server counted each."""
    min_paths: int
    max_paths: int


@dataclass(frozen=True, slots=True)
class ScalingTarget:
    """What a policy answers."""

    servers: int
    """Open paths until so many distinct servers are connected."""
    release: bool
    """One extra path that carries nothing may be closed now."""
    reason: str


class ScalingPolicy(Protocol):
    """Called after every change of the session and at its own deadline. Must not wait."""

    def on_view(self, view: ScalingView, now: Instant) -> ScalingTarget:
        """The target for this view. Answers `release` at most once per path that is to go."""

    def deadline(self) -> Instant | None:
        """When to ask again although nothing has changed; always after the `now` of the last on_view."""


class FollowWant:
    """The default: up at once, as far as `max_paths`; down one by one, slowly, never below `min_paths`."""

    def __init__(self) -> None:
        self._release_at: Instant | None = None

    def on_view(self, view: ScalingView, now: Instant) -> ScalingTarget:
        """See `ScalingPolicy.on_view`."""
        kept = min(max(view.wanted, view.min_paths), view.max_paths)
        servers = kept if view.wanted else 0
        if view.paths <= kept:
            self._release_at = None
            return ScalingTarget(servers, False, f"{view.wanted} wanted, {view.distinct} connected")
        if self._release_at is None:
            self._release_at = now + RELEASE_AFTER_S
        if now < self._release_at:
            return ScalingTarget(servers, False, f"{view.paths} paths, {kept} needed: waiting for the need to return")
        self._release_at = now + RELEASE_EVERY_S
        return ScalingTarget(servers, True, f"{view.paths} paths, {kept} needed for {RELEASE_AFTER_S:g} s or longer")

    def deadline(self) -> Instant | None:
        """See `ScalingPolicy.deadline`."""
        return self._release_at
