"""Digests of blocks, runs and chains: hashing in any cut gives what SPEC §1 defines."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.digest import ALGORITHMS, DIGEST_BYTES, RUN_BLOCKS, ZERO_CHAIN, Pair, RunningHash, next_chain, run_digest
from kwik.wire.frames import DIGEST_BLAKE3, DIGEST_NONE
from tests.unit.kdp.naive import BLAKE3, blocks_of, chain_before, naive_pair

BLOCK = 64


def test_blake3_is_known_and_no_digest_is_none():
    assert ALGORITHMS[DIGEST_BLAKE3] is blake3
    assert DIGEST_NONE not in ALGORITHMS
    assert blake3(b"").digest_size == DIGEST_BYTES


def test_a_chain_begins_with_zeros_and_binds_what_came_before():
    first = next_chain(BLAKE3, ZERO_CHAIN, b"a" * 32)
    assert first == blake3(bytes(32) + b"a" * 32).digest()
    assert next_chain(BLAKE3, first, b"b" * 32) != next_chain(BLAKE3, ZERO_CHAIN, b"b" * 32)


def test_a_run_digest_is_independent_of_earlier_runs():
    digests = [bytes([i]) * 32 for i in range(RUN_BLOCKS)]
    assert run_digest(BLAKE3, digests) == blake3(b"".join(digests)).digest()
    assert run_digest(BLAKE3, digests) != run_digest(BLAKE3, reversed(digests))


@given(data=st.binary(max_size=5 * BLOCK), sizes=st.lists(st.integers(1, 2 * BLOCK + 1), max_size=20))
def test_any_cut_gives_the_same_digests_and_pairs(data: bytes, sizes: list[int]):
    running = RunningHash(BLAKE3, BLOCK)
    digests: list[bytes] = []
    position = 0
    for size in [*sizes, len(data)]:
        digests += running.update(memoryview(data)[position : position + size])
        position = min(len(data), position + size)
        assert running.offset == position
        assert running.pair == naive_pair(data, position, BLOCK)
        assert running.chain == chain_before(data, position // BLOCK, BLOCK)
    whole = [block for block in blocks_of(data, BLOCK) if len(block) == BLOCK]
    assert digests == [blake3(block).digest() for block in whole]
    rest = data[len(whole) * BLOCK :]
    assert running.digest_of_rest() == (blake3(rest).digest() if rest else None)


def test_the_pair_at_zero_is_a_constant():
    assert RunningHash(BLAKE3, BLOCK).pair == Pair(ZERO_CHAIN, blake3(b"").digest())


@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, 2 * BLOCK - 1])
def test_one_changed_byte_changes_the_pair_at_every_later_offset(place: int):
    data = bytearray(3 * BLOCK)
    own = naive_pair(bytes(data), 3 * BLOCK, BLOCK)
    data[place] ^= 1
    running = RunningHash(BLAKE3, BLOCK)
    running.update(bytes(data))
    assert running.pair != own
