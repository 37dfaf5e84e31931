"""The no-splice rule: which bytes may leave, and the client's own hash over them (SPEC §6.1)."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.downstream import PRUNE_BLOCKS, Downstream, Rejected
from kwik.kdp.orders import Order
from kwik.kdp.replica_view import ReplicaView
from kwik.types import PathId
from tests.unit.kdp.naive import BLAKE3, digests_of, naive_pair, pattern

BLOCK = 16
TEXT = pattern(6 * BLOCK)
LIES = pattern(6 * BLOCK, salt=1)


def view_of(number: int, announces: bytes = b"") -> ReplicaView:
    view = ReplicaView(number, 0, None, PathId(number), 1 << 30)
    if announces:
        view.announced.add_digests(0, tuple(digests_of(announces, BLOCK)))
    return view


def make() -> Downstream:
    down = Downstream(BLOCK, BLAKE3, {})
    down.book.extend(6)
    return down


def all_count(order: Order, block: int) -> bool:
    return not order.is_suspended


def deliver(down: Downstream, anchor: ReplicaView | None, stop_at: int | None = None, step: int = BLOCK) -> bytes:
    taken = b""
    while (view := down.peek(anchor, stop_at)) is not None:
        piece = bytes(view[:step])
        assert piece, "a piece that may be delivered is never empty"
        view.release()
        assert anchor is not None
        down.consume(len(piece), anchor)
        taken += piece
    return taken


class TestWhoMaySpeak:
    def test_the_anchors_bytes_leave_as_they_arrive(self):
        down, anchor = make(), view_of(1)
        assert down.add(anchor, anchor, 0, TEXT[:5]) == [0]
        assert deliver(down, anchor) == TEXT[:5]
        down.add(anchor, anchor, 5, TEXT[5 : BLOCK + 3])
        assert deliver(down, anchor) == TEXT[5 : BLOCK + 3]
        assert down.delivered == BLOCK + 3

    def test_nothing_leaves_without_an_anchor(self):
        down, anchor = make(), view_of(1)
        down.add(anchor, anchor, 0, TEXT[:BLOCK])
        assert down.peek(None, None) is None

    def test_a_helpers_block_waits_for_the_anchors_digest(self):
        down, anchor, helper = make(), view_of(1), view_of(2)
        down.add(helper, anchor, 0, TEXT[:BLOCK])
        assert down.judge(0, anchor) == (True, [])
        assert down.peek(anchor, None) is None
        anchor.announced.add_digests(0, (digests_of(TEXT, BLOCK)[0],))
        assert deliver(down, anchor) == TEXT[:BLOCK]

    def test_a_helpers_digest_does_not_stand_in_for_the_anchors(self):
        down, anchor, helper = make(), view_of(1), view_of(2, LIES)
        down.add(helper, anchor, 0, LIES[:BLOCK])
        down.judge(0, anchor)
        assert down.peek(anchor, None) is None

    def test_a_helpers_bytes_leave_only_as_a_whole_block(self):
        down, anchor, helper = make(), view_of(1, TEXT), view_of(2)
        down.add(helper, anchor, 0, TEXT[: BLOCK - 1])
        assert down.judge(0, anchor) == (False, [])
        assert down.peek(anchor, None) is None
        down.add(helper, anchor, BLOCK - 1, TEXT[BLOCK - 1 : BLOCK])
        assert deliver(down, anchor) == TEXT[:BLOCK]

    def test_a_helpers_wrong_block_never_leaves(self):
        down, anchor, helper = make(), view_of(1, TEXT), view_of(2)
        down.add(helper, anchor, 0, LIES[:BLOCK])
        assert down.peek(anchor, None) is None
        assert down.judge(0, anchor) == (False, [Rejected(0, 2)])
        assert down.parts.copies(0) == []

    def test_a_judged_block_cannot_be_changed_before_it_leaves(self):
        down, anchor, helper = make(), view_of(1, TEXT), view_of(2)
        down.add(helper, anchor, 0, TEXT[:BLOCK])
        down.judge(0, anchor)
        down.add(helper, anchor, 0, LIES[:BLOCK])
        assert deliver(down, anchor) == TEXT[:BLOCK]

    def test_looking_at_a_block_judges_it_for_good(self):
        down, anchor, helper = make(), view_of(1, TEXT), view_of(2)
        down.add(helper, anchor, 0, TEXT[:BLOCK])
        assert down.peek(anchor, None) is not None
        down.add(helper, anchor, 0, LIES[:BLOCK])
        assert deliver(down, anchor) == TEXT[:BLOCK]

    def test_without_a_hash_only_the_anchor_speaks(self):
        down, anchor, helper = Downstream(BLOCK, None, {}), view_of(1, TEXT), view_of(2)
        down.add(helper, anchor, 0, TEXT[:BLOCK])
        assert down.peek(anchor, None) is None
        assert down.judge(0, anchor) == (False, [Rejected(0, 2)])
        down.add(anchor, anchor, 0, TEXT[:BLOCK])
        assert deliver(down, anchor) == TEXT[:BLOCK]

    def test_half_a_block_of_the_anchor_then_the_rest_of_a_helpers_whole_one(self):
        down, anchor, helper = make(), view_of(1, TEXT), view_of(2)
        down.add(anchor, anchor, 0, TEXT[:7])
        assert deliver(down, anchor) == TEXT[:7]
        down.add(helper, anchor, 0, TEXT[:BLOCK])
        assert deliver(down, anchor) == TEXT[7:BLOCK]
        assert down.running is not None
        assert down.running.pair == naive_pair(TEXT, BLOCK, BLOCK)


class TestTheEnd:
    @pytest.mark.parametrize("final", [0, 5, BLOCK, BLOCK + 5])
    def test_nothing_past_it_leaves(self, final: int):
        down, anchor = make(), view_of(1)
        down.add(anchor, anchor, 0, TEXT)
        anchor.final = final
        assert deliver(down, anchor) == TEXT[:final]
        assert down.peek(anchor, None) is None

    def test_a_helpers_shorter_last_block_is_judged_by_its_length(self):
        down, anchor, helper = make(), view_of(1, TEXT[: BLOCK + 5]), view_of(2)
        down.add(helper, anchor, 0, TEXT[: BLOCK + 5])
        assert deliver(down, anchor) == TEXT[:BLOCK]
        anchor.final = BLOCK + 5
        assert down.judge(1, anchor) == (True, [])
        assert deliver(down, anchor) == TEXT[BLOCK : BLOCK + 5]

    def test_a_stop_holds_delivery_there(self):
        down, anchor = make(), view_of(1)
        down.add(anchor, anchor, 0, TEXT)
        assert deliver(down, anchor, stop_at=BLOCK + 4) == TEXT[: BLOCK + 4]
        assert deliver(down, anchor) == TEXT[BLOCK + 4 :]


class TestWhatIsKept:
    def test_delivered_bytes_are_dropped_and_not_taken_again(self):
        down, anchor = make(), view_of(1)
        down.add(anchor, anchor, 0, TEXT[: 2 * BLOCK])
        deliver(down, anchor)
        assert (down.floor, down.parts.held_bytes) == (2 * BLOCK, 0)
        assert down.add(anchor, anchor, 0, TEXT[: 2 * BLOCK]) == []
        assert down.add(anchor, anchor, BLOCK, TEXT[BLOCK : 2 * BLOCK + 3]) == [2]
        assert deliver(down, anchor) == TEXT[2 * BLOCK : 2 * BLOCK + 3]

    def test_a_third_replicas_bytes_are_not_kept(self):
        down, anchor = make(), view_of(1)
        for number in (2, 3):
            down.add(view_of(number), anchor, 0, TEXT[:BLOCK])
            down.judge(0, anchor)
        down.add(view_of(4), anchor, 0, TEXT[:BLOCK])
        assert [copy.source for copy in down.parts.copies(0)] == [2, 3]

    def test_the_anchor_always_finds_room_and_is_never_pushed_out(self):
        down, anchor = make(), view_of(1)
        for number in (2, 3):
            down.add(view_of(number), anchor, 0, TEXT[:BLOCK])
            down.judge(0, anchor)
        down.add(anchor, anchor, 0, TEXT[:4])
        assert [copy.source for copy in down.parts.copies(0)] == [3, 1]
        for number in (4, 5):
            down.add(view_of(number), anchor, 0, TEXT[:BLOCK])
        assert 1 in [copy.source for copy in down.parts.copies(0)]

    def test_half_a_copy_that_will_not_be_finished_makes_room(self):
        down, anchor = make(), view_of(1)
        down.add(view_of(2), anchor, 0, TEXT[:4])
        down.add(view_of(3), anchor, 0, TEXT[:BLOCK])
        down.judge(0, anchor)
        down.add(view_of(4), anchor, 0, TEXT[:8])
        assert [copy.source for copy in down.parts.copies(0)] == [3, 4]

    def test_announcements_of_delivered_blocks_go_in_steps(self):
        down = Downstream(BLOCK, BLAKE3, {})
        text = pattern((PRUNE_BLOCKS + 2) * BLOCK)
        anchor, helper = view_of(1, text), view_of(2, text)
        helper.agreement.on_digests(0, PRUNE_BLOCKS + 2)
        helper.agreement.compare(anchor.announced, BLAKE3, None)
        down.add(anchor, anchor, 0, text[: (PRUNE_BLOCKS - 1) * BLOCK])
        deliver(down, anchor)
        down.prune([anchor, helper])
        assert len(anchor.announced.digests) == PRUNE_BLOCKS + 2
        down.add(anchor, anchor, down.delivered, text[down.delivered : PRUNE_BLOCKS * BLOCK])
        deliver(down, anchor)
        down.prune([anchor, helper])
        assert sorted(anchor.announced.digests) == [PRUNE_BLOCKS, PRUNE_BLOCKS + 1]
        assert list(helper.agreed) == [(PRUNE_BLOCKS, PRUNE_BLOCKS + 2)]


class TestOwnHash:
    @given(sizes=st.lists(st.integers(1, 2 * BLOCK), max_size=10), step=st.integers(1, BLOCK))
    def test_it_covers_every_delivered_byte_and_no_other(self, sizes: list[int], step: int):
        down, anchor = make(), view_of(1)
        for size in sizes:
            start = min(len(TEXT), down.delivered)
            down.add(anchor, anchor, start, TEXT[start : start + size])
            deliver(down, anchor, step=step)
            assert down.running is not None
            assert down.running.pair == naive_pair(TEXT, down.delivered, BLOCK)

    def test_a_stream_without_replicas_is_not_hashed(self):
        down, anchor = make(), view_of(1)
        down.stop_hashing()
        down.add(anchor, anchor, 0, TEXT)
        assert deliver(down, anchor) == TEXT
        assert down.running is None

    def test_an_anchor_that_sends_other_bytes_than_it_announced_is_found_out(self):
        down, anchor = make(), view_of(1, TEXT)
        down.add(anchor, anchor, 0, TEXT[: BLOCK - 1] + LIES[BLOCK - 1 : 2 * BLOCK])
        with pytest.raises(LocalProtocolError) as caught:
            deliver(down, anchor)
        assert caught.value.code == ErrorCode.DIVERGED


class TestChangeOfAnchor:
    def test_undelivered_bytes_are_judged_under_the_new_one(self):
        down, old, new = make(), view_of(1, TEXT), view_of(2, LIES)
        down.add(old, old, 0, TEXT[: 2 * BLOCK])
        for block in (0, 1):
            down.judge(block, old)
            down.book.settle(block)
        assert down.rejudge(new, all_count) == [Rejected(0, 1), Rejected(1, 1)]
        assert down.peek(new, None) is None
        assert list(down.book.unassigned) == [(0, 6)]

    def test_equal_blocks_stay(self):
        down, old, new = make(), view_of(1, TEXT), view_of(2, TEXT)
        down.add(old, old, 0, TEXT[: 2 * BLOCK])
        assert down.rejudge(new, all_count) == []
        assert deliver(down, new) == TEXT[: 2 * BLOCK]
        assert list(down.book.unassigned) == [(2, 6)]

    def test_half_a_block_of_the_former_anchor_never_leaves(self):
        down, old, new = make(), view_of(1, TEXT), view_of(2, TEXT)
        down.add(old, old, 0, TEXT[: BLOCK - 1])
        down.rejudge(new, all_count)
        assert down.peek(new, None) is None
        assert list(down.book.unassigned) == [(0, 6)]

    def test_what_helpers_brought_before_may_leave_as_the_anchors(self):
        down, old, new = make(), view_of(1), view_of(2)
        down.add(new, old, 0, LIES[:5])
        assert down.peek(old, None) is None
        down.rejudge(new, all_count)
        assert deliver(down, new) == LIES[:5]


@given(data=st.data())
def test_whatever_helpers_send_what_leaves_is_the_anchors(data: st.DataObject):
    """Two helpers, one lying, the anchor slow: delivery is a prefix of the anchor's text."""
    down, anchor, helpers = make(), view_of(1), [view_of(2), view_of(3)]
    texts = {1: TEXT, 2: TEXT, 3: LIES}
    digests, told, taken = digests_of(TEXT, BLOCK), 0, b""
    for _ in range(data.draw(st.integers(1, 20))):
        match data.draw(st.sampled_from(["announce", "anchor", "helper", "helper", "take"])):
            case "announce" if told < len(digests):
                anchor.announced.add_digests(told, (digests[told],))
                told += 1
            case "take":
                taken += deliver(down, anchor)
            case who:
                view = data.draw(st.sampled_from(helpers)) if who == "helper" else anchor
                start = data.draw(st.integers(0, len(TEXT) - 1))
                size = data.draw(st.integers(1, 2 * BLOCK))
                for block in down.add(view, anchor, start, texts[view.number][start : start + size]):
                    down.judge(block, anchor)
    taken += deliver(down, anchor)
    assert taken == TEXT[: len(taken)]
    assert down.running is not None
    assert down.running.pair.chain == naive_pair(TEXT, len(taken), BLOCK).chain
    assert blake3(taken).digest() == blake3(TEXT[: down.delivered]).digest()
