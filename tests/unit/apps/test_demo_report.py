"""What the demo says of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kwik.apps.demo_measure import ReadLog
from kwik.apps.demo_report import Observed, Share, as_json, as_text
from kwik.apps.demo_stage import DemoPlan
from kwik.apps.link_model import OVERHEAD_IPV4_BYTES
from kwik.config import Config
from kwik.quic.connection import PACKET_OVERHEAD_BYTES
from kwik.quic.limits import QuicLimits
from kwik.wire.codec import encode, encode_data
from kwik.wire.frames import Digests


def reads(count: int, each_bytes: int, each_s: float) -> ReadLog:
    log = ReadLog(1000.0)
    for number in range(1, count + 1):
        log.add(1000.0 + number * each_s, each_bytes)
    return log


SEEN = Observed(
    plan=DemoPlan(size_bytes=60_000_000),
    log=reads(1000, 60_000, 0.01),
    sample=reads(100, 60_000, 0.03),
    sha256="ab" * 32,
    wanted_sha256="ab" * 32,
    shares=(
        Share("server-1", 30_000_000, False),
        Share("server-2", 12_000_000, True),
        Share("server-3", 18_000_000, False),
    ),
    all_help_at=1001.0,
    killed_at=1004.0,
    stats={"takeovers": 1},
    found_by="mdns",
)
ALONE = replace(
    SEEN,
    plan=replace(SEEN.plan, servers=1),
    sample=None,
    killed_at=None,
    shares=(Share("server-1", 60_000_000, False),),
)


def test_numbers():
    found = as_json(SEEN)
    assert json.loads(json.dumps(found)) == found
    assert found["ok"]
    assert found["seconds"] == 10.0
    assert found["goodput_mbit_s"] == 48.0
    assert (found["steady_goodput_mbit_s"], found["steady_seconds"]) == (48.0, 3.0)
    assert found["links_raw_bytes"] == 20e6 / 8 * (10 + 10 + 4)
    assert (found["longest_pause_s"], found["kill_pause_s"]) == (0.01, 0.01)
    assert (found["killed"], found["killed_after_s"]) == ("server-2", 4.0)
    assert found["one_server_extrapolated_s"] == pytest.approx(30.03, abs=0.01)
    assert found["stats"] == {"takeovers": 1}
    assert (found["found_by"], found["steady_holds"], found["pause_holds"]) == ("mdns", False, True)


def test_text():
    text = as_text(SEEN)
    assert "SHA-256        right, abababababababab" in text
    assert "60.0 Mbit/s: the links together, raw" in text
    assert "48.0 Mbit/s over the whole run, 100% of 48.0 Mbit/s, the links of living servers" in text
    assert "48.0 Mbit/s while all 3 servers deliver, 80% of the links together" in text
    assert "would take 30.0 s (extrapolated from 6.0 MB in this run)" in text
    assert "server-1 50%, server-2 20% (killed), server-3 30%" in text
    assert "10 ms, the longest pause that began within 1 s after it" in text


class TestVerdict:
    GOOD = replace(SEEN, log=reads(1000, 60_000, 60_000 * 8 / 51.2e6))

    def test_good_figures(self):
        text = as_text(self.GOOD)
        assert "verdict        the figures hold: steady 51." in text
        assert "Mbit/s (at least 51.0 Mbit/s), at the kill 9 ms (under 250 ms)" in text

    def test_a_slow_run(self):
        assert "the figures DO NOT HOLD: steady 48.0 Mbit/s (at least 51.0 Mbit/s)" in as_text(SEEN)

    def test_a_long_pause(self):
        log = self.GOOD.log
        late = ReadLog(log.started_at, [at + 0.25 * (at > 1004.0) for at in log.times], log.totals)
        paused = replace(self.GOOD, log=late)
        assert (paused.steady_holds, paused.pause_holds) == (True, False)
        assert "the figures DO NOT HOLD" in as_text(paused)
        assert paused.is_right, "the exit code is about the file alone"

    def test_a_server_that_never_helped(self):
        idle = replace(self.GOOD, all_help_at=None)
        assert idle.steady_holds is False
        assert "steady none (at least 51.0 Mbit/s)" in as_text(idle)

    def test_only_what_was_tried_is_judged(self):
        assert (ALONE.steady_holds, ALONE.pause_holds) == (None, None)
        assert "verdict" not in as_text(ALONE)
        assert replace(self.GOOD, killed_at=None).pause_holds is None


def test_one_server():
    text = as_text(ALONE)
    assert "kill" not in text
    assert "extrapolated" not in text
    assert "48.0 Mbit/s over the whole run, 240% of the link" in text
    assert "48.0 Mbit/s while the server delivers" in text
    found = as_json(ALONE)
    assert (found["killed"], found["kill_pause_s"], found["one_server_extrapolated_s"]) == (None, None, None)


def test_a_server_that_never_helped():
    idle = replace(SEEN, all_help_at=None)
    assert as_json(idle)["steady_goodput_mbit_s"] is None
    assert "never delivered a block" in as_text(idle)
    assert replace(SEEN, all_help_at=1005.0).steady is None, "it came after the kill"


@pytest.mark.parametrize("wrong", [replace(SEEN, sha256="cd" * 32), replace(SEEN, log=reads(999, 60_000, 0.01))])
def test_a_wrong_file_is_said_to_be_wrong(wrong: Observed):
    assert not wrong.is_right
    assert "WRONG" in as_text(wrong)
    assert as_json(wrong)["ok"] is False


def test_how_much_of_a_link_can_be_payload_follows_from_the_headers():
    """Of each IP packet what IP, UDP, QUIC and STREAM leave; of that, what DATA and the anchor's digests leave."""
    datagram_bytes, block_bytes = QuicLimits().datagram_bytes, Config().block_bytes
    in_packet = (datagram_bytes - PACKET_OVERHEAD_BYTES) / (datagram_bytes + OVERHEAD_IPV4_BYTES)
    data = encode_data(3, 1000, 1 << 25, bytes(block_bytes))
    in_frames = block_bytes / (len(data) + len(encode(Digests(3, 2048, (bytes(32),)))))
    words = f"about {100 * in_packet * in_frames:.0f}% of that can be payload"
    assert words in as_text(SEEN)
    assert words in (Path(__file__).parents[3] / "README.md").read_text("utf-8")
