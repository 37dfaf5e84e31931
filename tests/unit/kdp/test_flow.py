"""The memory pool: a budget shared so that a newcomer always finds room (SPEC §6.6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.flow import GROWTH_PART, NEWCOMER_PART, MemoryPool


def test_a_newcomers_guarantee_is_reserved_or_refused():
    pool = MemoryPool(100)
    assert pool.admit("a", 60)
    assert not pool.admit("b", 41)
    assert pool.held_by("b") == 0
    assert pool.admit("b", 40)
    assert pool.used_bytes == 100


def test_growth_takes_a_part_of_the_budget_and_leaves_the_rest_to_guarantees():
    pool = MemoryPool(1000)
    pool.admit("a", 10)
    assert pool.room_bytes == 1000 // GROWTH_PART
    pool.grow("a", 10_000)
    assert pool.used_bytes <= 10 + 1000 // GROWTH_PART
    assert pool.admit("b", 1000 - 1000 // GROWTH_PART - 10)


def test_a_holder_grows_only_up_to_what_is_left():
    pool = MemoryPool(1000)
    pool.admit("a", 10)
    grown = pool.grow("a", 10_000) - 10
    assert grown == pool.room_bytes == 250
    assert pool.grow("a", 10_000) == 260


def test_it_grows_no_further_than_it_wants_and_never_shrinks_by_growing():
    pool = MemoryPool(1000)
    pool.admit("a", 10)
    assert pool.grow("a", 30) == 30
    assert pool.grow("a", 20) == 30


def test_a_newcomer_starts_with_a_little_more_than_its_guarantee():
    pool = MemoryPool(10_000)
    pool.admit("a", 10)
    assert pool.start_with("a", 10_000) == 10 + 5000 // NEWCOMER_PART
    assert pool.start_with("a", 10_000) == 10 + 5000 // NEWCOMER_PART
    pool.admit("b", 10)
    assert pool.start_with("b", 15) == 15
    pool.admit("c", 10)
    assert pool.start_with("c", 5) == 10


def test_who_was_not_admitted_has_nothing():
    pool = MemoryPool(1000)
    assert pool.grow("a", 100) == pool.start_with("a", 100) == 0
    pool.shrink("a", 0)
    pool.release("a")
    assert pool.used_bytes == 0


def test_shrinking_gives_back_all_but_the_guarantee():
    pool = MemoryPool(1000)
    pool.admit("a", 50)
    pool.grow("a", 200)
    pool.shrink("a", 300)
    assert pool.held_by("a") == 200
    pool.shrink("a", 120)
    assert (pool.held_by("a"), pool.used_bytes) == (120, 120)
    pool.shrink("a", 20)
    assert (pool.held_by("a"), pool.used_bytes) == (50, 50)
    pool.release("a")
    pool.release("a")
    assert (pool.held_by("a"), pool.used_bytes) == (0, 0)


def test_a_budget_cut_below_its_use_leaves_nothing_to_grow():
    pool = MemoryPool(100)
    pool.admit("a", 30)
    pool.grow("a", 50)
    pool.total_bytes = 10
    assert pool.room_bytes == 0
    assert pool.grow("a", 60) == 50
    assert not pool.admit("b", 1)


def test_greedy_holders_end_near_a_fair_share():
    pool = MemoryPool(1 << 20)
    for holder in range(4):
        pool.admit(holder, 1024)
    for _ in range(100):
        for holder in range(4):
            pool.shrink(holder, max(1024, pool.held_by(holder) * 3 // 4))
            pool.grow(holder, 1 << 20)
    shares = [pool.held_by(holder) for holder in range(4)]
    assert max(shares) < 2 * min(shares)
    assert pool.room_bytes > 0


ACTS = st.lists(
    st.tuples(st.sampled_from(["admit", "start", "grow", "shrink", "release"]), st.integers(0, 4), st.integers(0, 200)),
    max_size=40,
)


@given(acts=ACTS)
def test_the_books_balance_and_growth_leaves_room_for_a_newcomer(acts: list[tuple[str, int, int]]):
    pool = MemoryPool(300)
    held: dict[int, int] = {}
    guarantees: dict[int, int] = {}
    for name, holder, size in acts:
        if name == "admit" and holder not in held:
            if pool.admit(holder, size):
                held[holder] = guarantees[holder] = size
        elif name in ("grow", "start") and holder in held:
            before = held[holder]
            held[holder] = pool.grow(holder, size) if name == "grow" else pool.start_with(holder, size)
            assert before <= held[holder] <= max(before, size)
            grown = held[holder] - guarantees[holder]
            assert held[holder] == before or grown <= pool.room_bytes
        elif name == "shrink":
            pool.shrink(holder, size)
            if holder in held:
                held[holder] = max(guarantees[holder], min(held[holder], size))
        elif name == "release":
            pool.release(holder)
            held.pop(holder, None)
            guarantees.pop(holder, None)
        assert pool.used_bytes == sum(held.values())
        assert sum(held.values()) - sum(guarantees.values()) <= 300 // GROWTH_PART
        assert sum(guarantees.values()) <= 300
        assert all(pool.held_by(holder) == size for holder, size in held.items())
