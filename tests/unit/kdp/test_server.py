"""All replicas of a server: admission of streams, tombstones, limits, memory, lingering, room (SPEC §5.2, §5.3, §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kwik.errors import ErrorCode
from kwik.kdp.actions import Accept, PortDone, PortReadable, PortReset, PortWritable, WakePath
from kwik.kdp.order_queue import MAX_ORDERS
from kwik.kdp.outbox import MAX_ATTACHS, MAX_OPENS
from kwik.kdp.replica import MAX_REVOKES, ServerReplica
from kwik.types import PathId
from kwik.wire import frames
from kwik.wire.codec import encode
from kwik.wire.frames import Ack, Attach, Attached, Close, Closed, Data, Opened, Refused, Reset
from tests.unit.kdp.naive import pattern
from tests.unit.kdp.server_rig import BLOCK, P1, P2, ServerRig, grant, kinds, open_frame

TEXT = pattern(64 * BLOCK)


@pytest.fixture
def rig() -> ServerRig:
    rig = ServerRig()
    rig.path()
    return rig


def refusal(rig: ServerRig, replica: int = 1, **fields: Any) -> int:
    rig.open(replica, **fields)
    return rig.hear_only(Refused)[-1].code


class TestOpen:
    def test_the_application_is_asked_for_and_the_client_told_when_it_is_reached(self, rig: ServerRig):
        rig.open(7)
        accept = rig.find(Accept)
        assert (accept.service, accept.remote) == ("files.example:80", ("192.0.2.1", 4433))
        assert rig.hear() == []
        rig.server.accepted(accept.key)
        assert rig.hear_only(Opened) == [Opened(7, 64 * BLOCK, True, True)]
        rig.server.accepted(accept.key)
        assert rig.hear() == []

    def test_an_application_that_cannot_be_reached_refuses_the_stream(self, rig: ServerRig):
        rig.open(7)
        key = rig.find(Accept).key
        rig.server.refused(key, ErrorCode.APPLICATION_DOWN, "no such port")
        assert rig.hear() == [Refused(7, ErrorCode.APPLICATION_DOWN, "no such port")]
        assert rig.find(PortDone) == PortDone(key)
        assert rig.server.pool.used_bytes == 0
        rig.server.refused(key, ErrorCode.APPLICATION_DOWN, "again")
        assert rig.hear() == []

    @pytest.mark.parametrize("text", ["x" * 500, "é" * 180])
    def test_any_reason_fits_the_frame(self, rig: ServerRig, text: str):
        rig.open()
        rig.server.refused(rig.find(Accept).key, ErrorCode.APPLICATION_DOWN, text)
        assert text.startswith(rig.hear_only(Refused)[0].reason)

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"service": "other.example:80"}, ErrorCode.WRONG_SERVICE),
            ({"block_bytes": 8}, ErrorCode.UNSUPPORTED),
            ({"block_bytes": 24}, ErrorCode.UNSUPPORTED),
            ({"block_bytes": 131072}, ErrorCode.UNSUPPORTED),
            ({"block_bytes": 0}, ErrorCode.UNSUPPORTED),
            ({"floor": BLOCK + 1}, ErrorCode.UNSUPPORTED),
            ({"digest": 2}, ErrorCode.UNSUPPORTED),
        ],
    )
    def test_what_it_does_not_serve_it_refuses_untouched(self, rig: ServerRig, fields: dict[str, Any], code: int):
        assert refusal(rig, **fields) == code
        assert not any(isinstance(action, Accept) for action in rig.said)

    def test_replay_is_refused_before_the_application_unless_replicated(self):
        rig = ServerRig(replicated=False)
        rig.path()
        assert refusal(rig, mode=frames.MODE_REPLAY) == ErrorCode.NOT_REPLICATED
        assert not any(isinstance(action, Accept) for action in rig.said)
        rig.open(2, mode=frames.MODE_FIRST)
        assert rig.find(Accept)

    def test_a_draining_server_takes_nothing_new(self, rig: ServerRig):
        rig.server.draining = True
        assert refusal(rig) == ErrorCode.DRAINING

    def test_no_more_replicas_than_it_may_have(self):
        rig = ServerRig(max_replicas=2)
        rig.path()
        rig.open(1)
        rig.open(2)
        assert refusal(rig, 3) == ErrorCode.OVERLOADED

    def test_memory_is_reserved_and_its_lack_refused(self):
        rig = ServerRig(memory_bytes=140_000)
        rig.path()
        rig.open(1)
        rig.open(2)
        assert 130_000 <= rig.server.pool.used_bytes <= 140_000
        assert refusal(rig, 3) == ErrorCode.OVERLOADED
        rig.tell(Close(1, ErrorCode.STREAM_ABORTED))
        assert rig.server.pool.used_bytes < 70_000
        rig.open(4)
        assert rig.find(Accept)

    def test_what_is_told_as_cap_is_what_may_be_held(self):
        rig = ServerRig(memory_bytes=80_000, send_window_bytes=1 << 20)
        rig.path()
        rig.open(credit=1 << 30)
        key = rig.find(Accept).key
        rig.server.accepted(key)
        (opened,) = rig.hear_only(Opened)
        assert 2 * BLOCK <= rig.allowance(key) == opened.cap_bytes < 80_000

    def test_a_replica_is_opened_once(self, rig: ServerRig):
        rig.open()
        assert rig.fault(open_frame()) == ErrorCode.PROTOCOL

    def test_a_first_grant_beyond_the_credit_is_a_fault_and_leaves_nothing_behind(self, rig: ServerRig):
        assert rig.fault(open_frame(credit=BLOCK, first_grant_blocks=2)) == ErrorCode.LIMIT
        assert rig.server.ports() == []
        assert rig.server.pool.used_bytes == 0


class TestIdleReplicas:
    def test_they_are_not_asked_in_each_turn(self, rig: ServerRig, monkeypatch: pytest.MonkeyPatch):
        """Hundreds of streams that wait for their applications cost nothing while another one is served."""
        asked: list[int] = []
        once = ServerReplica.next_control

        def next_control(replica: ServerReplica, path: PathId, now: float) -> object:
            asked.append(replica.number)
            return once(replica, path, now)

        for number in range(1, 21):
            rig.open(number)
            rig.tell(grant(1, (0, 4), replica=number))
        for accept in [said for said in rig.said if isinstance(said, Accept)]:
            rig.server.accepted(accept.key)
        rig.hear()
        assert not rig.server.wants_room(P1), "orders that wait for an application are no news"
        monkeypatch.setattr(ServerReplica, "next_control", next_control)
        rig.server.on_app_bytes(5, TEXT[:BLOCK], rig.now)
        assert rig.server.wants_room(P1)
        rig.hear()
        assert set(asked) == {5}
        rig.server.on_app_bytes(7, TEXT[:BLOCK], rig.now)
        assert "Data" in kinds(rig.hear())


class TestTombstones:
    def test_a_number_that_attach_did_not_find_is_refused_for_ever(self, rig: ServerRig):
        rig.tell(Attach(5, frames.ROLE_ANCHOR, 0, 0, ()))
        assert rig.hear() == [Attached(5, False, 0, 0, 0, 0)]
        for _ in range(2):
            assert refusal(rig, 5) == ErrorCode.TOMBSTONE

    def test_a_refused_number_stays_refused(self, rig: ServerRig):
        rig.server.draining = True
        refusal(rig, 5)
        rig.server.draining = False
        assert refusal(rig, 5) == ErrorCode.TOMBSTONE

    def test_a_closed_number_stays_closed_and_late_frames_are_ignored(self, rig: ServerRig):
        rig.serve()
        rig.tell(Close(1, ErrorCode.STREAM_ABORTED))
        assert rig.hear() == [Closed(1)]
        for late in (Ack(1, 3, 3), grant(1, (0, 1)), Close(1, 0)):
            rig.tell(late)
        rig.upstream(b"late", 9999)
        assert rig.hear() == []
        assert refusal(rig, 1) == ErrorCode.TOMBSTONE

    def test_a_number_never_opened_is_a_fault(self, rig: ServerRig):
        assert rig.fault(Ack(9, 0, 0)) == ErrorCode.PROTOCOL

    def test_sessions_do_not_share_numbers(self, rig: ServerRig):
        rig.serve()
        rig.path(P2, b"t" * 16)
        assert rig.fault(Ack(1, 0, 0), P2) == ErrorCode.PROTOCOL
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 0, ()), P2)
        assert [f.known for f in rig.hear_only(Attached, P2)] == [False]
        rig.tell(Ack(1, 0, 100))
        assert rig.server.counts() == {b"s" * 16: 1}


class TestAttach:
    def test_an_open_that_was_not_answered_is_answered_on_the_new_path(self, rig: ServerRig):
        rig.open()
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 100, ()), P2)
        assert kinds(rig.hear(P2)) == ["Attached"]
        rig.server.accepted(rig.find(Accept).key)
        assert "Opened" in kinds(rig.hear(P2))

    def test_replaced_paths_lose_their_orders(self, rig: ServerRig):
        key = rig.serve()
        rig.server.client_path = {P1: 11, P2: 12}.get
        rig.tell(grant(1, (0, 1)))
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 1000, (11,)), P2)
        rig.write(key, TEXT[:BLOCK])
        assert rig.hear(P1) == []
        rig.tell(Ack(1, 0, 0), P1)
        assert rig.hear(P1) == []
        assert rig.hear_only(Data, P2) == []

    def test_a_path_of_another_session_is_not_replaced(self, rig: ServerRig):
        key = rig.serve()
        rig.server.client_path = {P1: 11, P2: 12}.get
        rig.path(P2, b"t" * 16)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 1000, (11,)), P2)
        rig.tell(grant(1, (0, 1)))
        rig.write(key, TEXT[:BLOCK])
        assert rig.hear_only(Data) == [Data(1, 1, 0, TEXT[:BLOCK])]

    def test_it_moves_floor_and_credit(self, rig: ServerRig):
        key = rig.serve(credit=4 * BLOCK)
        rig.write(key, TEXT[: 4 * BLOCK])
        rig.actions()
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 2 * BLOCK, 8 * BLOCK, ()), P2)
        assert rig.allowance(key) == 4 * BLOCK
        assert PortWritable(key) in rig.said


class TestLimits:
    def test_256_orders_of_a_replica_on_a_path(self, rig: ServerRig):
        rig.serve(1)
        for number in range(MAX_ORDERS):
            rig.tell(grant(number, (0, 1)))
        assert rig.fault(grant(999, (0, 1))) == ErrorCode.LIMIT

    def test_4096_orders_on_a_path_over_all_its_replicas(self, rig: ServerRig):
        replicas = range(1, 18)
        for replica in replicas:
            rig.serve(replica)
        for number in range(4096):
            rig.tell(grant(number, (0, 1), replica=replicas[number % 17]))
        assert rig.fault(grant(9999, (0, 1), replica=1)) == ErrorCode.LIMIT

    def test_orders_on_another_path_count_apart(self, rig: ServerRig):
        rig.serve(1)
        for number in range(MAX_ORDERS):
            rig.tell(grant(number, (0, 1)))
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 0, ()), P2)
        rig.tell(grant(1, (0, 1)), P2)

    @pytest.mark.parametrize(
        ("most", "asks"),
        [
            (1, lambda number: Attach(1, frames.ROLE_ANCHOR, 0, 0, ())),
            (MAX_ATTACHS, lambda number: Attach(1000 + number, frames.ROLE_ANCHOR, 0, 0, ())),
            (MAX_OPENS, lambda number: open_frame(1000 + number, service="other.example:80")),
            (MAX_OPENS, lambda number: open_frame(1000 + number)),
            (MAX_REVOKES, lambda number: frames.Revoke(1, ((1, 0),))),
        ],
        ids=["attach", "attach unknown", "open refused", "open pending", "revoke"],
    )
    def test_requests_whose_answers_nobody_reads_are_bounded_exactly(
        self, rig: ServerRig, most: int, asks: Callable[[int], object]
    ):
        rig.serve(1)
        rig.upstream(b"rest", 0)
        for number in range(most):
            rig.tell(asks(number))
        assert rig.fault(asks(most)) == ErrorCode.LIMIT

    def test_closes_whose_answers_nobody_reads_are_bounded(self, rig: ServerRig, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("kwik.kdp.server.MAX_CLOSES", 300)
        rig.serve(1)
        rig.upstream(b"rest", 0)
        for _ in range(300):
            rig.tell(Close(1, 0))
        assert rig.fault(Close(1, 0)) == ErrorCode.LIMIT
        assert rig.hear_only(Closed) == [Closed(1)] * 300
        rig.tell(Close(1, 0))

    @pytest.mark.parametrize(
        "asks",
        [
            lambda number: Attach(number, frames.ROLE_ANCHOR, 0, 0, ()),
            lambda number: Attach(1, frames.ROLE_ANCHOR, 0, 0, ()),
            lambda number: open_frame(1000 + number, service="other.example:80"),
            lambda number: frames.Revoke(1, ((1, 0),)),
        ],
        ids=["attach unknown", "attach", "open refused", "revoke"],
    )
    def test_answered_ones_do_not_count(self, rig: ServerRig, asks: Callable[[int], object]):
        rig.serve(1)
        for number in range(700):
            rig.tell(asks(number))
            rig.hear()

    def test_an_open_is_answered_by_opened_by_refused_and_by_closed(self, rig: ServerRig):
        keys = []
        for number in range(MAX_OPENS):
            rig.open(number)
            keys.append(rig.find(Accept).key)
        assert rig.fault(open_frame(1000)) == ErrorCode.LIMIT
        rig.server.accepted(keys[0])
        rig.server.refused(keys[1], ErrorCode.APPLICATION_DOWN, "down")
        rig.tell(Close(2, ErrorCode.STREAM_ABORTED))
        # Nothing has left yet: the client cannot know.
        assert rig.fault(open_frame(1001)) == ErrorCode.LIMIT
        assert kinds(rig.hear())[:3] == ["Refused", "Closed", "Opened"]
        for number in (2000, 2001, 2002):
            rig.open(number)
        assert rig.fault(open_frame(2003)) == ErrorCode.LIMIT

    def test_an_open_whose_path_was_replaced_counts_there_no_longer(self, rig: ServerRig):
        rig.server.client_path = {P1: 11, P2: 12}.get
        for number in range(MAX_OPENS):
            rig.open(number)
        rig.path(P2)
        rig.tell(Attach(0, frames.ROLE_ANCHOR, 0, 0, (11,)), P2)
        rig.open(1000)
        assert rig.fault(open_frame(1001)) == ErrorCode.LIMIT

    def test_each_path_counts_its_own(self, rig: ServerRig):
        for number in range(MAX_OPENS):
            rig.open(number)
        rig.path(P2)
        rig.open(1000, P2)


class TestLinger:
    def test_a_replica_without_paths_waits_and_is_then_aborted(self, rig: ServerRig):
        key = rig.serve()
        rig.gone()
        assert rig.deadline() == rig.now + 120.0
        rig.now += 119.9
        rig.server.on_timeout(rig.now)
        assert rig.actions() == []
        rig.now += 0.1
        rig.server.on_timeout(rig.now)
        assert rig.find(PortReset).key == key
        assert rig.server.counts() == {}
        assert rig.server.pool.used_bytes == 0

    def test_a_path_that_comes_back_in_time_saves_it(self, rig: ServerRig):
        key = rig.serve()
        rig.write(key, TEXT[:BLOCK])
        rig.gone()
        rig.now += 100.0
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 100, ()), P2)
        rig.now += 100.0
        rig.server.on_timeout(rig.now)
        assert rig.server.replica_of(key) is not None
        assert rig.deadline() is None

    def test_its_output_is_produced_meanwhile(self, rig: ServerRig):
        key = rig.serve()
        rig.gone()
        rig.write(key, TEXT[:BLOCK])
        rig.path(P2)
        rig.tell(Attach(1, frames.ROLE_ANCHOR, 0, 100, ()), P2)
        assert rig.hear_only(Attached, P2)[0].produced == BLOCK

    def test_a_forgotten_session_is_aborted(self, rig: ServerRig):
        key = rig.serve()
        rig.gone()
        rig.server.forget_session(b"s" * 16)
        rig.server.forget_session(b"s" * 16)
        assert rig.find(PortReset).key == key
        assert rig.server.session_of(key) is None

    def test_stopping_aborts_everything(self, rig: ServerRig):
        keys = [rig.serve(1), rig.serve(2)]
        rig.server.abort_all()
        assert [action.key for action in rig.said if isinstance(action, PortReset)] == keys
        assert rig.server.ports() == []


class TestApplications:
    def test_unknown_ports_are_ignored(self, rig: ServerRig):
        rig.server.accepted(99)
        rig.server.refused(99, 1, "x")
        rig.server.on_app_bytes(99, b"x", rig.now)
        rig.server.on_app_eof(99)
        rig.server.on_app_closed(99, aborted=True)
        rig.server.consume(99, 1)
        assert rig.actions() == []

    def test_upstream_and_output_that_reaches_its_mark_wake_the_reader(self, rig: ServerRig):
        key = rig.serve()
        rig.upstream(b"ask", 0, after=5)
        assert PortReadable(key) in rig.actions()
        rig.write(key, TEXT[:5])
        assert PortReadable(key) in rig.actions()
        rig.read(key)
        rig.actions()
        rig.write(key, TEXT[5:9])
        assert PortReadable(key) not in rig.actions()

    def test_credit_wakes_the_writer_and_output_wakes_the_paths(self, rig: ServerRig):
        key = rig.serve(credit=BLOCK)
        rig.write(key, TEXT[:BLOCK])
        assert WakePath(P1) in rig.actions()
        rig.tell(Ack(1, 0, 2 * BLOCK))
        assert PortWritable(key) in rig.actions()

    def test_a_client_that_gives_up_while_connecting(self, rig: ServerRig):
        rig.open()
        key = rig.find(Accept).key
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.find(PortReset).key == key
        rig.server.accepted(key)
        assert kinds(rig.hear()) == ["Closed"]

    def test_an_application_that_aborts_while_closing_is_gone(self, rig: ServerRig):
        key = rig.serve()
        rig.upstream(b"rest", 0)
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        rig.server.on_app_closed(key, aborted=True)
        assert rig.server.replica_of(key) is None

    def test_a_reset_replica_stays_until_it_is_closed(self, rig: ServerRig):
        key = rig.serve()
        rig.server.on_app_closed(key, aborted=True)
        assert rig.hear_only(Reset)
        assert rig.server.replica_of(key) is not None
        rig.tell(Close(1, ErrorCode.NO_ERROR))
        assert rig.server.replica_of(key) is None


class TestRoom:
    def test_control_comes_first_and_data_on_data_pipes(self, rig: ServerRig):
        key = rig.serve(first_grant_blocks=4)
        rig.write(key, TEXT[: 4 * BLOCK])
        assert rig.server.wants_room(P1)
        pipes = [pipe for pipe, _ in rig.server.room(P1, 1 << 20, rig.now)]
        assert pipes[0] == 0
        assert set(pipes[1:]) <= {1, 2}
        assert not rig.server.wants_room(P1)

    def test_it_keeps_to_the_room_it_has(self, rig: ServerRig):
        key = rig.serve(first_grant_blocks=60)
        rig.write(key, TEXT[: 60 * BLOCK])
        rig.server.room(P1, 2000, rig.now)
        while output := rig.server.room(P1, 100, rig.now):
            assert sum(len(data) for _, data in output) <= 100

    def test_streams_take_turns(self, rig: ServerRig):
        keys = [rig.serve(replica, first_grant_blocks=8) for replica in (1, 2)]
        for key in keys:
            rig.write(key, TEXT[: 8 * BLOCK])
        rig.server.room(P1, 10, rig.now)
        sent = [frame.replica for frame in rig.hear(size=60) if isinstance(frame, Data)]
        assert set(sent[:4]) == {1, 2}

    def test_control_is_not_cut_but_waits_for_room(self, rig: ServerRig):
        for replica in range(1, 9):
            rig.tell(Attach(replica, frames.ROLE_ANCHOR, 0, 0, ()))
        size = len(encode(Attached(1, False, 0, 0, 0, 0)))
        (pipe, data), *more = rig.server.room(P1, size + 1, rig.now)
        assert (pipe, len(data), more) == (0, 2 * size, [])
        assert rig.server.wants_room(P1)

    def test_an_unknown_path_has_nothing_to_say(self, rig: ServerRig):
        assert rig.server.room(P2, 1000, rig.now) == []
        assert not rig.server.wants_room(P2)

    def test_a_run_that_becomes_due_wakes_the_path(self, rig: ServerRig):
        key = rig.serve(role=frames.ROLE_HELPER)
        rig.write(key, TEXT[:BLOCK])
        rig.hear()
        rig.actions()
        due = rig.deadline()
        assert due is not None
        rig.now = due
        rig.server.on_timeout(rig.now)
        assert rig.actions() == [WakePath(P1)]
        assert kinds(rig.hear()) == ["Run"]
        assert rig.deadline() is None
