"""Pings, misses and what our own lateness changes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kwik.kcp.actions import PingPath
from kwik.kcp.health import (
    CONNECT_TIME_S,
    FAST_PINGS,
    PATH_HEALTH,
    Cue,
    Health,
    PathLost,
    PathState,
    PathStateChanged,
)
from kwik.types import PathId
from tests.unit.kcp.rig import START, Vitals

PATH = PathId(1)


class Bench:
    """One path whose vitals the test sets."""

    def __init__(self, *, rtt_s: float | None = 0.04, variance_s: float = 0.0, admitted: bool = True) -> None:
        self.now = START
        self.vitals: Vitals | None = Vitals(None, rtt_s, variance_s)
        self.health = Health(1.0, lambda path, now: self.vitals)
        self.seen: list[tuple[float, object]] = []
        self.health.on_opened(PATH, self.now)
        if admitted:
            self.health.on_admitted(PATH, "test", self.now)
        self.take()

    def take(self) -> list[object]:
        actions = list(self.health.actions())
        self.seen += [(round(self.now - START, 6), action) for action in actions]
        return list(actions)

    def step(self, late_s: float = 0.0) -> list[object]:
        due = self.health.deadline()
        assert due is not None
        assert due >= self.now
        self.now = due + late_s
        self.health.on_timeout(self.now)
        return self.take()

    def hear(self) -> None:
        assert self.vitals is not None
        self.vitals = Vitals(self.now, self.vitals.smoothed_rtt_s, self.vitals.rtt_variance_s)

    def times(self, kind: type) -> list[float]:
        return [when for when, action in self.seen if isinstance(action, kind)]

    def state(self) -> PathState:
        return self.health.state_of(PATH)[0]


def test_a_path_that_hears_nothing_gets_ten_fast_pings_and_is_lost():
    bench = Bench()
    while bench.health.deadline() is not None:
        bench.step()
    pings = bench.times(PingPath)
    assert len(pings) == 1 + FAST_PINGS
    assert pings[:3] == [1.0, 1.2, 1.4]
    assert bench.times(PathLost) == [3.2]
    changes = [(when, action.new) for when, action in bench.seen if isinstance(action, PathStateChanged)]
    assert changes == [
        (0.0, PathState.ACTIVE),
        (1.2, PathState.DEGRADED),
        (1.8, PathState.FAILING),
        (3.2, PathState.CLOSED),
    ]
    assert all(action.reason for _, action in bench.seen if isinstance(action, PathStateChanged))


def test_the_slowest_case_takes_3_4_seconds_after_the_last_packet_was_due():
    bench = Bench(rtt_s=None)
    while bench.health.deadline() is not None:
        bench.step()
    assert bench.times(PathLost) == [3.6]


def test_traffic_makes_pings_needless():
    bench = Bench()
    for _ in range(20):
        bench.now += 0.5
        bench.hear()
        assert bench.step() == []


def test_any_packet_after_the_ping_revives():
    bench = Bench()
    for _ in range(6):
        bench.step()
    assert bench.state() is PathState.FAILING
    bench.hear()
    (change,) = bench.step()
    assert isinstance(change, PathStateChanged)
    assert (change.old, change.new) == (PathState.FAILING, PathState.ACTIVE)
    bench.step()
    bench.now += 0.01
    bench.health.on_packet(PATH, bench.now)  # told directly: no wait for the next judgement
    assert bench.take() == []
    bench.step()
    bench.step()
    assert bench.state() is PathState.DEGRADED
    bench.health.on_packet(PATH, bench.now)
    assert bench.state() is PathState.ACTIVE


def test_a_reply_time_follows_the_round_trip():
    def reply_s(rtt_s: float | None, variance_s: float = 0.0) -> float:
        bench = Bench(rtt_s=rtt_s, variance_s=variance_s)
        bench.step()
        due = bench.health.deadline()
        assert due is not None
        return round(due - bench.now, 6)

    assert reply_s(None) == 0.4
    assert reply_s(0.01) == 0.2
    assert reply_s(0.1, 0.05) == 0.3
    assert reply_s(0.3, 0.2) == 0.4
    assert reply_s(0.8, 0.4) == 1.0  # below a round trip nothing can have come


def test_our_own_lateness_puts_a_judgement_off_once():
    bench = Bench()
    bench.step()
    assert bench.step(late_s=0.15) == []
    assert bench.state() is PathState.ACTIVE
    assert bench.health.deadline() == bench.now + (bench.now - START - 1.2)
    bench.step(late_s=0.15)  # always late is no excuse
    assert bench.state() is PathState.DEGRADED


def test_a_long_stop_starts_the_fast_pings_again():
    bench = Bench()
    for _ in range(9):
        bench.step()
    (ping,) = bench.step(late_s=40.0)
    assert isinstance(ping, PingPath)
    bench.step()
    bench.hear()
    bench.step()
    assert bench.state() is PathState.ACTIVE
    assert bench.times(PathLost) == []


def test_after_a_stop_a_dead_path_is_still_found():
    bench = Bench()
    for _ in range(9):
        bench.step()
    bench.step(late_s=40.0)
    resumed_at = bench.now
    bench.step(late_s=2.0)
    while bench.health.deadline() is not None:
        bench.step()
    assert bench.times(PathLost)
    assert bench.now - resumed_at < 7.0


def test_a_process_that_is_always_late_finds_it_too():
    bench = Bench()
    steps = 0
    while bench.health.deadline() is not None:
        bench.step(late_s=0.5)
        steps += 1
    assert steps < 3 * FAST_PINGS


def test_a_handshake_has_ten_seconds():
    bench = Bench(admitted=False)
    bench.health.on_packet(PATH, bench.now)
    bench.health.on_doubt(PATH, bench.now)
    bench.health.on_opened(PATH, bench.now)
    assert bench.health.deadline() == START + CONNECT_TIME_S
    bench.step(late_s=5.0)
    assert bench.state() is PathState.CONNECTING
    lost = bench.step()
    assert isinstance(lost[-1], PathLost)
    assert bench.state() is PathState.CLOSED


def test_a_doubt_asks_at_once_and_only_once():
    bench = Bench()
    bench.now += 0.1
    bench.health.on_doubt(PATH, bench.now)
    bench.health.on_doubt(PATH, bench.now)
    assert len(bench.take()) == 1


def test_a_path_that_closes_is_forgotten():
    bench = Bench()
    bench.vitals = None
    bench.health.on_closed(PATH, "bye")
    bench.health.on_closed(PATH, "bye")
    bench.health.on_admitted(PATH, "again", bench.now)
    bench.health.on_packet(PATH, bench.now)
    (change,) = bench.take()
    assert isinstance(change, PathStateChanged)
    assert (change.new, change.reason) == (PathState.CLOSED, "bye")
    assert bench.health.deadline() is None


def test_without_facts_the_path_is_judged_by_what_was_told():
    bench = Bench()
    bench.vitals = None
    bench.step()
    bench.step()
    assert bench.state() is PathState.DEGRADED


def test_a_second_admission_changes_nothing():
    bench = Bench()
    bench.health.on_admitted(PATH, "again", bench.now)
    assert bench.take() == []


def test_the_table_has_every_state_and_closes_for_good():
    assert set(PATH_HEALTH.states) == set(PathState)
    assert [state for state in PathState if PATH_HEALTH.is_final(state)] == [PathState.CLOSED]
    for state, cue in itertools.product(PathState, Cue):
        if cue in PATH_HEALTH.allowed(state):
            assert PATH_HEALTH.next(state, cue) is not PathState.CONNECTING


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=60))
def test_a_path_that_answers_every_ping_is_never_lost(steps: list[tuple[float, bool]]):
    bench = Bench()
    for late_s, _ in steps:
        due = bench.health.deadline()
        assert due is not None
        answered = [action for action in bench.step(late_s) if isinstance(action, PingPath)]
        if answered:
            bench.now += 0.04
            bench.health.on_packet(PATH, bench.now)
            bench.take()
        assert bench.state() in (PathState.ACTIVE, PathState.DEGRADED)
