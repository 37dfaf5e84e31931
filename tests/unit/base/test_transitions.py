from enum import Enum, auto

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.base.transitions import Machine, TransitionTable
from kwik.errors import LocalProtocolError


class State(Enum):
    IDLE = auto()
    OPEN = auto()
    CLOSED = auto()


class Input(Enum):
    DIAL = auto()
    DATA = auto()
    FIN = auto()
    ABORT = auto()


RULES = {
    (State.IDLE, Input.DIAL): State.OPEN,
    (State.OPEN, Input.DATA): State.OPEN,
    (State.OPEN, Input.FIN): State.CLOSED,
    (State.OPEN, Input.ABORT): State.CLOSED,
    (State.CLOSED, Input.ABORT): State.CLOSED,
}
TABLE = TransitionTable("stream", State.IDLE, RULES)


@given(st.lists(st.sampled_from(Input)))
def test_a_machine_does_what_the_table_says(inputs: list[Input]):
    machine = Machine(TABLE)
    state = State.IDLE
    for cause in inputs:
        assert machine.accepts(cause) == ((state, cause) in RULES)
        if (state, cause) in RULES:
            state = RULES[state, cause]
            assert machine.on(cause) is state
        else:
            with pytest.raises(LocalProtocolError):
                machine.on(cause)
        assert machine.state is state


def test_an_illegal_input_is_named_with_what_would_be_legal():
    with pytest.raises(LocalProtocolError, match="stream: fin is not possible in state idle; allowed there: dial"):
        TABLE.next(State.IDLE, Input.FIN)


def test_a_state_without_exit_allows_nothing():
    table = TransitionTable("lamp", State.IDLE, {(State.IDLE, Input.FIN): State.CLOSED})
    with pytest.raises(LocalProtocolError, match="allowed there: nothing"):
        table.next(State.CLOSED, Input.FIN)


def test_what_the_table_knows():
    assert TABLE.states == (State.IDLE, State.OPEN, State.CLOSED)
    assert TABLE.inputs == (Input.DIAL, Input.DATA, Input.FIN, Input.ABORT)
    assert TABLE.allowed(State.OPEN) == (Input.DATA, Input.FIN, Input.ABORT)
    assert [TABLE.is_final(state) for state in State] == [False, False, True]


def test_a_state_that_cannot_be_reached_is_a_mistake():
    with pytest.raises(ValueError, match="lamp: no input leads to open"):
        TransitionTable(
            "lamp", State.IDLE, {(State.OPEN, Input.FIN): State.CLOSED, (State.IDLE, Input.FIN): State.CLOSED}
        )


def test_later_changes_of_the_rules_do_not_reach_the_table():
    rules = dict(RULES)
    table = TransitionTable("stream", State.IDLE, rules)
    rules.clear()
    assert table.next(State.IDLE, Input.DIAL) is State.OPEN


def test_it_draws_itself_as_text():
    assert TABLE.as_text().splitlines() == [
        "idle   + dial  -> open",
        "open   + data  -> open",
        "open   + fin   -> closed",
        "open   + abort -> closed",
        "closed + abort -> closed",
    ]
    assert TransitionTable[State, Input]("stone", State.IDLE, {}).as_text() == ""


def test_it_draws_itself_for_mermaid():
    assert TABLE.as_mermaid().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> idle",
        "    idle --> open: dial",
        "    open --> open: data",
        "    open --> closed: fin, abort",
        "    closed --> closed: abort",
        "    closed --> [*]",
    ]


def test_repr_names_kind_and_state():
    assert repr(Machine(TABLE)) == "<stream idle>"
