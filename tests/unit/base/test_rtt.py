import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.base.rtt import INITIAL_RTT_S, RttEstimator

round_trips = st.floats(0.0001, 10.0)
delays = st.floats(0.0, 0.5)


def test_before_the_first_sample():
    rtt = RttEstimator()
    assert (rtt.smoothed_s, rtt.variance_s) == (INITIAL_RTT_S, INITIAL_RTT_S / 2)
    assert (rtt.min_s, rtt.latest_s, rtt.has_sample) == (None, None, False)
    assert rtt.pto_s(0.025) == pytest.approx(0.333 + 2 * 0.333 + 0.025)


def test_the_first_sample_replaces_the_assumption():
    rtt = RttEstimator(1.0)
    rtt.on_sample(0.1, ack_delay_s=0.05)
    assert rtt.has_sample
    assert (rtt.smoothed_s, rtt.variance_s, rtt.min_s, rtt.latest_s) == (0.1, 0.05, 0.1, 0.1)


def test_the_weights_and_the_delay():
    rtt = RttEstimator()
    rtt.on_sample(0.1)
    rtt.on_sample(0.2, ack_delay_s=0.02)  # counts as 0.18
    assert rtt.variance_s == pytest.approx(0.75 * 0.05 + 0.25 * 0.08)
    assert rtt.smoothed_s == pytest.approx(0.875 * 0.1 + 0.125 * 0.18)
    assert (rtt.min_s, rtt.latest_s) == (0.1, 0.2)


def test_an_overstated_delay_cannot_push_the_sample_below_the_minimum():
    rtt = RttEstimator()
    rtt.on_sample(0.1)
    rtt.on_sample(0.11, ack_delay_s=0.02)
    assert rtt.smoothed_s == pytest.approx(0.875 * 0.1 + 0.125 * 0.11)


def test_a_new_route_may_be_longer():
    rtt = RttEstimator()
    rtt.on_sample(0.1)
    rtt.on_sample(0.3)
    rtt.forget_min()
    assert rtt.min_s == 0.3


@given(st.lists(st.tuples(round_trips, delays), min_size=1, max_size=50))
def test_the_estimate_stays_among_the_samples(samples: list[tuple[float, float]]):
    rtt = RttEstimator()
    for sample, delay in samples:
        rtt.on_sample(sample, delay)
    least, most = min(sample for sample, _ in samples), max(sample for sample, _ in samples)
    assert rtt.min_s == least
    assert rtt.latest_s == samples[-1][0]
    assert least * 0.999 <= rtt.smoothed_s <= most * 1.001
    assert 0 <= rtt.variance_s <= most
    assert rtt.pto_s(0.025) >= rtt.smoothed_s + 0.026


@given(round_trips)
def test_a_steady_path_loses_its_variation(sample: float):
    rtt = RttEstimator()
    for _ in range(100):
        rtt.on_sample(sample)
    assert rtt.smoothed_s == pytest.approx(sample)
    assert rtt.variance_s < sample / 1000
    assert rtt.pto_s() == pytest.approx(rtt.smoothed_s + max(4 * rtt.variance_s, 0.001))


@pytest.mark.parametrize(("sample", "delay"), [(-0.1, 0.0), (0.1, -0.1), (math.nan, 0.0), (0.1, math.nan)])
def test_what_cannot_be_measured_is_refused(sample: float, delay: float):
    with pytest.raises(ValueError, match="negative"):
        RttEstimator().on_sample(sample, delay)


def test_repr_shows_the_estimate():
    assert repr(RttEstimator(0.5)) == "RttEstimator(smoothed_s=0.500000, variance_s=0.250000, min_s=None)"
