"""Copies of blocks: any order of pieces gives the replica's bytes; at most two copies; a judged copy is final."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.reassembler import MAX_COPIES, Copy, Reassembler
from tests.unit.kdp.naive import pattern

BLOCK = 32
PIECES = st.lists(st.tuples(st.integers(0, 4 * BLOCK - 1), st.integers(1, 2 * BLOCK)), max_size=25)


def never(block: int, copy: Copy) -> bool:
    return False


def always(block: int, copy: Copy) -> bool:
    return True


class TestCopy:
    def test_a_judged_copy_cannot_be_changed(self):
        copy = Copy(1)
        copy.add(0, b"abcd")
        copy.digest = b"judged"
        copy.add(0, b"WXYZ")
        copy.add(2, b"WXYZ123")
        copy.add(4, b"more")
        assert (bytes(copy.data), copy.filled) == (b"abcd", 4)

    def test_bytes_of_the_contiguous_part_stay_as_they_are(self):
        copy = Copy(1)
        copy.add(0, b"abcd")
        copy.add(2, b"XXef")
        copy.add(1, b"YY")
        assert (bytes(copy.data), copy.filled) == (b"abcdef", 6)

    def test_a_gap_keeps_it_from_being_filled(self):
        copy = Copy(1)
        copy.add(4, b"ef")
        copy.add(8, b"ij")
        assert copy.filled == 0
        copy.add(0, b"abcd")
        assert copy.filled == 6
        copy.add(6, b"gh")
        assert (bytes(copy.data), copy.filled) == (b"abcdefghij", 10)

    def test_an_overlap_behind_a_gap_is_joined(self):
        copy = Copy(1)
        copy.add(2, b"cd")
        copy.add(0, b"abc")
        assert (bytes(copy.data), copy.filled) == (b"abcd", 4)

    @given(cuts=st.lists(st.tuples(st.integers(0, BLOCK - 1), st.integers(1, BLOCK)), max_size=20))
    def test_filled_is_the_first_byte_that_is_missing(self, cuts: list[tuple[int, int]]):
        data, copy = pattern(BLOCK), Copy(1)
        have: set[int] = set()
        for start, size in cuts:
            copy.add(start, data[start : start + size])
            have.update(range(start, min(BLOCK, start + size)))
            expected = next(i for i in range(BLOCK + 1) if i not in have)
            assert copy.filled == expected
            assert copy.data[:expected] == data[:expected]


class TestReassembler:
    @given(pieces=PIECES, sources=st.lists(st.integers(1, 2), min_size=25, max_size=25))
    def test_it_equals_a_map_of_bytes(self, pieces: list[tuple[int, int]], sources: list[int]):
        parts = Reassembler(BLOCK)
        have: dict[tuple[int, int], set[int]] = {}
        for (start, size), source in zip(pieces, sources, strict=False):
            stop = min(start + size, 4 * BLOCK)
            touched = parts.add(source, start, memoryview(pattern(stop - start, start, source)), never)
            blocks = sorted({offset // BLOCK for offset in range(start, stop)})
            assert touched == [next(c for c in parts.copies(b) if c.source == source) for b in blocks]
            for offset in range(start, stop):
                have.setdefault((offset // BLOCK, source), set()).add(offset % BLOCK)
        assert parts.blocks() == sorted({block for block, _ in have})
        for (block, source), offsets in have.items():
            copy = next(c for c in parts.copies(block) if c.source == source)
            expected = next(i for i in range(BLOCK + 1) if i not in offsets)
            assert copy.filled == expected
            assert copy.data[:expected] == pattern(expected, block * BLOCK, source)
            assert len(copy.data) == max(offsets) + 1
        assert parts.held_bytes == sum(max(offsets) + 1 for offsets in have.values())

    def test_a_third_copy_is_refused(self):
        parts = Reassembler(BLOCK)
        for source in (1, 2):
            assert len(parts.add(source, 0, b"ab", never)) == 1
        assert parts.add(3, 0, b"ab", never) == []
        assert [copy.source for copy in parts.copies(0)] == [1, 2]
        assert len(parts.copies(0)) == MAX_COPIES

    def test_a_third_copy_may_push_out_one_that_may_go(self):
        parts = Reassembler(BLOCK)
        parts.add(1, 0, b"ab", never)
        parts.add(2, 0, b"ab", never)
        parts.add(3, 0, b"cd", lambda block, copy: copy.source == 2)
        assert [copy.source for copy in parts.copies(0)] == [1, 3]
        assert bytes(parts.copies(0)[1].data) == b"cd"

    def test_nobody_is_pushed_out_for_bytes_of_a_source_that_has_a_copy(self):
        parts = Reassembler(BLOCK)
        parts.add(1, 0, b"ab", always)
        parts.add(2, 0, b"ab", always)
        parts.add(2, 2, b"cd", always)
        assert [copy.source for copy in parts.copies(0)] == [1, 2]

    def test_dropping(self):
        parts = Reassembler(BLOCK)
        for source in (1, 2):
            parts.add(source, 0, pattern(3 * BLOCK), never)
        parts.drop_below(1)
        assert parts.blocks() == [1, 2]
        parts.drop_copy(1, 1)
        assert [copy.source for copy in parts.copies(1)] == [2]
        parts.drop_copy(7, 1)
        parts.drop_source(2)
        assert parts.blocks() == [2]
        assert parts.copies(1) == []
        parts.drop_source(1)
        assert (parts.blocks(), parts.held_bytes) == ([], 0)
