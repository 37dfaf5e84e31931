"""What follows from the times of reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.apps.demo_measure import ReadLog, alone_s, links_bytes


def log(*reads: tuple[float, int], started_at: float = 1000.0) -> ReadLog:
    made = ReadLog(started_at)
    for after_s, count in reads:
        made.add(started_at + after_s, count)
    return made


STEADY = log(*[(1 + number / 10, 1000) for number in range(11)])
"""The first read after 1 s, then one each 100 ms."""


def test_an_empty_log():
    empty = ReadLog(1000.0)
    assert (empty.received_bytes, empty.duration_s, empty.first_byte_s) == (0, 0, 0)
    assert (empty.goodput_bps(), empty.longest_pause_s(), empty.settled_bps(0)) == (0, 0, 0)


def test_sums():
    assert STEADY.received_bytes == 11_000
    assert STEADY.duration_s == pytest.approx(2.0)
    assert STEADY.first_byte_s == 1.0
    assert STEADY.goodput_bps() == pytest.approx(44_000)
    assert STEADY.received_by(999.0) == 0
    assert STEADY.received_by(1001.0) == 1000
    assert STEADY.received_by(2000.0) == 11_000


def test_rates_of_a_part():
    assert STEADY.goodput_bps(1001.05, 1001.55) == pytest.approx(5 * 1000 * 8 / 0.5)
    assert STEADY.settled_bps(0) == pytest.approx(80_000)
    assert STEADY.settled_bps(5000) == pytest.approx(80_000)
    assert STEADY.settled_bps(11_000) == STEADY.goodput_bps(), "nothing is left: the whole"


def test_pauses():
    paused = log((1.0, 1), (1.1, 1), (1.5, 1), (1.6, 1), (2.3, 1))
    assert paused.longest_pause_s() == pytest.approx(0.7)
    assert paused.longest_pause_s(after=1001.05, before=1001.2) == pytest.approx(0.4)
    assert paused.longest_pause_s(after=1001.3, before=1001.3) == pytest.approx(0.4), "under way"
    assert paused.longest_pause_s(after=1001.5, before=1001.55) == pytest.approx(0.1)
    assert paused.longest_pause_s(after=1003.0) == 0


def test_alone():
    assert alone_s(STEADY, 100_000) == pytest.approx(1 + 10)
    assert alone_s(ReadLog(1000.0), 1) == float("inf")


def test_links():
    assert links_bytes(8e6, [2.0, 1.0]) == 3e6


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 10**6)), min_size=1, max_size=50))
def test_parts_make_the_whole(reads: list[tuple[float, int]]):
    made = log(*sorted(reads))
    middle = made.started_at + 5.0
    end = made.times[-1]
    first = made.received_by(middle)
    assert 0 <= first <= made.received_by(end) == made.received_bytes
    assert made.longest_pause_s() <= made.duration_s
