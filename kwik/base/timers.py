"""The deadlines of one machine, each under a key; the machine's own `deadline()` is the earliest of them.

A heap of entries, of which those that were set again or cancelled are left in place and skipped when they surface
(the usual lazy deletion); they are swept when they outnumber the live ones, so memory follows the live timers.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from kwik.types import Instant

K = TypeVar("K", bound=Hashable)

_SWEEP_FROM = 16


class TimerTable(Generic[K]):
    """At most one deadline a key. Setting and cancelling take O(log n), amortised."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._live: dict[K, tuple[Instant, int]] = {}
        # The serial number keeps timers of equal time in the order of setting, and keys from being compared.
        self._heap: list[tuple[Instant, int, K]] = []
        self._serial = 0

    def set(self, key: K, when: Instant | None) -> None:
        """Arm the key's timer, in place of an earlier one; None cancels it. NaN raises ValueError."""
        if when is None:
            self.cancel(key)
            return
        if when != when:  # noqa: PLR0124  # NaN, which would break the order of the heap
            raise ValueError(f"timer {key!r} was set to NaN: give seconds")
        present = self._live.get(key)
        if present is not None and present[0] == when:
            return
        self._serial += 1
        self._live[key] = (when, self._serial)
        heappush(self._heap, (when, self._serial, key))
        self._sweep()

    def cancel(self, key: K) -> bool:
        """Disarm the key's timer; False if it was not armed."""
        found = self._live.pop(key, None) is not None
        if found:
            self._sweep()
        return found

    def when(self, key: K) -> Instant | None:
        """The key's deadline, None if it is not armed."""
        present = self._live.get(key)
        return None if present is None else present[0]

    def deadline(self) -> Instant | None:
        """The earliest deadline of all, None if none is armed."""
        self._drop_dead()
        return self._heap[0][0] if self._heap else None

    def expired(self, now: Instant) -> list[K]:
        """Disarm every timer whose deadline is not after `now`; their keys, in due order, then in order of setting."""
        due: list[K] = []
        self._drop_dead()
        while self._heap and self._heap[0][0] <= now:
            key = heappop(self._heap)[2]
            del self._live[key]
            due.append(key)
            self._drop_dead()
        return due

    def clear(self) -> None:
        """Disarm everything."""
        self._live.clear()
        self._heap.clear()

    def _drop_dead(self) -> None:
        heap = self._heap
        while heap and self._live.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)

    def _sweep(self) -> None:
        if len(self._heap) > _SWEEP_FROM + 2 * len(self._live):
            self._heap = [(when, serial, key) for key, (when, serial) in self._live.items()]
            heapify(self._heap)

    def __contains__(self, key: object) -> bool:
        return key in self._live

    def __len__(self) -> int:
        return len(self._live)

    def __repr__(self) -> str:
        armed = sorted((when, serial, key) for key, (when, serial) in self._live.items())
        return f"TimerTable({{{', '.join(f'{key!r}: {when}' for when, _, key in armed)}}})"
