"""No wait for the slowest, never worse than the best (SPEC §2). `run` compares with each server alone."""

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import FaultPlan, server
from kwik.sim.world import World
from tests.sim.runs import assert_complete, fault, run, two

RATE = 500_000.0


def racer(rate=RATE, rtt_s=0.02):
    return server(rate, rtt_s, packet_bytes=600)


RACE = {
    "streams": (ClientPlan(answers=(1_350_000,)),),
    "servers": (racer(), racer()),
    "block_bytes": 2048,
    "packet_bytes": 600,
    "recruit_backlog_bytes": 8192,
}
"""Blocks next to which a digest is small, as real ones are; the window is twice the sum of rates x RTT of two."""


def test_two_servers_are_faster_than_one():
    scenario = two(**RACE)
    outcome = run(scenario)
    assert_complete(outcome)
    assert World(scenario.alone(0)).run().took_s > 1.4 * outcome.took_s


@pytest.mark.parametrize("ratio", [2, 20])
@pytest.mark.parametrize("rtt_s", [0.005, 0.03])
def test_a_slow_companion_does_no_harm(ratio, rtt_s):
    servers = (racer(), racer(RATE / ratio, rtt_s))
    assert_complete(run(two(**{**RACE, "servers": servers})))
    assert_complete(run(two(**{**RACE, "servers": servers[::-1]})))


def test_eight_unlike_servers():
    servers = tuple(racer(RATE / (number + 1), 0.004 * (number + 1)) for number in range(8))
    assert_complete(run(two(**{**RACE, "servers": servers})))


@pytest.mark.parametrize("kind", ["stall", "stop", "black-hole", "kill"])
def test_a_helper_that_stands_still_holds_nothing_up(kind):
    calm = World(two(**RACE).alone(0)).run()
    outcome = run(two(**RACE, faults=(fault(kind, target="helper", value=300_000, duration_s=20.0),)))
    assert_complete(outcome)
    assert outcome.took_s <= 1.02 * calm.took_s + 0.3


def test_many_servers_that_stand_still():
    faults = tuple(FaultPlan(kind="stop", target=str(number), value=300_000, duration_s=20.0) for number in (1, 2, 3))
    outcome = run(two(**{**RACE, "servers": (racer(),) * 5}, faults=faults))
    assert_complete(outcome)
    assert outcome.took_s < 5.0
