"""The contract of every machine (HOUSE §5.4): time is an argument, deadlines lie ahead, actions are told once.

Machines are listed in the files machines_*.py of this folder.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.machines import START, Call, Case, Machine

LISTS = sorted(path.stem for path in Path(__file__).parent.glob("machines_*.py"))
CASES: list[Case] = [case for name in LISTS for case in importlib.import_module(f"tests.contract.{name}").CASES]

MAX_CALLS = 40
IDLE_TIMEOUTS = 40

DELAYS = st.one_of(st.just(0.0), st.floats(0.0, 0.5), st.floats(0.0, 60.0))
LATENESS = st.one_of(st.just(0.0), st.floats(0.0, 0.3), st.floats(0.0, 60.0))
every_machine = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def check_timeout(machine: Machine, now: float) -> list[object]:
    """Call on_timeout and check what must hold after it; the actions."""
    machine.on_timeout(now)
    due = machine.deadline()
    assert machine.deadline() == due, "asking for the deadline changes it"
    assert due is None or due > now, f"the deadline {due} does not lie after {now}: a busy loop"
    actions = list(machine.actions())
    assert list(machine.actions()) == [], "the second call is not empty"
    machine.on_timeout(now)
    assert list(machine.actions()) == [], "a repeated on_timeout is not harmless"
    assert machine.deadline() == due, "a repeated on_timeout moves the deadline"
    return actions


def play(case: Case, steps: list[tuple[float, float, Call]]) -> list[object]:
    """All that the machine says when time runs by its deadlines, `late` of them, between the inputs."""
    machine = case.build()
    now = START
    said: list[object] = []
    for delay_s, late_s, call in steps:
        target = now + delay_s
        for _ in range(IDLE_TIMEOUTS):
            due = machine.deadline()
            if due is None or due > target:
                break
            now = max(now, due) + late_s
            said += [(now, action) for action in check_timeout(machine, now)]
        now = max(now, target)
        call.apply(machine, now)
        said += [(now, action) for action in machine.actions()]
        assert list(machine.actions()) == [], "the second call is not empty"
        said.append(machine.deadline())
    return said


def steps_of(case: Case) -> st.SearchStrategy[list[tuple[float, float, Call]]]:
    return st.lists(st.tuples(DELAYS, LATENESS, case.calls), max_size=MAX_CALLS)


@every_machine
@given(data=st.data())
def test_a_machine_keeps_its_word_and_the_same_inputs_give_the_same_outputs(case: Case, data: st.DataObject):
    steps = data.draw(steps_of(case))
    assert play(case, steps) == play(case, steps)


@every_machine
@given(data=st.data())
def test_an_early_timeout_does_nothing(case: Case, data: st.DataObject):
    machine = case.build()
    now = START
    for delay_s, _, call in data.draw(steps_of(case)):
        due = machine.deadline()
        now += delay_s if due is None else min(delay_s, max(0.0, due - now) / 2)
        call.apply(machine, now)
        check_timeout(machine, now)  # whatever was due at once is done now
        due = machine.deadline()
        between = now + 1.0 if due is None else (now + due) / 2
        if due is None or between < due:
            assert check_timeout(machine, between) == []
            assert machine.deadline() == due
            now = between


@every_machine
def test_a_new_machine_has_nothing_to_say(case: Case):
    machine = case.build()
    assert list(machine.actions()) == []
    assert machine.deadline() is None
    machine.on_timeout(START)
    assert list(machine.actions()) == []
