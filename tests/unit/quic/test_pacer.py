"""Quanta: few wake-ups, the right rate, no debt."""

import pytest
from aioquic.quic.congestion.base import QuicCongestionControl

from kwik.quic.congestion import CountingCubic, CountingReno, lost_packets
from kwik.quic.pacer import GAIN, MOST_PACKETS, SLOW_START_GAIN, QuantumPacer, batch_time


def make(window: int, rtt_s: float, *, slow_start: bool = False) -> QuantumPacer:
    controller: QuicCongestionControl = CountingCubic(max_datagram_size=1200)
    controller.ssthresh = None if slow_start else 1
    pacer = QuantumPacer(max_datagram_size=1200, controller=controller)
    assert pacer.next_send_time(now=0.0) is None
    pacer.update_rate(window, rtt_s)
    return pacer


def run(pacer: QuantumPacer, seconds: float) -> tuple[int, int]:
    now, packets, sleeps = 0.0, 0, 0
    while now < seconds:
        at = pacer.next_send_time(now=now)
        if at is None:
            pacer.update_after_send(now=now)
            packets += 1
        else:
            assert at > now
            now, sleeps = at, sleeps + 1
    return packets, sleeps


@pytest.mark.parametrize(("window", "rtt_s"), [(12_000, 0.2), (120_000, 0.05), (1_000_000, 0.02)])
@pytest.mark.parametrize("slow_start", [False, True])
def test_rate_is_gain_times_window_per_round_trip(window, rtt_s, slow_start):
    packets, _ = run(make(window, rtt_s, slow_start=slow_start), 10.0)
    gain = SLOW_START_GAIN if slow_start else GAIN
    assert packets * 1200 / 10 == pytest.approx(gain * window / rtt_s, rel=0.05)


def test_at_most_a_thousand_wake_ups_a_second():
    packets, sleeps = run(make(4_000_000, 0.05), 2.0)
    assert packets > 100_000
    assert sleeps <= 2001


def test_an_acknowledgement_in_between_does_not_release_single_packets():
    pacer = make(1_000_000, 0.01)
    while pacer.next_send_time(now=1.0) is None:
        pacer.update_after_send(now=1.0)
    shut_until = pacer.next_send_time(now=1.0)
    assert shut_until == pytest.approx(1.001)
    assert pacer.next_send_time(now=1.0005) == shut_until
    assert pacer.next_send_time(now=1.0011) is None


def test_quanta_are_longer_where_the_round_trip_is():
    assert [batch_time(rtt_s) for rtt_s in (0.001, 0.015, 0.032, 0.04, 1.0)] == [0.0, 0.0, 0.002, 0.0025, 0.0025]
    _, sleeps = run(make(4_000_000, 0.2), 2.0)
    assert sleeps <= 801


def test_bursts_are_bounded():
    pacer = make(100_000_000, 0.001)
    pacer.next_send_time(now=5.0)
    burst = 0
    while pacer.next_send_time(now=5.0) is None:
        pacer.update_after_send(now=5.0)
        burst += 1
    assert burst <= MOST_PACKETS + 1


def test_packets_sent_without_asking_make_no_debt():
    pacer = make(12_000, 0.2)
    for _ in range(1000):
        pacer.update_after_send(now=1.0)
    at = pacer.next_send_time(now=1.0)
    assert at is not None
    assert at < 1.1


@pytest.mark.parametrize("kind", [CountingCubic, CountingReno])
def test_losses_are_counted(kind):
    controller = kind(max_datagram_size=1200)
    assert lost_packets(controller) == 0
    controller.lost_packets += 2
    assert lost_packets(controller) == 2
