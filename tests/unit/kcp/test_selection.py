"""The default order of candidates."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kwik.kcp.selection import TOO_MANY_FAILURES, CandidateView, MeasuredFirst
from kwik.types import Address, Instance


def at(number: int) -> Address:
    return Address(f"192.0.2.{number}", 443)


def rank(*views: CandidateView, seed: int = 1) -> list[Address]:
    return [choice.address for choice in MeasuredFirst().rank(views, random.Random(seed))]


def test_what_must_not_be_tried_is_left_out():
    assert (
        rank(
            CandidateView(at(1), draining=True),
            CandidateView(at(2), connected=True),
            CandidateView(at(3), instance=Instance("a", bytes(16)), instance_connected=True),
            CandidateView(at(4), blocked_until=1.0),
        )
        == []
    )


def test_measured_ones_come_first_by_expected_completion():
    fast = CandidateView(at(1), smoothed_rtt_s=0.1, rate_bytes_s=1e7)
    near = CandidateView(at(2), smoothed_rtt_s=0.01, rate_bytes_s=1e5)
    unknown = CandidateView(at(3), weight=65535)
    assert rank(unknown, near, fast) == [at(1), at(2), at(3)]


def test_failed_stale_and_already_reached_ones_come_later():
    reached = CandidateView(at(1), server_connected=True)
    failed = CandidateView(at(2), failures=1, smoothed_rtt_s=0.01, rate_bytes_s=1e9)
    stale = CandidateView(at(3), stale=True)
    fine = CandidateView(at(4))
    choices = MeasuredFirst().rank([reached, failed, stale, fine], random.Random(1))
    assert [choice.address for choice in choices] == [at(4), at(3), at(2), at(1)]
    assert [choice.reason for choice in choices] == [
        "announced weight 100",
        "announced weight 100, stale",
        "measured, 1 MiB in 0.011 s, 1 failures",
        "announced weight 100, its server has a path",
    ]


def test_those_that_fail_for_ever_are_tried_only_when_nobody_else_is_left():
    hopeless = CandidateView(at(1), failures=TOO_MANY_FAILURES)
    assert rank(hopeless, CandidateView(at(2), failures=1)) == [at(2)]
    assert rank(hopeless) == [at(1)]


def test_weights_are_shares():
    heavy, light = CandidateView(at(1), weight=300), CandidateView(at(2), weight=100)
    never = CandidateView(at(3), weight=0)
    first = Counter(rank(heavy, light, never, seed=seed)[0] for seed in range(1000))
    assert 700 <= first[at(1)] <= 800
    assert first[at(3)] == 0


def test_one_address_of_each_server_before_the_second_of_any():
    views = [
        CandidateView(at(n), server_id="a" if n < 4 else "b", smoothed_rtt_s=n, rate_bytes_s=1e6) for n in range(1, 6)
    ]
    assert rank(*views) == [at(1), at(4), at(2), at(3), at(5)]


views = st.builds(
    CandidateView,
    st.integers(1, 250).map(at),
    weight=st.integers(0, 65535),
    stale=st.booleans(),
    failures=st.integers(0, 9),
    connected=st.booleans(),
    smoothed_rtt_s=st.none() | st.floats(0.001, 2.0),
    rate_bytes_s=st.none() | st.floats(0.0, 1e9),
)


@given(st.lists(views, max_size=20, unique_by=lambda view: view.address), st.integers(0, 99))
def test_the_order_is_a_selection_of_the_candidates_and_repeats(candidates: list[CandidateView], seed: int):
    first = rank(*candidates, seed=seed)
    assert first == rank(*candidates, seed=seed)
    assert len(set(first)) == len(first)
    assert set(first) <= {view.address for view in candidates if not view.connected}
    if any(not view.connected for view in candidates):
        assert first
