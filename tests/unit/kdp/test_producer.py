"""The window of produced output: bytes, digests and pairs from the floor on, nothing below (SPEC §5.5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.producer import Producer
from tests.unit.kdp.naive import BLAKE3, digests_of, naive_pair, pattern

BLOCK = 16
BIG = 1 << 30


def make(*, floor: int = 0, credit: int = BIG, cap: int = BIG, hashed: bool = True) -> Producer:
    return Producer(BLOCK, BLAKE3 if hashed else None, floor=floor, credit=credit, cap_bytes=cap)


def read_all(producer: Producer, start: int) -> bytes:
    found = b""
    while start + len(found) < producer.produced:
        piece = producer.read(start + len(found), BIG)
        assert piece
        found += piece
    return found


class TestAllowance:
    @pytest.mark.parametrize(
        ("floor", "credit", "cap", "produced", "expected"),
        [
            (0, 100, 1000, 0, 100),
            (0, 100, 60, 0, 60),
            (0, 100, 60, 60, 0),
            (32, 1000, 60, 10, 82),
            (0, 10, 1000, 20, 0),
        ],
    )
    def test_it_is_the_smaller_of_credit_and_cap(self, floor: int, credit: int, cap: int, produced: int, expected: int):
        producer = make(floor=floor, credit=credit, cap=cap)
        producer.append(bytes(produced))
        assert producer.allowance() == expected

    def test_it_moves_with_the_floor(self):
        producer = make(cap=2 * BLOCK)
        producer.append(bytes(2 * BLOCK))
        assert producer.allowance() == 0
        producer.set_floor(BLOCK)
        assert producer.allowance() == BLOCK

    def test_it_is_nothing_after_the_end(self):
        producer = make()
        producer.finish()
        assert producer.allowance() == 0


class TestFloor:
    def test_it_frees_what_lies_below(self):
        producer = make()
        producer.append(pattern(5 * BLOCK + 3))
        assert producer.set_floor(3 * BLOCK)
        assert producer.held_bytes == 2 * BLOCK + 3
        assert producer.read(2 * BLOCK, BLOCK) == b""
        assert producer.digest(2) is None
        assert producer.digest(3) == digests_of(pattern(4 * BLOCK), BLOCK)[3]
        assert producer.pair_at(2 * BLOCK + 1) is None

    def test_it_never_falls(self):
        producer = make()
        producer.append(pattern(4 * BLOCK))
        producer.set_floor(2 * BLOCK)
        assert not producer.set_floor(BLOCK)
        assert not producer.set_floor(2 * BLOCK)
        assert producer.floor == 2 * BLOCK

    def test_output_below_it_is_hashed_and_dropped(self):
        data = pattern(6 * BLOCK)
        producer = make(floor=4 * BLOCK)
        producer.append(data[: 4 * BLOCK])
        assert producer.held_bytes == 0
        assert [producer.digest(block) for block in range(4)] == [None] * 4
        producer.append(data[4 * BLOCK :])
        assert read_all(producer, 4 * BLOCK) == data[4 * BLOCK :]
        assert producer.pair_at(5 * BLOCK + 2) == naive_pair(data, 5 * BLOCK + 2, BLOCK)

    def test_it_may_run_ahead_of_the_output(self):
        producer = make()
        producer.append(pattern(BLOCK + 5))
        producer.set_floor(3 * BLOCK)
        assert producer.held_bytes == 0
        producer.append(pattern(3 * BLOCK, BLOCK + 5))
        assert producer.held_bytes == BLOCK + 5
        assert read_all(producer, 3 * BLOCK) == pattern(BLOCK + 5, 3 * BLOCK)

    def test_the_floor_above_a_short_last_block_frees_it(self):
        producer = make()
        producer.append(pattern(BLOCK + 5))
        producer.finish()
        assert producer.digest(1) is not None
        producer.set_floor(2 * BLOCK)
        assert producer.digest(1) is None
        assert producer.held_bytes == 0


class TestDigests:
    def test_a_block_has_a_digest_once_it_is_whole(self):
        producer = make()
        producer.append(pattern(BLOCK - 1))
        assert producer.digest(0) is None
        producer.append(pattern(1, BLOCK - 1))
        assert producer.digest(0) == digests_of(pattern(BLOCK), BLOCK)[0]

    def test_the_last_shorter_block_once_the_end_is_known(self):
        producer = make()
        producer.append(pattern(BLOCK + 3))
        assert producer.digest(1) is None
        producer.finish()
        assert producer.final == BLOCK + 3
        assert producer.digest(1) == digests_of(pattern(BLOCK + 3), BLOCK)[1]

    @pytest.mark.parametrize("size", [0, BLOCK])
    def test_no_digest_of_an_absent_last_block(self, size: int):
        producer = make()
        producer.append(pattern(size))
        producer.finish()
        assert producer.digest(size // BLOCK) is None

    def test_a_last_block_below_the_floor_is_not_kept(self):
        producer = make(floor=2 * BLOCK)
        producer.append(pattern(BLOCK + 3))
        producer.finish()
        assert producer.digest(1) is None

    def test_without_an_algorithm_there_are_none(self):
        producer = make(hashed=False)
        producer.watch(BLOCK)
        producer.append(pattern(2 * BLOCK + 1))
        producer.finish()
        assert not producer.is_hashed
        assert producer.digest(0) is None
        assert producer.pair_at(BLOCK) is None
        assert read_all(producer, 0) == pattern(2 * BLOCK + 1)


class TestWatchedOffsets:
    def test_a_watched_pair_survives_the_floor(self):
        producer = make(floor=4 * BLOCK)
        producer.watch(BLOCK + 3)
        producer.append(pattern(5 * BLOCK))
        assert producer.pair_at(BLOCK + 3) == naive_pair(pattern(5 * BLOCK), BLOCK + 3, BLOCK)
        assert producer.pair_at(BLOCK + 4) is None
        producer.unwatch(BLOCK + 3)
        assert producer.pair_at(BLOCK + 3) is None

    def test_watching_what_is_produced_or_watched_changes_nothing(self):
        producer = make()
        producer.append(pattern(4))
        producer.watch(4)
        producer.watch(9)
        producer.watch(9)
        producer.watch(7)
        producer.append(pattern(12, 4))
        for offset in (4, 7, 9, 16):
            assert producer.pair_at(offset) == naive_pair(pattern(16), offset, BLOCK)

    def test_an_unreached_offset_has_no_pair(self):
        producer = make()
        producer.append(pattern(7))
        assert producer.pair_at(8) is None
        assert producer.pair_at(7) == naive_pair(pattern(7), 7, BLOCK)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3 * BLOCK)),
        st.tuples(st.just("floor"), st.integers(0, 8)),
        st.tuples(st.just("watch"), st.integers(1, 8 * BLOCK)),
    ),
    max_size=25,
)


@given(operations=OPERATIONS, first_floor=st.integers(0, 3), hashed=st.booleans())
def test_it_equals_a_list_of_everything(operations: list[tuple[str, int]], first_floor: int, hashed: bool):
    producer = make(floor=first_floor * BLOCK, hashed=hashed)
    output, floor, watched = b"", first_floor * BLOCK, set()
    for name, number in operations:
        if name == "append":
            output += pattern(number, len(output))
            producer.append(output[-number:])
        elif name == "floor":
            floor = max(floor, number * BLOCK)
            producer.set_floor(number * BLOCK)
        else:
            if number > len(output):
                watched.add(number)
            producer.watch(number)
        assert producer.produced == len(output)
        assert producer.held_bytes == max(0, len(output) - floor)
        assert read_all(producer, floor) == output[floor:]
    if not hashed:
        return
    for offset in range(len(output) + 2):
        expected = naive_pair(output, offset, BLOCK) if offset <= len(output) else None
        if offset < floor and offset != len(output) and offset not in watched:
            expected = None
        assert producer.pair_at(offset) == expected
    producer.finish()
    digests = digests_of(output, BLOCK)
    for block in range(len(digests)):
        assert producer.digest(block) == (digests[block] if block * BLOCK >= floor else None)
