"""The memory pool: a budget shared so that a newcomer always finds room (SPEC §6.6)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.flow import MemoryPool


def test_a_newcomers_guarantee_is_reserved_or_refused():
    pool = MemoryPool(100)
    assert pool.admit("a", 60)
    assert not pool.admit("b", 41)
    assert pool.held_by("b") == 0
    assert pool.admit("b", 40)
    assert (pool.used_bytes, pool.free_bytes) == (100, 0)


def test_a_holder_grows_only_up_to_what_is_left():
    pool = MemoryPool(100)
    pool.admit("a", 10)
    assert pool.grow("a", 1000) == 50
    assert pool.free_bytes == 50
    assert pool.grow("a", 1000) == 50


def test_it_grows_no_further_than_it_wants_and_never_shrinks_by_growing():
    pool = MemoryPool(100)
    pool.admit("a", 10)
    assert pool.grow("a", 30) == 30
    assert pool.grow("a", 20) == 30


def test_one_who_holds_more_than_is_left_gets_nothing():
    pool = MemoryPool(100)
    pool.admit("a", 60)
    assert pool.grow("a", 100) == 60


def test_shrinking_and_leaving_give_back():
    pool = MemoryPool(100)
    pool.admit("a", 50)
    pool.shrink("a", 70)
    assert pool.held_by("a") == 50
    pool.shrink("a", 20)
    assert (pool.held_by("a"), pool.free_bytes) == (20, 80)
    pool.release("a")
    pool.release("a")
    assert (pool.held_by("a"), pool.used_bytes) == (0, 0)


def test_a_budget_cut_below_its_use_leaves_nothing_to_grow():
    pool = MemoryPool(100)
    pool.admit("a", 30)
    pool.total_bytes = 10
    assert pool.free_bytes == 0
    assert pool.grow("a", 50) == 30
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
    assert pool.free_bytes >= max(shares) * 0.9
    assert max(shares) < 2 * min(shares)


ACTS = st.lists(
    st.tuples(st.sampled_from(["admit", "grow", "shrink", "release"]), st.integers(0, 4), st.integers(0, 200)),
    max_size=40,
)


@given(acts=ACTS)
def test_the_books_balance_and_growth_leaves_room_for_a_newcomer(acts: list[tuple[str, int, int]]):
    pool = MemoryPool(300)
    held: dict[int, int] = {}
    for name, holder, size in acts:
        if name == "admit" and holder not in held:
            if pool.admit(holder, size):
                held[holder] = size
        elif name == "grow" and holder in held:
            before = held[holder]
            held[holder] = pool.grow(holder, size)
            assert before <= held[holder] <= max(before, size)
            assert held[holder] == before or held[holder] <= pool.free_bytes
        elif name == "shrink":
            pool.shrink(holder, size)
            if holder in held:
                held[holder] = min(held[holder], size)
        elif name == "release":
            pool.release(holder)
            held.pop(holder, None)
        assert pool.used_bytes == sum(held.values()) <= 300
        assert all(pool.held_by(holder) == size for holder, size in held.items())
