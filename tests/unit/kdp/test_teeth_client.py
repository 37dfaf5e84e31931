"""Rules of the client that hold between two turns, or only when several things meet (SPEC §5.9, §6.5, §6.6)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode
from kwik.wire import frames
from tests.unit.kdp.session_rig import BLOCK, P1, P2, P3, TEXT, SessionRig


def test_an_end_is_not_shown_between_the_news_that_refutes_it_and_the_next_turn():
    """A bridge may ask for the end at any time, also before the stream has acted upon what was just received."""
    rig = SessionRig()
    key, anchor, helper = rig.pair()
    rig.announce(anchor, P1, count=2)
    rig.announce_run(helper, P2, count=2)
    rig.supply(anchor, P1, TEXT[: 2 * BLOCK])
    rig.tell(frames.Fin(anchor, 2 * BLOCK))
    assert rig.read(key) == TEXT[: 2 * BLOCK]
    stream = rig.stream(key)
    assert stream.may_end(rig.now + 10.0)
    rig.session.on_frame(P2, frames.Produced(helper, 2 * BLOCK + 1), rig.now)
    assert not stream.may_end(rig.now + 10.0)


@pytest.mark.parametrize(("quiet_s", "grows"), [(0.5, True), (1.5, False)])
def test_memory_that_becomes_free_is_not_for_a_reader_that_stands_still(quiet_s: float, grows: bool):
    rig = SessionRig(memory_bytes=40 * BLOCK)
    key, replica = rig.live()
    rig.supply(replica, P1, TEXT[: 4 * BLOCK])
    rig.read(key, BLOCK)
    stream = rig.stream(key)
    rig.wait(quiet_s)
    before = stream.credit
    assert before - stream.down.delivered < 64 * BLOCK
    rig.session.pool.total_bytes *= 100
    rig.session.touch_all()
    rig.settle()
    assert (stream.credit > before) is grows


def test_upstream_that_a_dead_path_may_have_swallowed_goes_over_another_that_is_attached():
    rig = SessionRig()
    key, replica = rig.live()
    rig.path(P2, "a")
    rig.tell(frames.Attached(replica, True, 0, 0, 1000, 0), P2)
    rig.facts(P2, smoothed_rtt_s=1.0)
    rig.write(key, b"hello world")
    assert [piece.payload for piece in rig.hear_only(frames.Upstream, P1)] == [b"hello world"]
    rig.tell(frames.UpstreamState(replica, 6, 0, 1000))
    rig.gone(P1)
    assert [(piece.offset, piece.payload) for piece in rig.hear_only(frames.Upstream, P2)] == [(6, b"world")]


def test_no_server_instance_is_sent_a_second_open_of_one_stream():
    rig = SessionRig()
    rig.path(P1, "a")
    rig.path(P2, "b")
    key, _ = rig.live(P1, replicas=3)
    (opened,) = rig.hear_only(frames.Open, P2)
    rig.tell(frames.Refused(opened.replica, ErrorCode.OVERLOADED, ""), P2)
    rig.path(P3, "b")
    rig.session.touch(rig.stream(key))
    rig.settle()
    assert [rig.hear_only(frames.Open, path) for path in (P1, P2, P3)] == [[], [], []]


def test_a_helper_that_ends_early_does_not_end_what_is_wanted_of_the_anchor():
    rig = SessionRig()
    key, anchor, helper = rig.pair()
    rig.announce(anchor, P1, count=3)
    rig.announce_run(helper, P2, count=2)
    rig.tell(frames.Fin(helper, 2 * BLOCK), P2)
    read = b""
    for _ in range(6):
        rig.supply(anchor, P1, TEXT[: 100 * BLOCK])
        read += rig.read(key)
    assert read == TEXT[: 100 * BLOCK]
    assert not rig.at_end(key)
