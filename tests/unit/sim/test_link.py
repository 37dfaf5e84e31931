"""One direction: serialisation, delay, queue, loss, holes, stalls."""

import random

import pytest

from kwik.sim.clock import START_S, Clock
from kwik.sim.link import Link, LinkPlan


def arrivals(clock, link, sizes):
    seen: list[object] = []
    for number, size in enumerate(sizes):
        link.send(size, lambda number=number: seen.append((number, round(clock.now - START_S, 9))))
    clock.run(clock.now + 100)
    return seen


def make(**plan):
    clock = Clock()
    return clock, Link(clock, LinkPlan(**{"rate_bytes_s": 1000.0, "delay_s": 0.5, **plan}), random.Random(1))


def test_packets_queue_behind_each_other_and_then_take_the_delay():
    clock, link = make()
    assert arrivals(clock, link, [100, 100, 200]) == [(0, 0.6), (1, 0.7), (2, 0.9)]


def test_a_full_queue_drops():
    clock, link = make(queue_bytes=260)
    assert [number for number, _ in arrivals(clock, link, [100, 100, 100, 50])] == [0, 1, 3]


def test_loss_is_about_what_it_should_be():
    clock, link = make(loss=0.25, rate_bytes_s=1e9, queue_bytes=1 << 40)
    assert 680 <= len(arrivals(clock, link, [1] * 1000)) <= 820


def test_jitter_delays_by_at_most_its_bound():
    clock, link = make(jitter_s=0.2, rate_bytes_s=1e9)
    assert all(0.5 <= at <= 0.7001 for _, at in arrivals(clock, link, [1] * 100))


def test_a_hole_swallows_what_is_sent_and_what_is_under_way():
    clock, link = make()
    seen: list[object] = []
    link.send(100, seen.append, "under way")
    link.is_hole = True
    link.send(100, seen.append, "sent")
    clock.run(START_S + 10)
    link.is_hole = False
    link.send(100, seen.append, "after")
    clock.run(START_S + 20)
    assert seen == ["after"]


@pytest.mark.parametrize("count", [1, 5])
def test_a_stalled_link_lets_all_go_at_once_in_order(count):
    clock, link = make()
    seen: list[int] = []
    link.stall()
    for number in range(count):
        link.send(100, seen.append, number)
    clock.run(START_S + 10)
    assert not seen
    link.resume()
    clock.run(START_S + 10)
    assert seen == list(range(count))


def test_what_waits_in_a_slowed_link_leaves_at_the_old_rate_once_it_is_over():
    clock, link = make()
    seen: list[object] = []
    link.slow_down(20)
    for number in range(4):
        link.send(50, lambda number=number: seen.append((number, round(clock.now - START_S, 9))))
    # At 50 bytes per second one packet has left after 1 s, and half of the second one after 1.5 s.
    clock.after(1.5, link.speed_up)
    clock.run(START_S + 10)
    assert seen == [(0, 1.5), (1, 2.025), (2, 2.075), (3, 2.125)]
    assert arrivals(clock, link, [100]) == [(0, 10.6)]
