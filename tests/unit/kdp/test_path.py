"""What the data plane knows of a path: how much to have outstanding, and when it is silent (SPEC §6.3)."""

from __future__ import annotations

import pytest

from kwik.kdp.facts import PathFacts
from kwik.kdp.path import (
    DEFAULT_RTT_S,
    FLAT_ROUNDS,
    LEAST_SHARE,
    MIN_SILENCE_S,
    PIPE_FACTOR,
    SHARE_WINDOW_BYTES,
    SLACK_S,
    START_BYTES,
    START_FACTOR,
    ClientPath,
    PayloadShare,
    StartUp,
)
from kwik.types import PathId

NOW = 1000.0
FACTS = PathFacts(
    last_packet_at=None,
    oldest_unacked_at=None,
    smoothed_rtt_s=0.040,
    rtt_variance_s=0.002,
    min_rtt_s=0.03,
    latest_rtt_s=0.04,
    max_ack_delay_s=0.025,
    unsent_bytes=0,
    congestion_window=12000,
    bytes_in_flight=0,
    lost_packets=0,
)


def make(facts: PathFacts | None = FACTS) -> ClientPath:
    path = ClientPath(PathId(1))
    path.on_facts(facts, NOW)
    return path


class TestOutstanding:
    def test_orders_add_and_data_and_revokes_take_away(self):
        path = make()
        path.on_ordered(1000, NOW)
        path.on_data(300, NOW + 0.1)
        path.release(300, NOW + 0.1)
        path.release(200, NOW + 0.1)
        assert (path.outstanding_bytes, path.received_bytes) == (500, 300)
        path.release(900, NOW + 0.2)
        assert path.outstanding_bytes == 0

    def test_a_path_is_proven_by_data(self):
        path = make()
        path.on_ordered(10, NOW)
        assert not path.is_proven
        path.on_data(10, NOW)
        assert path.is_proven
        assert path.last_data_at == NOW

    def test_the_rate_is_measured_only_while_something_is_owed(self):
        path = make()
        path.on_ordered(100_000, NOW)
        for step in range(1, 11):
            path.on_data(10_000, NOW + 0.1 * step)
            path.release(10_000, NOW + 0.1 * step)
        rate = path.rate.rate_bytes_s(NOW + 1.0)
        assert rate == pytest.approx(100_000, rel=0.2)
        assert path.rate.rate_bytes_s(NOW + 60.0) == pytest.approx(rate)


class TestTarget:
    def test_while_starting_up_it_is_at_least_64_kib(self):
        assert make().target_bytes(10.0, 16384) == START_BYTES

    def test_but_a_few_small_blocks_when_blocks_are_small(self):
        assert make().target_bytes(10.0, 64) == 256

    def test_three_times_what_came_in_the_last_round(self):
        path = make()
        path.start_up.last_round_bytes = 100_000
        assert path.target_bytes(10.0, 16384) == START_FACTOR * 100_000
        path.start_up.round_bytes = 200_000
        assert path.target_bytes(10.0, 16384) == START_FACTOR * 200_000

    def test_in_steady_state_it_fills_the_pipe(self):
        path = make()
        path.start_up.is_over = True
        assert path.min_rtt_s < path.rtt_s
        expected = int(PIPE_FACTOR * 1e6 * (path.min_rtt_s + SLACK_S)) + 16384
        assert path.target_bytes(1e6, 16384) == expected
        assert path.target_bytes(1.0, 16384) == 2 * 16384

    def test_start_up_ends_after_two_rounds_without_growth(self):
        start_up, now = StartUp(), NOW
        start_up.on_bytes(100, 0.1, now)
        for size in (200, 400, 800):
            now += 0.11
            start_up.on_bytes(size, 0.1, now)
        assert (start_up.is_over, start_up.last_round_bytes) == (False, 800)
        for _ in range(FLAT_ROUNDS):
            assert not start_up.is_over
            now += 0.11
            start_up.on_bytes(900, 0.1, now)
        assert start_up.is_over
        start_up.on_bytes(10_000, 0.1, now + 1.0)
        assert start_up.best_round_bytes == 900

    def test_a_round_lasts_one_round_trip(self):
        start_up = StartUp()
        for step in range(10):
            start_up.on_bytes(10, 0.1, NOW + 0.009 * step)
        assert (start_up.round_bytes, start_up.last_round_bytes) == (100, 0)


class TestSilence:
    def test_a_path_that_owes_nothing_is_not_silent(self):
        assert make().silent_at(None) is None
        assert make(None).silent_at(None) is None

    def test_an_order_is_due_and_then_a_round_trip_more(self):
        assert make().silent_at(NOW) == pytest.approx(NOW + 0.040)
        quick = make(FACTS._replace(smoothed_rtt_s=0.001))
        assert quick.silent_at(NOW) == pytest.approx(NOW + MIN_SILENCE_S)

    def test_a_packet_is_due_after_rtt_and_variance_and_ack_delay(self):
        path = make(FACTS._replace(oldest_unacked_at=NOW))
        due = NOW + 0.040 + 4 * 0.002 + 0.025
        assert path.silent_at(None) == pytest.approx(due + 0.040)

    def test_the_earlier_debt_counts(self):
        path = make(FACTS._replace(oldest_unacked_at=NOW))
        assert path.silent_at(NOW + 0.010) == pytest.approx(NOW + 0.010 + 0.040)
        assert path.silent_at(NOW + 9.0) == pytest.approx(NOW + 0.073 + 0.040)

    def test_any_packet_shows_life(self):
        path = make(FACTS._replace(last_packet_at=NOW + 5.0))
        assert path.silent_at(NOW) == pytest.approx(NOW + 5.0 + 0.040)

    def test_a_packet_from_before_does_not_put_it_off_nor_bring_it_forward(self):
        path = make(FACTS._replace(last_packet_at=NOW - 5.0))
        assert path.silent_at(NOW) == pytest.approx(NOW + 0.040)

    def test_an_unmeasured_path_is_judged_by_a_guess(self):
        for facts in (None, FACTS._replace(smoothed_rtt_s=None)):
            assert make(facts).rtt_s == DEFAULT_RTT_S
            assert make(facts).silent_at(NOW) == pytest.approx(NOW + DEFAULT_RTT_S)


class TestRateByPackets:
    def test_bytes_that_a_loss_held_up_say_nothing_about_the_rate(self):
        """Packets come evenly; their bytes come all at once, when the missing one has been repeated."""
        path = make(FACTS._replace(received_bytes=0))
        path.on_ordered(100_000, NOW)
        for number in range(1, 41):
            now = NOW + number * 0.05
            path.on_facts(FACTS._replace(received_bytes=number * 1200), now)
            if number % 20 == 0:
                path.on_data(20 * 1200, now)
        assert path.rate_bytes_s(NOW + 2.0) == pytest.approx(24_000, rel=0.01)

    def test_what_is_not_downstream_does_not_count(self):
        path = make(FACTS._replace(received_bytes=0))
        path.on_ordered(100_000, NOW)
        for number in range(1, 41):
            path.on_facts(FACTS._replace(received_bytes=number * 1200), NOW + number * 0.05)
            path.on_data(600, NOW + number * 0.05)
        assert path.rate_bytes_s(NOW + 2.0) == pytest.approx(12_000, rel=0.01)

    def test_a_path_that_carried_only_announcements_may_be_faster_than_it_looks(self):
        share = PayloadShare()
        share.on_packets(1000)
        assert share.ratio == 1.0
        share.payload_bytes += 1
        assert share.ratio == LEAST_SHARE

    def test_the_past_counts_less_and_less(self):
        share = PayloadShare()
        share.on_packets(SHARE_WINDOW_BYTES)
        for _ in range(100):
            share.payload_bytes += 50_000
            share.on_packets(50_000)
        assert share.ratio == pytest.approx(1.0, abs=0.05)
        assert share.packet_bytes <= SHARE_WINDOW_BYTES


class TestPauses:
    """Orders name bytes long before they are produced: while their application pauses no path is slow."""

    def _flow(self, path: ClientPath, since: float, total: int) -> float:
        """100 kB/s for a second, by packets; returns the end."""
        for number in range(100):
            now = since + number * 0.01
            path.on_data(1000, now)
            total += 1000
            path.on_facts(FACTS._replace(received_bytes=total), now)
        return since + 0.99

    @pytest.mark.parametrize("rounds", [1, 5])
    def test_they_do_not_count(self, rounds: int):
        path = make(FACTS._replace(received_bytes=0))
        path.on_ordered(1 << 20, NOW)
        now, total = NOW + 0.04, 0
        for _ in range(rounds):
            path.owed_due = now
            now = self._flow(path, now, total)
            total += 100_000
            path.owed_due = None
            for _ in range(6):  # pongs
                now += 1.0
                total += 30
                path.on_facts(FACTS._replace(received_bytes=total), now)
            rate = path.rate_bytes_s(now)
            assert rate is not None
            assert rate == pytest.approx(100_000, rel=0.05)

    def test_what_comes_behind_one_is_measured(self):
        path = make(FACTS._replace(received_bytes=0))
        path.on_ordered(1 << 20, NOW)
        now = self._flow(path, NOW + 5.0, 0)
        rate = path.rate_bytes_s(now)
        assert rate is not None
        assert rate == pytest.approx(100_000, rel=0.1)

    def test_a_path_that_owes_what_is_produced_is_slow(self):
        path = make(FACTS._replace(received_bytes=0))
        path.on_ordered(1 << 20, NOW)
        path.owed_due = NOW
        now, total = self._flow(path, NOW + 0.04, 0), 100_000
        for _ in range(6):
            now += 1.0
            total += 1000
            path.on_facts(FACTS._replace(received_bytes=total), now)
        rate = path.rate_bytes_s(now)
        assert rate is not None
        assert rate < 2000
