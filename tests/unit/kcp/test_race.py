"""Turns of connection attempts."""

from kwik.kcp.race import Race
from kwik.types import PathId
from tests.unit.kcp.rig import START


def test_the_first_begins_at_once_and_the_next_when_its_turn_is_over():
    race = Race()
    assert race.free_turns(1, START) == 1
    race.on_begun(PathId(1), 0.25, START)
    assert race.free_turns(1, START + 0.2) == 0
    assert race.next_turn(START + 0.2) == START + 0.25
    assert race.free_turns(1, START + 0.25) == 1
    assert race.next_turn(START + 0.25) is None


def test_a_failure_frees_its_turn_at_once():
    race = Race()
    race.on_begun(PathId(1), 0.25, START)
    race.on_ended(PathId(1))
    race.on_ended(PathId(1))
    assert race.free_turns(1, START) == 1
    assert len(race) == 0


def test_progress_makes_the_turn_longer_and_never_shorter():
    race = Race()
    race.on_begun(PathId(1), 0.25, START)
    race.on_progress(PathId(1), 0.25, START + 0.2)
    assert race.next_turn(START + 0.2) == START + 0.45
    race.on_progress(PathId(1), 0.1, START + 0.2)
    race.on_progress(PathId(2), 0.1, START + 0.2)
    assert race.next_turn(START + 0.2) == START + 0.45


def test_attempts_are_bounded_stragglers_included():
    race = Race(max_attempts=2)
    race.on_begun(PathId(1), 0.0, START)
    assert race.free_turns(5, START + 0.01) == 1
    race.on_begun(PathId(2), 0.5, START)
    assert race.free_turns(5, START) == 0
    assert race.next_turn(START) is None
    assert race.free_turns(-3, START) == 0
