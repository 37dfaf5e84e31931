"""What the benchmarks make of their raw runs: wrong arithmetic there would look like a slow, or a fast, Kwik."""

import math

import pytest

from benchmarks.content import PERIOD_BYTES, is_right, pieces
from benchmarks.cpu import summary
from benchmarks.failover import gap
from benchmarks.figures import median, payload_rate, ratio_interval, table
from benchmarks.striping import steady, whole


class TestFigures:
    def test_the_interval_holds_the_ratio_and_shrinks_to_it_without_noise(self):
        ours, theirs = [2.0, 2.2, 1.8, 2.1, 1.9], [1.0, 1.1, 0.9, 1.05, 0.95]
        low, high = ratio_interval(ours, theirs)
        assert low <= median(ours) / median(theirs) <= high
        assert ratio_interval([3.0] * 5, [2.0] * 5) == (1.5, 1.5)

    def test_equal_runs_give_equal_intervals(self):
        runs = [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]
        assert ratio_interval(*runs) == ratio_interval(*runs)

    def test_nothing_has_no_median(self):
        assert math.isnan(median([]))

    def test_a_link_carries_less_payload_than_its_rate(self):
        assert payload_rate(20.0) == pytest.approx(2.5e6 * 1160 / 1228)

    def test_columns_are_aligned(self):
        assert table(("a", "bb"), [("long", 1), ("x", 22)]) == "a     bb\nlong   1\nx     22"


class TestRates:
    RUN = {  # noqa: RUF012 - never changed
        "size": 100,
        "began_at": 10.0,
        "ended_at": 20.0,
        "reads": [[11.0, 10], [12.0, 30], [13.0, 95], [20.0, 100]],
    }

    def test_whole_counts_from_the_dial(self):
        assert whole(self.RUN) == 10.0

    def test_steady_leaves_out_both_ends(self):
        assert steady(self.RUN) == 65.0


class TestPauses:
    READS = ((1.0, 1), (1.5, 2), (4.0, 3), (4.1, 4), (9.0, 5))

    def test_a_pause_counts_where_it_ends(self):
        reads = [list(read) for read in self.READS]
        assert gap(reads, 2.0, 5.0) == 2.5
        assert gap(reads, 0.0, 2.0) == 0.5
        assert gap(reads, 5.0, 6.0) == 0.0


class TestContent:
    def test_pieces_make_the_body(self):
        size = PERIOD_BYTES + 70_000
        body = b"".join(pieces(size))
        assert len(body) == size
        assert is_right(body[PERIOD_BYTES - 10 : PERIOD_BYTES + 10], PERIOD_BYTES - 10)
        assert not is_right(body[1:100], 0)


class TestLayers:
    def test_a_sample_belongs_to_the_innermost_layer(self):
        text = (
            "run (threading.py:10);on_data (kwik/kdp/answers.py:5);add (kwik/base/ranges.py:44) 3\n"
            "run (threading.py:10);_send_one (/x/kwik/quic/udp.py:116);send (socket.py:1) 2\n"
            "_run (kwik/engine/thread.py:9);select (selectors.py:3) 4\n"
            "receive (/x/aioquic/quic/connection.py:7) 1\n"
            "main (benchmarks/programs.py:1);loads (json/decoder.py:2) 5\n"
        )
        layers, functions = summary(text)
        expected = {"base": 3, "quic": 2, "engine": 4, "aioquic": 1, "event loop and the reader": 5}
        assert layers == expected
        assert functions["quic: _send_one (udp.py)"] == 2
