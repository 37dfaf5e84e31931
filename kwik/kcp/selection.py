"""Which candidate addresses to connect to, best first: filter, then rank what was measured before what is announced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from kwik.types import Address, Instance, Instant

SAMPLE_BYTES: Final = 1 << 20
"""Measured candidates are compared by when this much would have arrived: round trip + size / rate."""
TOO_MANY_FAILURES: Final = 5


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One address as a policy sees it. The server id is a hint; the instance is who answered there last."""

    address: Address
    server_id: str | None = None
    weight: int = 100
    draining: bool = False
    stale: bool = False
    connected: bool = False
    """A path to it is open or being opened."""
    instance: Instance | None = None
    instance_connected: bool = False
    """Who answered there last has a path that works."""
    server_connected: bool = False
    """A server of the hinted id has a path that is open or being opened, to whatever address."""
    failures: int = 0
    blocked_until: Instant | None = None
    """Back-off or drain; None if it may be tried now."""
    smoothed_rtt_s: float | None = None
    rate_bytes_s: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """An address to try, and why it stands where it does."""

    address: Address
    reason: str


class SelectionPolicy(Protocol):
    """Called when a path is about to be opened: rarely, but with up to a thousand candidates."""

    def rank(self, candidates: Sequence[CandidateView], rng: Random) -> list[Choice]:
        """The addresses that may be tried now, best first; leave out what must not be tried. Must not wait."""


class MeasuredFirst:
    """The default. Measured addresses by expected completion, then the others in a draw weighted as announced.

    A draw, and not the order of weights: a weight is a share (RFC 2782), and clients must not herd to the heaviest.
    Weights never outrank a measurement: with a half-failed server they are fatal.
    """

    def rank(self, candidates: Sequence[CandidateView], rng: Random) -> list[Choice]:
        """See `SelectionPolicy.rank`."""
        open_ones = [view for view in candidates if self._is_open(view)]
        sound = [view for view in open_ones if view.failures < TOO_MANY_FAILURES]
        keyed = sorted(((self._key(view, rng), view) for view in sound or open_ones), key=lambda pair: pair[0])
        return [Choice(view.address, self._reason(view)) for view in _spread([view for _, view in keyed])]

    @staticmethod
    def _is_open(view: CandidateView) -> bool:
        return not (view.draining or view.connected or view.instance_connected or view.blocked_until is not None)

    @staticmethod
    def _key(view: CandidateView, rng: Random) -> tuple[bool, int, bool, bool, float, float]:
        draw = rng.random()
        completion_s = _completion_s(view)
        # Efraimidis and Spirakis: the largest u ** (1/w) first is a draw without replacement, weighted by w.
        score = -(draw ** (1.0 / max(view.weight, 0.01))) if completion_s is None else completion_s
        return (view.server_connected, min(view.failures, 1), view.stale, completion_s is None, score, draw)

    @staticmethod
    def _reason(view: CandidateView) -> str:
        completion_s = _completion_s(view)
        what = f"announced weight {view.weight}" if completion_s is None else f"measured, 1 MiB in {completion_s:.3f} s"
        marks = [f"{view.failures} failures"] if view.failures else []
        marks += ["stale"] if view.stale else []
        marks += ["its server has a path"] if view.server_connected else []
        return ", ".join([what, *marks])


def _completion_s(view: CandidateView) -> float | None:
    if view.smoothed_rtt_s is None or not view.rate_bytes_s:
        return None
    return view.smoothed_rtt_s + SAMPLE_BYTES / view.rate_bytes_s


def _spread(views: list[CandidateView]) -> list[CandidateView]:
    """One address of each hinted server before the second of any, else in the given order."""
    seen: dict[str, None] = {}
    first: list[CandidateView] = []
    later: list[CandidateView] = []
    for view in views:
        if view.server_id is not None and view.server_id in seen:
            later.append(view)
            continue
        if view.server_id is not None:
            seen[view.server_id] = None
        first.append(view)
    return first + later
