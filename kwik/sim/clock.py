"""Virtual time: a heap of events, in order of time and, at one instant, in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from kwik.types import Instant

START_S: Final = 1000.0
"""Simulated time begins here, so that a zero taken for "unset" fails."""


class MachineFault(AssertionError):
    """A core broke a rule that holds for every machine: about time, termination, or what it may say when."""


class Clock:
    """The only clock of a simulation. `now` never runs backwards; `run` counts events and gives up at a bound."""

    def __init__(self, *, max_events: int = 2_000_000) -> None:
        self.now: Instant = START_S
        self.events = 0
        self._max_events = max_events
        self._heap: list[tuple[Instant, int, Callable[..., object], tuple[object, ...]]] = []
        self._serial = 0

    def at(self, when: Instant, action: Callable[..., object], *arguments: object) -> None:
        """Call `action(*arguments)` at `when`, at once if that has passed. Not to be taken back: check then."""
        self._serial += 1
        now = self.now
        heappush(self._heap, (when if when > now else now, self._serial, action, arguments))

    def after(self, delay_s: float, action: Callable[..., object], *arguments: object) -> None:
        """The same, `delay_s` from now."""
        self.at(self.now + delay_s, action, *arguments)

    @property
    def is_empty(self) -> bool:
        """True when nothing will ever happen again."""
        return not self._heap

    def run(self, until: Instant, *, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass up to `until` or until `done()` holds after an event; says whether `done` held.

        Raises MachineFault when the bound on events is reached: somebody keeps somebody busy for ever.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = heappop(heap)
            self.events += 1
            if self.events > self._max_events:
                raise MachineFault(f"no end after {self._max_events} events, at {self.now:.6f} s: {action}")
            action(*arguments)
            if done():
                return True
        self.now = max(self.now, until)
        return done()
