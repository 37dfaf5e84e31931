from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kwik.base.ranges import RangeSet

values = st.integers(-3, 40)
spans = st.tuples(values, values).map(lambda pair: (min(pair), max(pair)))


class AgainstSet(RuleBasedStateMachine):
    """Every operation gives what a plain set of integers gives."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = RangeSet()
        self.model: set[int] = set()

    @rule(span=spans)
    def add(self, span: tuple[int, int]) -> None:
        assert self.ranges.add(*span) == len(set(range(*span)) - self.model)
        self.model |= set(range(*span))

    @rule(span=spans)
    def subtract(self, span: tuple[int, int]) -> None:
        assert self.ranges.subtract(*span) == len(set(range(*span)) & self.model)
        self.model -= set(range(*span))

    @rule()
    def clear(self) -> None:
        self.ranges.clear()
        self.model.clear()

    @rule(span=spans)
    def ask_for_a_span(self, span: tuple[int, int]) -> None:
        wanted = set(range(*span))
        assert self.ranges.covers(*span) == (wanted <= self.model)
        assert self.ranges.overlaps(*span) == bool(wanted & self.model)
        assert members(self.ranges.within(*span)) == sorted(wanted & self.model)
        assert members(self.ranges.gaps(*span)) == sorted(wanted - self.model)

    @rule(value=values)
    def ask_for_a_value(self, value: int) -> None:
        assert (value in self.ranges) == (value in self.model)
        assert self.ranges.first_gap(value) == next(v for v in range(value, 100) if v not in self.model)

    @invariant()
    def holds_the_same(self) -> None:
        held = list(self.ranges)
        assert members(held) == sorted(self.model)
        assert self.ranges.total == len(self.model)
        assert len(self.ranges) == len(held)
        assert bool(self.ranges) == bool(self.model)
        assert all(left[1] < right[0] for left, right in pairwise(held)), "touching"
        assert all(start < stop for start, stop in held)


TestAgainstSet = AgainstSet.TestCase


def members(ranges: list[tuple[int, int]]) -> list[int]:
    return [value for start, stop in ranges for value in range(start, stop)]


@given(st.lists(spans))
def test_equal_sets_are_equal_however_they_came_about(pieces: list[tuple[int, int]]):
    assert RangeSet(pieces) == RangeSet(reversed(pieces)) == RangeSet(RangeSet(pieces))


def test_ranges_that_touch_become_one():
    ranges = RangeSet([(0, 4), (8, 12), (4, 8)])
    assert list(ranges) == [(0, 12)]
    assert repr(ranges) == "RangeSet([(0, 12)])"


def test_a_copy_is_independent():
    first = RangeSet([(0, 4)])
    second = first.copy()
    second.add(10, 12)
    assert (first.total, second.total) == (4, 6)
    assert first != second
    assert first != [(0, 4)]


def test_iteration_is_a_snapshot():
    ranges = RangeSet([(0, 4), (8, 12)])
    for start, stop in ranges:
        ranges.subtract(start, stop)
    assert not ranges


@pytest.mark.parametrize("name", ["add", "subtract", "covers", "overlaps", "within", "gaps"])
def test_a_range_must_not_end_before_it_starts(name: str):
    with pytest.raises(ValueError, match="start <= stop"):
        getattr(RangeSet(), name)(2, 1)


def test_it_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(RangeSet())
