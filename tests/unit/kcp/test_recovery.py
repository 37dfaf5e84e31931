"""When another path to a stuck instance is tried."""

from __future__ import annotations

from kwik.kcp.recovery import MAX_ATTEMPTS, MAX_DELAY_S, GiveUp, Recovery, TryInstance
from kwik.types import Instance, PathId
from tests.unit.kcp.rig import START

A, B = Instance("a", bytes(16)), Instance("b", bytes(16))


def test_tries_at_once_then_with_back_off_for_as_long_as_it_takes():
    recovery = Recovery(60.0)
    recovery.on_recover(A, START)
    recovery.on_recover(A, START)
    assert recovery.is_stuck(A)
    assert recovery.actions() == [TryInstance(A, 0)]
    gaps = []
    now = START
    for turn in range(1, 9):
        due = recovery.deadline()
        assert due is not None
        gaps.append(round(due - now, 6))
        recovery.on_timeout(due - 0.01)
        assert recovery.actions() == []
        recovery.on_timeout(due)
        assert recovery.actions() == [TryInstance(A, turn)]
        now = due
    assert gaps[:5] == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert gaps[-1] == MAX_DELAY_S


def test_an_old_attempt_makes_room_and_a_young_one_does_not():
    recovery = Recovery(60.0)
    recovery.on_recover(A, START)
    for number in range(MAX_ATTEMPTS):
        recovery.on_attempt(A, PathId(number + 1), START + number)
    recovery.actions()
    recovery.on_timeout(START + 0.9)
    assert recovery.actions() == []
    recovery.on_timeout(START + 5.0)
    assert recovery.actions() == [GiveUp(PathId(1)), TryInstance(A, 1)]


def test_the_end_gives_up_what_is_under_way():
    recovery = Recovery(60.0)
    recovery.on_attempt(A, PathId(9), START)
    recovery.on_recover(A, START)
    recovery.on_recover(B, START)
    recovery.on_attempt(A, PathId(1), START)
    recovery.on_attempt(A, PathId(2), START)
    recovery.on_attempt_ended(PathId(1))
    recovery.on_attempt_ended(PathId(77))
    recovery.actions()
    recovery.on_recovered(A)
    recovery.on_recovered(A)
    assert recovery.actions() == [GiveUp(PathId(2))]
    assert not recovery.is_stuck(A)
    recovery.on_recovered(B)
    assert recovery.deadline() is None


def test_a_case_of_which_nobody_speaks_any_more_ends():
    recovery = Recovery(1.0)
    recovery.on_recover(A, START)
    recovery.on_attempt(A, PathId(1), START)
    recovery.on_recover(A, START + 0.5)
    recovery.actions()
    recovery.on_timeout(START + 1.4)
    assert recovery.actions() == [TryInstance(A, 1)]
    recovery.on_timeout(START + 1.8)
    assert recovery.actions() == [GiveUp(PathId(1))]
    assert recovery.deadline() is None
