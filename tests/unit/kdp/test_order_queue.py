"""A server's orders on one path: ascending, urgent first, each byte once, revoked by whole blocks (SPEC §5.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.order_queue import MAX_ORDERS, NOTHING_DROPPED, OrderQueue
from kwik.types import OrderId

BLOCK = 16
BIG = 1 << 40


def make(*orders: tuple[int, tuple[tuple[int, int], ...]], credit: int = BIG) -> OrderQueue:
    queue = OrderQueue(BLOCK)
    for number, blocks in orders:
        add(queue, number, *blocks, credit=credit)
    return queue


def add(queue: OrderQueue, number: int, *blocks: tuple[int, int], urgent: bool = False, credit: int = BIG) -> None:
    queue.add(OrderId(number), blocks, urgent=urgent, credit=credit)


def serve(queue: OrderQueue, produced: int, step: int = BIG) -> list[tuple[int, int, int]]:
    """(order, start, stop) of everything that goes out now."""
    sent = []
    while (order := queue.next(produced)) is not None:
        start, stop = order.ranges[0]
        size = min(step, stop - start, produced - start)
        sent.append((int(order.number), start, start + size))
        queue.advance(order, size)
    return sent


def fault(queue: OrderQueue, number: int, *blocks: tuple[int, int], credit: int = BIG) -> int:
    with pytest.raises(LocalProtocolError) as caught:
        add(queue, number, *blocks, credit=credit)
    return caught.value.code


class TestOrder:
    def test_orders_are_served_in_ascending_offset(self):
        queue = make((1, ((4, 1),)), (2, ((0, 1), (6, 1))), (3, ((2, 1),)))
        assert [number for number, _, _ in serve(queue, 10 * BLOCK)] == [2, 3, 1, 2]
        assert len(queue) == 0

    def test_urgent_ones_go_first(self):
        queue = make((1, ((0, 1),)))
        add(queue, 2, (5, 1), urgent=True)
        assert [number for number, _, _ in serve(queue, 10 * BLOCK)] == [2, 1]

    def test_an_urgent_order_that_is_not_produced_holds_nobody_up(self):
        queue = make((1, ((0, 1),)))
        add(queue, 2, (5, 1), urgent=True)
        assert serve(queue, BLOCK) == [(1, 0, BLOCK)]

    def test_only_what_is_produced_goes_out(self):
        queue = make((1, ((0, 2),)))
        assert serve(queue, 5) == [(1, 0, 5)]
        assert serve(queue, 5) == []
        assert serve(queue, BLOCK + 1) == [(1, 5, BLOCK + 1)]

    def test_ranges_of_one_order_are_sorted(self):
        queue = make((1, ((6, 1), (0, 2))))
        assert serve(queue, 10 * BLOCK) == [(1, 0, 2 * BLOCK), (1, 6 * BLOCK, 7 * BLOCK)]

    @given(data=st.data())
    def test_each_ordered_and_produced_byte_goes_out_once(self, data: st.DataObject):
        queue = OrderQueue(BLOCK)
        expected: dict[int, set[int]] = {}
        for number in range(data.draw(st.integers(1, 5))):
            blocks = sorted(data.draw(st.sets(st.integers(0, 12), min_size=1, max_size=5)))
            add(queue, number, *((block, 1) for block in blocks), urgent=data.draw(st.booleans()))
            expected[number] = {b * BLOCK + i for b in blocks for i in range(BLOCK)}
        sent: dict[int, list[int]] = {number: [] for number in expected}
        final = data.draw(st.integers(0, 13 * BLOCK))
        for produced in [*sorted(data.draw(st.lists(st.integers(0, final), max_size=4))), final]:
            for number, start, stop in serve(queue, produced, data.draw(st.integers(1, 40))):
                assert stop <= produced
                sent[number] += range(start, stop)
        queue.end_at(final)
        assert len(queue) == 0
        assert queue.owed_ranges == []
        for number, offsets in sent.items():
            assert len(offsets) == len(set(offsets))
            assert set(offsets) == {offset for offset in expected[number] if offset < final}


class TestLimits:
    def test_256_orders_and_not_one_more(self):
        queue = make(*((number, ((number, 1),)) for number in range(MAX_ORDERS)))
        assert len(queue) == MAX_ORDERS == 256
        assert fault(queue, 999, (0, 1)) == ErrorCode.LIMIT

    def test_a_number_is_given_once(self):
        queue = make((1, ((0, 1),)))
        assert fault(queue, 1, (1, 1)) == ErrorCode.PROTOCOL

    def test_nothing_reaches_beyond_the_credit_rounded_up_to_a_block(self):
        queue = make()
        add(queue, 1, (0, 2), credit=BLOCK + 1)
        assert fault(queue, 2, (0, 1), (2, 1), credit=BLOCK + 1) == ErrorCode.LIMIT
        assert fault(queue, 3, (1, 1), credit=BLOCK) == ErrorCode.LIMIT
        assert len(queue) == 1


class TestRevoke:
    def test_all_that_is_left(self):
        queue = make((1, ((0, 4),)))
        assert queue.revoke(OrderId(1), 0) == 0
        assert len(queue) == 0

    def test_from_a_block_on(self):
        queue = make((1, ((0, 2), (4, 4))))
        assert queue.revoke(OrderId(1), 5) == 5
        assert queue.owed_ranges == [(0, 2 * BLOCK), (4 * BLOCK, 5 * BLOCK)]

    def test_the_block_that_is_being_sent_is_not_torn_apart(self):
        queue = make((1, ((2, 4),)))
        order = queue.next(BIG)
        assert order is not None
        queue.advance(order, 1)
        assert queue.revoke(OrderId(1), 0) == 3
        assert queue.owed_ranges == [(2 * BLOCK + 1, 3 * BLOCK)]

    def test_an_unknown_order_is_finished(self):
        assert make().revoke(OrderId(7), 3) == NOTHING_DROPPED == 2**62 - 1


class TestEndAndBusy:
    def test_what_lies_beyond_the_end_is_void(self):
        queue = make((1, ((0, 2),)), (2, ((1, 3),)), (3, ((3, 1),)))
        queue.end_at(BLOCK + 5)
        assert serve(queue, BLOCK + 5) == [(1, 0, BLOCK + 5), (2, BLOCK, BLOCK + 5)]
        assert len(queue) == 0

    def test_the_next_in_line_waits_and_is_told_once(self):
        queue = make((1, ((5, 1),)), (2, ((3, 1),)))
        order = queue.waiting(3 * BLOCK)
        assert order is not None
        assert order.number == 2
        order.busy_told = True
        assert queue.waiting(3 * BLOCK) is None

    def test_nobody_waits_while_something_can_be_sent(self):
        queue = make((1, ((0, 2),)), (2, ((3, 1),)))
        assert queue.waiting(1) is None
        assert queue.waiting(0) is not None
        assert make().waiting(0) is None

    def test_who_was_served_and_waits_again_is_told_again(self):
        queue = make((1, ((0, 2),)))
        order = queue.waiting(0)
        assert order is not None
        order.busy_told = True
        serve(queue, 5)
        assert queue.waiting(5) is not None
