"""One replica on a server: its states, its upstream's gate, what it tells and what it owes (SPEC §5)."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.actions import PortDone, PortReset
from kwik.kdp.announcer import PAUSE_S
from kwik.kdp.replica import MAX_ASKED_BLOCKS, MAX_PROBES, REPLICA_TABLE, ReplicaInput, ReplicaState
from kwik.wire import frames
from kwik.wire.frames import (
    Ack,
    Anchor,
    AskDigests,
    Attach,
    Attached,
    Busy,
    Close,
    Closed,
    Data,
    Digests,
    Diverged,
    Fin,
    Opened,
    Probe,
    Probed,
    Produced,
    Reset,
    Revoke,
    Revoked,
    Run,
    UpstreamState,
)
from tests.unit.kdp.naive import digests_of, naive_pair, naive_run, pattern
from tests.unit.kdp.server_rig import BLOCK, P1, P2, Pair, ServerRig, grant, kinds

S, I = ReplicaState, ReplicaInput  # noqa: E741
TEXT = pattern(40 * BLOCK)
WRONG = Pair(b"w" * 32, b"w" * 32)
HELPER: dict[str, Any] = {"role": frames.ROLE_HELPER, "mode": frames.MODE_REPLAY}


@pytest.fixture
def rig() -> ServerRig:
    return ServerRig()


@pytest.fixture
def key(rig: ServerRig) -> int:
    return rig.serve()


class TestTable:
    """Every state with every input."""

    EXPECTED: ClassVar[dict[ReplicaState, dict[ReplicaInput, ReplicaState]]] = {
        S.CONNECTING: {I.ACCEPTED: S.LIVE, I.REFUSED: S.GONE, I.CLOSE: S.GONE, I.ABORT: S.GONE},
        S.LIVE: {I.OUTPUT_FIN: S.ENDED, I.OUTPUT_RESET: S.RESET, I.CLOSE: S.CLOSING, I.ABORT: S.GONE},
        S.ENDED: {I.OUTPUT_RESET: S.RESET, I.CLOSE: S.CLOSING, I.ABORT: S.GONE},
        S.RESET: {I.CLOSE: S.GONE, I.ABORT: S.GONE},
        S.CLOSING: {I.SETTLED: S.GONE, I.OUTPUT_RESET: S.GONE, I.ABORT: S.GONE},
        S.GONE: {},
    }

    @pytest.mark.parametrize("state", S)
    @pytest.mark.parametrize("cause", I)
    def test_it_goes_where_the_specification_says_or_nowhere(self, state: ReplicaState, cause: ReplicaInput):
        expected = self.EXPECTED[state].get(cause)
        if expected is not None:
            assert REPLICA_TABLE.next(state, cause) is expected
        else:
            with pytest.raises(LocalProtocolError):
                REPLICA_TABLE.next(state, cause)

    def test_only_gone_is_final(self):
        assert REPLICA_TABLE.initial is S.CONNECTING
        assert [state for state in S if REPLICA_TABLE.is_final(state)] == [S.GONE]

    def test_everything_may_be_aborted(self):
        assert all(I.ABORT in REPLICA_TABLE.allowed(state) for state in S if state is not S.GONE)


class TestDownstream:
    def test_ordered_bytes_go_out_once_produced(self, rig: ServerRig, key: int):
        rig.tell(grant(1, (0, 2)))
        rig.write(key, TEXT[: BLOCK + 3])
        assert rig.hear_only(Data) == [Data(1, 1, 0, TEXT[: BLOCK + 3])]
        rig.write(key, TEXT[BLOCK + 3 : 3 * BLOCK])
        assert rig.hear_only(Data) == [Data(1, 1, BLOCK + 3, TEXT[BLOCK + 3 : 2 * BLOCK])]

    def test_the_first_grant_of_open_is_order_0_from_the_floor_on(self, rig: ServerRig):
        key = rig.serve(floor=BLOCK, first_grant_blocks=2)
        rig.write(key, TEXT[: 5 * BLOCK])
        assert rig.hear_only(Data) == [Data(1, 0, BLOCK, TEXT[BLOCK : 3 * BLOCK])]

    def test_nothing_below_the_floor_is_sent(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.tell(grant(1, (0, 1), (2, 2)))
        rig.tell(Ack(1, 3 * BLOCK, 9999))
        assert rig.hear_only(Data) == [Data(1, 1, 3 * BLOCK, TEXT[3 * BLOCK : 4 * BLOCK])]

    def test_a_floor_within_a_range_cuts_it(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.tell(grant(1, (0, 3)))
        rig.tell(Ack(1, BLOCK, 9999))
        assert rig.hear_only(Data) == [Data(1, 1, BLOCK, TEXT[BLOCK : 3 * BLOCK])]

    def test_beyond_the_end_orders_are_void(self, rig: ServerRig, key: int):
        rig.tell(grant(1, (0, 3)))
        rig.write(key, TEXT[:20])
        rig.server.on_app_eof(key)
        rig.tell(grant(2, (1, 5)))
        assert rig.hear_only(Data) == [Data(1, 1, 0, TEXT[:20]), Data(1, 2, BLOCK, TEXT[BLOCK:20])]
        assert not rig.server.wants_room(P1)

    def test_output_is_taken_up_to_credit_and_cap(self, rig: ServerRig):
        key = rig.serve(credit=5 * BLOCK)
        assert rig.allowance(key) == 5 * BLOCK
        rig.tell(Ack(1, 0, 100 * BLOCK))
        assert rig.allowance(key) == 64 * BLOCK
        rig.tell(Ack(1, 0, 7))
        assert rig.allowance(key) == 64 * BLOCK
        rig.write(key, TEXT[: 10 * BLOCK])
        rig.tell(Ack(1, 8 * BLOCK, 0))
        assert rig.allowance(key) == 62 * BLOCK

    def test_a_floor_within_a_block_is_a_fault(self, rig: ServerRig, key: int):
        assert rig.fault(Ack(1, BLOCK + 1, 100)) == ErrorCode.PROTOCOL

    def test_busy_is_told_once_per_order_that_becomes_next(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[:BLOCK])
        rig.hear()
        rig.tell(grant(1, (2, 1)))
        rig.tell(grant(2, (1, 1)))
        assert rig.hear() == [Busy(1, 2, BLOCK)]
        assert rig.hear() == []
        rig.write(key, TEXT[BLOCK : 2 * BLOCK])
        assert [frame for frame in rig.hear() if isinstance(frame, Busy)] == [Busy(1, 1, 2 * BLOCK)]


class TestRevoke:
    def test_it_is_confirmed_with_the_first_block_that_will_not_come(self, rig: ServerRig, key: int):
        rig.tell(grant(1, (0, 4)))
        rig.tell(grant(2, (6, 1)))
        rig.write(key, TEXT[:3])
        rig.hear()
        rig.tell(Revoke(1, ((1, 0), (2, 6), (9, 0))))
        assert rig.hear_only(Revoked) == [Revoked(1, ((1, 1), (2, 6), (9, 2**62 - 1)))]
        rig.write(key, TEXT[3 : 8 * BLOCK])
        assert rig.hear_only(Data) == [Data(1, 1, 3, TEXT[3:BLOCK])]


class TestAnnouncements:
    def test_an_anchor_tells_digests_before_its_data(self, rig: ServerRig, key: int):
        rig.tell(grant(1, (0, 2)))
        rig.write(key, TEXT[: 2 * BLOCK])
        assert rig.hear() == [
            Digests(1, 0, tuple(digests_of(TEXT, BLOCK)[:2])),
            Produced(1, 2 * BLOCK),
            Data(1, 1, 0, TEXT[: 2 * BLOCK]),
        ]

    def test_a_helper_tells_runs(self, rig: ServerRig):
        key = rig.serve(**HELPER)
        rig.write(key, TEXT[: 18 * BLOCK])
        assert rig.hear_only(Run) == [Run(1, 0, 16, naive_run(TEXT, 0, 16, BLOCK))]
        assert rig.deadline() == rig.now + PAUSE_S
        rig.now += PAUSE_S
        assert rig.hear_only(Run) == [Run(1, 16, 2, naive_run(TEXT, 16, 2, BLOCK))]

    def test_anchor_turns_a_helper_to_single_digests_from_there(self, rig: ServerRig):
        key = rig.serve(**HELPER)
        rig.write(key, TEXT[: 16 * BLOCK])
        rig.hear()
        rig.tell(Anchor(1, 2, 10))
        assert rig.hear_only(Digests) == [Digests(1, 10, tuple(digests_of(TEXT, BLOCK)[10:16]))]

    def test_single_digests_are_told_when_asked_for(self, rig: ServerRig):
        key = rig.serve(**HELPER)
        rig.write(key, TEXT[: 16 * BLOCK])
        rig.hear()
        rig.tell(AskDigests(1, 3, 2))
        assert rig.hear() == [Digests(1, 3, tuple(digests_of(TEXT, BLOCK)[3:5]))]
        rig.tell(AskDigests(1, 15, 2))
        assert rig.hear() == []

    def test_more_than_64_at_once_are_too_many(self, rig: ServerRig, key: int):
        assert rig.fault(AskDigests(1, 0, MAX_ASKED_BLOCKS + 1)) == ErrorCode.LIMIT
        assert rig.fault(AskDigests(1, 0, 0)) == ErrorCode.LIMIT
        rig.tell(AskDigests(1, 0, MAX_ASKED_BLOCKS - 1))
        rig.tell(AskDigests(1, 0, 1))
        assert rig.fault(AskDigests(1, 0, 1)) == ErrorCode.LIMIT

    @pytest.mark.parametrize("fields", [{"digest": frames.DIGEST_NONE}, {}])
    def test_a_stream_without_replicas_is_neither_hashed_nor_announced(self, fields: dict[str, Any]):
        rig = ServerRig(replicated=bool(fields))
        rig.path()
        rig.open(**fields)
        rig.server.accepted(1)
        assert rig.hear_only(Opened) == [Opened(1, 64 * BLOCK, bool(fields), False)]
        rig.write(1, TEXT[: 4 * BLOCK])
        rig.tell(Anchor(1, 2, 0))
        assert kinds(rig.hear()) == ["Produced"]
        assert rig.fault(Probe(1, 1, 0)) == ErrorCode.PROTOCOL


class TestProbes:
    def test_it_is_answered_once_the_output_gets_there(self, rig: ServerRig, key: int):
        rig.tell(Probe(1, 7, BLOCK + 2))
        rig.write(key, TEXT[: BLOCK + 1])
        assert rig.hear_only(Probed) == []
        rig.write(key, TEXT[BLOCK + 1 : 2 * BLOCK])
        pair = naive_pair(TEXT, BLOCK + 2, BLOCK)
        assert rig.hear_only(Probed) == [Probed(1, 7, BLOCK + 2, frames.PROBE_REACHED, *pair)]

    def test_a_later_one_that_can_be_answered_does_not_wait(self, rig: ServerRig, key: int):
        rig.tell(Probe(1, 7, 100))
        rig.tell(Probe(1, 8, 0))
        assert [probed.probe for probed in rig.hear_only(Probed)] == [8]

    @pytest.mark.parametrize("ending", ["fin", "reset"])
    def test_an_output_that_ended_before_says_so(self, rig: ServerRig, key: int, ending: str):
        rig.tell(Probe(1, 7, 100))
        rig.tell(Probe(1, 8, 5))
        rig.write(key, TEXT[:5])
        if ending == "fin":
            rig.server.on_app_eof(key)
        else:
            rig.server.on_app_closed(key, aborted=True)
        answers = {probed.probe: probed.status for probed in rig.hear_only(Probed)}
        assert answers == {7: frames.PROBE_ENDED, 8: frames.PROBE_REACHED}

    def test_16_and_not_one_more(self, rig: ServerRig, key: int):
        for number in range(MAX_PROBES):
            rig.tell(Probe(1, number, 100))
        assert rig.fault(Probe(1, 99, 100)) == ErrorCode.LIMIT

    def test_below_the_floor_is_a_fault(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.tell(Ack(1, 2 * BLOCK, 100))
        assert rig.fault(Probe(1, 1, 2 * BLOCK - 1)) == ErrorCode.PROTOCOL


class TestGate:
    """SPEC §5.9: a replayed dialogue stays a dialogue."""

    def test_a_range_waits_for_the_replicas_own_output(self, rig: ServerRig, key: int):
        rig.upstream(b"ask", 0)
        rig.upstream(b"again", 3, after=10, pair=naive_pair(TEXT, 10, BLOCK))
        assert rig.read(key) == b"ask"
        rig.write(key, TEXT[:9])
        assert rig.read(key) == b""
        rig.write(key, TEXT[9:12])
        assert rig.read(key) == b"again"

    def test_an_unequal_pair_is_told_and_nothing_more_is_fed(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[:20])
        rig.upstream(b"ask", 0, after=10, pair=WRONG)
        rig.upstream(b"more", 3, after=0)
        assert rig.read(key) == b""
        assert rig.hear_only(Diverged) == [Diverged(1, 10)]
        rig.upstream(b"", 7, fin=True)
        assert rig.read(key) == b""
        assert not rig.at_end(key)
        assert rig.hear_only(Diverged) == []

    def test_an_unequal_pair_far_ahead_stops_what_is_before_it_too(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[:20])
        rig.upstream(b"ask", 0)
        rig.upstream(b"late", 50, after=10, pair=WRONG)
        assert rig.read(key) == b""

    def test_it_is_told_when_the_output_gets_to_the_wrong_mark(self, rig: ServerRig, key: int):
        rig.upstream(b"ask", 0, after=10, pair=WRONG)
        assert rig.hear_only(Diverged) == []
        rig.write(key, TEXT[:10])
        assert rig.read(key) == b""
        assert rig.hear_only(Diverged) == [Diverged(1, 10)]

    def test_a_mark_that_the_floor_has_passed_is_judged_all_the_same(self, rig: ServerRig, key: int):
        rig.upstream(b"ask", 0, after=10, pair=naive_pair(TEXT, 10, BLOCK))
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.tell(Ack(1, 3 * BLOCK, 9999))
        assert rig.read(key) == b"ask"

    def test_the_end_waits_for_its_mark_too(self, rig: ServerRig, key: int):
        rig.upstream(b"", 0, after=10, pair=naive_pair(TEXT, 10, BLOCK), fin=True)
        assert not rig.at_end(key)
        rig.write(key, TEXT[:10])
        assert rig.at_end(key)

    def test_an_end_whose_mark_the_floor_has_passed_is_no_divergence(self, rig: ServerRig, key: int):
        """Nothing on the wire confirms the end, so that the floor may overtake it."""
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.tell(Ack(1, 3 * BLOCK, 9999))
        rig.upstream(b"", 0, after=10, pair=naive_pair(TEXT, 10, BLOCK), fin=True)
        assert rig.at_end(key)
        assert rig.hear_only(Diverged) == []

    def test_a_mark_without_a_pair_waits_only(self, rig: ServerRig, key: int):
        rig.upstream(b"ask", 0, after=10)
        assert rig.read(key) == b""
        rig.write(key, TEXT[:10])
        assert rig.read(key) == b"ask"

    def test_a_stream_that_is_not_hashed_has_no_gate(self):
        rig = ServerRig()
        key = rig.serve(digest=frames.DIGEST_NONE)
        rig.upstream(b"ask", 0, after=10, pair=WRONG)
        assert rig.read(key) == b"ask"

    def test_very_many_marks_are_judged_each_by_itself(self):
        """More marks than are remembered at a time: verdicts of those that wait are kept."""
        rig = ServerRig(upstream_credit_bytes=200, upstream_window_bytes=200)
        key = rig.serve()
        output = TEXT + bytes(1700)
        rig.write(key, output)
        taken = b""
        for after in range(1, 2150):
            rig.upstream(bytes([after & 255]), after - 1, after=after, pair=naive_pair(output, after, BLOCK))
            taken += rig.read(key)
        assert taken == bytes(after & 255 for after in range(1, 2150))


class TestUpstreamState:
    def test_what_arrived_was_taken_and_may_come_is_told_when_it_changes(self, rig: ServerRig, key: int):
        rig.upstream(b"x" * 60, 0)
        assert rig.hear() == [UpstreamState(1, 60, 0, 65536)]
        rig.read(key)
        assert rig.hear() == [UpstreamState(1, 60, 60, 65536)]
        rig.upstream(bytes(40_000), 60)
        rig.read(key)
        assert rig.hear() == [UpstreamState(1, 40_060, 40_060, 40_060 + 65536)]
        assert rig.hear() == []
        rig.upstream(b"y", 50_000)
        assert rig.hear() == []

    def test_bytes_beyond_the_credit_are_a_fault(self, rig: ServerRig, key: int):
        with pytest.raises(LocalProtocolError) as caught:
            rig.upstream(b"x", 65536)
        assert caught.value.code == ErrorCode.FLOW_CONTROL

    def test_an_application_that_is_gone_resets_when_more_comes(self, rig: ServerRig, key: int):
        rig.upstream(b"ask", 0)
        rig.read(key)
        rig.server.on_app_closed(key, aborted=False)
        assert rig.hear_only(Reset) == []
        rig.upstream(b"ask", 0)
        assert rig.hear_only(Reset) == []
        rig.upstream(b"more", 3)
        assert rig.hear_only(Reset) == [Reset(1, 0, ErrorCode.STREAM_ABORTED)]


class TestEnd:
    def test_fin_is_told_once_behind_the_last_announcement(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: BLOCK + 4])
        rig.server.on_app_eof(key)
        heard = rig.hear()
        assert heard[-1] == Fin(1, BLOCK + 4)
        assert [f for f in heard if isinstance(f, Digests)] == [
            Digests(1, 0, tuple(digests_of(TEXT[: BLOCK + 4], BLOCK)))
        ]
        rig.server.on_app_eof(key)
        assert rig.hear() == []

    def test_an_empty_output_may_end(self, rig: ServerRig, key: int):
        rig.server.on_app_eof(key)
        assert rig.hear_only(Fin) == [Fin(1, 0)]

    def test_a_reset_names_the_offset_and_the_reason(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[:5])
        rig.server.on_app_closed(key, aborted=True)
        assert rig.hear_only(Reset) == [Reset(1, 5, ErrorCode.STREAM_ABORTED)]

    def test_a_reset_after_fin_is_told_too(self, rig: ServerRig, key: int):
        rig.server.on_app_eof(key)
        rig.hear()
        rig.server.on_app_closed(key, aborted=True)
        assert rig.hear_only(Reset) == [Reset(1, 0, ErrorCode.STREAM_ABORTED)]

    def test_output_after_the_end_is_dropped(self, rig: ServerRig, key: int):
        rig.server.on_app_eof(key)
        rig.write(key, b"late")
        assert rig.hear_only(Produced) == []


class TestClose:
    def test_an_orderly_one_gives_the_application_the_rest(self, rig: ServerRig, key: int):
        rig.upstream(b"rest", 0, fin=True)
        rig.actions()
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.hear_only(Closed) == [Closed(1)]
        assert rig.allowance(key) > 0
        rig.write(key, b"nobody wants it")
        assert rig.read(key) == b"rest"
        assert rig.find(PortDone) == PortDone(key)
        assert rig.server.replica_of(key) is None

    def test_with_nothing_left_it_is_done_at_once(self, rig: ServerRig, key: int):
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.find(PortDone) == PortDone(key)

    def test_any_other_code_aborts(self, rig: ServerRig, key: int):
        rig.upstream(b"rest", 0)
        rig.actions()
        rig.tell(Close(1, ErrorCode.STREAM_ABORTED))
        assert rig.find(PortReset).key == key
        assert rig.hear_only(Closed) == [Closed(1)]

    def test_an_application_that_is_gone_needs_no_rest(self, rig: ServerRig, key: int):
        rig.upstream(b"rest", 0)
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        rig.server.on_app_closed(key, aborted=False)
        assert rig.find(PortDone) == PortDone(key)

    def test_a_divergent_one_is_fed_nothing_more_and_is_done(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[:20])
        rig.upstream(b"rest", 0, after=10, pair=WRONG)
        rig.read(key)
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.find(PortDone) == PortDone(key)

    def test_a_rest_that_waits_for_output_is_fed_when_the_application_writes_on(self, rig: ServerRig, key: int):
        """Nobody wants the output any more, but the dialogue goes on to its end."""
        rig.upstream(b"rest", 0, after=10, pair=naive_pair(TEXT, 10, BLOCK))
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.read(key) == b""
        rig.write(key, TEXT[:12])
        assert rig.read(key) == b"rest"
        assert rig.find(PortDone) == PortDone(key)


class TestPaths:
    def test_a_second_path_restates_everything_from_the_floor_on(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: 2 * BLOCK])
        rig.upstream(b"ask", 0)
        rig.read(key)
        rig.hear()
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, BLOCK, 2000, ()), P2)
        assert rig.hear(P2) == [
            Opened(1, 64 * BLOCK, True, True),
            Attached(1, True, 3, 3, 65536, 2 * BLOCK),
            UpstreamState(1, 3, 3, 65536),
            Digests(1, 1, (digests_of(TEXT, BLOCK)[1],)),
            Produced(1, 2 * BLOCK),
        ]
        assert rig.hear(P1) == []

    def test_news_goes_to_the_path_attached_last(self, rig: ServerRig, key: int):
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 2000, ()), P2)
        rig.hear(P2)
        rig.write(key, TEXT[:5])
        assert rig.hear(P1) == []
        assert rig.hear(P2) == [Produced(1, 5)]

    def test_when_that_path_ends_the_other_is_told_all_again(self, rig: ServerRig, key: int):
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 2000, ()), P2)
        rig.write(key, TEXT[:BLOCK])
        rig.server.on_app_eof(key)
        rig.hear(P2)
        rig.gone(P2)
        assert kinds(rig.hear(P1)) == ["UpstreamState", "Digests", "Produced", "Fin"]

    def test_the_end_of_another_path_restates_nothing(self, rig: ServerRig, key: int):
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 2000, ()), P2)
        rig.write(key, TEXT[:BLOCK])
        rig.hear(P2)
        rig.gone(P1)
        assert rig.hear(P2) == []

    def test_orders_die_with_their_path(self, rig: ServerRig, key: int):
        rig.tell(grant(1, (0, 2)))
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 2000, ()), P2)
        rig.gone(P1)
        rig.write(key, TEXT[: 2 * BLOCK])
        assert rig.hear_only(Data, P2) == []
        rig.tell(grant(1, (0, 2)), P2)
        assert rig.hear_only(Data, P2) == [Data(1, 1, 0, TEXT[: 2 * BLOCK])]

    def test_an_end_that_was_told_on_the_lost_path_is_told_again(self, rig: ServerRig, key: int):
        rig.server.on_app_closed(key, aborted=True)
        rig.hear()
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 2000, ()), P2)
        assert rig.hear(P2)[-1] == Reset(1, 0, ErrorCode.STREAM_ABORTED)

    def test_attach_may_change_the_role(self, rig: ServerRig, key: int):
        rig.write(key, TEXT[: 16 * BLOCK])
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_HELPER, 0, 2000, ()), P2)
        assert rig.hear_only(Run, P2) == [Run(1, 0, 16, naive_run(TEXT, 0, 16, BLOCK))]
