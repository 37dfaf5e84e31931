"""The whole world with the plain pair of cores: what a simulated path does to a stream."""

from dataclasses import replace

import pytest

from kwik.sim.apps import reference
from kwik.sim.client_app import ClientPlan
from kwik.sim.clock import START_S
from kwik.sim.factories import PlainCores
from kwik.sim.link import LinkPlan
from kwik.sim.pace import Pace
from kwik.sim.scenario import FaultPlan, Scenario, ServerPlan, server
from kwik.sim.world import World


def run(scenario):
    return World(scenario, PlainCores()).run()


def scenario(*, plan=None, stream=None, **more):
    return Scenario(servers=(plan or server(),), streams=(stream or ClientPlan(answers=(20_000,)),), **more)


def test_a_stream_comes_through_and_ends():
    outcome = run(scenario(stream=ClientPlan(answers=(5000, 100, 7000), greeting_bytes=33)))
    app = outcome.world.client.streams[0]
    assert app.seen == "end"
    assert bytes(app.received) == reference("answer", 33, None, bytes(app.written), eof=False).data
    (port,) = outcome.world.places[0].host.instances
    assert port.upstream == app.written


@pytest.mark.parametrize("finish", ["half-close", "half-close-first"])
def test_half_close(finish):
    outcome = run(scenario(stream=ClientPlan(answers=(3000, 3000), is_pipelined=True, finish=finish)))
    app = outcome.world.client.streams[0]
    assert (app.seen, len(app.received)) == ("end", 6000)
    assert outcome.world.places[0].host.instances[0].saw_eof


def test_first_byte_takes_two_round_trips_and_no_more():
    link = LinkPlan(rate_bytes_s=1e7, delay_s=0.05)
    plan = ServerPlan(up=link, down=link, handshake_s=0.0, connect_s=0.0)
    outcome = run(scenario(plan=plan, packet_bytes=1200))
    assert outcome.world.client.streams[0].first_byte_at == pytest.approx(START_S + 0.2, abs=0.001)


def test_a_server_that_speaks_first_needs_no_request():
    link = LinkPlan(rate_bytes_s=1e7, delay_s=0.05)
    plan = ServerPlan(up=link, down=link, handshake_s=0.0, connect_s=0.0)
    outcome = run(scenario(plan=plan, packet_bytes=1200, stream=ClientPlan(greeting_bytes=50)))
    assert outcome.world.client.streams[0].first_byte_at == pytest.approx(START_S + 0.2, abs=0.001)


def test_a_long_transfer_fills_the_link():
    outcome = run(scenario(plan=server(50_000.0, 0.02), stream=ClientPlan(answers=(200_000,))))
    assert 4.0 <= outcome.took_s <= 4.5


@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_loss_and_jitter_cost_time_and_nothing_else(loss):
    link = LinkPlan(rate_bytes_s=50_000.0, delay_s=0.01, loss=loss, jitter_s=0.02)
    outcome = run(scenario(plan=ServerPlan(up=link, down=link)))
    app = outcome.world.client.streams[0]
    assert (app.seen, len(app.received)) == ("end", 20_000)
    assert outcome.world.network.sites


@pytest.mark.parametrize("kind", ["black-hole", "black-hole-up", "black-hole-down", "stall", "stop", "client-stop"])
def test_what_passes_is_survived_by_a_path(kind):
    fault = FaultPlan(kind=kind, value=5000, duration_s=3.0)
    outcome = run(scenario(faults=(fault,)))
    app = outcome.world.client.streams[0]
    assert (app.seen, len(app.received)) == ("end", 20_000)
    (record,) = outcome.faults
    assert record.owed_bytes > 0
    assert 3.4 <= outcome.took_s <= 8.0


def test_a_silent_death_is_noticed_by_the_idle_time_out():
    outcome = run(scenario(faults=(FaultPlan(kind="kill", value=5000),)))
    app = outcome.world.client.streams[0]
    assert app.seen == "reset"
    assert 30 <= outcome.took_s <= 32
    assert "nothing received for 30.0 s" in app.failure[1]


def test_a_death_that_is_told_is_noticed_at_once():
    outcome = run(scenario(faults=(FaultPlan(kind="kill-told", value=5000),)))
    assert outcome.world.client.streams[0].seen == "reset"
    assert outcome.took_s < 1.0


def test_a_broken_path_stays_broken():
    outcome = run(scenario(faults=(FaultPlan(kind="path-break", value=5000),)))
    assert outcome.world.client.streams[0].seen == "reset"


def test_a_collapsed_rate_is_slower():
    outcome = run(scenario(faults=(FaultPlan(kind="rate-collapse", value=5000, duration_s=2.0),)))
    assert outcome.world.client.streams[0].seen == "end"
    assert 2.0 <= outcome.took_s <= 4.0


def test_nobody_listens():
    plan = replace(server(), answers_when_dead=True)
    outcome = run(scenario(plan=plan, faults=(FaultPlan(kind="kill", trigger="time", target="0"),), horizon_s=20.0))
    assert not outcome.ended or outcome.world.client.streams[0].seen == "reset"


def test_paces_hold_back_application_and_reader():
    slow = run(scenario(plan=server(pace=Pace(rate_bytes_s=5000.0, pauses=((10_000, 2.0),)))))
    assert 6.0 <= slow.took_s <= 6.5
    reader = Pace(rate_bytes_s=5000.0, pauses=((10_000, 2.0),))
    assert 6.0 <= run(scenario(stream=ClientPlan(answers=(20_000,), reading=reader))).took_s <= 6.5


def test_who_leaves_early_has_read_what_it_wanted():
    outcome = run(scenario(stream=ClientPlan(answers=(20_000,), finish="abort", leave_at=1234)))
    app = outcome.world.client.streams[0]
    assert (app.seen, len(app.received)) == ("left", 1234)


def test_two_runs_are_the_same_run():
    link = LinkPlan(rate_bytes_s=50_000.0, delay_s=0.01, loss=0.05, jitter_s=0.01)
    one = scenario(plan=ServerPlan(up=link, down=link))
    assert run(one).trace_hash == run(one).trace_hash
    assert run(one).trace_hash != run(replace(one, seed=2)).trace_hash
