import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.base.rate import DeliveryRate

START = 1000.0
PACKET = 1200


def stream(rate: DeliveryRate, now: float, *, bytes_s: float, seconds: float, packet: int = PACKET) -> float:
    """Deliver evenly at that speed for that long; the time afterwards."""
    for _ in range(round(seconds * bytes_s / packet)):
        now += packet / bytes_s
        rate.on_delivered(packet, now)
    return now


def test_nothing_is_known_at_first():
    rate = DeliveryRate()
    assert rate.rate_bytes_s(START) is None
    assert rate.is_stale(START)


@given(st.floats(1e4, 1e9), st.floats(0.0, 0.3))
def test_an_even_flow_is_measured_exactly(bytes_s: float, round_s: float):
    rate = DeliveryRate(round_s)
    rate.on_busy(START)
    packet = max(1, round(bytes_s / 1000))
    now = stream(rate, START + round_s, bytes_s=bytes_s, seconds=round_s + 0.1, packet=packet)
    assert rate.rate_bytes_s(now) == pytest.approx(bytes_s, rel=1e-3)
    assert not rate.is_stale(now)


def test_a_burst_is_not_a_rate():
    rate = DeliveryRate(0.04)
    rate.on_busy(START)
    now = START
    for _ in range(50):  # ten packets at once, every 40 ms
        now += 0.04
        for _ in range(10):
            rate.on_delivered(PACKET, now)
    assert rate.rate_bytes_s(now) == pytest.approx(10 * PACKET / 0.04)


def test_the_window_forgets_after_ten_rounds():
    rate = DeliveryRate(0.2)
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=1.0)
    now = stream(rate, now, bytes_s=1e5, seconds=1.5)
    assert rate.rate_bytes_s(now) == pytest.approx(1e6)
    now = stream(rate, now, bytes_s=1e5, seconds=1.0)
    assert rate.rate_bytes_s(now) == pytest.approx(1e5, rel=0.05)


def test_the_window_follows_the_round():
    rate = DeliveryRate(0.05)
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.2)
    now = stream(rate, now, bytes_s=1e5, seconds=1.3)
    rate.set_round(1.0)
    assert rate.rate_bytes_s(now) == pytest.approx(1e5, rel=0.05), "what was forgotten does not come back"


def test_a_stalled_path_keeps_its_newest_sample():
    rate = DeliveryRate()
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.5)
    assert rate.rate_bytes_s(now + 100) == pytest.approx(1e6)
    assert not rate.is_stale(now + 100), "it is busy: silence is for others to judge"


def test_idle_time_does_not_count_against_the_path():
    rate = DeliveryRate()
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.1)
    rate.on_idle(now)
    now += 1.5  # longer than the window, shorter than what makes the estimate stale
    rate.on_busy(now)
    now = stream(rate, now, bytes_s=1e5, seconds=0.5)
    assert rate.rate_bytes_s(now) == pytest.approx(1e6)
    assert not rate.is_stale(now)


def test_an_idle_path_grows_stale_and_is_measured_again():
    rate = DeliveryRate()
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.2)
    rate.on_idle(now)
    assert not rate.is_stale(now + 1.9)
    assert rate.is_stale(now + 2.1)
    assert rate.rate_bytes_s(now + 60) == pytest.approx(1e6), "better than nothing until it is measured again"
    rate.on_busy(now + 60)
    assert rate.is_stale(now + 60)
    now = stream(rate, now + 60, bytes_s=1e5, seconds=0.2)
    assert not rate.is_stale(now)
    assert rate.rate_bytes_s(now) == pytest.approx(1e5, rel=0.05), "the old maximum is gone at once"


def test_a_short_spell_counts_from_its_start_and_only_upwards():
    rate = DeliveryRate()
    rate.on_busy(START)
    rate.on_delivered(16384, START + 0.1)
    rate.on_idle(START + 0.1)
    assert rate.rate_bytes_s(START + 0.1) == pytest.approx(163840)
    rate.on_busy(START + 1)
    rate.on_delivered(16384, START + 1.2)
    rate.on_idle(START + 1.2)
    assert rate.rate_bytes_s(START + 1.2) == pytest.approx(163840)
    rate.on_busy(START + 2)
    rate.on_delivered(16384, START + 2.05)
    rate.on_idle(START + 2.05)
    assert rate.rate_bytes_s(START + 2.05) == pytest.approx(327680)


def test_a_low_short_spell_does_not_refresh_a_stale_estimate():
    rate = DeliveryRate()
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.2)
    rate.on_idle(now)
    rate.on_busy(now + 10)
    rate.on_delivered(PACKET, now + 10.1)
    rate.on_idle(now + 10.1)
    assert rate.rate_bytes_s(now + 10.1) == pytest.approx(1e6)
    assert rate.is_stale(now + 10.1)


def test_too_short_to_say_anything():
    rate = DeliveryRate()
    rate.on_busy(START)
    rate.on_delivered(PACKET, START + 0.001)
    rate.on_delivered(PACKET, START + 0.002)
    rate.on_idle(START + 0.002)
    assert rate.rate_bytes_s(START + 0.002) is None


def test_a_spell_shorter_than_a_round_is_measured_when_it_ends():
    rate = DeliveryRate(0.1)
    rate.on_busy(START)
    now = stream(rate, START + 0.1, bytes_s=1e6, seconds=0.06)
    assert rate.rate_bytes_s(now) is None
    rate.on_idle(now)
    assert rate.rate_bytes_s(now) == pytest.approx(1e6)


def test_repeated_and_stray_inputs_change_nothing():
    rate = DeliveryRate()
    rate.on_delivered(PACKET, START)
    rate.on_idle(START)
    rate.on_busy(START)
    now = stream(rate, START, bytes_s=1e6, seconds=0.1)
    rate.on_busy(now)
    rate.on_delivered(0, now)
    now = stream(rate, now, bytes_s=1e6, seconds=0.1)
    rate.on_idle(now)
    rate.on_idle(now + 5)
    assert rate.rate_bytes_s(now) == pytest.approx(1e6)
    assert rate.is_stale(now + 5)


def test_a_spell_without_bytes_says_nothing():
    rate = DeliveryRate()
    rate.on_busy(START)
    rate.on_idle(START + 5)
    assert rate.rate_bytes_s(START + 5) is None


steps = st.lists(
    st.tuples(st.sampled_from(["busy", "idle", "delivered"]), st.floats(0, 5), st.integers(1, 10**6)), max_size=200
)


@given(steps, st.floats(0, 1))
def test_no_sample_exceeds_what_the_shortest_interval_allows(script: list[tuple[str, float, int]], round_s: float):
    rate = DeliveryRate(round_s)
    now, total = START, 0
    for operation, wait_s, n_bytes in script:
        now += wait_s
        if operation == "delivered":
            total += n_bytes
            rate.on_delivered(n_bytes, now)
        else:
            (rate.on_busy if operation == "busy" else rate.on_idle)(now)
        estimate = rate.rate_bytes_s(now)
        assert estimate is None or 0 < estimate <= total / 0.00999
        assert len(rate._maxima) <= 1 + max(1.0, 10 * round_s) / 0.01


@pytest.mark.parametrize(
    "arguments", [{"min_interval_s": 0.0}, {"min_window_s": 0.001}, {"round_s": math.nan}, {"round_s": -1}]
)
def test_senseless_lengths_are_refused(arguments: dict[str, float]):
    with pytest.raises(ValueError, match=r"min_interval_s|round trip"):
        DeliveryRate(**arguments)


def test_what_arrives_at_one_instant_is_one_arrival():
    """A packet brings the end of one block and the beginning of the next: two deliveries, and no time between."""
    rate = DeliveryRate(0.01)
    rate.on_busy(1000.0)
    for number in range(20):
        for size in (300, 900):
            rate.on_delivered(size, 1000.0 + number * 0.03)
    assert rate.rate_bytes_s(1000.6) == pytest.approx(1200 / 0.03)


def test_a_gap_in_which_we_did_not_run_makes_no_path_slow():
    rate = DeliveryRate(0.01)
    rate.on_busy(START)
    for number in range(20):
        rate.on_delivered(1000, START + number * 0.01)
    before = rate.rate_bytes_s(START + 0.2)
    rate.on_gap(40.0)
    for number in range(20):
        rate.on_delivered(1000, START + 40.2 + number * 0.01)
    rate.on_idle(START + 40.4)
    assert before == pytest.approx(100_000)
    assert rate.rate_bytes_s(START + 40.4) == pytest.approx(before)
    # Nor has any sample aged by it.
    assert len(rate._maxima) == 1
    assert rate._maxima[0][0] < START + 1.0


def test_a_gap_while_nothing_is_owed_changes_nothing():
    rate = DeliveryRate(0.01)
    rate.on_gap(40.0)
    rate.on_busy(START)
    for number in range(3):
        rate.on_delivered(1000, START + number * 0.02)
    assert rate.rate_bytes_s(START + 1) == pytest.approx(1000 / 0.02)
