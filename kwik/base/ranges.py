"""Sets of integers kept as sorted, disjoint, half-open ranges: bytes received, blocks granted, offsets announced.

The bounds stand in one flat list, start, stop, start, stop, ...; an even index is a start, an odd one a stop. Whether
a value lies inside is then the parity of its insertion point, and adding or removing is one slice assignment.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from kwik.types import Range


class RangeSet:
    """A mutable set of integers. Iterates over its ranges, sorted, never touching or overlapping; `len` counts them.

    Operations take O(log n + k): n ranges held, k of them concerned (plus moving the list's tail, a memmove).
    Empty ranges (start == stop) are allowed and change nothing; start > stop raises ValueError.
    """

    __slots__ = ("_bounds", "_total")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._bounds: list[int] = []
        self._total = 0
        for start, stop in ranges:
            self.add(start, stop)

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return self._total

    @property
    def start(self) -> int | None:
        """The smallest integer in the set; None if it is empty."""
        return self._bounds[0] if self._bounds else None

    @property
    def stop(self) -> int | None:
        """One more than the largest integer in the set; None if it is empty."""
        return self._bounds[-1] if self._bounds else None

    def add(self, start: int, stop: int) -> int:
        """Add [start, stop); returns how many of them were new."""
        bounds, size = self._bounds, stop - start
        if size > 0 and (not bounds or start >= bounds[-1]):
            # Behind all others: by far the most frequent case.
            if bounds and start == bounds[-1]:
                bounds[-1] = stop
            else:
                bounds += (start, stop)
            self._total += size
            return size
        return self._replace(start, stop, inside=True)

    def subtract(self, start: int, stop: int) -> int:
        """Remove [start, stop); returns how many of them were there."""
        bounds = self._bounds
        if start > stop or not bounds or start >= bounds[-1] or stop <= bounds[0]:
            _check(start, stop)
            return 0
        if start <= bounds[0] and stop < bounds[1]:
            # The front of the first range: what comes in order is taken out so.
            size = stop - bounds[0]
            bounds[0] = stop
            self._total -= size
            return size
        return -self._replace(start, stop, inside=False)

    def clear(self) -> None:
        """Remove everything."""
        self._bounds.clear()
        self._total = 0

    def copy(self) -> "RangeSet":
        """An independent copy."""
        twin = RangeSet()
        twin._bounds = self._bounds.copy()
        twin._total = self._total
        return twin

    def contains(self, value: int) -> bool:
        """Whether the value is in the set; also `value in ranges`."""
        return bisect_right(self._bounds, value) % 2 == 1

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of [start, stop) is in the set; true for an empty range."""
        if start >= stop:
            _check(start, stop)
            return True
        index = bisect_right(self._bounds, start)
        return index % 2 == 1 and self._bounds[index] >= stop

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any of [start, stop) is in the set."""
        if start >= stop:
            _check(start, stop)
            return False
        first = bisect_right(self._bounds, start)
        return first % 2 == 1 or bisect_left(self._bounds, stop) > first

    def first_gap(self, start: int = 0) -> int:
        """The first integer from `start` on that is not in the set."""
        index = bisect_right(self._bounds, start)
        return self._bounds[index] if index % 2 == 1 else start

    def within(self, start: int, stop: int) -> list[Range]:
        """The parts of [start, stop) that are in the set, sorted."""
        return self._clip(start, stop, inside=True)

    def gaps(self, start: int, stop: int) -> list[Range]:
        """The parts of [start, stop) that are not in the set, sorted."""
        return self._clip(start, stop, inside=False)

    def count_below(self, stop: int) -> int:
        """How many integers of the set are below `stop`."""
        bounds = self._bounds
        if not bounds or stop >= bounds[-1]:
            return self._total
        index = bisect_right(bounds, stop)
        below = _measure(bounds[: index - index % 2], 0)
        return below + stop - bounds[index - 1] if index % 2 else below

    def _replace(self, start: int, stop: int, *, inside: bool) -> int:
        """Make [start, stop) all inside or all outside; returns by how much the total changed."""
        _check(start, stop)
        if start == stop:
            return 0
        bounds = self._bounds
        # Bounds equal to start or stop are taken out as well: ranges that touch become one.
        low, high = bisect_left(bounds, start), bisect_right(bounds, stop)
        edges = [start] if (low % 2 == 0) == inside else []
        if (high % 2 == 0) == inside:
            edges.append(stop)
        change = _measure(edges, low) - _measure(bounds[low:high], low)
        bounds[low:high] = edges
        self._total += change
        return change

    def _clip(self, start: int, stop: int, *, inside: bool) -> list[Range]:
        _check(start, stop)
        if start == stop:
            return []
        low, high = bisect_right(self._bounds, start), bisect_left(self._bounds, stop)
        cuts = self._bounds[low:high]
        if (low % 2 == 1) == inside:
            cuts.insert(0, start)
        if len(cuts) % 2:
            cuts.append(stop)
        return list(zip(cuts[::2], cuts[1::2], strict=True))

    __contains__ = contains

    def __iter__(self) -> Iterator[Range]:
        bounds = self._bounds
        return iter(list(zip(bounds[::2], bounds[1::2], strict=True)))

    def __len__(self) -> int:
        return len(self._bounds) // 2

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __eq__(self, other: object) -> bool:
        return self._bounds == other._bounds if isinstance(other, RangeSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"


def runs_of(values: Sequence[int]) -> list[Range]:
    """The values as ranges, in their order: neighbours that follow each other become one."""
    if not values:
        return []
    if values[-1] - values[0] == len(values) - 1 and list(values) == list(range(values[0], values[-1] + 1)):
        return [(values[0], values[-1] + 1)]
    runs, start, stop = list[Range](), values[0], values[0]
    for value in values:
        if value != stop:
            runs.append((start, stop))
            start = value
        stop = value + 1
    return [*runs, (start, stop)]


def _check(start: int, stop: int) -> None:
    if start > stop:
        raise ValueError(f"range ({start}, {stop}) ends before it starts: give start <= stop")


def _measure(bounds: list[int], index: int) -> int:
    """Stops minus starts of a piece of the list of bounds that begins at `index`."""
    size = sum(bounds[1::2]) - sum(bounds[::2])
    return -size if index % 2 else size
