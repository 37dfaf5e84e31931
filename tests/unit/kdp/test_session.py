"""Streams x paths of one session: placement, routing, memory, silence, room (SPEC §3.1, §5.2, §6.3, §6.6)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode, KwikError
from kwik.kdp.actions import Flushed, PortReset, StreamConfirmed, StreamSent, WakePath
from kwik.kdp.session import BLAME_WAIT_S, RETRY_S
from kwik.types import PathId
from kwik.wire import frames
from kwik.wire.codec import DataPiece
from tests.unit.kdp.session_rig import BLOCK, P1, P2, P3, SERVICE, TEXT, SessionRig


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


class TestDial:
    def test_open_says_everything_and_grants_the_first_window(self, rig: SessionRig):
        rig.path()
        key = rig.dial()
        assert rig.hear_only(frames.Open) == [
            frames.Open(
                replica=1,
                stream=key,
                mode=frames.MODE_FIRST,
                role=frames.ROLE_ANCHOR,
                service=SERVICE,
                block_bytes=BLOCK,
                digest=frames.DIGEST_BLAKE3,
                floor=0,
                credit=64 * BLOCK,
                first_grant_blocks=16,
                extensions=(),
            )
        ]

    def test_dial_may_return_when_open_is_about_to_leave_and_is_confirmed_when_answered(self, rig: SessionRig):
        key = rig.dial()
        assert StreamSent(key) not in rig.actions()
        rig.path()
        assert StreamSent(key) in rig.actions()
        rig.hear()
        assert rig.actions() == []
        rig.opened(1, P1)
        assert rig.actions() == [StreamConfirmed(key)]

    def test_it_goes_to_exactly_one_server(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.dial()
        assert len(rig.hear_only(frames.Open, P1)) == 1
        assert rig.hear(P2) == []

    def test_it_waits_for_a_path(self, rig: SessionRig):
        rig.dial()
        rig.path(P1, hello=False)
        assert rig.hear() == []
        rig.admit(P1, "a")
        assert len(rig.hear_only(frames.Open)) == 1

    def test_the_early_path_may_carry_it_before_the_hello(self, rig: SessionRig):
        rig.path(P1, hello=False)
        rig.session.hints.early_path = P1
        key = rig.dial()
        assert len(rig.hear_only(frames.Open)) == 1
        assert not rig.stream(key).is_replicated
        rig.admit(P1, "a")
        assert rig.stream(key).is_replicated

    def test_an_early_server_that_turns_out_not_to_be_replicated_is_not_compared(self, rig: SessionRig):
        rig.path(P1, hello=False)
        rig.session.hints.early_path = P1
        key = rig.dial()
        rig.hear()
        rig.admit(P1, "a", replicated=False)
        assert not rig.stream(key).is_recruitable
        assert rig.stream(key).down.running is None

    def test_the_quickest_idle_path_is_taken(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.facts(P1, smoothed_rtt_s=0.2)
        rig.dial()
        assert len(rig.hear_only(frames.Open, P2)) == 1

    def test_silent_and_draining_ones_are_not(self, rig: SessionRig):
        for path, server in ((P1, "a"), (P2, "b"), (P3, "c")):
            rig.path(path, server)
        rig.hush(P1)
        rig.session.on_draining(rig.session.paths[P2].instance)  # type: ignore[arg-type]
        rig.dial()
        assert len(rig.hear_only(frames.Open, P3)) == 1

    def test_each_stream_has_its_guarantee_or_fails_at_dial(self):
        rig = SessionRig(memory_bytes=5 * BLOCK, receive_window_bytes=2 * BLOCK)
        rig.path()
        rig.dial()
        rig.dial()
        with pytest.raises(KwikError, match="memory"):
            rig.dial()

    def test_numbers_are_never_used_again(self, rig: SessionRig):
        key, replica = rig.live()
        rig.close(key, aborted=True)
        again, other = rig.live()
        assert again > key
        assert other > replica


class TestOpenThatNeverLeft:
    def test_another_server_may_be_asked(self, rig: SessionRig):
        rig.path(P1, "a")
        key = rig.dial()
        rig.gone(P1)
        rig.path(P2, "b", replicated=False)
        assert [o.mode for o in rig.hear_only(frames.Open, P2)] == [frames.MODE_FIRST]
        assert rig.stream(key).epoch == 2

    def test_the_same_server_may_be_asked_too(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.dial()
        rig.gone(P1)
        rig.path(P2, "a")
        assert len(rig.hear_only(frames.Open, P2)) == 1

    def test_one_that_left_binds_the_stream_to_its_server(self, rig: SessionRig):
        """Nothing runs twice unasked: the outcome is unknown and the service is not replicated."""
        rig.path(P1, "a", replicated=False)
        rig.dial()
        rig.hear()
        rig.gone(P1)
        rig.path(P2, "b", replicated=False)
        assert rig.hear_only(frames.Open, P2) == []
        rig.path(P3, "a", replicated=False)
        assert rig.hear_only(frames.Open, P3) == []
        assert len(rig.hear_only(frames.Attach, P3)) == 1


class TestRouting:
    def test_a_replica_that_was_never_opened_is_a_fault(self, rig: SessionRig):
        rig.path()
        assert rig.fault(frames.Produced(1, 5)) == ErrorCode.PROTOCOL
        assert rig.fault(DataPiece(7, 0, 0, b"x")) == ErrorCode.PROTOCOL

    def test_frames_for_a_closed_one_are_ignored(self, rig: SessionRig):
        key, replica = rig.live()
        rig.close(key, aborted=True)
        rig.tell(frames.Produced(replica, 5))
        rig.data(replica, 0, 0, b"late")

    def test_a_server_may_not_speak_for_anothers_replica(self, rig: SessionRig):
        _, replica = rig.live()
        rig.path(P2, "b")
        assert rig.fault(frames.Produced(replica, 5), P2) == ErrorCode.PROTOCOL
        assert rig.fault(DataPiece(replica, 0, 0, b"x"), P2) == ErrorCode.PROTOCOL

    def test_an_unknown_path_is_ignored(self, rig: SessionRig):
        _, replica = rig.live()
        rig.tell(frames.Produced(replica, 5), PathId(9))


class TestFlush:
    def test_it_is_told_when_so_many_have_taken_all(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.write(key, b"x" * 10)
        rig.session.flush(key, 1, 71)
        rig.session.flush(key, 2, 72)
        rig.session.flush(key, 0, 73)
        rig.hear_all()
        rig.tell(frames.UpstreamState(anchor, 10, 9, 1000), P1)
        assert not any(isinstance(a, Flushed) for a in rig.actions())
        rig.tell(frames.UpstreamState(anchor, 10, 10, 1000), P1)
        assert rig.actions() == [Flushed(71)]
        rig.tell(frames.UpstreamState(helper, 10, 10, 1000), P2)
        assert rig.actions() == [Flushed(72), Flushed(73)]

    def test_what_is_written_later_does_not_count(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"x" * 10)
        rig.session.flush(key, 1, 71)
        rig.write(key, b"y")
        rig.hear()
        rig.tell(frames.UpstreamState(replica, 10, 10, 1000))
        assert Flushed(71) in rig.actions()

    def test_a_stream_that_ends_forgets_it(self, rig: SessionRig):
        key, _ = rig.live()
        rig.write(key, b"x")
        rig.session.flush(key, 1, 71)
        rig.session.flush(99, 1, 72)
        rig.close(key, aborted=True)
        rig.wake()
        assert not any(isinstance(a, Flushed) for a in rig.actions())


class TestSilence:
    def test_a_path_that_owes_an_answer_and_says_nothing(self, rig: SessionRig):
        rig.live()
        rig.path(P2, "b")
        rig.facts(P1, oldest_unacked_at=rig.now)
        rig.wake()
        due = rig.session.deadline()
        assert due is not None
        assert due == pytest.approx(rig.now + 0.02 + 0.004 + 0.025 + 0.03)
        rig.now = due - 0.001
        rig.wake()
        assert not rig.session.paths[P1].is_silent
        rig.now = due
        rig.wake()
        assert rig.session.paths[P1].is_silent
        rig.speak(P1)
        assert not rig.session.paths[P1].is_silent

    def test_a_granted_block_is_owed_once_it_is_produced(self, rig: SessionRig):
        _, replica = rig.live()
        rig.path(P2, "b")
        rig.now += 5.0
        rig.wake()
        assert not rig.session.paths[P1].is_silent
        assert rig.session.paths[P1].owed_due is None, "its application pauses"
        rig.tell(frames.Produced(replica, 10))
        rig.now += 0.2
        rig.wake()
        assert rig.session.paths[P1].is_silent
        assert rig.session.paths[P1].owed_due is not None

    def test_if_every_path_is_silent_blame_waits_but_only_so_long(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        for path in (P1, P2):
            rig.facts(path, last_packet_at=rig.now - 10.0, oldest_unacked_at=rig.now - 10.0)
        rig.wake()
        assert not any(path.is_silent for path in rig.session.paths.values())
        assert rig.session.deadline() == rig.now + BLAME_WAIT_S
        rig.now += BLAME_WAIT_S
        rig.wake()
        assert all(path.is_silent for path in rig.session.paths.values())

    def test_one_that_speaks_leaves_the_blame_to_the_other(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        for path in (P1, P2):
            rig.facts(path, last_packet_at=rig.now - 10.0, oldest_unacked_at=rig.now - 10.0)
        rig.wake()
        rig.speak(P2)
        assert [path.is_silent for path in rig.session.paths.values()] == [True, False]

    def test_our_own_lag_is_nobodys_fault(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.session.on_lag(0.5, rig.now)
        rig.hush(P1)
        assert not rig.session.paths[P1].is_silent
        assert rig.session.deadline() == rig.now + 0.5
        rig.now += 0.5
        rig.hush(P1)
        assert rig.session.paths[P1].is_silent

    def test_a_little_lag_does_not_count(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.session.on_lag(0.005, rig.now)
        rig.hush(P1)
        assert rig.session.paths[P1].is_silent

    def test_what_a_silent_path_owes_is_asked_of_another(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        taken_back = rig.granted(helper, P2)
        assert taken_back == [5, 6, 7, 8]
        rig.hush(P1)
        assert rig.granted(helper, P2) == [0, *taken_back]
        # Blocks 5 to 15 had been taken back before.
        assert rig.stream(key).counters.regrants == 64 - 11
        rig.supply(helper, P2)
        assert rig.granted(helper, P2)[0] == 1

    def test_upstream_that_a_silent_path_may_have_swallowed_goes_another_way(self, rig: SessionRig):
        key, anchor = rig.live()
        rig.path(P2, "a")
        rig.tell(frames.Attached(anchor, True, 0, 0, 1000, 0), P2)
        rig.write(key, b"hello")
        assert len(rig.hear_only(frames.Upstream, P1)) == 1
        rig.hush(P1)
        assert [u.payload for u in rig.hear_only(frames.Upstream, P2)] == [b"hello"]


class TestDeadline:
    def test_a_session_without_streams_and_debts_has_none(self, rig: SessionRig):
        assert rig.session.deadline() is None
        rig.path()
        assert rig.session.deadline() is None

    def test_a_stream_without_a_server_looks_around_again(self, rig: SessionRig):
        rig.dial()
        due = rig.session.deadline()
        assert due is not None
        assert rig.now < due <= rig.now + RETRY_S


class TestRoom:
    def test_control_first_and_upstream_on_the_control_pipe_until_opened(self, rig: SessionRig):
        rig.path()
        key = rig.dial()
        rig.write(key, b"ask")
        assert [type(f).__name__ for f in rig.hear()] == ["Open", "Grant", "Upstream"]
        assert set(rig.pipes) == {0}
        rig.opened(1, P1)
        rig.write(key, b"more")
        rig.hear()
        assert rig.pipes[-1] in (1, 2)

    def test_the_anchors_upstream_goes_before_the_helpers(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        one, _ = rig.live(P1, replicas=2)
        helper = rig.hear_only(frames.Open, P2)[-1].replica
        rig.opened(helper, P2)
        rig.facts(P1, smoothed_rtt_s=9.0)
        two, anchor = rig.live(P2)
        rig.write(one, b"helper's")
        rig.write(two, b"anchor's")
        assert [u.replica for u in rig.hear_only(frames.Upstream, P2)] == [anchor, helper]

    def test_it_keeps_to_its_room(self, rig: SessionRig):
        key, _ = rig.live()
        rig.write(key, TEXT[:900])
        assert rig.session.wants_room(P1)
        rig.said.clear()
        sizes = []
        while output := rig.session.room(P1, 300, rig.now):
            sizes.append(sum(len(data) for _, data in output))
        assert max(sizes) <= 300
        assert sum(sizes) >= 900
        assert not rig.session.wants_room(P1)

    def test_an_unknown_path_has_nothing_to_say(self, rig: SessionRig):
        assert rig.session.room(P1, 100, rig.now) == []
        assert not rig.session.wants_room(P1)

    def test_a_path_is_woken_for_what_there_is_to_say(self, rig: SessionRig):
        key, _ = rig.live()
        rig.hear()
        rig.said.clear()
        rig.write(key, b"x")
        assert WakePath(P1) in rig.said


def test_the_loss_of_all_of_a_sole_servers_paths_is_no_end(rig: SessionRig):
    key, _ = rig.live()
    rig.gone(P1)
    assert not any(isinstance(action, PortReset) for action in rig.said)
    assert rig.recover != []
    assert rig.stream(key).phase.name == "RECOVERING"
