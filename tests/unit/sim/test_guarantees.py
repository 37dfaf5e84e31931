"""The judge: finds a breach when there is one. Outcomes are made with the plain cores and then spoilt."""

from dataclasses import replace

import pytest

from kwik.sim.apps import Twist
from kwik.sim.client_app import ClientPlan
from kwik.sim.clock import START_S
from kwik.sim.factories import PlainCores
from kwik.sim.guarantees import bend, breaches, common_prefix
from kwik.sim.scenario import FaultPlan, Scenario, server
from kwik.sim.watch import Seen
from kwik.sim.world import World
from kwik.types import PathId
from kwik.wire.frames import Attach
from kwik.wire.messages import Join


@pytest.fixture
def outcome():
    scenario = Scenario(servers=(server(), server(rtt_s=0.03)), streams=(ClientPlan(answers=(3000,)),))
    outcome = World(scenario, PlainCores()).run()
    outcome.world.client.is_idle = True
    outcome.world.client.ends.clear()
    assert breaches(outcome) == []
    return outcome


def app_of(outcome):
    return outcome.world.client.streams[0]


def found(outcome):
    return {text.split(":")[0] for text in breaches(outcome)}


def test_a_changed_byte(outcome):
    app_of(outcome).received[1234] ^= 1
    assert found(outcome) == {"1"}


def test_a_byte_twice(outcome):
    app_of(outcome).received[10:10] = app_of(outcome).received[10:11]
    assert found(outcome) == {"1"}


def test_an_early_end(outcome):
    del app_of(outcome).received[-1:]
    assert found(outcome) == {"3"}


def test_a_reset_without_need(outcome):
    app_of(outcome).seen = "reset"
    app_of(outcome).failure = (18, "gave up")
    assert found(outcome) == {"3"}


def test_a_reset_too_late():
    scenario = Scenario(
        servers=(server(),),
        streams=(ClientPlan(answers=(30_000,)),),
        faults=(FaultPlan(kind="kill", value=3000),),
        recovery_time_s=5.0,
        replicated=False,
    )
    outcome = World(scenario, PlainCores()).run()
    outcome.world.client.is_idle = True
    assert breaches(outcome) == []
    app_of(outcome).ended_at = START_S + 100
    assert found(outcome) == {"3"}


def test_what_is_withheld_is_waited_for_longer_and_from_where_delivery_stood(outcome):
    """SPEC §6.3: three times `recovery_time_s` (here 20 s)."""
    app, world = app_of(outcome), outcome.world
    world.watch.anchors[app.number] = ["s0"]
    for place in world.places:
        place.plan = replace(place.plan, lie="withhold", lie_at=1000)
    app.seen, app.failure, app.read_at = "reset", (18, "withheld"), START_S + 100
    app.ended_at = app.read_at + 61
    assert breaches(outcome) == []
    app.ended_at = app.read_at + 106
    assert breaches(outcome) == ["3: stream 0 was reset only 106.0 s after the last fault"]


def test_no_end_at_all():
    scenario = Scenario(servers=(server(),), streams=(ClientPlan(answers=(30_000,)),), horizon_s=0.1)
    assert found(World(scenario, PlainCores()).run()) == {"3"}


def test_too_much_memory(outcome):
    outcome.world.watch.client_held_bytes = 1 << 20
    outcome.world.watch.server_held_bytes = 1 << 20
    assert found(outcome) == {"5"}
    assert len(breaches(outcome)) == 2


def test_a_second_instance(outcome):
    host = outcome.world.places[0].host
    host.instances.append(host.instances[0])
    assert found(outcome) == {"8"}


def test_invented_upstream(outcome):
    outcome.world.places[0].host.instances[0].upstream += b"x"
    assert found(outcome) == {"1"}


def test_something_left_behind(outcome):
    app_of(outcome).is_settled = False
    outcome.world.client.is_idle = False
    assert [text[:2] for text in breaches(outcome)] == ["0:", "0:"]


def test_bytes_of_a_server_that_was_never_the_anchor():
    scenario = Scenario(
        servers=(server(), server(rtt_s=0.03, twist=Twist(kind="from", at=100))),
        streams=(ClientPlan(answers=(3000,)),),
    )
    outcome = World(scenario, PlainCores()).run()
    outcome.world.client.is_idle = True
    outcome.world.client.ends.clear()
    assert outcome.world.watch.anchors == {0: ["s0"]}
    assert breaches(outcome) == []
    received = app_of(outcome).received
    received[100:] = bend(bytes(received[100:]))
    assert found(outcome) == {"2"}
    received[2000:] = bend(bytes(received[2000:]))
    assert found(outcome) == {"1"}


CLONE = Scenario(
    servers=(server(sighted_s=0.1), server(clone_of=0)),
    streams=(ClientPlan(answers=(40_000,)),),
    faults=(FaultPlan(kind="path-break", target="1", value=15_000),),
)


def test_a_clone_that_was_met_first_proves_that_the_session_is_its_own():
    outcome = World(CLONE).run()
    told = [item.frame for item in outcome.world.watch.frames if item.host == "s1" and item.path > 0]
    assert any(isinstance(frame, Join) for frame in told)
    assert any(isinstance(frame, Attach) for frame in told)
    assert breaches(outcome) == []


@pytest.mark.parametrize("generation", [0, 1])
def test_a_clone_that_was_given_a_stream_of_anothers_session(generation):
    outcome = World(replace(CLONE, faults=())).run()
    place = outcome.world.places[1]
    if generation:
        outcome.world.start_server(place)
    path = PathId(9)
    for frame in (Join(bytes(16), bytes(32)), Attach(1, 1, 0, 0, ())):
        outcome.world.watch.frames.append(Seen(START_S, place.host.name, path, frame))
    assert found(outcome) == {"7"}


def test_the_anchor_of_a_stream_is_looked_up_by_its_number(monkeypatch):
    streams = (ClientPlan(), ClientPlan(start_s=0.2), ClientPlan(start_s=0.1))
    world = World(Scenario(servers=(server(),), streams=streams), PlainCores()).run().world
    assert [app.number for app in world.client.streams] == [0, 2, 1]
    asked: list[int] = []
    monkeypatch.setattr(world.client.side, "anchor_of", asked.append)
    for app in world.client.streams:
        world.anchor_place(app.number)
    assert asked == [app.key for app in world.client.streams]


def test_common_prefix():
    assert common_prefix(b"", b"abc") == 0
    assert common_prefix(b"abd", b"abcd") == 2
    assert common_prefix(b"abc", b"abcd") == 3
    assert common_prefix(b"abcd", b"abc") == 3
