import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.base.timers import TimerTable

keys = st.sampled_from("abcde")
steps = st.lists(
    st.tuples(st.just("set"), keys, st.integers(0, 20))
    | st.tuples(st.just("cancel"), keys, st.just(0))
    | st.tuples(st.just("expired"), st.just(""), st.integers(0, 20)),
    max_size=60,
)


@given(steps)
def test_against_a_dictionary(script: list[tuple[str, str, int]]):
    timers: TimerTable[str] = TimerTable()
    model: dict[str, int] = {}
    for operation, key, when in script:
        if operation == "set":
            if model.get(key) != when:
                model.pop(key, None)  # set anew: behind those that were set before
            model[key] = when
            timers.set(key, when)
        elif operation == "cancel":
            assert timers.cancel(key) == (model.pop(key, None) is not None)
        else:
            due = sorted((key for key in model if model[key] <= when), key=lambda key: model[key])
            assert timers.expired(when) == due
            for key in due:
                del model[key]
        assert timers.deadline() == min(model.values(), default=None)
        assert {key: timers.when(key) for key in "abcde"} == {key: model.get(key) for key in "abcde"}
        assert len(timers) == len(model)


def test_timers_of_one_moment_fire_in_the_order_of_setting():
    timers: TimerTable[object] = TimerTable()
    first, second = object(), object()  # which cannot be compared
    timers.set(second, 1000.0)
    timers.set(first, 1000.0)
    timers.set(second, 1000.0)  # as it was: keeps its place
    assert timers.expired(1000.0) == [second, first]
    assert timers.expired(1000.0) == []


def test_none_cancels_and_clear_cancels_all():
    timers: TimerTable[str] = TimerTable()
    timers.set("a", 1.0)
    timers.set("b", 2.0)
    timers.set("a", None)
    assert "a" not in timers
    assert "b" in timers
    timers.clear()
    assert timers.deadline() is None
    assert timers.expired(math.inf) == []


def test_memory_follows_the_live_timers():
    timers: TimerTable[int] = TimerTable()
    for round_number in range(1000):
        timers.set(0, float(round_number))
        timers.set(1, float(round_number))
        timers.cancel(1)
    assert len(timers._heap) < 32
    assert timers.expired(math.inf) == [0]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        TimerTable[str]().set("a", math.nan)


def test_repr_is_in_due_order():
    timers: TimerTable[str] = TimerTable()
    timers.set("late", 2.0)
    timers.set("soon", 1.0)
    assert repr(timers) == "TimerTable({'soon': 1.0, 'late': 2.0})"
