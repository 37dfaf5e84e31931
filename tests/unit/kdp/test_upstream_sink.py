"""Upstream on the server: any order of pieces gives the same bytes, each fed at its mark, never beyond the credit."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.digest import Pair
from kwik.kdp.upstream_sink import MAX_MARKS, Gate, Mark, UpstreamSink
from tests.unit.kdp.naive import pattern

START = Mark(0, None)
LATER = Mark(10, Pair(b"c" * 32, b"p" * 32))


def opened(mark: Mark) -> Gate:
    return Gate.OPEN


def only(*open_marks: Mark) -> Callable[[Mark], Gate]:
    return lambda mark: Gate.OPEN if mark in open_marks else Gate.WAIT


def make(credit: int = 1000, window: int = 1000) -> UpstreamSink:
    return UpstreamSink(credit, window)


def drain(sink: UpstreamSink, gate: Callable[[Mark], Gate] = opened, step: int = 1 << 20) -> bytes:
    taken = b""
    while (view := sink.peek(gate)) is not None:
        piece = bytes(view[:step])
        sink.consume(len(piece))
        taken += piece
    return taken


def fault(sink: UpstreamSink, offset: int, payload: bytes, mark: Mark = START, *, fin: bool = False) -> int:
    with pytest.raises(LocalProtocolError) as caught:
        sink.on_piece(offset, payload, mark, fin=fin)
    return caught.value.code


class TestBytes:
    def test_what_arrives_in_order_can_be_taken(self):
        sink = make()
        sink.on_piece(0, b"hello ", START, fin=False)
        sink.on_piece(6, b"world", START, fin=True)
        assert (sink.received, sink.taken, sink.held_bytes) == (11, 0, 11)
        assert drain(sink, step=3) == b"hello world"
        assert (sink.taken, sink.held_bytes) == (11, 0)
        assert sink.at_end(opened)

    def test_what_lies_behind_a_gap_waits(self):
        sink = make()
        sink.on_piece(3, b"def", START, fin=True)
        assert sink.peek(opened) is None
        assert (sink.received, sink.held_bytes) == (0, 3)
        assert not sink.at_end(opened)
        sink.on_piece(0, b"abc", START, fin=False)
        assert (sink.received, sink.held_bytes) == (6, 6)
        assert drain(sink) == b"abcdef"
        assert sink.at_end(opened)

    def test_bytes_that_are_there_stay_as_they_are(self):
        sink = make()
        sink.on_piece(0, b"abc", START, fin=False)
        sink.on_piece(5, b"fg", START, fin=False)
        sink.on_piece(1, b"XXXXXXX", START, fin=False)
        assert drain(sink) == b"abcXXfgX"

    def test_an_empty_upstream_may_end(self):
        sink = make()
        assert not sink.at_end(opened)
        sink.on_piece(0, b"", START, fin=True)
        assert sink.at_end(opened)
        assert sink.peek(opened) is None

    @given(data=st.data())
    def test_any_order_of_any_pieces_gives_the_same_bytes(self, data: st.DataObject):
        upstream = pattern(data.draw(st.integers(0, 120)))
        bounds = sorted(data.draw(st.sets(st.integers(0, len(upstream)), max_size=5)))
        marks = [START, *(Mark(i + 1, None) for i in range(len(bounds)))]
        edges = [0, *bounds, len(upstream)]
        pieces = []
        for mark, low, high in zip(marks, edges[:-1], edges[1:], strict=True):
            cut = data.draw(st.integers(1, 40))
            pieces += [(at, upstream[at : min(high, at + cut)], mark) for at in range(low, high, cut)]
        pieces += data.draw(st.lists(st.sampled_from(pieces), max_size=5)) if pieces else []
        random.Random(data.draw(st.integers(0, 999))).shuffle(pieces)
        sink = make(credit=len(upstream))
        taken = b""
        sink.on_piece(len(upstream), b"", marks[-1], fin=True)
        for offset, payload, mark in pieces:
            sink.on_piece(offset, payload, mark, fin=offset + len(payload) == len(upstream))
            if data.draw(st.booleans()):
                taken += drain(sink)
            assert sink.received - len(taken) <= sink.held_bytes <= len(upstream) - len(taken)
        assert taken + drain(sink) == upstream
        assert sink.at_end(opened)
        assert (sink.mark_count, sink.held_bytes) == (0, 0)


class TestMarks:
    def test_a_range_is_fed_at_its_mark_and_not_before(self):
        sink = make()
        sink.on_piece(0, b"ask", START, fin=False)
        sink.on_piece(3, b"again", LATER, fin=False)
        gate = only(START)
        assert drain(sink, gate) == b"ask"
        assert sink.peek(gate) is None
        assert sink.next_mark() == LATER
        assert drain(sink, only(LATER)) == b"again"
        assert sink.next_mark() is None

    def test_two_ranges_of_different_marks_are_never_mixed(self):
        sink = make()
        sink.on_piece(3, b"again", LATER, fin=False)
        sink.on_piece(0, b"ask", START, fin=False)
        view = sink.peek(opened)
        assert view is not None
        assert bytes(view) == b"ask"

    def test_marks_that_join_from_ahead_stay_apart(self):
        sink = make()
        sink.on_piece(6, b"c", Mark(20, None), fin=False)
        sink.on_piece(3, b"bbb", LATER, fin=False)
        sink.on_piece(0, b"aaa", START, fin=False)
        assert drain(sink, only(START)) == b"aaa"
        assert drain(sink, only(LATER)) == b"bbb"
        assert drain(sink, only(Mark(20, None))) == b"c"

    def test_a_divergent_mark_feeds_nothing(self):
        sink = make()
        sink.on_piece(0, b"ask", START, fin=True)
        assert sink.peek(lambda mark: Gate.DIVERGED) is None
        drain(sink)
        assert not sink.at_end(lambda mark: Gate.DIVERGED)

    def test_the_end_has_a_mark_of_its_own(self):
        sink = make()
        sink.on_piece(0, b"ask", START, fin=False)
        sink.on_piece(3, b"", LATER, fin=True)
        assert drain(sink) == b"ask"
        assert sink.next_mark() == LATER
        assert not sink.at_end(only(START))
        assert sink.at_end(only(LATER))

    def test_the_first_mark_of_the_end_counts(self):
        sink = make()
        sink.on_piece(0, b"", LATER, fin=True)
        sink.on_piece(0, b"", START, fin=True)
        assert not sink.at_end(only(START))
        assert sink.marks() == [LATER]

    def test_all_waiting_marks_are_listed(self):
        sink = make()
        sink.on_piece(0, b"a", START, fin=False)
        sink.on_piece(4, b"e", LATER, fin=False)
        sink.on_piece(5, b"", Mark(30, None), fin=True)
        assert sink.marks() == [START, LATER, Mark(30, None)]
        assert sink.mark_count == 2

    def test_one_more_mark_than_may_be_held_is_too_many(self):
        sink = make(credit=5000)
        for number in range(MAX_MARKS):
            sink.on_piece(number, b"x", Mark(number, None), fin=False)
        assert sink.mark_count == MAX_MARKS
        sink.on_piece(MAX_MARKS, b"more", Mark(MAX_MARKS - 1, None), fin=False)
        assert fault(sink, MAX_MARKS + 4, b"x", Mark(5000, None)) == ErrorCode.LIMIT
        assert fault(sink, MAX_MARKS + 9, b"x", Mark(MAX_MARKS - 1, None)) == ErrorCode.LIMIT


class TestCredit:
    def test_bytes_beyond_it_are_a_fault(self):
        sink = make(credit=4)
        assert fault(sink, 0, b"hello") == ErrorCode.FLOW_CONTROL
        assert fault(sink, 4, b"o") == ErrorCode.FLOW_CONTROL
        sink.on_piece(0, b"hell", START, fin=False)
        assert sink.received == 4

    def test_it_grows_with_what_was_taken_not_with_what_came(self):
        sink = make(credit=100, window=100)
        sink.on_piece(0, bytes(100), START, fin=False)
        assert not sink.update_credit()
        sink.consume(24)
        assert not sink.update_credit()
        sink.consume(1)
        assert sink.update_credit()
        assert sink.credit == 125
        assert not sink.update_credit()

    def test_a_window_larger_than_the_first_credit_opens_at_once(self):
        sink = make(credit=10, window=100)
        assert sink.update_credit()
        assert sink.credit == 100

    def test_many_marks_hold_it_back(self):
        sink = make(credit=1000, window=2000)
        for number in range(MAX_MARKS // 2 + 1):
            sink.on_piece(number, b"x", Mark(number, None), fin=False)
        assert not sink.update_credit()
        sink.consume(1)
        assert sink.update_credit()


class TestFinalSize:
    def test_bytes_behind_the_end_are_a_fault(self):
        sink = make()
        sink.on_piece(0, b"abc", START, fin=True)
        assert fault(sink, 3, b"d") == ErrorCode.FLOW_CONTROL
        assert fault(sink, 2, b"cd") == ErrorCode.FLOW_CONTROL

    @pytest.mark.parametrize("end", [2, 4])
    def test_two_ends_are_a_fault(self, end: int):
        sink = make()
        sink.on_piece(0, b"abc", START, fin=True)
        assert fault(sink, end, b"", fin=True) == ErrorCode.FLOW_CONTROL

    def test_an_end_before_what_has_come_is_a_fault(self):
        sink = make()
        sink.on_piece(0, b"abc", START, fin=False)
        assert fault(sink, 2, b"", fin=True) == ErrorCode.FLOW_CONTROL

    def test_an_end_before_what_came_ahead_is_a_fault(self):
        sink = make()
        sink.on_piece(5, b"abc", START, fin=False)
        assert fault(sink, 4, b"", fin=True) == ErrorCode.FLOW_CONTROL

    def test_repeats_are_harmless(self):
        sink = make()
        for _ in range(2):
            sink.on_piece(0, b"abc", START, fin=True)
        assert drain(sink) == b"abc"
