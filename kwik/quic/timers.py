"""Deadlines of many paths behind one timer of the event loop."""

import asyncio
import heapq
from collections.abc import Callable

from kwik.quic.adapter import QuicPath

LATER_S = 1e-6
"""Deadlines fire so much later than asked for: at exactly the due time, float rounding in loss detection can arm the
same instant again for ever."""


class PathTimers:
    """A heap of (due, path) with lazy removal: a deadline that moves later is found out only when it is popped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._heap: list[tuple[float, int, QuicPath]] = []
        self._queued: dict[QuicPath, float] = {}
        self._sequence = 0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, path: QuicPath, deadline: float | None) -> None:
        """Wake for this path at `deadline`. An earlier wake-up that is queued already may stay: it is harmless."""
        if deadline is None:
            return
        due = deadline + LATER_S
        queued = self._queued.get(path)
        if queued is None or due < queued:
            self._queued[path] = due
            self._sequence += 1
            heapq.heappush(self._heap, (due, self._sequence, path))

    def forget(self, path: QuicPath) -> None:
        """No more wake-ups for this path."""
        self._queued.pop(path, None)

    def take_due(self, now: float) -> list[QuicPath]:
        """Remove and return the paths whose queued deadline has passed; `set` must follow for those that go on."""
        due: list[QuicPath] = []
        while self._heap and self._heap[0][0] <= now:
            at, _, path = heapq.heappop(self._heap)
            if self._queued.get(path) == at:
                del self._queued[path]
                due.append(path)
        return due

    def arm(self) -> None:
        """Point the loop's timer at the earliest deadline."""
        while self._heap and self._queued.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            self.stop()
            return
        due = self._heap[0][0]
        if self._handle is None or self._handle.when() != due:
            self.stop()
            self._handle = self._loop.call_at(due, self._fire)

    def stop(self) -> None:
        """Cancel the loop's timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._on_due()
