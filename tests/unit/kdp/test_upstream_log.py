"""The client's memory of the upstream: whole up to the replay limit, then only what somebody still lacks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.upstream_log import MARK_BYTES, UpstreamLog, UpstreamPiece
from kwik.kdp.upstream_sink import Mark
from tests.unit.kdp.naive import pattern

START = Mark(0, None)
LATER = Mark(7, None)


def rebuild(log: UpstreamLog, start: int, limit: int) -> tuple[bytes, list[UpstreamPiece]]:
    pieces = []
    data = b""
    while (piece := log.piece(start + len(data), limit)) is not None:
        pieces.append(piece)
        data += piece.payload
        if piece.fin:
            break
    return data, pieces


class TestPieces:
    @given(
        writes=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), max_size=12),
        limit=st.integers(1, 60),
        data=st.data(),
    )
    def test_they_rebuild_the_stream_and_never_mix_marks(
        self, writes: list[tuple[int, int]], limit: int, data: st.DataObject
    ):
        log = UpstreamLog(1 << 20)
        written, marks, after = b"", [], 0
        for size, step in writes:
            after += step
            payload = pattern(size, len(written))
            log.append(payload, Mark(after, None))
            written += payload
            marks += [after] * size
        log.finish(Mark(after + data.draw(st.integers(0, 1)), None))
        assert log.end == len(written)
        start = data.draw(st.integers(0, len(written)))
        found, pieces = rebuild(log, start, limit)
        assert found == written[start:]
        for piece in pieces:
            assert len(piece.payload) <= limit
            assert {marks[piece.offset + i] for i in range(len(piece.payload))} <= {piece.mark.after}
        assert [piece.fin for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert pieces[-1].mark == log.final_mark
        assert pieces[-1].offset + len(pieces[-1].payload) == len(written)

    def test_nothing_to_send_is_none(self):
        log = UpstreamLog(100)
        assert log.piece(0, 10) is None
        log.append(b"abc", START)
        assert log.piece(3, 10) is None

    def test_an_end_under_another_mark_goes_alone(self):
        log = UpstreamLog(100)
        log.append(b"abc", START)
        log.finish(LATER)
        assert log.piece(0, 10) == UpstreamPiece(0, b"abc", START, fin=False)
        assert log.piece(3, 10) == UpstreamPiece(3, b"", LATER, fin=True)

    def test_an_end_under_the_same_mark_goes_with_the_last_bytes(self):
        log = UpstreamLog(100)
        log.append(b"abc", START)
        log.finish(START)
        assert log.piece(0, 2) == UpstreamPiece(0, b"ab", START, fin=False)
        assert log.piece(0, 3) == UpstreamPiece(0, b"abc", START, fin=True)

    def test_the_first_end_counts(self):
        log = UpstreamLog(100)
        assert not log.is_finished
        log.finish(START)
        log.finish(LATER)
        assert log.is_finished
        assert log.final_mark == START


class TestWhole:
    def test_it_is_recruitable_up_to_the_limit_with_its_marks(self):
        log = UpstreamLog(100)
        log.append(bytes(100 - MARK_BYTES), START)
        assert log.is_recruitable
        log.append(b"x", START)
        assert not log.is_recruitable

    def test_every_new_mark_counts(self):
        log = UpstreamLog(2 * MARK_BYTES + 2)
        log.append(b"x", START)
        log.append(b"x", LATER)
        assert log.is_recruitable
        log.append(b"", Mark(9, None))
        assert not log.is_recruitable

    def test_a_whole_log_frees_nothing(self):
        log = UpstreamLog(1000)
        log.append(pattern(50), START)
        log.free(50)
        assert (log.base, log.held_bytes) == (0, 50)
        assert rebuild(log, 0, 100)[0] == pattern(50)

    def test_a_limit_of_zero_is_never_recruitable(self):
        log = UpstreamLog(0)
        log.append(b"x", START)
        assert not log.is_recruitable


class TestFree:
    @given(
        sizes=st.lists(st.integers(1, 20), min_size=1, max_size=10),
        steps=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 20)), max_size=10),
    )
    def test_nothing_that_is_lacking_is_freed_early(self, sizes: list[int], steps: list[tuple[int, int]]):
        log = UpstreamLog(0)
        written, lacking = b"", 0
        for index, size in enumerate(sizes):
            log.append(pattern(size, len(written)), Mark(index, None))
            written += pattern(size, len(written))
        for received, more in steps:
            lacking = max(lacking, min(received, len(written)))
            log.free(lacking)
            assert log.base <= lacking
            assert lacking - log.base < 20
            if more:
                log.append(pattern(more, len(written)), Mark(99, None))
                written += pattern(more, len(written))
            assert rebuild(log, lacking, 7)[0] == written[lacking:]
        log.free(len(written))
        assert log.held_bytes == 0

    def test_a_piece_of_a_chunk_is_kept_whole(self):
        log = UpstreamLog(0)
        log.append(pattern(10), START)
        log.append(pattern(10, 10), LATER)
        log.free(9)
        assert log.base == 0
        log.free(10)
        assert (log.base, log.held_bytes) == (10, 10)
        log.free(15)
        assert log.base == 10


class TestMarks:
    def test_the_lowest_mark_is_that_of_the_first_byte_not_received_that_has_one(self):
        log = UpstreamLog(1000)
        assert log.lowest_mark(0) is None
        log.append(b"abc", START)
        log.append(b"def", LATER)
        assert [log.lowest_mark(received) for received in (0, 2, 3, 5)] == [7, 7, 7, 7]
        assert log.lowest_mark(6) is None
        log.append(b"ghi", Mark(8, None))
        assert [log.lowest_mark(received) for received in (0, 5, 6, 8)] == [7, 7, 8, 8]
        assert log.lowest_mark(9) is None
        log.finish(Mark(9, None))
        assert log.lowest_mark(9) == 9

    @given(starts=st.lists(st.integers(1, 9), min_size=1, max_size=20), data=st.data())
    def test_marks_between_two_offsets_are_never_counted_too_low(self, starts: list[int], data: st.DataObject):
        log = UpstreamLog(0)
        marks: list[int] = []
        for index, size in enumerate(starts):
            log.append(bytes(size), Mark(index // 2, None))
            marks += [index // 2] * size
        low = data.draw(st.integers(0, len(marks)))
        high = data.draw(st.integers(low, len(marks)))
        distinct = len(set(marks[low:high]))
        # The one at the lower offset has begun before it.
        assert log.chunks_between(low, high) >= distinct - 1

    @pytest.mark.parametrize(("start", "stop", "expected"), [(0, 0, 0), (0, 3, 1), (0, 6, 1), (3, 6, 0), (0, 7, 1)])
    def test_counting_chunks(self, start: int, stop: int, expected: int):
        log = UpstreamLog(0)
        log.append(b"abc", START)
        log.append(b"defg", LATER)
        assert log.chunks_between(start, stop) == expected
