"""No wait for the slowest, never worse than the best (SPEC §2). `run` compares with each server alone."""

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import FaultPlan, server
from kwik.sim.world import World
from tests.sim.runs import assert_complete, fault, run, two

RACE = {"streams": (ClientPlan(answers=(82_000,)),)}


def test_two_servers_are_faster_than_one():
    scenario = two(**RACE, window_blocks=64, send_window_blocks=128)
    outcome = run(scenario)
    assert_complete(outcome)
    assert World(scenario.alone(0)).run().took_s > 1.4 * outcome.took_s


@pytest.mark.parametrize("ratio", [1, 3, 10, 20])
@pytest.mark.parametrize("rtt_s", [0.005, 0.3])
def test_a_slow_companion_does_no_harm(ratio, rtt_s):
    servers = (server(), server(50_000.0 / ratio, rtt_s))
    assert_complete(run(two(**RACE, servers=servers)))
    assert_complete(run(two(**RACE, servers=servers[::-1])))


def test_eight_unlike_servers():
    servers = tuple(server(50_000.0 / (number + 1), 0.01 * (number + 1)) for number in range(8))
    assert_complete(run(two(**RACE, servers=servers)))


@pytest.mark.parametrize("kind", ["stall", "stop", "black-hole", "kill"])
def test_a_helper_that_stands_still_holds_nothing_up(kind):
    calm = World(two(**RACE).alone(0)).run()
    outcome = run(two(**RACE, faults=(fault(kind, target="helper", duration_s=20.0),)))
    assert_complete(outcome)
    assert outcome.took_s <= 1.02 * calm.took_s + 0.3


def test_many_servers_that_stand_still():
    faults = tuple(FaultPlan(kind="stop", target=str(number), value=15_000, duration_s=20.0) for number in (1, 2, 3))
    outcome = run(two(**RACE, servers=(server(),) * 5, faults=faults))
    assert_complete(outcome)
    assert outcome.took_s < 4.0
