"""What a stream makes of each frame of a server: what is believed, and which faults have which code (SPEC §5)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode
from kwik.kdp.actions import StreamConfirmed
from kwik.wire import frames
from kwik.wire.codec import DataPiece
from tests.unit.kdp.naive import digests_of
from tests.unit.kdp.session_rig import BLOCK, OTHER, P1, P2, P3, P4, TEXT, SessionRig


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


class TestData:
    @pytest.mark.parametrize(
        ("order", "offset", "size"),
        [(0, 16 * BLOCK, 1), (0, 16 * BLOCK - 1, 2), (9, 0, 1), (1, 0, 1), (0, 1 << 40, 1)],
    )
    def test_bytes_that_no_order_covers_are_unauthorised(self, rig: SessionRig, order: int, offset: int, size: int):
        _, replica = rig.live()
        rig.hear()
        assert rig.fault(DataPiece(replica, order, offset, bytes(size))) == ErrorCode.UNAUTHORISED_DATA

    def test_bytes_come_once(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:10])
        assert rig.fault(DataPiece(replica, 0, 5, OTHER[5:15])) == ErrorCode.UNAUTHORISED_DATA
        assert rig.read(key) == TEXT[:10]

    def test_an_order_holds_on_its_path_only(self, rig: SessionRig):
        _, replica = rig.live()
        rig.path(P2, "a")
        rig.tell(frames.Attached(replica, True, 0, 0, 1000, 0), P2)
        assert rig.fault(DataPiece(replica, 0, 0, b"x"), P2) == ErrorCode.UNAUTHORISED_DATA

    def test_late_bytes_of_an_order_that_died_are_ignored(self, rig: SessionRig):
        key, replica = rig.live()
        rig.path(P2, "a")
        rig.tell(frames.Attached(replica, True, 0, 0, 1000, 0), P2)
        rig.tell(frames.Produced(replica, 100))
        rig.hush(P1)
        rig.path(P3, "a")
        rig.data(replica, 0, 0, TEXT[:10], P1)
        assert rig.read(key) == b""

    def test_copies_of_delivered_bytes_are_counted_and_dropped(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        rig.hush(P1)
        rig.supply(helper, P2)
        assert rig.read(key) != b""
        rig.speak(P1)
        rig.data(anchor, 0, 0, TEXT[:BLOCK], P1)
        assert rig.stream(key).counters.duplicate_bytes >= BLOCK


class TestOpened:
    def test_it_is_confirmed_once(self, rig: SessionRig):
        key, replica = rig.live()
        assert rig.said.count(StreamConfirmed(key)) == 1
        rig.opened(replica, P1)
        assert rig.said.count(StreamConfirmed(key)) == 1

    def test_a_helper_confirms_nothing(self, rig: SessionRig):
        key, _, _ = rig.pair()
        assert rig.said.count(StreamConfirmed(key)) == 1

    def test_a_server_that_does_not_hash_makes_a_plain_stream(self, rig: SessionRig):
        key, _ = rig.live(replicas=2, hashed=False)
        rig.path(P2, "b")
        assert rig.hear_only(frames.Open, P2) == []
        assert not rig.stream(key).is_recruitable


class TestRefused:
    def test_another_server_is_asked(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        key = rig.dial()
        replica = rig.hear_only(frames.Open, P1)[0].replica
        rig.tell(frames.Refused(replica, ErrorCode.OVERLOADED, "full"))
        assert [(o.mode, o.role) for o in rig.hear_only(frames.Open, P2)] == [(frames.MODE_FIRST, frames.ROLE_ANCHOR)]
        rig.opened(2, P2)
        rig.data(2, 0, 0, TEXT[:5], P2)
        assert rig.read(key) == TEXT[:5]

    def test_a_server_that_refused_is_not_asked_again(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.dial()
        rig.hear()
        rig.tell(frames.Refused(1, ErrorCode.DRAINING, ""))
        rig.path(P2, "a")
        assert rig.hear_only(frames.Open, P1) == rig.hear_only(frames.Open, P2) == []

    def test_if_all_refuse_the_dial_is_refused_with_what_they_said(self, rig: SessionRig):
        rig.path(P1, "a")
        key = rig.dial()
        rig.hear()
        rig.tell(frames.Refused(1, ErrorCode.APPLICATION_DOWN, "no such port"))
        assert rig.failed(key) is None
        rig.may_find_more = False
        rig.wait(0.3)
        failure = rig.failed(key)
        assert failure is not None
        assert (failure.code, failure.refused) == (ErrorCode.APPLICATION_DOWN, True)
        assert "no such port" in failure.text

    def test_a_refusal_without_a_text_is_named(self, rig: SessionRig):
        rig.path(P1, "a")
        key = rig.dial()
        rig.hear()
        rig.may_find_more = False
        rig.tell(frames.Refused(1, ErrorCode.OVERLOADED, ""))
        failure = rig.failed(key)
        assert failure is not None
        assert "overloaded" in failure.text

    def test_a_refusal_of_an_opened_replica_means_nothing(self, rig: SessionRig):
        key, replica = rig.live()
        rig.tell(frames.Refused(replica, ErrorCode.OVERLOADED, ""))
        assert rig.stream(key).phase.name == "LIVE"

    def test_a_helper_that_refuses_leaves_the_stream_alone(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, anchor = rig.live(P1, replicas=2)
        helper = rig.hear_only(frames.Open, P2)[-1].replica
        rig.tell(frames.Refused(helper, ErrorCode.OVERLOADED, ""), P2)
        assert rig.stream(key).phase.name == "LIVE"
        assert rig.stream(key).anchor is rig.stream(key).views[anchor]


class TestAttached:
    def test_without_attach_it_is_a_fault(self, rig: SessionRig):
        _, replica = rig.live()
        assert rig.fault(frames.Attached(replica, True, 0, 0, 0, 0)) == ErrorCode.PROTOCOL

    @pytest.mark.parametrize(("received", "taken"), [(6, 0), (3, 4)])
    def test_values_that_cannot_be_are_a_fault(self, rig: SessionRig, received: int, taken: int):
        key, replica = rig.live()
        rig.write(key, b"hello")
        rig.hear()
        rig.path(P2, "a")
        assert rig.fault(frames.Attached(replica, True, received, taken, 1000, 0), P2) == ErrorCode.PROTOCOL

    def test_a_replica_that_is_unknown_and_never_ran_is_placed_anew(self, rig: SessionRig):
        rig.path(P1, "a", replicated=False)
        key = rig.dial()
        rig.hear()
        rig.gone(P1)
        rig.path(P2, "a", replicated=False)
        rig.path(P3, "b", replicated=False)
        (attach,) = rig.hear_only(frames.Attach, P2)
        assert rig.hear_only(frames.Open, P3) == []
        rig.tell(frames.Attached(attach.replica, False, 0, 0, 0, 0), P2)
        opened = rig.hear_only(frames.Open, P2) + rig.hear_only(frames.Open, P3)
        assert [(o.mode, o.replica > attach.replica) for o in opened] == [(frames.MODE_FIRST, True)]
        assert rig.failed(key) is None

    def test_a_replica_that_ran_and_is_unknown_is_dead(self, rig: SessionRig):
        rig.path(P1, "a", replicated=False)
        key, replica = rig.live()
        rig.gone(P1)
        rig.path(P2, "a", replicated=False)
        rig.hear(P2)
        rig.tell(frames.Attached(replica, False, 0, 0, 0, 0), P2)
        assert rig.failed(key) is not None

    def test_orders_on_the_old_path_are_given_again_on_the_new_one(self, rig: SessionRig):
        key, replica = rig.live()
        rig.data(replica, 0, 0, TEXT[:BLOCK])
        rig.gone(P1)
        rig.path(P2, "a")
        (attach,) = rig.hear_only(frames.Attach, P2)
        assert (attach.role, attach.replaces) == (frames.ROLE_ANCHOR, (1,))
        rig.tell(frames.Attached(replica, True, 0, 0, 1000, BLOCK), P2)
        assert rig.granted(replica, P2)[0] == 1
        rig.supply(replica, P2)
        assert rig.read(key)[: 10 * BLOCK] == TEXT[: 10 * BLOCK]

    @pytest.mark.parametrize("comes", ["before", "after"])
    def test_a_path_that_was_replaced_while_it_attached_stays_dropped(self, rig: SessionRig, comes: str):
        key, replica = rig.live()
        rig.path(P4, "b")  # it speaks, so that silence is the others' own
        rig.gone(P1)
        rig.path(P2, "a")
        assert rig.hear(P2)
        rig.hush(P2)
        rig.path(P3, "a")
        (attach,) = rig.hear_only(frames.Attach, P3)
        assert set(attach.replaces) == {P1, P2}
        view, answer = rig.stream(key).views[replica], frames.Attached(replica, True, 0, 0, 1000, BLOCK)
        rig.speak(P2)
        for path in (P2, P3) if comes == "before" else (P3, P2):
            rig.tell(answer, path)
        assert list(view.paths) == [P3]
        rig.write(key, b"hello")
        assert rig.hear(P2) == []
        assert rig.granted(replica, P3) != []


class TestUpstreamState:
    @pytest.mark.parametrize(("received", "taken"), [(6, 0), (3, 4)])
    def test_values_that_cannot_be_are_a_fault(self, rig: SessionRig, received: int, taken: int):
        key, replica = rig.live()
        rig.write(key, b"hello")
        rig.hear()
        assert rig.fault(frames.UpstreamState(replica, received, taken, 1000)) == ErrorCode.PROTOCOL

    def test_the_largest_wins(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"hello")
        rig.hear()
        rig.tell(frames.UpstreamState(replica, 5, 3, 2000))
        rig.tell(frames.UpstreamState(replica, 2, 1, 1000))
        view = rig.stream(key).views[replica]
        assert (view.received, view.taken, view.upstream_credit) == (5, 3, 2000)


class TestAnnouncements:
    def test_two_digests_of_one_block_are_a_fault(self, rig: SessionRig):
        _, replica = rig.live()
        rig.announce(replica, P1)
        wrong = frames.Digests(replica, 3, (digests_of(OTHER, BLOCK)[3],))
        assert rig.fault(wrong) == ErrorCode.PROTOCOL
        rig.announce(replica, P1)

    def test_two_runs_of_the_same_blocks_are_a_fault(self, rig: SessionRig):
        _, _, helper = rig.pair()
        rig.announce_run(helper, P2)
        assert rig.fault(frames.Run(helper, 0, 16, b"w" * 32), P2) == ErrorCode.PROTOCOL

    def test_a_run_of_no_or_too_many_blocks_is_a_fault(self, rig: SessionRig):
        _, _, helper = rig.pair()
        for count in (0, 17):
            assert rig.fault(frames.Run(helper, 1, count, b"w" * 32), P2) == ErrorCode.PROTOCOL

    def test_beyond_the_credit_they_are_a_fault(self, rig: SessionRig):
        _, anchor, helper = rig.pair()
        digest = (b"d" * 32,)
        rig.tell(frames.Digests(anchor, 63, digest))
        assert rig.fault(frames.Digests(anchor, 64, digest)) == ErrorCode.PROTOCOL
        assert rig.fault(frames.Digests(anchor, 60, digest * 5)) == ErrorCode.PROTOCOL
        assert rig.fault(frames.Run(helper, 64, 1, b"w" * 32), P2) == ErrorCode.PROTOCOL
        assert rig.fault(frames.Digests(anchor, 1 << 61, digest)) == ErrorCode.PROTOCOL

    def test_of_delivered_blocks_they_are_not_kept(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.supply(anchor, P1, TEXT[: 16 * BLOCK])
        rig.read(key)
        rig.announce(anchor, P1, count=8)
        rig.announce_run(helper, P2, count=8)
        stream = rig.stream(key)
        assert stream.views[anchor].announced.digests == {}
        assert stream.views[helper].announced.runs == {}

    def test_a_different_run_is_asked_for_block_by_block(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        text = OTHER[: 2 * BLOCK] + TEXT[2 * BLOCK :]
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2, text)
        assert rig.hear_only(frames.AskDigests, P2) == [frames.AskDigests(helper, 0, 16)]
        rig.announce(helper, P2, text)
        assert list(rig.stream(key).views[helper].agreed) == [(2, 16)]
        rig.hush(P1)
        granted = rig.granted(helper, P2)
        assert granted
        assert min(granted) >= 2

    def test_16_different_blocks_in_a_row_are_another_answer(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2, OTHER)
        rig.announce(helper, P2, OTHER)
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.DIVERGED)]
        assert rig.failed(key) is None

    def test_the_helper_may_have_announced_first(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.announce_run(helper, P2)
        rig.announce(anchor, P1)
        assert list(rig.stream(key).views[helper].agreed) == [(0, 16)]

    def test_bytes_that_wait_for_the_anchors_digest_are_judged_when_it_comes(self, rig: SessionRig):
        """A helper that sends bytes other than those it announced is believed in nothing more."""
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1, count=4)
        rig.announce_run(helper, P2, count=4)
        rig.hush(P1)
        rig.supply(helper, P2, OTHER, below=1)
        assert rig.read(key) == b""
        assert rig.stream(key).counters.rejected_blocks == 1
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.DIVERGED)]
        rig.speak(P1)
        rig.supply(anchor, P1)
        assert rig.read(key)[:BLOCK] == TEXT[:BLOCK]


class TestRevoked:
    def test_what_will_not_come_is_wanted_again(self, rig: SessionRig):
        _key, replica = rig.live()
        rig.hear()
        rig.tell(frames.Revoked(replica, ((0, 10),)))
        assert rig.fault(DataPiece(replica, 0, 10 * BLOCK, b"x")) == ErrorCode.UNAUTHORISED_DATA
        assert rig.granted(replica, P1).count(10) == 2

    def test_a_finished_order_changes_nothing(self, rig: SessionRig):
        _key, replica = rig.live()
        rig.tell(frames.Revoked(replica, ((77, 2**62 - 1),)))
        rig.data(replica, 0, 0, TEXT[:BLOCK])


class TestFin:
    def test_two_different_ones_are_a_fault(self, rig: SessionRig):
        _, replica = rig.live()
        rig.tell(frames.Fin(replica, 100))
        rig.tell(frames.Fin(replica, 100))
        assert rig.fault(frames.Fin(replica, 101)) == ErrorCode.PROTOCOL

    def test_one_below_what_was_produced_is_a_fault(self, rig: SessionRig):
        _, replica = rig.live()
        rig.tell(frames.Busy(replica, 0, 100))
        assert rig.fault(frames.Fin(replica, 99)) == ErrorCode.PROTOCOL

    def test_bytes_beyond_it_are_unauthorised(self, rig: SessionRig):
        _, replica = rig.live()
        rig.tell(frames.Fin(replica, 100))
        assert rig.fault(DataPiece(replica, 0, 100, b"x")) == ErrorCode.UNAUTHORISED_DATA

    def test_nothing_is_owed_beyond_it(self, rig: SessionRig):
        key, replica = rig.live()
        rig.tell(frames.Fin(replica, 0))
        assert rig.session.paths[P1].outstanding_bytes == 0
        assert rig.stream(key).down.book.orders() == []

    def test_another_size_is_another_answer(self, rig: SessionRig):
        _, anchor, helper = rig.pair()
        rig.tell(frames.Fin(anchor, 100))
        rig.tell(frames.Fin(helper, 90), P2)
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.DIVERGED)]

    def test_the_helpers_size_may_come_first(self, rig: SessionRig):
        _, anchor, helper = rig.pair()
        rig.tell(frames.Fin(helper, 90), P2)
        rig.tell(frames.Fin(anchor, 100))
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.DIVERGED)]

    def test_a_helpers_fin_ends_nothing(self, rig: SessionRig):
        key, _, helper = rig.pair()
        rig.tell(frames.Fin(helper, 0), P2)
        assert not rig.at_end(key)

    def test_a_short_last_block_of_a_helper_is_delivered_after_fin(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        text = TEXT[: 2 * BLOCK + 9]
        rig.announce(anchor, P1, text, count=3)
        rig.announce_run(helper, P2, text, count=3)
        rig.tell(frames.Fin(anchor, len(text)))
        rig.tell(frames.Fin(helper, len(text)), P2)
        rig.hush(P1)
        assert rig.granted(helper, P2) == [0, 1, 2]
        rig.supply(helper, P2, text)
        assert rig.read(key) == text
        assert rig.at_end(key)


class TestClosedAndDiverged:
    @pytest.mark.parametrize("frame", [frames.Closed, lambda replica: frames.Diverged(replica, 0)])
    def test_a_helper_is_dropped(self, rig: SessionRig, frame: type[frames.Closed]):
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        before = rig.granted(helper, P2)
        rig.tell(frame(helper), P2)
        rig.hush(P1)
        assert rig.granted(helper, P2) == before
        assert rig.failed(key) is None

    def test_an_anchor_that_exists_no_more_is_lost(self):
        rig = SessionRig()
        rig.path(P1, "a", replicated=False)
        key, replica = rig.live()
        rig.tell(frames.Closed(replica))
        assert rig.failed(key) is not None
