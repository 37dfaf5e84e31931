"""The contract of every scheduler; an outsider subclasses SchedulerContract and makes a scheduler in `make`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwik.base.ranges import RangeSet
from kwik.errors import ConfigError
from kwik.kdp.scheduler import Lane, Scheduler
from kwik.kdp.scheduler.names import by_name
from kwik.types import PathId

BLOCK = 1024


def lane_of(
    number: int,
    *,
    rate: float = 1e6,
    rtt: float = 0.05,
    queued: int = 0,
    target: int = 64 * BLOCK,
    eligible: RangeSet | None = None,
) -> Lane:
    """One lane; everything may be ordered there unless `eligible` says otherwise."""
    return Lane(
        replica=number,
        path=PathId(number),
        is_anchor=eligible is None,
        rate_bytes_s=rate,
        rtt_s=rtt,
        queued_bytes=queued,
        target_bytes=target,
        eligible=eligible,
        is_proven=True,
    )


@st.composite
def block_sets(draw: st.DrawFn) -> RangeSet:
    blocks = draw(st.sets(st.integers(0, 40)))
    return RangeSet((block, block + 1) for block in blocks)


@st.composite
def lanes(draw: st.DrawFn) -> list[Lane]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.floats(1e3, 1e9),
                st.floats(0.0, 2.0),
                st.integers(0, 10 * BLOCK),
                st.integers(BLOCK, 12 * BLOCK),
                st.none() | block_sets(),
            ),
            max_size=5,
        )
    )
    return [
        lane_of(number, rate=rate, rtt=rtt, queued=queued, target=target, eligible=eligible)
        for number, (rate, rtt, queued, target, eligible) in enumerate(drawn, 1)
    ]


# One inherited test runs for several classes, on purpose: nothing but `make` differs between them.
for_each_subclass = settings(suppress_health_check=[HealthCheck.differing_executors])


class SchedulerContract:
    """What a stream relies on."""

    make: Callable[[], Scheduler]

    @for_each_subclass
    @given(blocks=block_sets(), lanes=lanes())
    def test_each_block_goes_to_at_most_one_lane_that_may_have_it_and_has_room(
        self, blocks: RangeSet, lanes: list[Lane]
    ):
        before = [lane.queued_bytes for lane in lanes]
        self.make().plan(list(blocks), lanes, BLOCK)
        given_away = [block for lane in lanes for block in lane.assigned]
        assert len(given_away) == len(set(given_away))
        assert all(block in blocks for block in given_away)
        for lane, queued in zip(lanes, before, strict=True):
            assert all(lane.may(block) for block in lane.assigned)
            assert lane.queued_bytes == queued + len(lane.assigned) * BLOCK
            assert not lane.assigned or lane.queued_bytes <= lane.target_bytes

    @for_each_subclass
    @given(blocks=block_sets(), lanes=lanes())
    def test_blocks_are_walked_in_ascending_order(self, blocks: RangeSet, lanes: list[Lane]):
        self.make().plan(list(blocks), lanes, BLOCK)
        for lane in lanes:
            assert lane.assigned == sorted(lane.assigned)

    @for_each_subclass
    @given(blocks=block_sets(), lanes=lanes())
    def test_somebody_gets_something_if_anybody_alone_could(self, blocks: RangeSet, lanes: list[Lane]):
        """No standstill: with lanes that all have room, the first block that anybody may have is given away."""
        if not lanes or not all(lane.has_room(BLOCK) for lane in lanes):
            return
        able = [
            block for start, stop in blocks for block in range(start, stop) if any(lane.may(block) for lane in lanes)
        ]
        self.make().plan(list(blocks), lanes, BLOCK)
        given_away = sorted(block for lane in lanes for block in lane.assigned)
        assert given_away[:1] == able[:1]

    @for_each_subclass
    @given(blocks=block_sets(), room=st.integers(0, 30))
    def test_a_sole_lane_is_filled(self, blocks: RangeSet, room: int):
        lane = lane_of(1, target=room * BLOCK)
        self.make().plan(list(blocks), [lane], BLOCK)
        wanted = [block for start, stop in blocks for block in range(start, stop)]
        assert lane.assigned == wanted[:room]

    @for_each_subclass
    @given(blocks=block_sets(), lanes=lanes())
    def test_equal_calls_give_equal_plans(self, blocks: RangeSet, lanes: list[Lane]):
        plans = []
        for _ in range(2):
            twins = [
                lane_of(
                    lane.replica,
                    rate=lane.rate_bytes_s,
                    rtt=lane.rtt_s,
                    queued=lane.queued_bytes,
                    target=lane.target_bytes,
                    eligible=lane.eligible,
                )
                for lane in lanes
            ]
            self.make().plan(list(blocks), twins, BLOCK)
            plans.append([lane.assigned for lane in twins])
        assert plans[0] == plans[1]

    def test_nothing_to_do_and_nobody_to_do_it(self):
        self.make().plan([], [lane_of(1)], BLOCK)
        self.make().plan([(0, 4)], [], BLOCK)


class TestEarliest(SchedulerContract):
    make = staticmethod(lambda: by_name("earliest"))


class TestRoundRobin(SchedulerContract):
    make = staticmethod(lambda: by_name("roundrobin"))


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match="earliest, roundrobin"):
        by_name("fastest")
