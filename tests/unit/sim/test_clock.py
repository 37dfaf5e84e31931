"""Virtual time: order, ties, bounds."""

import pytest

from kwik.sim.clock import START_S, Clock, MachineFault


def test_events_come_in_order_of_time_and_ties_in_order_of_asking():
    clock = Clock()
    seen: list[object] = []
    clock.after(2.0, seen.append, "late")
    clock.after(1.0, seen.append, "first")
    clock.after(1.0, seen.append, "second")
    clock.run(START_S + 10)
    assert seen == ["first", "second", "late"]
    assert clock.now == START_S + 10


def test_what_should_have_been_comes_now():
    clock = Clock()
    seen: list[object] = []
    clock.run(START_S + 5)
    clock.at(START_S + 1, lambda: seen.append(clock.now))
    clock.run(START_S + 6)
    assert seen == [START_S + 5]


def test_run_stops_when_done_and_time_stands_there():
    clock = Clock()
    seen: list[object] = []
    for delay in (1.0, 2.0, 3.0):
        clock.after(delay, seen.append, delay)
    assert clock.run(START_S + 10, done=lambda: len(seen) == 2)
    assert clock.now == START_S + 2.0
    assert not clock.is_empty


def test_an_endless_chain_is_found():
    clock = Clock(max_events=100)

    def again():
        clock.after(0.0, again)

    again()
    with pytest.raises(MachineFault, match="no end after 100 events"):
        clock.run(START_S + 1)
