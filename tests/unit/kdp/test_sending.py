"""What a stream says on its own account: upstream within its limits, floors and credit (SPEC §4.1, §5.5, §5.9)."""

from __future__ import annotations

import pytest

from kwik.errors import ErrorCode
from kwik.kdp.sending import MAX_MARKS_AHEAD, UPSTREAM_BEFORE_HELLO_BYTES
from kwik.wire import frames
from tests.unit.kdp.naive import naive_pair, pattern
from tests.unit.kdp.session_rig import BLOCK, P1, P2, TEXT, SessionRig


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


def upstream(rig: SessionRig, path: int = P1) -> bytes:
    """The upstream bytes that go out now; offsets must fit."""
    data = b""
    base = None
    for piece in rig.hear_only(frames.Upstream, path):  # type: ignore[arg-type]
        base = piece.offset if base is None else base
        assert piece.offset == base + len(data)
        data += piece.payload
    return data


class TestUpstream:
    def test_it_keeps_to_the_credit(self, rig: SessionRig):
        key, replica = rig.live()
        text = pattern(1500)
        rig.write(key, text)
        assert upstream(rig) == text[:1000]
        rig.tell(frames.UpstreamState(replica, 1000, 500, 1400))
        assert upstream(rig) == text[1000:1400]
        rig.tell(frames.UpstreamState(replica, 1000, 500, 1200))
        assert upstream(rig) == b""
        rig.tell(frames.UpstreamState(replica, 1400, 1400, 9000))
        assert upstream(rig) == text[1400:]

    def test_before_the_hello_64_kib_a_path(self, rig: SessionRig):
        rig.path(P1, hello=False)
        rig.session.hints.early_path = P1
        key = rig.dial()
        rig.write(key, bytes(70_000))
        assert len(upstream(rig)) == UPSTREAM_BEFORE_HELLO_BYTES == 65536
        assert not rig.session.wants_room(P1)

    def test_before_the_hello_the_path_is_shared(self, rig: SessionRig):
        rig.path(P1, hello=False)
        rig.session.hints.early_path = P1
        for _ in range(3):
            rig.write(rig.dial(), bytes(30_000))
        sent = rig.hear_only(frames.Upstream)
        assert sum(len(piece.payload) for piece in sent) == 65536

    def test_after_the_hello_its_credit_counts(self, rig: SessionRig):
        rig.path(P1, credit=300)
        key, _ = rig.live()
        rig.write(key, bytes(1000))
        assert len(upstream(rig)) == 300

    def test_the_end_goes_with_the_last_bytes_or_alone(self, rig: SessionRig):
        key, _ = rig.live()
        rig.write(key, b"bye")
        rig.eof(key)
        assert [(u.payload, u.flags) for u in rig.hear_only(frames.Upstream)] == [(b"bye", frames.UPSTREAM_FIN)]
        other, _ = rig.live()
        rig.eof(other)
        assert [(u.payload, u.flags) for u in rig.hear_only(frames.Upstream)] == [(b"", frames.UPSTREAM_FIN)]
        assert not rig.session.wants_room(P1)

    def test_the_end_needs_no_credit(self, rig: SessionRig):
        key, _ = rig.live()
        rig.write(key, bytes(1000))
        rig.hear()
        rig.eof(key)
        assert [(u.offset, u.flags) for u in rig.hear_only(frames.Upstream)] == [(1000, frames.UPSTREAM_FIN)]

    def test_marks_ahead_are_limited(self, rig: SessionRig):
        rig.path(P1, credit=5000)
        key, replica = rig.live()
        for _ in range(MAX_MARKS_AHEAD + 100):
            rig.stream(key).on_app_bytes(b"x")
        rig.session.touch_all()
        rig.settle()
        assert len(upstream(rig)) in (MAX_MARKS_AHEAD, MAX_MARKS_AHEAD + 1)
        assert not rig.session.wants_room(P1)
        rig.tell(frames.UpstreamState(replica, MAX_MARKS_AHEAD, 50, 5000))
        assert len(upstream(rig)) == 50

    def test_every_replica_gets_everything(self, rig: SessionRig):
        key, _, _ = rig.pair()
        rig.write(key, b"to all")
        assert upstream(rig, P1) == upstream(rig, P2) == b"to all"

    def test_a_recruit_gets_it_from_byte_0(self, rig: SessionRig):
        rig.path(P1, "a")
        key, _ = rig.live(replicas=2)
        rig.write(key, b"before")
        assert upstream(rig) == b"before"
        rig.path(P2, "b")
        assert [o.mode for o in rig.hear_only(frames.Open, P2)] == [frames.MODE_REPLAY]
        assert upstream(rig, P2) == b"before"

    def test_what_was_not_confirmed_is_sent_again_on_a_new_path(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, b"hello world")
        rig.eof(key)
        upstream(rig)
        rig.tell(frames.UpstreamState(replica, 6, 0, 1000))
        rig.path(P2, "a")
        rig.gone(P1)
        rig.tell(frames.Attached(replica, True, 6, 0, 1000, 0), P2)
        assert [(u.offset, u.payload, u.flags) for u in rig.hear_only(frames.Upstream, P2)] == [
            (6, b"world", frames.UPSTREAM_FIN)
        ]


class TestFreeing:
    """SPEC §5.9: the upstream is kept while a replica or a recruit may need it."""

    def test_a_recruitable_stream_keeps_all(self, rig: SessionRig):
        key, replica = rig.live()
        rig.write(key, bytes(500))
        rig.hear()
        rig.tell(frames.UpstreamState(replica, 500, 500, 1000))
        assert rig.stream(key).log.held_bytes == 500

    def test_past_the_limit_what_the_slowest_lacks_is_kept(self):
        rig = SessionRig(replay_limit_bytes=200)
        key, anchor, helper = rig.pair()
        text = pattern(1000)
        for start in range(0, 1000, 100):
            rig.write(key, text[start : start + 100])
        rig.hear_all()
        rig.tell(frames.UpstreamState(anchor, 1000, 1000, 2000), P1)
        assert rig.stream(key).log.held_bytes == 1000
        rig.tell(frames.UpstreamState(helper, 450, 450, 2000), P2)
        assert rig.stream(key).log.base == 400
        rig.gone(P2, dead="b")
        rig.tell(frames.UpstreamState(anchor, 1000, 1000, 2100), P1)
        assert rig.stream(key).log.held_bytes == 0

    def test_a_replica_that_has_not_answered_yet_lacks_everything(self):
        rig = SessionRig(replay_limit_bytes=200)
        rig.path(P1, "a")
        rig.path(P2, "b")
        key, anchor = rig.live(P1, replicas=2)
        rig.hear(P2)
        for _ in range(5):
            rig.write(key, bytes(100))
        rig.hear_all()
        rig.tell(frames.UpstreamState(anchor, 500, 500, 2000), P1)
        assert rig.stream(key).log.base == 0

    def test_a_helper_that_lags_more_than_the_limit_is_dropped_the_anchor_never(self):
        rig = SessionRig(replay_limit_bytes=70_000)
        rig.path(P1, "a", credit=1 << 20)
        rig.path(P2, "b", credit=1 << 20)
        key, anchor, helper = _pair(rig)
        for received in range(10_000, 150_000, 10_000):
            rig.write(key, bytes(10_000))
            rig.hear_all()
            rig.tell(frames.UpstreamState(anchor, received, received, 1 << 20), P1)
        assert rig.hear_only(frames.Close, P2) == [frames.Close(helper, ErrorCode.NO_ERROR)]
        assert rig.stream(key).anchor is not None
        assert rig.stream(key).anchor.is_usable  # type: ignore[union-attr]
        assert rig.stream(key).log.held_bytes <= 70_000 + 10_000


def _pair(rig: SessionRig) -> tuple[int, int, int]:
    key, anchor = rig.live(P1, replicas=2)
    helper = rig.hear_only(frames.Open, P2)[-1].replica
    rig.opened(helper, P2)
    return key, anchor, helper


class TestAcknowledgements:
    def test_floor_and_credit_are_told_when_they_moved_enough(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.supply(anchor, P1, TEXT[: 16 * BLOCK])
        acks = []
        for _ in range(16):
            rig.read(key, BLOCK)
            acks += rig.hear_only(frames.Ack, P2)
        assert 1 <= len(acks) <= 4
        assert acks[-1].floor >= 8 * BLOCK
        assert all(ack.credit == ack.floor + 64 * BLOCK and ack.replica == helper for ack in acks)

    def test_helpers_are_told_too(self, rig: SessionRig):
        key, anchor, _helper = rig.pair()
        rig.supply(anchor, P1, TEXT[: 16 * BLOCK])
        rig.read(key)
        assert [ack.floor for ack in rig.hear_only(frames.Ack, P2)] == [16 * BLOCK]
        assert [ack.floor for ack in rig.hear_only(frames.Ack, P1)] == [16 * BLOCK]

    def test_the_floor_is_the_start_of_a_block(self, rig: SessionRig):
        key, replica = rig.live()
        rig.supply(replica, P1, TEXT[: 30 * BLOCK])
        rig.read(key, 10 * BLOCK + 7)
        assert [ack.floor for ack in rig.hear_only(frames.Ack)] == [10 * BLOCK]

    def test_the_floor_never_passes_a_mark_that_was_not_received(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        rig.supply(anchor, P1, TEXT[: 16 * BLOCK])
        rig.read(key, 3 * BLOCK + 5)
        rig.write(key, b"asked at 3 blocks and 5 bytes")
        (piece,) = rig.hear_only(frames.Upstream, P2)
        assert (piece.chain, piece.prefix) == naive_pair(TEXT, 3 * BLOCK + 5, BLOCK)
        rig.hear_all()
        rig.tell(frames.UpstreamState(anchor, 29, 0, 2000), P1)
        rig.read(key)
        floors = {path: [ack.floor for ack in rig.hear_only(frames.Ack, path)] for path in (P1, P2)}
        assert floors[P1][-1] == 16 * BLOCK
        assert max(floors[P2]) == 3 * BLOCK
        rig.tell(frames.UpstreamState(helper, 29, 0, 2000), P2)
        assert [ack.floor for ack in rig.hear_only(frames.Ack, P2)] == [16 * BLOCK]

    def test_the_mark_of_the_end_holds_it_back_until_the_end_was_sent(self, rig: SessionRig):
        key, anchor, _helper = rig.pair()
        rig.supply(anchor, P1, TEXT[: 20 * BLOCK], below=16)
        rig.read(key, 5 * BLOCK)
        rig.eof(key)
        rig.read(key)
        heard = rig.hear(P2)
        end = next(index for index, frame in enumerate(heard) if isinstance(frame, frames.Upstream))
        assert all(frame.floor <= 5 * BLOCK for frame in heard[:end] if isinstance(frame, frames.Ack))

    def test_without_a_hash_marks_hold_nothing_back(self, rig: SessionRig):
        key, replica = rig.live(hashed=False)
        rig.write(key, b"ask")
        rig.supply(replica, P1, TEXT[: 16 * BLOCK])
        rig.read(key)
        assert [ack.floor for ack in rig.hear_only(frames.Ack)] == [16 * BLOCK]
