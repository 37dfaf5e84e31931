"""Requests that are not answered are limited on both sides, and a client waits rather than exceed (SPEC §7)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode
from kwik.kdp.outbox import MAX_ATTACHS, MAX_OPENS, Outbox
from kwik.kdp.path import ClientPath
from kwik.wire import frames
from kwik.wire.codec import ClientFrame
from tests.unit.kdp.server_rig import P1, P2, ServerRig, open_frame
from tests.unit.kdp.session_rig import SessionRig


def attach(replica: int) -> frames.Attach:
    return frames.Attach(replica, frames.ROLE_ANCHOR, 0, 0, ())


def drained(outbox: Outbox) -> list[ClientFrame]:
    return [outbox.popleft() for _ in range(len(outbox))]


@pytest.fixture
def full() -> Outbox:
    """As many OPENs as may be unanswered have left."""
    outbox = Outbox()
    for number in range(MAX_OPENS):
        outbox.append(open_frame(number))
    assert len(drained(outbox)) == MAX_OPENS
    return outbox


class TestOutbox:
    def test_an_open_too_many_waits_and_with_it_what_concerns_its_replica(self, full: Outbox):
        late, follower = open_frame(999), frames.Ack(999, 0, 64)
        full.append(late)
        full.append(follower)
        full.append(frames.Ack(1, 0, 64))
        assert drained(full) == [frames.Ack(1, 0, 64)]
        assert full.on_answer(frames.Opened(7, 1, True, True))
        assert drained(full) == [late, follower]

    @pytest.mark.parametrize("answer", [frames.Opened(7, 1, True, True), frames.Refused(7, 10, ""), frames.Closed(7)])
    def test_each_kind_of_answer_lets_one_go(self, full: Outbox, answer: frames.Opened):
        for number in (900, 901):
            full.append(open_frame(number))
        assert full.on_answer(answer)
        assert drained(full) == [open_frame(900)]
        assert not full.on_answer(answer)

    def test_attaches_are_counted_apart_and_one_of_a_replica_at_a_time(self, full: Outbox):
        for number in range(MAX_ATTACHS + 1):
            full.append(attach(number))
        full.append(attach(0))
        assert drained(full) == [attach(number) for number in range(MAX_ATTACHS)]
        assert full.on_answer(frames.Attached(0, True, 0, 0, 0, 0))
        assert drained(full) == [attach(MAX_ATTACHS)]
        assert full.on_answer(frames.Closed(1))
        assert drained(full) == [attach(0)]

    def test_what_is_recalled_before_it_left_makes_room(self, full: Outbox):
        for number in (900, 901):
            full.append(open_frame(number))
        full.on_answer(frames.Opened(0, 1, True, True))
        full.recall(900)
        assert drained(full) == [open_frame(901)]

    def test_what_waits_can_be_recalled(self, full: Outbox):
        full.append(open_frame(900))
        full.append(frames.Ack(900, 0, 64))
        full.recall(900)
        full.on_answer(frames.Opened(0, 1, True, True))
        assert drained(full) == []

    def test_frames_that_answer_nothing_let_nothing_go(self, full: Outbox):
        full.append(open_frame(900))
        assert not full.on_answer(frames.Produced(0, 10))
        assert not full.on_answer(frames.Opened(901, 1, True, True))
        assert drained(full) == []


def dialled(count: int) -> SessionRig:
    """A session whose so many streams were opened at once."""
    rig = SessionRig(memory_bytes=64 << 20)
    rig.path()
    for _ in range(count):
        rig.session.dial(rig.now, 1)
    rig.settle()
    return rig


def test_a_session_never_has_more_opens_unanswered_than_a_server_takes():
    rig = dialled(MAX_OPENS + 44)
    first = rig.hear_only(frames.Open)
    assert len(first) == MAX_OPENS
    assert rig.hear_only(frames.Open) == []
    for opened in first[:10]:
        rig.opened(opened.replica, P1)
    assert len(rig.hear_only(frames.Open)) == 10
    # A stream that is given up is answered too: by CLOSED.
    rig.tell(frames.Closed(first[20].replica))
    assert len(rig.hear_only(frames.Open)) == 1


def test_what_waits_for_an_answer_asks_for_no_room():
    rig = dialled(MAX_OPENS)
    rig.hear()
    rig.dial()
    assert not rig.session.wants_room(P1)


def test_the_outbox_of_a_path_and_the_server_count_alike():
    """Server and client count by the same rule; the server's count can only be lower."""
    path, rig = ClientPath(P1), ServerRig()
    rig.path()
    sent = 0
    for number in range(3 * MAX_OPENS):
        path.outbox.append(open_frame(number, service="other.example:80"))
        for frame in drained(path.outbox):
            rig.tell(frame)
            sent += 1
        if number % 3 == 0:
            for answer in rig.hear():
                path.outbox.on_answer(answer)  # type: ignore[arg-type]
    assert sent > MAX_OPENS


def test_a_replica_that_goes_while_its_attach_is_unanswered_says_so_there():
    """The answer that waited dies with the replica; the client would wait for ever."""
    rig = ServerRig()
    rig.serve()
    rig.path(P2)
    rig.tell(attach(1), P2)
    rig.tell(frames.Close(1, ErrorCode.STREAM_ABORTED), P1)
    assert rig.hear_only(frames.Closed, P2) == [frames.Closed(1)]
    assert rig.hear_only(frames.Closed, P1) == [frames.Closed(1)]
