"""The client's order book: what is on order where, and no block is ever forgotten (SPEC §5.6)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kwik.base.ranges import RangeSet
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.orders import Order, OrderBook
from kwik.types import OrderId, PathId

BLOCK = 16
NOW = 1000.0
P1, P2 = PathId(1), PathId(2)


def order(number: int, path: PathId = P1, replica: int = 1, *, copy: bool = False) -> Order:
    return Order(OrderId(number), replica, path, RangeSet(), NOW, NOW + 1.0, 100.0, copy)


def make(blocks: int = 8) -> OrderBook:
    book = OrderBook(BLOCK)
    book.extend(blocks)
    return book


def give(
    book: OrderBook, number: int, blocks: list[int], path: PathId = P1, *, replica: int = 1, final: int | None = None
) -> Order:
    given = order(number, path, replica)
    book.issue(given, blocks, final)
    return given


def fault(book: OrderBook, path: PathId, replica: int, number: int, *span: int) -> int:
    offset, size = span
    with pytest.raises(LocalProtocolError) as caught:
        book.on_data(path, replica, OrderId(number), offset, size)
    return caught.value.code


class TestGivingUp:
    """What is taken back is wanted elsewhere at once, although its bytes may still come."""

    def test_the_tail_is_wanted_and_no_longer_owed(self):
        book = make()
        book.give_up(given := give(book, 1, [0, 1, 2, 3]), 2)
        assert list(book.unassigned) == [(2, 8)]
        assert (book.owed_by(P1, 1), book.owed_of(P1, 1, 1), book.remaining_of(P1, 1, 1)) == (32, 32, 64)
        assert [book.awaited(block) for block in (1, 2)] == [[given], []]
        assert book.covering(2) == [given]

    def test_it_says_how_many_bytes_that_were_and_nothing_twice(self):
        book = make()
        given = give(book, 1, [0, 1, 2, 3])
        assert [book.give_up(given, block) for block in (3, 2, 2, 3)] == [16, 16, 0, 0]

    def test_its_bytes_may_still_come(self):
        book = make()
        book.give_up(give(book, 1, [0, 1]), 0)
        assert book.on_data(P1, 1, OrderId(1), 0, 32)
        assert fault(book, P1, 1, 1, 0, 1) == ErrorCode.UNAUTHORISED_DATA

    def test_what_the_server_had_sent_before_the_revoke_is_left_to_it(self):
        book = make(4)
        book.give_up(give(book, 1, [0, 1, 2, 3]), 1)
        book.on_revoked(P1, 1, OrderId(1), 3)
        assert list(book.unassigned) == [(3, 4)]
        assert book.owed_by(P1, 1) == 48

    def test_a_block_that_another_order_brings_is_not_wanted_again(self):
        book = make(4)
        first = give(book, 1, [0, 1])
        give(book, 2, [1], P2, replica=2)
        book.give_up(first, 1)
        assert list(book.unassigned) == [(2, 4)]

    def test_a_path_that_speaks_again_does_not_get_back_what_was_given_up(self):
        book = make(4)
        book.give_up(give(book, 1, [0, 1]), 1)
        book.suspend(P1)
        assert list(book.unassigned) == [(0, 4)]
        book.resume(P1)
        assert list(book.unassigned) == [(1, 4)]

    def test_what_is_delivered_is_released_once(self):
        book = make(4)
        book.give_up(give(book, 1, [0, 1]), 1)
        assert sum(size for _, size in book.forget_below(2)) == 16


class TestAuthorisation:
    def test_bytes_of_an_order_come_once_and_in_any_pieces(self):
        book = make()
        give(book, 1, [0, 1])
        assert not book.on_data(P1, 1, OrderId(1), 3, 20)
        assert fault(book, P1, 1, 1, 22, 2) == ErrorCode.UNAUTHORISED_DATA
        book.on_data(P1, 1, OrderId(1), 0, 3)
        assert book.on_data(P1, 1, OrderId(1), 23, 9)
        assert book.orders() == []
        assert fault(book, P1, 1, 1, 0, 1) == ErrorCode.UNAUTHORISED_DATA

    @pytest.mark.parametrize(
        ("path", "replica", "number", "offset", "size"),
        [(P2, 1, 1, 0, 4), (P1, 2, 1, 0, 4), (P1, 1, 2, 0, 4), (P1, 1, 1, 30, 4), (P1, 1, 1, 64, 4)],
    )
    def test_what_no_order_covers_is_refused(self, path: PathId, replica: int, number: int, offset: int, size: int):
        book = make()
        give(book, 1, [0, 1])
        assert fault(book, path, replica, number, offset, size) == ErrorCode.UNAUTHORISED_DATA

    def test_beyond_the_replicas_own_end_nothing_is_authorised(self):
        book = make()
        give(book, 1, [0, 1, 2], final=BLOCK + 5)
        assert book.remaining_of(P1, 1, 1) == BLOCK + 5
        assert fault(book, P1, 1, 1, BLOCK + 5, 1) == ErrorCode.UNAUTHORISED_DATA
        assert 2 not in book.unassigned

    def test_an_order_wholly_beyond_the_end_is_void(self):
        book = make()
        give(book, 1, [4], final=BLOCK)
        assert book.orders() == []
        assert book.counts.get(P1, 0) == 0

    def test_a_confirmed_revoke_ends_the_authorisation_from_that_block_on(self):
        book = make()
        give(book, 1, [0, 1, 2])
        book.on_revoked(P1, 1, OrderId(1), 1)
        assert fault(book, P1, 1, 1, BLOCK, 1) == ErrorCode.UNAUTHORISED_DATA
        book.on_data(P1, 1, OrderId(1), 0, BLOCK)
        assert list(book.unassigned) == [(1, 8)]
        book.on_revoked(P1, 1, OrderId(1), 0)


class TestCounts:
    def test_outstanding_orders_are_counted_by_path(self):
        book = make()
        give(book, 1, [0])
        give(book, 2, [1])
        give(book, 1, [2], P2)
        assert book.counts == {P1: 2, P2: 1}
        book.on_data(P1, 1, OrderId(1), 0, BLOCK)
        assert book.counts == {P1: 1, P2: 1}
        book.drop(P1)
        assert book.counts == {P1: 0, P2: 1}
        book.drop_replica(1)
        assert book.counts == {P1: 0, P2: 0}

    def test_bytes_owed(self):
        book = make()
        give(book, 1, [0, 1])
        give(book, 2, [2], replica=2)
        book.on_data(P1, 1, OrderId(1), 0, 6)
        assert book.owed_by(P1, 1) == 2 * BLOCK - 6
        assert book.owed_by(P1, 2) == BLOCK
        assert book.remaining_of(P1, 2, 2) == BLOCK
        assert book.remaining_of(P1, 2, 3) == 0

    def test_when_a_byte_is_due(self):
        book = make()
        given = give(book, 1, [0, 2])
        assert given.due_of(0) == given.first_due
        assert given.due_of(2 * BLOCK + 4) == pytest.approx(given.first_due + (BLOCK + 4) / 100.0)
        book.on_data(P1, 1, OrderId(1), 0, BLOCK)
        assert given.due_of(3 * BLOCK) == pytest.approx(given.first_due + BLOCK / 100.0)


class TestSilence:
    def test_what_a_silent_path_owes_is_wanted_from_others(self):
        book = make(4)
        give(book, 1, [0, 1])
        book.settle(1)
        assert book.suspend(P1) == [0]
        assert list(book.unassigned) == [(0, 1), (2, 4)]
        assert book.suspend(P1) == []

    def test_what_comes_all_the_same_is_authorised(self):
        book = make(4)
        give(book, 1, [0])
        book.suspend(P1)
        book.on_data(P1, 1, OrderId(1), 0, BLOCK)

    def test_when_it_speaks_again_it_keeps_what_nobody_else_was_asked_for(self):
        book = make(4)
        give(book, 1, [0, 1])
        book.suspend(P1)
        give(book, 1, [0], P2, replica=2)
        book.resume(P1)
        assert list(book.unassigned) == [(2, 4)]
        assert [o.path for o in book.covering(0)] == [P1, P2]
        assert not any(o.is_suspended for o in book.orders())

    def test_a_block_on_another_living_order_is_not_wanted(self):
        book = make(4)
        give(book, 1, [0])
        give(book, 1, [0], P2, replica=2)
        assert book.suspend(P1) == []
        assert book.suspend(P2) == [0]
        assert book.drop(P1) == []


class TestEnds:
    def test_nothing_beyond_the_end_is_wanted(self):
        book = make(8)
        book.end_at(2 * BLOCK + 1)
        assert list(book.unassigned) == [(0, 3)]
        assert book.horizon == 3
        book.extend(3)
        assert list(book.unassigned) == [(0, 3)]

    def test_a_new_anchor_reopens_it(self):
        book = make(8)
        book.end_at(2 * BLOCK)
        book.end_at(None)
        book.extend(8)
        assert book.final is None
        assert list(book.unassigned) == [(0, 8)]

    def test_trimming_voids_what_a_replica_owes_beyond_its_end(self):
        book = make(8)
        give(book, 1, [0, 1, 2])
        give(book, 2, [3])
        give(book, 3, [1], replica=2)
        book.trim(1, BLOCK + 2, P1)
        assert book.owed_by(P1, 1) == BLOCK + 2
        assert book.owed_by(P1, 2) == BLOCK
        assert book.counts == {P1: 2}
        assert book.covering(2) == []

    def test_a_settled_block_is_not_wanted_again_until_it_is_unsettled(self):
        book = make(2)
        book.settle(0)
        assert list(book.unassigned) == [(1, 2)]
        book.unsettle(0)
        assert list(book.unassigned) == [(0, 2)]
        assert book.settled_from(0) == []

    def test_settling_names_the_orders_that_still_bring_copies(self):
        book = make(4)
        first, second = give(book, 1, [0]), give(book, 1, [0, 1], P2, replica=2)
        book.on_data(P1, 1, OrderId(1), 0, BLOCK)
        assert book.settle(0) == [second]
        assert first not in book.covering(0)
        assert book.is_coming(0, 2)
        assert not book.is_coming(0, 1)

    def test_delivered_blocks_are_owed_by_nobody(self):
        book = make(4)
        give(book, 1, [0, 1, 2])
        give(book, 1, [1], P2, replica=2)
        book.on_data(P1, 1, OrderId(1), 0, 6)
        released = book.forget_below(2)
        assert {path: sum(n for where, n in released if where == path) for path in (P1, P2)} == {
            P1: 2 * BLOCK - 6,
            P2: BLOCK,
        }
        assert book.is_settled(0)
        assert book.counts == {P1: 1, P2: 0}
        assert book.owed_by(P1, 1) == BLOCK
        assert book.covering(1) == []
        assert fault(book, P2, 2, 1, BLOCK, 1) == ErrorCode.UNAUTHORISED_DATA


class BookAgainstModel(RuleBasedStateMachine):
    """Whatever happens, each authorised block is held, on a counting order, or wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.book = OrderBook(BLOCK)
        self.owed: dict[tuple[PathId, int, int], set[int]] = {}
        self.suspended: set[tuple[PathId, int, int]] = set()
        self.given_up: dict[tuple[PathId, int, int], int] = {}
        """The block from which on nobody waits for that order."""
        self.settled: set[int] = set()
        self.next_number = 1

    @rule(more=st.integers(1, 6))
    def extend(self, more: int) -> None:
        self.book.extend(self.book.horizon + more)

    @precondition(lambda self: self.book.horizon > 0)
    @rule(data=st.data(), path=st.sampled_from([P1, P2]), replica=st.integers(1, 2))
    def issue(self, data: st.DataObject, path: PathId, replica: int) -> None:
        blocks = sorted(data.draw(st.sets(st.integers(0, self.book.horizon - 1), min_size=1, max_size=4)))
        give(self.book, self.next_number, blocks, path, replica=replica)
        self.owed[path, replica, self.next_number] = {b * BLOCK + i for b in blocks for i in range(BLOCK)}
        self.next_number += 1

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def whole_block_arrives(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.owed)))
        block = data.draw(st.sampled_from(sorted({offset // BLOCK for offset in self.owed[key]})))
        self.book.on_data(key[0], key[1], OrderId(key[2]), block * BLOCK, BLOCK)
        self._void(key, {block})
        self.book.settle(block)
        self.settled.add(block)

    @rule(path=st.sampled_from([P1, P2]))
    def silence(self, path: PathId) -> None:
        self.book.suspend(path)
        self.suspended |= {key for key in self.owed if key[0] == path}

    @rule(path=st.sampled_from([P1, P2]))
    def speech(self, path: PathId) -> None:
        self.book.resume(path)
        self.suspended -= {key for key in self.owed if key[0] == path}

    @rule(path=st.sampled_from([P1, P2]), replica=st.none() | st.integers(1, 2))
    def path_gone(self, path: PathId, replica: int | None) -> None:
        self.book.drop(path, replica)
        self._forget({key for key in self.owed if key[0] == path and replica in (None, key[1])})

    @rule(replica=st.integers(1, 2))
    def replica_gone(self, replica: int) -> None:
        self.book.drop_replica(replica)
        self._forget({key for key in self.owed if key[1] == replica})

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def revoked(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.owed)))
        block = data.draw(st.integers(0, self.book.horizon))
        self.book.on_revoked(key[0], key[1], OrderId(key[2]), block)
        self.given_up.pop(key, None)
        self._void(key, set(range(block, self.book.horizon)))

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def given_up_on(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.owed)))
        block = data.draw(st.integers(0, self.book.horizon))
        before = self._awaited_of(key)
        self.given_up[key] = min(block, self.given_up.get(key, block))
        (order,) = [o for o in self.book.orders() if (o.path, o.replica, int(o.number)) == key]
        assert self.book.give_up(order, block) == len(before) - len(self._awaited_of(key))

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def a_copy_was_wrong(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.settled)))
        self.book.unsettle(block)
        self.settled.discard(block)

    @precondition(lambda self: self.book.horizon > 0)
    @rule(data=st.data())
    def delivered(self, data: st.DataObject) -> None:
        block = data.draw(st.integers(0, min(self.book.horizon, 3)))
        owed = {
            path: sum(o // BLOCK < block for k in self.owed if k[0] == path for o in self._awaited_of(k))
            for path in (P1, P2)
        }
        released = self.book.forget_below(block)
        for path in (P1, P2):
            assert sum(size for where, size in released if where == path) == owed[path]
        for key in list(self.owed):
            self._void(key, set(range(block)))
        self.settled |= set(range(block))

    def _void(self, key: tuple[PathId, int, int], blocks: set[int]) -> None:
        self.owed[key] = {offset for offset in self.owed[key] if offset // BLOCK not in blocks}
        if not self.owed[key]:
            self._forget({key})

    def _forget(self, keys: set[tuple[PathId, int, int]]) -> None:
        for key in keys:
            self.owed.pop(key, None)
            self.suspended.discard(key)
            self.given_up.pop(key, None)

    def _awaited_of(self, key: tuple[PathId, int, int]) -> set[int]:
        """The bytes of an order that are still to come and not given up."""
        return {offset for offset in self.owed[key] if offset // BLOCK < self.given_up.get(key, self.book.horizon)}

    @invariant()
    def no_block_is_forgotten_and_none_is_asked_for_twice(self) -> None:
        for block in range(self.book.horizon):
            counting = {
                key
                for key in self.owed.keys() - self.suspended
                if any(offset // BLOCK == block for offset in self._awaited_of(key))
            }
            assert {(o.path, o.replica, int(o.number)) for o in self.book.awaited(block)} == counting
            if not counting and block not in self.settled:
                assert block in self.book.unassigned, f"block {block} is neither held nor on order nor wanted"
            if counting:
                assert block not in self.book.unassigned, f"block {block} is on order and wanted all the same"
            if block in self.settled:
                assert block not in self.book.unassigned
                assert self.book.is_settled(block)

    @invariant()
    def it_remembers_the_same_orders(self) -> None:
        found = {(o.path, o.replica, int(o.number)): o for o in self.book.orders()}
        assert found.keys() == self.owed.keys()
        for key, offsets in self.owed.items():
            assert found[key].remaining.total == len(offsets) == self.book.remaining_of(*key)
            assert self.book.owed_of(*key) == len(self._awaited_of(key))
            assert all(offset in found[key].remaining for offset in offsets)
            for block in {offset // BLOCK for offset in offsets}:
                assert found[key] in self.book.covering(block)
                assert self.book.is_coming(block, key[1])
        for path in (P1, P2):
            assert self.book.counts.get(path, 0) == sum(key[0] == path for key in self.owed)
            for replica in (1, 2):
                owed = sum(len(self._awaited_of(key)) for key in self.owed if key[:2] == (path, replica))
                assert self.book.owed_by(path, replica) == owed


TestBookAgainstModel = BookAgainstModel.TestCase
TestBookAgainstModel.settings = settings(max_examples=60, stateful_step_count=25)
