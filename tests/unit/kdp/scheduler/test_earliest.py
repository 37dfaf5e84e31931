"""Earliest completion first: like paths share, unlike ones get blocks that arrive just in time."""

from __future__ import annotations

from kwik.base.ranges import RangeSet
from kwik.kdp.scheduler.earliest import Earliest
from tests.contract.test_scheduler import BLOCK, lane_of

RICH = 1000 * BLOCK


def test_the_next_block_goes_where_it_is_complete_soonest():
    slow, quick = lane_of(1, rate=1e5, rtt=0.1), lane_of(2, rate=1e6, rtt=0.02)
    Earliest().plan([(0, 1)], [slow, quick], BLOCK)
    assert (slow.assigned, quick.assigned) == ([], [0])


def test_queueing_counts():
    busy, idle = lane_of(1, rate=1e6, queued=100 * BLOCK, target=RICH), lane_of(2, rate=5e5)
    Earliest().plan([(0, 1)], [busy, idle], BLOCK)
    assert (busy.assigned, idle.assigned) == ([], [0])


def test_like_lanes_share_evenly():
    lanes = [lane_of(1, rate=1e6, target=RICH), lane_of(2, rate=1e6, target=RICH)]
    Earliest().plan([(0, 20)], lanes, BLOCK)
    assert [len(lane.assigned) for lane in lanes] == [10, 10]


def test_unlike_lanes_share_by_their_rates():
    lanes = [lane_of(1, rate=3e6, target=RICH), lane_of(2, rate=1e6, target=RICH)]
    Earliest().plan([(0, 40)], lanes, BLOCK)
    assert len(lanes[0].assigned) in range(28, 33)


def test_a_full_quick_lane_is_waited_for_and_the_slow_one_gets_what_lies_further_ahead():
    """The block that the reader needs next is not given to a lane that would bring it later."""
    quick, slow = lane_of(1, rate=1e6, rtt=0.01, target=BLOCK), lane_of(2, rate=1e5, rtt=0.05, target=RICH)
    Earliest().plan([(0, 80)], [quick, slow], BLOCK)
    assert quick.assigned == [0]
    assert slow.assigned[:1] == [53]  # 10 ms and a millisecond a block there, here 60 ms and half of a block's 10 ms


def test_a_lane_that_may_not_have_a_block_leaves_it_to_others():
    helper, anchor = lane_of(1, rate=1e9, eligible=RangeSet([(1, 2)])), lane_of(2, rate=1e5)
    Earliest().plan([(0, 3)], [helper, anchor], BLOCK)
    assert helper.assigned == [1]
    assert anchor.assigned == [0, 2]


def test_a_block_that_nobody_may_have_holds_up_no_other():
    helper = lane_of(1, eligible=RangeSet([(2, 3)]))
    Earliest().plan([(0, 4)], [helper], BLOCK)
    assert helper.assigned == [2]
