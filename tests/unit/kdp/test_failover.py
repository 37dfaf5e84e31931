"""Change of anchor, recruiting, recovery and giving up (SPEC §6.2 to §6.5)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode
from kwik.kdp.failover import WITHHELD_PARTS
from kwik.types import PathId
from kwik.wire import frames
from tests.unit.kdp.naive import naive_pair
from tests.unit.kdp.session_rig import BLOCK, OTHER, P1, P2, P3, TEXT, SessionRig, instance


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


def anchor_of(rig: SessionRig, key: int) -> int:
    anchor = rig.stream(key).anchor
    assert anchor is not None
    return anchor.number


def measure(rig: SessionRig, path: PathId, rate: float, rtt_s: float) -> None:
    state = rig.session.paths[path]
    rig.facts(path, smoothed_rtt_s=rtt_s)
    state.rate.on_busy(rig.now)
    for number in range(1, 20):
        state.rate.on_delivered(int(rate * 0.1), rig.now - 2.0 + number * 0.1)


class TestTakeOver:
    @pytest.fixture
    def silent(self, rig: SessionRig) -> tuple[int, int, int]:
        """100 bytes are delivered, then the anchor's path is silent."""
        key, anchor, helper = rig.pair()
        rig.data(anchor, 0, 0, TEXT[:100])
        assert rig.read(key) == TEXT[:100]
        rig.tell(frames.Produced(anchor, 1000))
        rig.tell(frames.Produced(helper, 1000), P2)
        rig.hush(P1)
        return key, anchor, helper

    def test_the_candidate_is_asked_for_exactly_the_offset_delivered(self, rig: SessionRig, silent: tuple[int, ...]):
        _, _, helper = silent
        heard = rig.hear(P2)
        (anchor,) = [f for f in heard if isinstance(f, frames.Anchor)]
        (probe,) = [f for f in heard if isinstance(f, frames.Probe)]
        assert (anchor.replica, anchor.epoch, anchor.first_block) == (helper, 2, 1)
        assert (probe.replica, probe.offset) == (helper, 100)

    def test_the_anchor_changes_when_the_pair_is_equal(self, rig: SessionRig, silent: tuple[int, ...]):
        key, anchor, helper = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert anchor_of(rig, key) == anchor
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == helper
        assert (rig.stream(key).epoch, rig.stream(key).counters.takeovers) == (2, 1)
        rig.supply(helper, P2)
        assert rig.read(key)[:200] == TEXT[100:300]

    @pytest.mark.parametrize("offset", [99, 101, 64, 128])
    def test_a_pair_at_another_offset_changes_nothing(self, rig: SessionRig, silent: tuple[int, ...], offset: int):
        key, anchor, helper = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        pair = naive_pair(TEXT, offset, BLOCK)
        rig.tell(frames.Probed(helper, probe.probe, offset, frames.PROBE_REACHED, *pair), P2)
        assert anchor_of(rig, key) == anchor

    @pytest.mark.parametrize("part", ["chain", "prefix"])
    def test_an_unequal_pair_makes_the_candidate_divergent(self, rig: SessionRig, silent: tuple[int, ...], part: str):
        key, anchor, helper = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        right, wrong = naive_pair(TEXT, 100, BLOCK), naive_pair(OTHER, 100, BLOCK)
        pair = (wrong.chain, right.prefix) if part == "chain" else (right.chain, wrong.prefix)
        rig.tell(frames.Probed(helper, probe.probe, 100, frames.PROBE_REACHED, *pair), P2)
        assert anchor_of(rig, key) == anchor
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.DIVERGED)]

    def test_a_candidate_whose_output_ended_before_is_passed_over(self, rig: SessionRig, silent: tuple[int, ...]):
        key, anchor, helper = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.tell(frames.Probed(helper, probe.probe, 100, frames.PROBE_ENDED, bytes(32), bytes(32)), P2)
        rig.wait(1.0)
        assert anchor_of(rig, key) == anchor

    def test_if_the_anchor_speaks_again_before_it_stays(self, rig: SessionRig, silent: tuple[int, ...]):
        key, anchor, _ = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.speak(P1)
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == anchor
        rig.hush(P1)
        assert len(rig.hear_only(frames.Probe, P2)) == 1

    def test_bytes_of_the_old_anchor_that_come_meanwhile_are_delivered_and_the_answer_is_stale(
        self, rig: SessionRig, silent: tuple[int, ...]
    ):
        key, anchor, helper = silent
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.data(anchor, 0, 100, TEXT[100:110], P1)
        assert rig.read(key) == TEXT[100:110]
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == anchor
        (again,) = rig.hear_only(frames.Probe, P2)
        assert again.offset == 110
        rig.answer(again, P2)
        assert anchor_of(rig, key) == helper

    def test_an_early_answer_counts_when_delivery_gets_there(self, rig: SessionRig):
        """What the old anchor's digests let the candidate supply is delivered first."""
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1, count=2)
        rig.announce_run(helper, P2, count=2)
        rig.tell(frames.Produced(anchor, 1000))
        rig.tell(frames.Produced(helper, 1000), P2)
        rig.hush(P1)
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert probe.offset == 2 * BLOCK
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == anchor
        rig.supply(helper, P2)
        assert rig.read(key)[: 2 * BLOCK] == TEXT[: 2 * BLOCK]
        assert anchor_of(rig, key) == helper

    def test_probes_that_were_lost_with_a_path_are_asked_again(self, rig: SessionRig, silent: tuple[int, ...]):
        _, _, helper = silent
        assert len(rig.hear_only(frames.Probe, P2)) == 1
        rig.path(P3, "b")
        rig.tell(frames.Attached(helper, True, 0, 0, 1000, 1000), P3)
        rig.gone(P2)
        assert [probe.offset for probe in rig.hear_only(frames.Probe, P3)] == [100]

    def test_undelivered_bytes_of_the_old_anchor_are_judged_again(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.data(anchor, 0, BLOCK, OTHER[BLOCK : 3 * BLOCK], P1)
        rig.announce(helper, P2)
        rig.tell(frames.Produced(helper, 1000), P2)
        rig.gone(P1, dead="a")
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert probe.offset == 0
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == helper
        assert rig.stream(key).counters.rejected_blocks == 2
        for _ in range(4):
            rig.supply(helper, P2)
        assert rig.read(key)[: 8 * BLOCK] == TEXT[: 8 * BLOCK]

    def test_the_new_anchors_end_is_waited_for_anew(self, rig: SessionRig, silent: tuple[int, ...]):
        key, _, helper = silent
        rig.wait(5.0)
        rig.tell(frames.Fin(helper, 1000), P2)
        probe = rig.hear_only(frames.Probe, P2)[-1]
        rig.wait(5.0)
        rig.answer(probe, P2)
        view = rig.stream(key).views[helper]
        assert (anchor_of(rig, key), view.final_at) == (helper, rig.now)

    def test_one_that_sent_fin_without_all_of_the_upstream_may_not(self, rig: SessionRig):
        key, _anchor, helper = rig.pair()
        rig.write(key, b"ask")
        rig.eof(key)
        rig.tell(frames.Fin(helper, 1000), P2)
        rig.hush(P1)
        assert rig.hear_only(frames.Probe, P2) == []
        rig.hear_all()
        rig.tell(frames.UpstreamState(helper, 3, 3, 1000), P2)
        assert len(rig.hear_only(frames.Probe, P2)) == 1

    def test_a_complete_stream_needs_no_anchor(self, rig: SessionRig):
        key, anchor = rig.live()
        rig.eof(key)
        rig.tell(frames.Fin(anchor, 0))
        assert rig.at_end(key)
        rig.hear()
        rig.gone(P1, dead="a")
        assert rig.failed(key) is None


class TestDrain:
    @pytest.fixture
    def draining(self, rig: SessionRig) -> tuple[int, int, int]:
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        rig.tell(frames.Produced(helper, 20 * BLOCK), P2)
        rig.data(anchor, 0, 0, TEXT[:100], P1)
        rig.read(key)
        rig.session.on_draining(instance("a"))
        rig.settle()
        return key, anchor, helper

    def test_the_change_is_prepared_ahead_and_happens_when_delivery_stands_there(
        self, rig: SessionRig, draining: tuple[int, ...]
    ):
        key, anchor, helper = draining
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert probe.offset > 100
        assert probe.offset % BLOCK == 0
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == anchor
        rig.data(anchor, 0, 100, TEXT[100 : 16 * BLOCK], P1)
        assert rig.read(key, 1) == TEXT[100:101]
        assert anchor_of(rig, key) == anchor
        rig.read(key)
        assert anchor_of(rig, key) == helper
        rig.announce(helper, P2)
        assert rig.read(key)[:BLOCK] == TEXT[probe.offset : probe.offset + BLOCK]

    def test_delivery_stands_there_until_the_answer_comes(self, rig: SessionRig, draining: tuple[int, ...]):
        key, _, helper = draining
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.data(anchor_of(rig, key), 0, 100, TEXT[100 : 16 * BLOCK], P1)
        assert rig.read(key) == TEXT[100 : probe.offset]
        assert rig.read(key) == b""
        rig.answer(probe, P2)
        rig.announce(helper, P2)
        assert rig.read(key) == TEXT[probe.offset : 16 * BLOCK]

    def test_with_nobody_else_the_draining_one_goes_on(self, rig: SessionRig):
        key, replica = rig.live()
        rig.session.on_draining(instance("a"))
        rig.settle()
        rig.data(replica, 0, 0, TEXT[:100])
        assert rig.read(key) == TEXT[:100]
        assert rig.failed(key) is None

    def test_no_change_back_within_a_second(self, rig: SessionRig, draining: tuple[int, ...]):
        key, anchor, helper = draining
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.data(anchor, 0, 100, TEXT[100 : 16 * BLOCK], P1)
        rig.read(key)
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == helper
        rig.session.paths[P1].is_draining = False
        rig.session.on_draining(instance("b"))
        rig.settle()
        rig.wait(0.9)
        assert rig.hear_only(frames.Probe, P1) == []
        rig.wait(0.2)
        assert len(rig.hear_only(frames.Probe, P1)) == 1


class TestRecruit:
    def test_a_small_stream_stays_on_its_anchor(self, rig: SessionRig):
        _, replica = rig.live()
        rig.path(P2, "b")
        rig.tell(frames.Produced(replica, 1000))
        assert rig.hear_only(frames.Open, P2) == []

    def test_bytes_that_wait_because_of_the_network_call_for_more(self):
        rig = SessionRig(recruit_backlog_bytes=10 * BLOCK)
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, replica = rig.live(P1)
        rig.data(replica, 0, 0, TEXT[:BLOCK])
        rig.read(key)
        rig.tell(frames.Produced(replica, 10 * BLOCK))
        assert rig.hear_only(frames.Open, P2) == []
        rig.tell(frames.Produced(replica, 11 * BLOCK))
        (opened,) = rig.hear_only(frames.Open, P2)
        assert (opened.mode, opened.role, opened.floor) == (frames.MODE_REPLAY, frames.ROLE_HELPER, BLOCK)
        assert opened.first_grant_blocks == 0

    def test_a_recruit_keeps_what_a_mark_will_be_compared_with(self):
        """The replayed upstream has a mark behind the first block: dropped output could not be compared with it."""
        rig = SessionRig(recruit_backlog_bytes=10 * BLOCK)
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, replica = rig.live(P1)
        rig.write(key, b"one")
        rig.data(replica, 0, 0, TEXT[: BLOCK + 10])
        rig.read(key)
        rig.write(key, b"two")
        rig.data(replica, 0, BLOCK + 10, TEXT[BLOCK + 10 : 5 * BLOCK])
        rig.read(key)
        rig.tell(frames.Produced(replica, 20 * BLOCK))
        (opened,) = rig.hear_only(frames.Open, P2)
        assert opened.floor == BLOCK

    def test_a_slow_reader_calls_for_nobody(self):
        rig = SessionRig(recruit_backlog_bytes=10 * BLOCK)
        rig.path(P1, "a")
        rig.path(P2, "b")
        _, replica = rig.live(P1)
        rig.data(replica, 0, 0, TEXT[:BLOCK])
        rig.tell(frames.Produced(replica, 60 * BLOCK))
        assert rig.hear_only(frames.Open, P2) == []

    @pytest.mark.parametrize("why", ["anchored", "log", "draining", "silent"])
    def test_nobody_is_recruited_who_may_not_be(self, why: str):
        rig = SessionRig(replay_limit_bytes=100)
        rig.path(P1, "a", replicated=why != "anchored")
        rig.path(P2, "b", replicated=why != "anchored")
        key, _replica = rig.live(P1)
        if why == "log":
            rig.write(key, bytes(200))
        if why == "draining":
            rig.session.on_draining(instance("b"))
        if why == "silent":
            rig.hush(P2)
        rig.stream(key).replicas_wanted = 2
        rig.session.touch_all()
        rig.settle()
        assert rig.hear_only(frames.Open, P2) == []

    def test_a_server_instance_is_tried_once(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        _key, _ = rig.live(P1, replicas=3)
        (opened,) = rig.hear_only(frames.Open, P2)
        rig.tell(frames.Refused(opened.replica, ErrorCode.OVERLOADED, ""), P2)
        rig.path(P3, "b")
        assert rig.hear_only(frames.Open, P2) == rig.hear_only(frames.Open, P3) == []

    def test_standbys_are_opened_from_the_start(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.path(P3, "c")
        rig.live(P1, replicas=3)
        assert len(rig.hear_only(frames.Open, P2)) == len(rig.hear_only(frames.Open, P3)) == 1

    def test_no_more_than_may_be(self):
        rig = SessionRig(max_replicas=2)
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.path(P3, "c")
        rig.live(P1, replicas=8)
        assert len(rig.hear_only(frames.Open, P2)) == 1
        assert rig.hear_only(frames.Open, P3) == []

    def test_a_dead_anchor_is_replaced_by_a_recruit(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, replica = rig.live(P1)
        rig.write(key, b"ask")
        rig.data(replica, 0, 0, TEXT[:100])
        rig.read(key)
        rig.gone(P1, dead="a")
        (opened,) = rig.hear_only(frames.Open, P2)
        assert (opened.mode, opened.floor) == (frames.MODE_REPLAY, BLOCK)
        assert rig.hear_only(frames.Probe, P2) == []
        rig.opened(opened.replica, P2)
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.answer(probe, P2)
        rig.supply(opened.replica, P2)
        assert rig.read(key)[:100] == TEXT[100:200]
        assert rig.stream(key).phase.name == "LIVE"


class TestRecovery:
    def test_the_way_back_to_the_anchor_is_looked_for(self, rig: SessionRig):
        key, _replica = rig.live()
        rig.gone(P1)
        assert rig.recover[-1] == instance("a")
        rig.path(P2, "a")
        (attach,) = rig.hear_only(frames.Attach, P2)
        rig.tell(frames.Attached(attach.replica, True, 0, 0, 1000, 0), P2)
        rig.wait(100.0)
        assert rig.stream(key).phase.name == "LIVE"
        assert rig.failed(key) is None

    def test_in_time_it_is_given_up(self):
        rig = SessionRig(recovery_time_s=7.0)
        key, _ = rig.live()
        rig.gone(P1)
        rig.wait(6.9)
        assert rig.failed(key) is None
        rig.wait(0.2)
        failure = rig.failed(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.SERVER_GONE, False)

    def test_an_anchored_stream_whose_server_died_is_reset_at_once(self):
        rig = SessionRig()
        rig.path(P1, "a", replicated=False)
        key, _ = rig.live()
        rig.gone(P1, dead="a")
        assert rig.failed(key) is not None

    def test_a_replicated_one_waits_while_more_servers_may_turn_up(self, rig: SessionRig):
        key, _ = rig.live()
        rig.gone(P1, dead="a")
        assert rig.failed(key) is None
        rig.may_find_more = False
        rig.wait(0.3)
        assert rig.failed(key) is not None

    def test_a_reset_ends_nothing_while_another_may_take_over(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.tell(frames.Reset(anchor, 50, ErrorCode.STREAM_ABORTED))
        assert rig.failed(key) is None
        (probe,) = rig.hear_only(frames.Probe, P2)
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == helper

    def test_two_resets_at_the_same_offset_are_the_answer(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.tell(frames.Reset(helper, 50, ErrorCode.STREAM_ABORTED), P2)
        assert rig.failed(key) is None
        rig.tell(frames.Reset(anchor, 50, ErrorCode.STREAM_ABORTED))
        failure = rig.failed(key)
        assert failure is not None
        assert failure.code == ErrorCode.STREAM_ABORTED

    def test_a_server_lost_before_it_said_who_it_is(self, rig: SessionRig):
        rig.path(P1, hello=False)
        rig.session.hints.early_path = P1
        key = rig.dial()
        rig.hear()
        rig.gone(P1)
        failure = rig.failed(key)
        assert failure is not None
        assert not failure.refused


class TestPending:
    def test_servers_that_drain_and_stay_are_not_waited_for_without_end(self):
        rig = SessionRig(recovery_time_s=7.0)
        rig.path(P1, "a")
        rig.session.on_draining(instance("a"))
        key = rig.dial()
        rig.wait(6.9)
        assert rig.failed(key) is None
        rig.wait(0.2)
        failure = rig.failed(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.DRAINING, True)

    def test_another_server_may_come_in_their_place(self):
        rig = SessionRig(recovery_time_s=7.0)
        rig.path(P1, "a")
        rig.session.on_draining(instance("a"))
        key = rig.dial()
        rig.wait(6.9)
        rig.path(P2, "b")
        assert len(rig.hear_only(frames.Open, P2)) == 1
        rig.wait(1.0)
        assert rig.failed(key) is None

    def test_what_one_that_drains_has_cost_is_forgotten_when_it_is_gone(self):
        rig = SessionRig(recovery_time_s=7.0)
        rig.path(P1, "a")
        rig.session.on_draining(instance("a"))
        key = rig.dial()
        rig.wait(6.9)
        rig.gone(P1, dead="a")
        rig.wait(7.0)
        assert rig.failed(key) is None


class TestOutrun:
    """A helper whose path is twice as fast, and no longer, takes over without need and without a pause."""

    def _pair(self, rig: SessionRig, *, rate: float, rtt_s: float, anchor_rtt_s: float = 0.1) -> tuple[int, int, int]:
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        measure(rig, P1, 10_000, anchor_rtt_s)
        measure(rig, P2, rate, rtt_s)
        for replica, path in ((anchor, P1), (helper, P2)):
            rig.tell(frames.Produced(replica, 16 * BLOCK), path)
        rig.wait(0.001)
        return key, anchor, helper

    @pytest.mark.parametrize(
        ("rate", "rtt_s", "is_asked"), [(30_000, 0.05, True), (15_000, 0.05, False), (30_000, 0.5, False)]
    )
    def test_who_is_asked(self, rig: SessionRig, rate: float, rtt_s: float, is_asked: bool):
        self._pair(rig, rate=rate, rtt_s=rtt_s)
        assert bool(rig.hear_only(frames.Probe, P2)) is is_asked

    def test_what_the_anchor_says_queues_behind_what_it_owes(self, rig: SessionRig):
        """Its RTT was measured while its pipe was empty."""
        self._pair(rig, rate=30_000, rtt_s=0.1, anchor_rtt_s=0.01)
        assert rig.hear_only(frames.Probe, P2)

    def test_it_is_asked_for_an_offset_ahead_and_takes_over_there(self, rig: SessionRig):
        key, anchor, helper = self._pair(rig, rate=30_000, rtt_s=0.05)
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert probe.offset > rig.stream(key).down.delivered
        rig.answer(probe, P2)
        assert anchor_of(rig, key) == anchor
        rig.supply(anchor, P1, below=probe.offset // BLOCK)
        rig.read(key)
        rig.wait(0.001)
        assert anchor_of(rig, key) == helper


class TestBehind:
    """Many short waits for the anchor's announcements count like a long one, if another would not be slower still."""

    WAITS, WAIT_S, MOVE_S = 6, 0.02, 0.05

    @pytest.mark.parametrize(("rate", "is_asked"), [(10_000, False), (18_000, True)])
    def test_short_waits_for_one_whose_path_is_much_faster(self, rig: SessionRig, rate: float, is_asked: bool):
        key, anchor, helper = rig.pair()
        measure(rig, P1, 30_000, 0.02)
        measure(rig, P2, rate, 0.02)
        asked = False
        for block in range(self.WAITS):
            rig.tell(frames.Produced(helper, (block + 1) * BLOCK), P2)
            rig.announce_run(helper, P2, first=block, count=1)
            rig.wait(self.WAIT_S)
            asked = asked or bool(rig.hear_only(frames.Probe, P2))
            rig.tell(frames.Produced(anchor, (block + 1) * BLOCK))
            rig.announce(anchor, P1, first=block, count=1)
            rig.data(anchor, 0, block * BLOCK, TEXT[block * BLOCK : (block + 1) * BLOCK])
            rig.read(key)
            rig.wait(self.MOVE_S)
        assert asked is is_asked


class TestWithheld:
    """The path speaks and the bytes do not come (SPEC §6.3)."""

    def test_another_replica_takes_over(self, rig: SessionRig):
        key, _, helper = rig.pair()
        for replica, path in ((1, P1), (helper, P2)):
            rig.tell(frames.Produced(replica, 1000), path)
        for _ in range(4):
            rig.facts(P1)
            rig.facts(P2)
            rig.wait(0.4)
        probes = rig.hear_only(frames.Probe, P2)
        assert probes
        rig.answer(probes[-1], P2)
        assert anchor_of(rig, key) == helper

    def test_with_nobody_else_the_stream_is_reset_in_bounded_time(self, rig: SessionRig):
        rig.path(P1, "a", replicated=False)
        key, anchor = rig.live()
        rig.tell(frames.Produced(anchor, 1000))
        steps = int(WITHHELD_PARTS * rig.session.config.recovery_time_s / 0.5)
        for step in range(steps + 3):
            assert (rig.failed(key) is None) is (step < steps), step
            if rig.failed(key) is not None:
                break
            rig.facts(P1)
            rig.wait(0.5)
        assert rig.failed(key) is not None

    def test_a_client_that_slept_blames_nobody(self, rig: SessionRig):
        rig.path(P1, "a", replicated=False)
        key, anchor = rig.live()
        rig.tell(frames.Produced(anchor, 1000))
        rig.wait(1.0)
        rig.wait(rig.session.config.recovery_time_s * 2 * WITHHELD_PARTS)
        assert rig.failed(key) is None

    def test_each_byte_that_comes_begins_the_time_anew(self, rig: SessionRig):
        rig.path(P1, "a", replicated=False)
        key, anchor = rig.live()
        rig.tell(frames.Produced(anchor, 1000))
        for offset in range(6):
            rig.data(anchor, 0, offset, TEXT[offset : offset + 1])
            rig.read(key)
            for _ in range(int(WITHHELD_PARTS * rig.session.config.recovery_time_s * 0.8)):
                rig.facts(P1)
                rig.wait(1.0)
        assert rig.failed(key) is None
