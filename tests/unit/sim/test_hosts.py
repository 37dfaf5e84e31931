"""The driver of a core: turns, timers, stopping and continuing, and cores that break the rules of every machine."""

import random

import pytest

from kwik.core.actions import WakePath
from kwik.core.port import PortKey
from kwik.sim.clock import START_S, Clock, MachineFault
from kwik.sim.hosts import Host
from kwik.sim.network import Network
from kwik.sim.paths import PathRules
from kwik.types import PathId


class FakeCore:
    """Keeps what it is told; tests set what it answers."""

    def __init__(self):
        self.due = None
        self.timeouts = []
        self.next_due = None
        self.after_next = None
        self.pending = []
        self.talks_to_itself = False

    def readable(self):
        return []

    def actions(self):
        pending, self.pending = self.pending, []
        return [WakePath(PathId(1))] if self.talks_to_itself else pending

    def wants_room(self, path):
        return False

    def deadline(self):
        return self.due

    def on_timeout(self, now):
        self.timeouts.append(now)
        self.due, self.next_due = self.next_due, self.after_next
        self.after_next = None

    def on_path_down(self, path, reason, now):
        """Nothing to do."""


class FakeHost(Host):
    def __init__(self, clock, core):
        super().__init__(clock, Network(clock, PathRules(), random.Random(1)), "fake")
        self._core = core

    @property
    def core(self):
        return self._core


@pytest.fixture
def clock():
    return Clock(max_events=10_000)


def test_the_deadline_is_kept(clock):
    core = FakeCore()
    host = FakeHost(clock, core)
    core.due = START_S + 1.5
    host.turn()
    clock.run(START_S + 3)
    assert core.timeouts == [START_S + 1.5]


def test_an_earlier_deadline_wins_and_a_later_one_is_not_disturbed(clock):
    core = FakeCore()
    host = FakeHost(clock, core)
    core.due = START_S + 2
    host.turn()
    core.due = START_S + 1
    host.turn()
    core.due, core.next_due = START_S + 1, START_S + 2.5
    clock.run(START_S + 3)
    assert core.timeouts[0] == START_S + 1
    assert core.timeouts[-1] == START_S + 2.5


def test_a_deadline_that_does_not_move_is_a_fault(clock):
    core = FakeCore()
    core.due = core.next_due = START_S + 1
    FakeHost(clock, core).turn()
    with pytest.raises(MachineFault, match="after on_timeout"):
        clock.run(START_S + 3)


def test_a_core_that_never_stops_talking_is_a_fault(clock):
    core = FakeCore()
    core.talks_to_itself = True
    with pytest.raises(MachineFault, match="no end of actions"):
        FakeHost(clock, core).turn()


def test_deadlines_that_are_due_at_once_for_ever_are_a_fault(clock):
    class NeverDone(FakeCore):
        def actions(self):
            self.due = clock.now
            return []

    FakeHost(clock, NeverDone()).turn()
    with pytest.raises(MachineFault, match="endless chain"):
        clock.run(START_S + 1)


def test_a_stopped_process_takes_everything_later_and_in_order(clock):
    core = FakeCore()
    host = FakeHost(clock, core)
    core.due = START_S + 1
    host.turn()
    host.stop()
    seen: list[str] = []
    clock.at(START_S + 0.5, host.enter, seen.append, "a")
    clock.at(START_S + 2.0, host.enter, seen.append, "b")
    clock.run(START_S + 5)
    assert not seen
    assert not core.timeouts
    host.resume()
    assert seen == ["a", "b"]
    assert core.timeouts == [START_S + 5]


def test_the_overdue_timer_may_come_first(clock):
    core = FakeCore()
    host = FakeHost(clock, core)
    core.due = START_S + 1
    host.turn()
    host.stop()
    order = []
    clock.at(START_S + 0.5, host.enter, lambda: order.append(len(core.timeouts)))
    clock.run(START_S + 5)
    host.resume(timer_first=True)
    assert order == [1]


def test_a_dead_process_does_nothing(clock):
    core = FakeCore()
    host = FakeHost(clock, core)
    core.due = START_S + 1
    host.turn()
    host.kill()
    host.enter(pytest.fail, "a dead process was entered")
    clock.run(START_S + 3)
    assert not core.timeouts


def test_the_wrong_action_is_a_fault(clock):
    core = FakeCore()
    core.pending = ["nonsense"]
    with pytest.raises(MachineFault, match="not an action of this side"):
        FakeHost(clock, core).turn()


def test_unknown_ports_are_ignored(clock):
    host = FakeHost(clock, FakeCore())
    host.on_path_over(PathId(5), "never heard of it")
    assert host.facts(PathId(5), clock.now) is None
    assert host.apps.get(PortKey(1)) is None
