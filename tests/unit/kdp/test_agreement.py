"""On which blocks a helper agrees with the anchor, by runs, else block by block (SPEC §6.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import LocalProtocolError
from kwik.kdp.agreement import DIVERGENT_BLOCKS, Agreement, Announced
from kwik.kdp.digest import run_digest
from tests.unit.kdp.naive import BLAKE3


def digest(block: int, salt: int = 0) -> bytes:
    return bytes([block, salt]) * 16


def digests(first: int, count: int, salt: int = 0) -> tuple[bytes, ...]:
    return tuple(digest(block, salt) for block in range(first, first + count))


def anchor_with(first: int, count: int) -> Announced:
    announced = Announced()
    announced.add_digests(first, digests(first, count))
    return announced


def helper_with_run(first: int, count: int, salt: int = 0) -> Agreement:
    announced = Announced()
    announced.add_run(first, count, run_digest(BLAKE3, digests(first, count, salt)))
    return Agreement(announced)


def compare(helper: Agreement, anchor: Announced, ends_after: int | None = None) -> list[tuple[int, int]]:
    """Compare; the blocks that must be asked for now."""
    helper.compare(anchor, BLAKE3, ends_after)
    return helper.next_questions()


class TestAnnounced:
    def test_repeats_are_harmless_and_changes_are_a_fault(self):
        announced = anchor_with(0, 4)
        announced.add_digests(2, digests(2, 4))
        assert announced.digests[5] == digest(5)
        with pytest.raises(LocalProtocolError, match="block 3"):
            announced.add_digests(3, (digest(3, 1),))
        assert announced.digests[3] == digest(3)

    def test_a_run_is_news_once(self):
        announced = Announced()
        assert announced.add_run(0, 4, b"r" * 32)
        assert not announced.add_run(0, 4, b"r" * 32)
        assert announced.add_run(0, 6, b"s" * 32)
        with pytest.raises(LocalProtocolError, match="two run digests"):
            announced.add_run(0, 6, b"t" * 32)

    @pytest.mark.parametrize("count", [0, 17])
    def test_a_run_has_1_to_16_blocks(self, count: int):
        with pytest.raises(LocalProtocolError, match="1 to 16"):
            Announced().add_run(0, count, b"r" * 32)

    def test_what_is_delivered_is_forgotten(self):
        announced = anchor_with(0, 8)
        announced.add_run(0, 4, b"r" * 32)
        announced.add_run(4, 4, b"r" * 32)
        announced.drop_below(5)
        assert sorted(announced.digests) == [5, 6, 7]
        assert sorted(announced.runs) == [4]


class TestRuns:
    def test_an_equal_run_agrees(self):
        helper = helper_with_run(2, 4)
        assert compare(helper, anchor_with(0, 8)) == []
        assert list(helper.agreed) == [(2, 6)]
        assert helper.has_agreed

    def test_it_waits_until_the_anchor_has_told_all_of_it(self):
        helper, anchor = helper_with_run(0, 4), anchor_with(0, 3)
        assert compare(helper, anchor) == []
        assert not helper.agreed
        anchor.add_digests(3, digests(3, 1))
        compare(helper, anchor)
        assert list(helper.agreed) == [(0, 4)]

    def test_a_different_run_is_asked_for_once(self):
        helper, anchor = helper_with_run(0, 4, salt=1), anchor_with(0, 4)
        assert compare(helper, anchor) == [(0, 4)]
        assert compare(helper, anchor) == []
        helper.on_run(0)
        assert compare(helper, anchor) == []
        assert not helper.agreed
        assert not helper.has_agreed

    def test_one_question_is_asked_at_a_time(self):
        announced = Announced()
        for first in (0, 16):
            announced.add_run(first, 16, b"w" * 32)
        helper, anchor = Agreement(announced), anchor_with(0, 32)
        assert compare(helper, anchor) == [(0, 16)]
        assert compare(helper, anchor) == []
        assert helper.is_open
        announced.add_digests(0, digests(0, 16))
        helper.on_digests(0, 16)
        assert compare(helper, anchor) == [(16, 16)]
        announced.add_digests(16, digests(16, 16, 1))
        helper.on_digests(16, 16)
        assert compare(helper, anchor) == []
        assert not helper.is_open
        assert list(helper.agreed) == [(0, 16)]

    def test_a_question_about_delivered_blocks_is_not_waited_for(self):
        announced = Announced()
        for first in (0, 16):
            announced.add_run(first, 16, b"w" * 32)
        helper, anchor = Agreement(announced), anchor_with(0, 32)
        compare(helper, anchor)
        helper.forget_below(16)
        assert compare(helper, anchor) == [(16, 16)]

    def test_a_run_beyond_the_anchors_end_is_asked_for(self):
        helper = helper_with_run(0, 4)
        assert compare(helper, anchor_with(0, 3), 3) == [(0, 4)]
        assert not helper.has_agreed

    def test_block_by_block_tells_which_ones(self):
        announced = Announced()
        announced.add_digests(0, (*digests(0, 2), digest(2, 1), digest(3)))
        helper = Agreement(announced)
        compare(helper, anchor_with(0, 3))
        assert list(helper.agreed) == [(0, 2)]
        assert list(helper.differing) == [(2, 3)]
        compare(helper, anchor_with(0, 4))
        assert list(helper.agreed) == [(0, 2), (3, 4)]

    def test_what_was_announced_before_counts_for_a_new_anchor(self):
        announced = Announced()
        announced.add_run(0, 4, run_digest(BLAKE3, digests(0, 4)))
        announced.add_digests(4, digests(4, 2))
        fresh = Agreement(announced)
        compare(fresh, anchor_with(0, 8))
        assert list(fresh.agreed) == [(0, 6)]

    def test_digests_that_come_later_are_compared(self):
        announced = Announced()
        helper, anchor = Agreement(announced), anchor_with(0, 4)
        announced.add_digests(1, digests(1, 2))
        helper.on_digests(1, 2)
        compare(helper, anchor)
        assert list(helper.agreed) == [(1, 3)]


class TestDivergence:
    @pytest.mark.parametrize(("differ", "expected"), [(DIVERGENT_BLOCKS - 1, False), (DIVERGENT_BLOCKS, True)])
    def test_16_blocks_in_a_row(self, differ: int, expected: bool):
        announced = Announced()
        announced.add_digests(3, digests(3, differ, salt=1))
        helper = Agreement(announced)
        compare(helper, anchor_with(0, 40))
        assert helper.is_divergent is expected

    def test_not_16_with_one_that_agrees_between(self):
        announced = Announced()
        announced.add_digests(0, digests(0, 10, 1) + digests(10, 1) + digests(11, 10, 1))
        helper = Agreement(announced)
        compare(helper, anchor_with(0, 40))
        assert helper.differing.total == 20
        assert not helper.is_divergent

    def test_a_row_that_straddles_the_floor_counts(self):
        announced = Announced()
        helper, anchor = Agreement(announced), anchor_with(0, 40)
        announced.add_digests(0, digests(0, 10, 1))
        helper.on_digests(0, 10)
        compare(helper, anchor)
        announced.drop_below(10)
        helper.forget_below(10)
        announced.add_digests(10, digests(10, 6, 1))
        helper.on_digests(10, 6)
        compare(helper, anchor)
        assert helper.is_divergent

    def test_delivered_blocks_are_forgotten(self):
        helper = helper_with_run(0, 8)
        compare(helper, anchor_with(0, 8))
        helper.forget_below(5)
        assert list(helper.agreed) == [(5, 8)]
        assert helper.has_agreed

    def test_a_run_that_was_forgotten_is_not_waited_for(self):
        announced = Announced()
        announced.add_run(0, 4, b"r" * 32)
        helper = Agreement(announced)
        announced.drop_below(4)
        assert compare(helper, anchor_with(4, 4)) == []
        helper.forget_below(4)
        assert compare(helper, anchor_with(0, 4)) == []


@given(
    lies=st.sets(st.integers(0, 39)),
    runs=st.lists(st.integers(1, 16), min_size=1, max_size=8),
    order=st.permutations(range(8)),
)
def test_only_equal_blocks_ever_agree(lies: set[int], runs: list[int], order: list[int]):
    """Runs come in any order; what is asked for is answered; the truth comes out."""

    def theirs(block: int) -> bytes:
        return digest(block, int(block in lies))

    announced = Announced()
    helper, anchor = Agreement(announced), Announced()
    starts = [sum(runs[:index]) for index in range(len(runs))]
    asked: list[tuple[int, int]] = []

    def answer() -> None:
        while asked:
            first, count = asked.pop()
            announced.add_digests(first, tuple(theirs(block) for block in range(first, first + count)))
            helper.on_digests(first, count)
            asked.extend(compare(helper, anchor))

    for index in [index for index in order if index < len(runs)]:
        first, count = starts[index], runs[index]
        announced.add_run(first, count, run_digest(BLAKE3, [theirs(block) for block in range(first, first + count)]))
        helper.on_run(first)
        anchor.add_digests(first, digests(first, count))
        asked += compare(helper, anchor)
        if index % 2:
            answer()
    answer()
    assert not helper.is_open
    total = sum(runs)
    assert {b for start, stop in helper.agreed for b in range(start, stop)} == set(range(total)) - lies
    assert {b for start, stop in helper.differing for b in range(start, stop)} == lies & set(range(total))
