"""The emulated link as arithmetic: every property in exact model time, with given randomness."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.apps.link_model import (
    HELD_MAX_BYTES,
    OVERHEAD_IPV4_BYTES,
    OVERHEAD_IPV6_BYTES,
    QUEUE_MIN_BYTES,
    Direction,
    LinkShape,
    changed,
)

START = 1000.0
FOREVER = START + 1e6
PAYLOAD = 1200 - OVERHEAD_IPV4_BYTES
DEEP = 10**9


def packet(number: int, size: int = PAYLOAD) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def number_of(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big")


def direction(seed: int = 1, **shape: Any) -> Direction[int]:
    return Direction(LinkShape(**shape), Random(seed))


def arrivals(link: Direction[int]) -> list[tuple[float, bytes]]:
    """Everything under way with the exact time of its arrival."""
    out: list[tuple[float, bytes]] = []
    while (at := link.deadline()) is not None:
        out.extend((at, payload) for payload, _ in link.due(at))
    return out


def test_a_link_without_limits_passes_everything_at_once():
    link = direction()
    link.send(b"abc", 7, START)
    assert link.due(START) == [(b"abc", 7)]
    assert link.deadline() is None


def test_the_delay_is_exact():
    link = direction(delay_s=0.020)
    link.send(b"x", 0, START)
    assert link.due(START + 0.0199999) == []
    assert link.deadline() == pytest.approx(START + 0.020)
    assert link.due(START + 0.020) == [(b"x", 0)]


@given(count=st.integers(1, 200), rate=st.floats(1e5, 1e9), delay=st.floats(0, 1))
def test_n_packets_take_n_times_their_serialisation_time(count: int, rate: float, delay: float):
    link = direction(rate_bps=rate, delay_s=delay, queue_bytes=DEEP)
    for number in range(count):
        link.send(packet(number), 0, START)
    times = [at for at, _ in arrivals(link)]
    assert times == pytest.approx([START + delay + (n + 1) * 1200 * 8 / rate for n in range(count)])


def test_waking_late_changes_no_time():
    """The caller drains only every 50 ms, and yet the last packet leaves when the rate says."""
    link = direction(rate_bps=9.6e6, queue_bytes=DEEP)  # 1200 bytes a millisecond
    got = 0
    for turn in range(20):
        now = START + 0.050 * turn
        got += len(link.due(now))
        for number in range(50):
            link.send(packet(number), 0, now)
    assert got == 19 * 50
    assert len(link.due(START + 1.0 - 1e-4)) == 49
    assert len(link.due(START + 1.0 + 1e-6)) == 1


def test_overhead_is_part_of_the_size():
    link: Direction[int] = Direction(LinkShape(rate_bps=8000), Random(1), overhead_bytes=OVERHEAD_IPV6_BYTES)
    link.send(bytes(952), 0, START)
    assert link.deadline() == pytest.approx(START + 1.0)
    assert link.stats(START).bytes_in == 1000


@given(limit=st.integers(1200, 50_000), burst=st.integers(1, 100))
def test_the_queue_takes_what_fits_and_not_more(limit: int, burst: int):
    link = direction(rate_bps=1e6, queue_bytes=limit)
    for number in range(burst):
        link.send(packet(number), 0, START)
    stats = link.stats(START)
    fit = min(burst, limit // 1200)
    assert (stats.held_packets, stats.dropped_queue) == (fit, burst - fit)
    assert stats.queue_bytes == stats.queue_max_bytes == fit * 1200
    assert [number_of(p) for _, p in arrivals(link)] == list(range(fit))  # the tail is dropped


def test_the_queue_drains_as_time_goes_by():
    link = direction(rate_bps=9.6e6, queue_bytes=2400)
    for now, kept in ((START, 2), (START + 0.001, 1), (START + 0.0015, 0), (START + 0.002, 1)):
        before = link.stats(now).held_packets
        for number in range(3):
            link.send(packet(number), 0, now)
        assert link.stats(now).held_packets - before == kept


def test_an_idle_link_takes_a_packet_larger_than_its_queue():
    link = direction(rate_bps=1e6, queue_bytes=100)
    link.send(packet(0), 0, START)
    link.send(packet(1), 0, START)
    assert [number_of(p) for _, p in arrivals(link)] == [0]


def test_the_derived_queue_is_one_bandwidth_delay_product():
    assert LinkShape(rate_bps=20e6, delay_s=0.020).queue_limit_bytes == pytest.approx(100_000)
    assert LinkShape(rate_bps=1e6).queue_limit_bytes == QUEUE_MIN_BYTES
    assert LinkShape().queue_limit_bytes == float("inf")


def test_what_is_held_is_bounded_even_without_a_rate():
    link = direction(delay_s=60)
    large = bytes(65_000)
    count = HELD_MAX_BYTES // 65_000 + 10
    for _ in range(count):
        link.send(large, 0, START)
    stats = link.stats(START)
    assert stats.dropped_queue > 0
    assert stats.held_packets * (65_000 + OVERHEAD_IPV4_BYTES) <= HELD_MAX_BYTES


@pytest.mark.parametrize("name", ["loss", "duplicate", "corrupt", "reorder"])
def test_frequencies(name: str):
    count, share = 20_000, 0.05
    link = direction(1, **{name: share, "delay_s": 0.01})
    for number in range(count):
        link.send(packet(number, 40), 0, START + number * 1e-3)
    stats = link.stats(FOREVER)
    seen = {"loss": stats.lost, "duplicate": stats.duplicated, "corrupt": stats.corrupted, "reorder": stats.reordered}
    assert seen.pop(name) == pytest.approx(count * share, rel=0.15)  # 4.9 standard deviations
    assert set(seen.values()) == {0}


def test_corruption_changes_one_byte_and_not_the_length():
    link = direction(corrupt=1.0)
    sent = packet(5)
    link.send(sent, 0, START)
    link.send(b"", 0, START)
    (first, _), (second, _) = link.due(START)
    assert len(first) == len(sent)
    assert sum(a != b for a, b in zip(first, sent, strict=True)) == 1
    assert second == b""


def test_a_duplicate_takes_its_own_place_in_the_queue():
    link = direction(duplicate=1.0, rate_bps=9.6e6, queue_bytes=DEEP)
    link.send(packet(1), 0, START)
    assert [at for at, _ in arrivals(link)] == pytest.approx([START + 0.001, START + 0.002])


@given(seed=st.integers(0, 2**32), gaps=st.lists(st.floats(0, 0.005), max_size=80))
def test_jitter_keeps_the_order_and_its_bounds(seed: int, gaps: list[float]):
    link = direction(seed, delay_s=0.010, jitter_s=0.004)
    now, sent = START, []
    for number, gap in enumerate(gaps):
        now += gap
        sent.append(now)
        link.send(packet(number, 40), 0, now)
    got = arrivals(link)
    assert [number_of(p) for _, p in got] == list(range(len(gaps)))
    for (at, _), left in zip(got, sent, strict=True):
        assert left + 0.010 - 1e-9 <= at <= left + 0.014 + 1e-9


def test_reordered_packets_are_overtaken_and_come_in_time():
    link = direction(3, reorder=0.1, delay_s=0.020)
    for number in range(1000):
        link.send(packet(number, 40), 0, START + number * 1e-3)
    got = arrivals(link)
    order = [number_of(p) for _, p in got]
    assert sorted(order) == list(range(1000))
    assert order != sorted(order)
    assert [at for at, _ in got] == sorted(at for at, _ in got)
    for at, payload in got:
        assert 0.020 - 1e-9 <= at - (START + number_of(payload) * 1e-3) <= 0.025 + 1e-9


SHAKY: dict[str, Any] = {
    "rate_bps": 5e6,
    "delay_s": 0.01,
    "jitter_s": 0.002,
    "loss": 0.05,
    "reorder": 0.05,
    "duplicate": 0.05,
    "corrupt": 0.05,
    "queue_bytes": 6000,
}


def run_shaky(seed: int) -> list[tuple[float, bytes]]:
    link = direction(seed, **SHAKY)
    for number in range(500):
        link.send(packet(number, 400), 0, START + number * 0.0005)
    return arrivals(link)


def test_equal_seeds_give_equal_runs_and_others_do_not():
    assert run_shaky(1) == run_shaky(1)
    assert run_shaky(1) != run_shaky(2)


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(
            st.floats(0, 0.02),
            st.integers(0, 5),
            st.sampled_from([None, {"rate_bps": None}, {"rate_bps": 1e5}, {"delay_s": 0.0}, {"blackhole": True}, {}]),
        ),
        max_size=40,
    ),
)
def test_every_packet_is_accounted_for_through_all_changes(
    seed: int, steps: list[tuple[float, int, dict[str, Any] | None]]
):
    link = direction(seed, **SHAKY)
    now, number, delivered = START, 0, 0
    for gap, burst, change in steps:
        now += gap
        delivered += len(link.due(now))
        if change is not None:
            link.reshape(replace(LinkShape(**SHAKY), **change), now)
        for _ in range(burst):
            link.send(packet(number, 400), 0, now)
            number += 1
    stats = link.stats(now)
    assert stats.packets_in == number
    assert stats.delivered_packets == delivered
    gone = stats.dropped_queue + stats.lost + stats.blackholed
    assert stats.packets_in + stats.duplicated == stats.delivered_packets + gone + stats.held_packets
    assert len(arrivals(link)) == stats.held_packets


def test_a_new_rate_holds_for_what_waits():
    link = direction(rate_bps=9.6e6, queue_bytes=DEEP, delay_s=0.010)
    for number in range(10):
        link.send(packet(number), 0, START)
    link.reshape(replace(link.shape, rate_bps=4.8e6), START + 0.004)  # four are on the wire, six wait
    link.send(packet(10), 0, START + 0.004)
    expected = [0.001 * n + 0.010 for n in range(1, 5)] + [0.004 + 0.002 * n + 0.010 for n in range(1, 8)]
    assert [at - START for at, _ in arrivals(link)] == pytest.approx(expected)


def test_a_lifted_rate_empties_the_queue_at_once():
    link = direction(rate_bps=1e4, queue_bytes=DEEP)
    for number in range(5):
        link.send(packet(number), 0, START)
    link.reshape(replace(link.shape, rate_bps=None), START + 0.1)
    assert [number_of(p) for p, _ in link.due(START + 0.1)] == [0, 1, 2, 3, 4]


def test_a_shorter_delay_lets_nobody_overtake():
    link = direction(delay_s=0.100)
    link.send(packet(0), 0, START)
    link.reshape(replace(link.shape, delay_s=0.0), START + 0.001)
    link.send(packet(1), 0, START + 0.001)
    assert link.due(START + 0.0999) == []
    assert [number_of(p) for p, _ in link.due(START + 0.1)] == [0, 1]


def test_a_black_hole_swallows_what_is_under_way_and_what_comes():
    link = direction(delay_s=0.050, rate_bps=1e6)
    link.send(packet(0), 0, START)
    link.reshape(replace(link.shape, blackhole=True), START + 0.010)
    link.send(packet(1), 0, START + 0.020)
    assert link.deadline() is None
    link.reshape(replace(link.shape, blackhole=False), START + 0.030)
    link.send(packet(2), 0, START + 0.030)
    assert [number_of(p) for _, p in arrivals(link)] == [2]
    assert link.stats(FOREVER).blackholed == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_bps", 0),
        ("rate_bps", float("nan")),
        ("rate_bps", "fast"),
        ("delay_s", -0.1),
        ("delay_s", 61),
        ("jitter_s", None),
        ("loss", 1.5),
        ("loss", True),
        ("reorder", float("inf")),
        ("queue_bytes", 1.5),
        ("queue_bytes", -1),
        ("blackhole", "both"),
    ],
)
def test_a_shape_names_the_field_that_is_out_of_range(name: str, value: object):
    with pytest.raises(ValueError, match=name):
        LinkShape(**{name: value})  # type: ignore[arg-type]


def test_changes_reach_the_directions_they_name():
    up, down = changed(LinkShape(), LinkShape(), {"rate_bps": 1e6, "up_loss": 0.1, "down_delay_s": 0.5})
    assert up == LinkShape(rate_bps=1e6, loss=0.1)
    assert down == LinkShape(rate_bps=1e6, delay_s=0.5)


@pytest.mark.parametrize(("value", "holes"), [("both", (True, True)), ("up", (True, False)), (None, (False, False))])
def test_a_black_hole_is_named_by_direction(value: str | None, holes: tuple[bool, bool]):
    shapes = changed(LinkShape(blackhole=True), LinkShape(blackhole=True), {"blackhole": value})
    assert tuple(shape.blackhole for shape in shapes) == holes


@pytest.mark.parametrize(
    "changes", [{"speed": 1}, {"up_blackhole": True}, {"blackhole": "left"}, {"up_": 1}, {"loss": []}]
)
def test_a_change_that_makes_no_sense_is_refused(changes: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(changes))):
        changed(LinkShape(), LinkShape(), changes)
