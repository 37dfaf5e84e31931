"""No wait for the slowest, never worse than the best (SPEC §2). `run` compares with each server alone."""

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import FaultPlan, server
from kwik.sim.world import World
from tests.sim.runs import assert_complete, fault, run, two

RATE = 800_000.0
RACE = {
    "streams": (ClientPlan(answers=(2_700_000,)),),
    "servers": (server(RATE), server(RATE)),
    "block_bytes": 2048,
    "packet_bytes": 600,
    "window_blocks": 64,
    "first_window_blocks": 64,
    "send_window_blocks": 128,
    "recruit_backlog_bytes": 8192,
}
"""Blocks next to which a digest is small, as real ones are; the window is twice the sum of rates x RTT of two."""


def test_two_servers_are_faster_than_one():
    scenario = two(**RACE)
    outcome = run(scenario)
    assert_complete(outcome)
    assert World(scenario.alone(0)).run().took_s > 1.4 * outcome.took_s


@pytest.mark.parametrize("ratio", [1, 3, 10, 20])
@pytest.mark.parametrize("rtt_s", [0.005, 0.03])
def test_a_slow_companion_does_no_harm(ratio, rtt_s):
    servers = (server(RATE), server(RATE / ratio, rtt_s))
    assert_complete(run(two(**{**RACE, "servers": servers})))
    assert_complete(run(two(**{**RACE, "servers": servers[::-1]})))


def test_eight_unlike_servers():
    servers = tuple(server(RATE / (number + 1), 0.004 * (number + 1)) for number in range(8))
    assert_complete(run(two(**{**RACE, "servers": servers})))


@pytest.mark.parametrize("kind", ["stall", "stop", "black-hole", "kill"])
def test_a_helper_that_stands_still_holds_nothing_up(kind):
    calm = World(two(**RACE).alone(0)).run()
    outcome = run(two(**RACE, faults=(fault(kind, target="helper", value=400_000, duration_s=20.0),)))
    assert_complete(outcome)
    assert outcome.took_s <= 1.02 * calm.took_s + 0.3


def test_many_servers_that_stand_still():
    faults = tuple(FaultPlan(kind="stop", target=str(number), value=400_000, duration_s=20.0) for number in (1, 2, 3))
    outcome = run(two(**{**RACE, "servers": (server(RATE),) * 5}, faults=faults))
    assert_complete(outcome)
    assert outcome.took_s < 5.0
