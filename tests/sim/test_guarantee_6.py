"""A single server is a plain connection: no round trip more (SPEC §2). The yardstick carries it plainly."""

from dataclasses import replace

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.compare import check_single
from kwik.sim.factories import PlainCores
from kwik.sim.link import LinkPlan
from kwik.sim.scenario import Scenario, ServerPlan
from kwik.sim.world import World
from tests.sim.runs import assert_complete, run


def single(*, rtt_s, rate=2e6, replicated=False, **stream):
    link = LinkPlan(rate_bytes_s=rate, delay_s=rtt_s / 2, queue_bytes=1 << 22)
    return Scenario(
        name="single",
        servers=(ServerPlan(up=link, down=link),),
        streams=(ClientPlan(**stream),),
        replicated=replicated,
        block_bytes=16384,
        packet_bytes=1150,
        window_blocks=256,
        first_window_blocks=64,
        send_window_blocks=256,
        upstream_credit_bytes=65536,
    )


@pytest.mark.parametrize("replicated", [False, True])
@pytest.mark.parametrize("rtt_s", [0.002, 0.05, 0.3])
@pytest.mark.parametrize("size", [1, 3000, 200_000])
def test_no_round_trip_more(size, rtt_s, replicated):
    outcome = run(single(rtt_s=rtt_s, replicated=replicated, answers=(size,)))
    assert_complete(outcome)
    assert check_single(outcome) == []


def test_a_dialogue_takes_one_round_trip_per_answer():
    outcome = run(single(rtt_s=0.1, answers=(100,) * 5, greeting_bytes=50))
    assert_complete(outcome)
    assert check_single(outcome) == []
    assert outcome.took_s < 0.1 * 9


def test_the_server_speaks_first():
    outcome = run(single(rtt_s=0.1, greeting_bytes=80, answers=(1000,)))
    assert check_single(outcome) == []


def test_a_probe_before_the_first_acknowledgement_costs_no_window():
    """A round trip just below the first probe timeout: the server probes, and starts as quickly as ever."""
    outcome = run(single(rtt_s=0.29, rate=5e5, greeting_bytes=80, answers=(194_603,)))
    assert_complete(outcome)
    assert check_single(outcome) == []


def test_a_shifted_acknowledgement_is_a_plain_connections_too():
    """The credit that answers the first data acknowledges one packet; then the last of the window waits for its own."""
    outcome = run(single(rtt_s=0.0116, rate=8.4e6, answers=(33_274,), finish="half-close"))
    bare = World(outcome.world.scenario, PlainCores()).run()
    assert outcome.took_s > bare.took_s + 0.009
    assert check_single(outcome) == []


def test_credit_that_waits_is_not_excused():
    scenario = replace(single(rtt_s=0.1, answers=(100_000,)), first_window_blocks=1, window_blocks=2)
    outcome = run(scenario)
    assert_complete(outcome)
    (breach,) = check_single(outcome)
    assert breach.startswith("6: end 0.1")


def test_much_framing_is_not_excused(monkeypatch):
    monkeypatch.setattr("kwik.sim.compare.FRAMING_BYTES", 100)
    (breach,) = check_single(run(single(rtt_s=0.1, answers=(100,))))
    assert breach.startswith("6: framing")
