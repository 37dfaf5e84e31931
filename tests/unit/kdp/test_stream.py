"""One stream of a client: its phases, its application's end, and how it ends (SPEC §5.9, §6.5)."""

from __future__ import annotations

from typing import ClassVar

import pytest

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.actions import PortDone, PortReadable, PortReset, PortWritable
from kwik.kdp.stream import MIN_UPSTREAM_BUFFER_BYTES, MIN_WAIT_FOR_END_S, STREAM_TABLE, Event, Phase
from kwik.wire import frames
from tests.unit.kdp.naive import naive_pair
from tests.unit.kdp.session_rig import BLOCK, OTHER, P1, P2, TEXT, SessionRig

P, E = Phase, Event


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


class TestTable:
    """Every state with every input."""

    EXPECTED: ClassVar[dict[Phase, dict[Event, Phase]]] = {
        P.PENDING: {E.OPENED_ON: P.OPENING, E.ENDED: P.OVER},
        P.OPENING: {E.REFUSED: P.PENDING, E.CONFIRMED: P.LIVE, E.LOST: P.RECOVERING, E.ENDED: P.OVER},
        P.LIVE: {E.LOST: P.RECOVERING, E.CONFIRMED: P.LIVE, E.ENDED: P.OVER},
        P.RECOVERING: {E.RECOVERED: P.LIVE, E.CONFIRMED: P.LIVE, E.REFUSED: P.PENDING, E.ENDED: P.OVER},
        P.OVER: {},
    }

    @pytest.mark.parametrize("phase", P)
    @pytest.mark.parametrize("event", E)
    def test_it_goes_where_the_specification_says_or_nowhere(self, phase: Phase, event: Event):
        expected = self.EXPECTED[phase].get(event)
        if expected is not None:
            assert STREAM_TABLE.next(phase, event) is expected
        else:
            with pytest.raises(LocalProtocolError):
                STREAM_TABLE.next(phase, event)

    def test_only_over_is_final_and_may_be_reached_from_everywhere(self):
        assert STREAM_TABLE.initial is P.PENDING
        assert [phase for phase in P if STREAM_TABLE.is_final(phase)] == [P.OVER]
        assert all(E.ENDED in STREAM_TABLE.allowed(phase) for phase in P if phase is not P.OVER)


class TestReading:
    def test_bytes_are_read_in_order_whatever_their_order_of_arrival(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 5, TEXT[5:80])
        assert rig.read(key) == b""
        rig.data(replica, 0, 0, TEXT[:5])
        assert rig.read(key) == TEXT[:80]

    def test_the_reader_is_told_once_until_it_has_read_all(self, rig: SessionRig):
        key, replica = rig.live()
        rig.actions()
        rig.data(replica, 0, 0, TEXT[:5])
        rig.data(replica, 0, 5, TEXT[5:9])
        assert rig.actions() == [PortReadable(key)]
        rig.read(key)
        rig.data(replica, 0, 9, TEXT[9:12])
        assert rig.actions() == [PortReadable(key)]

    def test_who_has_closed_reads_nothing(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:5])
        rig.close(key)
        assert rig.stream(key).peek() is None

    def test_an_anchor_that_contradicts_itself_ends_the_stream(self, rig: SessionRig):
        key, replica = rig.live()
        rig.announce(replica, P1)
        rig.data(replica, 0, 0, OTHER[:BLOCK])
        view = rig.stream(key).peek()
        assert view is not None
        view.release()
        rig.stream(key).consume(BLOCK, rig.now)
        failure = rig.failed(key)
        assert failure is not None
        assert failure.code == ErrorCode.DIVERGED

    def test_an_announcement_that_comes_after_delivery_is_compared_as_well(self, rig: SessionRig):
        """Seed 0x12d: else the bytes of a liar would be followed by the truth of a helper."""
        key, replica = rig.live()
        rig.data(replica, 0, 0, OTHER[:BLOCK])
        assert rig.read(key) == OTHER[:BLOCK]
        assert rig.failed(key) is None
        rig.announce(replica, P1)
        failure = rig.failed(key)
        assert failure is not None
        assert failure.code == ErrorCode.DIVERGED


class TestWriting:
    def test_a_writer_may_run_ahead_of_the_anchor_so_far(self, rig: SessionRig):
        rig = SessionRig(replay_limit_bytes=100)
        key, replica = rig.live()
        stream = rig.stream(key)
        assert stream.allowance() == MIN_UPSTREAM_BUFFER_BYTES
        rig.write(key, bytes(MIN_UPSTREAM_BUFFER_BYTES))
        assert stream.allowance() == 0
        rig.actions()
        rig.hear()
        rig.tell(frames.UpstreamState(replica, 1000, 0, 5000))
        assert rig.actions() == [PortWritable(key)]
        assert stream.allowance() == 1000

    def test_the_replay_limit_is_the_allowance_when_it_is_larger(self, rig: SessionRig):
        key, _ = rig.live()
        assert rig.stream(key).allowance() == 1 << 20

    def test_who_has_ended_writes_nothing_more(self, rig: SessionRig):
        key, _ = rig.live()
        rig.eof(key)
        assert rig.stream(key).allowance() == 0
        rig.write(key, b"late")
        assert rig.stream(key).log.end == 0

    def test_a_mark_says_what_the_application_had_read(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"ask")
        rig.data(replica, 0, 0, TEXT[:80])
        rig.read(key, 70)
        rig.write(key, b"again")
        first, second = rig.hear_only(frames.Upstream)
        assert (first.after, first.chain, first.prefix) == (0, b"", b"")
        assert (second.after, (second.chain, second.prefix)) == (70, naive_pair(TEXT, 70, BLOCK))

    def test_without_replicas_a_mark_has_no_pair(self, rig: SessionRig):
        key, replica = rig.live(hashed=False)
        rig.data(replica, 0, 0, TEXT[:80])
        rig.read(key)
        rig.write(key, b"again")
        (piece,) = rig.hear_only(frames.Upstream)
        assert (piece.after, piece.chain) == (80, b"")


class TestCleanEnd:
    def test_the_end_is_shown_when_all_is_read(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:80])
        rig.tell(frames.Fin(replica, 80))
        assert not rig.at_end(key)
        assert rig.read(key) == TEXT[:80]
        assert rig.at_end(key)
        assert not rig.at_end(key)

    def test_the_reader_is_told_of_an_end_without_bytes(self, rig: SessionRig):
        key, replica = rig.live()
        rig.actions()
        rig.tell(frames.Fin(replica, 0))
        assert rig.actions() == [PortReadable(key)]
        assert rig.at_end(key)

    def test_nothing_is_delivered_past_fin(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 10, TEXT[10:80])
        assert rig.fault(frames.Fin(replica, 50)) == ErrorCode.PROTOCOL
        rig.tell(frames.Fin(replica, 80))
        rig.data(replica, 0, 0, TEXT[:10])
        assert rig.read(key) == TEXT[:80]

    def test_half_close_leaves_the_other_direction_open(self, rig: SessionRig):
        key, replica = rig.live()
        rig.tell(frames.Fin(replica, 0))
        assert rig.at_end(key)
        assert PortDone(key) not in rig.said
        rig.write(key, b"still here")
        assert [u.payload for u in rig.hear_only(frames.Upstream)] == [b"still here"]

    def test_both_ends_and_a_confirmed_upstream_end_the_stream(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"bye")
        rig.eof(key)
        rig.tell(frames.Fin(replica, 0))
        rig.hear()
        assert rig.at_end(key)
        assert not rig.is_done(key)
        rig.tell(frames.UpstreamState(replica, 3, 3, 1000))
        assert rig.is_done(key)
        assert rig.hear_only(frames.Close) == [frames.Close(replica, ErrorCode.NO_ERROR)]
        assert key not in rig.session.streams
        assert rig.session.pool.used_bytes == 0

    def test_a_closed_application_waits_for_its_upstream_to_arrive(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"bye")
        rig.close(key)
        rig.hear()
        assert not rig.is_done(key)
        rig.tell(frames.UpstreamState(replica, 3, 0, 1000))
        assert rig.is_done(key)

    def test_an_abort_is_an_abort_everywhere(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.close(key, aborted=True)
        assert rig.hear_only(frames.Close, P1) == [frames.Close(anchor, ErrorCode.STREAM_ABORTED)]
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.STREAM_ABORTED)]
        assert rig.is_done(key)

    def test_an_open_that_was_never_sent_is_not_closed(self, rig: SessionRig):
        rig.path()
        key = rig.dial()
        rig.close(key, aborted=True)
        assert rig.hear_only(frames.Close) == []


class TestEndWithHelpers:
    """SPEC §6.5: a clean end counts unless an agreeing replica knows better."""

    @pytest.fixture
    def at_the_end(self, rig: SessionRig) -> tuple[int, int, int]:
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1, count=2)
        rig.announce_run(helper, P2, count=2)
        rig.supply(anchor, P1, TEXT[: 2 * BLOCK])
        rig.tell(frames.Fin(anchor, 2 * BLOCK))
        assert rig.read(key) == TEXT[: 2 * BLOCK]
        return key, anchor, helper

    def test_it_waits_for_an_agreeing_one_to_object(self, rig: SessionRig, at_the_end: tuple[int, int, int]):
        key, _, _ = at_the_end
        assert not rig.at_end(key)
        assert rig.session.deadline() == pytest.approx(rig.now + MIN_WAIT_FOR_END_S)
        rig.wait(MIN_WAIT_FOR_END_S - 0.001)
        assert not rig.at_end(key)
        rig.wait(0.002)
        assert rig.at_end(key)

    def test_two_round_trips_if_that_is_longer(self, rig: SessionRig, at_the_end: tuple[int, int, int]):
        _key, _, _ = at_the_end
        rig.facts(P2, smoothed_rtt_s=0.4)
        rig.session.touch_all()
        rig.settle()
        assert rig.session.deadline() == pytest.approx(rig.now + 0.8)

    def test_the_same_size_is_enough(self, rig: SessionRig, at_the_end: tuple[int, int, int]):
        key, _, helper = at_the_end
        rig.tell(frames.Fin(helper, 2 * BLOCK), P2)
        assert rig.at_end(key)

    def test_one_that_never_agreed_has_no_say(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.tell(frames.Produced(helper, 999), P2)
        rig.tell(frames.Fin(anchor, 0))
        assert rig.at_end(key)

    def test_one_that_produced_more_refutes_it(self, rig: SessionRig, at_the_end: tuple[int, int, int]):
        key, _, helper = at_the_end
        rig.tell(frames.Produced(helper, 2 * BLOCK + 1), P2)
        assert not rig.at_end(key)
        (probe,) = rig.hear_only(frames.Probe, P2)
        assert probe.offset == 2 * BLOCK
        rig.answer(probe, P2)
        assert rig.stream(key).anchor is rig.stream(key).views[helper]
        rig.announce(helper, P2, first=2, count=2)
        rig.supply(helper, P2, TEXT[: 3 * BLOCK])
        assert rig.read(key) == TEXT[2 * BLOCK : 3 * BLOCK]

    def test_after_the_end_was_shown_nobody_refutes(self, rig: SessionRig, at_the_end: tuple[int, int, int]):
        key, _, helper = at_the_end
        rig.wait(1.0)
        assert rig.at_end(key)
        rig.tell(frames.Produced(helper, 2 * BLOCK + 1), P2)
        assert rig.hear_only(frames.Close, P1) == []


class TestResets:
    def test_a_sole_servers_reset_is_the_streams(self):
        rig = SessionRig()
        rig.path(P1, "a", replicated=False)
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:5])
        rig.tell(frames.Reset(replica, 5, ErrorCode.STREAM_ABORTED))
        failure = rig.failed(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.STREAM_ABORTED, False)
        assert not rig.at_end(key)

    def test_a_reset_behind_fin_does_not_spoil_what_was_read(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:5])
        rig.tell(frames.Fin(replica, 5))
        rig.tell(frames.Reset(replica, 5, ErrorCode.STREAM_ABORTED))
        assert rig.read(key) == TEXT[:5]
        assert rig.at_end(key)
        rig.write(key, b"x")
        assert rig.failed(key) is not None

    def test_a_reset_after_the_end_was_shown_is_seen_by_the_writer(self, rig: SessionRig):
        key, replica = rig.live()
        rig.tell(frames.Fin(replica, 0))
        assert rig.at_end(key)
        rig.tell(frames.Reset(replica, 0, ErrorCode.STREAM_ABORTED))
        assert rig.failed(key) is not None

    def test_failing_twice_is_told_once(self, rig: SessionRig):
        key, _ = rig.live()
        stream = rig.stream(key)
        stream.fail(ErrorCode.INTERNAL, "first")
        stream.fail(ErrorCode.INTERNAL, "second")
        assert [action.text for action in rig.said if isinstance(action, PortReset)] == ["first"]
        assert stream.allowance() == 0
        assert stream.peek() is None
        stream.on_app_closed(aborted=True)
        assert not rig.is_done(key)
