"""Round robin: whoever is next and has room, across calls."""

from __future__ import annotations

from kwik.base.ranges import RangeSet
from kwik.kdp.scheduler.roundrobin import RoundRobin
from tests.contract.test_scheduler import BLOCK, lane_of


def test_blocks_go_round():
    lanes = [lane_of(1), lane_of(2), lane_of(3)]
    RoundRobin().plan([(0, 5)], lanes, BLOCK)
    assert [lane.assigned for lane in lanes] == [[0, 3], [1, 4], [2]]


def test_the_turn_goes_on_in_the_next_call():
    scheduler = RoundRobin()
    for block, expected in enumerate([1, 2, 1]):
        lanes = [lane_of(1), lane_of(2)]
        scheduler.plan([(block, block + 1)], lanes, BLOCK)
        assert [lane.replica for lane in lanes if lane.assigned] == [expected]


def test_full_lanes_and_those_that_may_not_are_skipped():
    lanes = [lane_of(1, target=BLOCK), lane_of(2, eligible=RangeSet([(3, 4)])), lane_of(3)]
    RoundRobin().plan([(0, 4)], lanes, BLOCK)
    assert [lane.assigned for lane in lanes] == [[0], [3], [1, 2]]


def test_the_turn_survives_a_change_in_the_number_of_lanes():
    scheduler = RoundRobin()
    scheduler.plan([(0, 2)], [lane_of(1), lane_of(2), lane_of(3)], BLOCK)
    lane = lane_of(1)
    scheduler.plan([(2, 4)], [lane], BLOCK)
    assert lane.assigned == [2, 3]
