"""No loss at a server's death: the stream goes on, or the application gets a reset, never an early end (SPEC §2)."""

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import server
from tests.sim.runs import assert_complete, assert_hit, fault, instances, one, run, two

PASSING = ("stop", "black-hole", "black-hole-up", "black-hole-down", "stall", "rate-collapse", "path-break")


@pytest.mark.parametrize("target", ["anchor", "helper"])
@pytest.mark.parametrize("kind", ["kill", "kill-told", "restart", *PASSING])
def test_either_is_hurt_while_it_owes_bytes(kind, target):
    outcome = run(two(faults=(fault(kind, target=target, duration_s=3.0),)))
    assert_hit(outcome, anchor=target == "anchor")
    assert_complete(outcome)


@pytest.mark.parametrize("trigger", ["opened", "mid-block", "before-end"])
@pytest.mark.parametrize("kind", ["kill", "black-hole"])
def test_the_anchor_dies_at_any_point(kind, trigger):
    outcome = run(two(faults=(fault(kind, trigger=trigger, duration_s=100.0),)))
    assert outcome.faults[0].was_anchor
    assert_complete(outcome)


def test_silence_is_noticed_long_before_the_idle_time_out():
    calm = run(two())
    outcome = run(two(faults=(fault("kill"),)))
    assert outcome.took_s < calm.took_s + 1.0


def test_all_but_one_die():
    outcome = run(two(servers=(server(),) * 5, faults=(fault("kill-all-but-one"),)))
    assert_complete(outcome)


def test_one_after_the_other():
    faults = tuple(fault("kill", value=value) for value in (8000, 16_000, 24_000))
    outcome = run(two(servers=(server(),) * 4, faults=faults))
    assert_hit(outcome, anchor=True, count=3)
    assert_complete(outcome)


def test_all_die():
    outcome = run(two(faults=(fault("kill-all"),), recovery_time_s=5.0))
    assert outcome.world.client.streams[0].seen == "reset"


def test_an_anchored_stream_dies_with_its_server():
    outcome = run(one(servers=(server(), server()), faults=(fault("kill"),), recovery_time_s=5.0))
    assert outcome.world.client.streams[0].seen == "reset"


@pytest.mark.parametrize("kind", PASSING)
def test_an_anchored_stream_survives_what_passes(kind):
    outcome = run(one(faults=(fault(kind, duration_s=3.0),)))
    assert_hit(outcome, anchor=True)
    assert_complete(outcome)


def test_an_anchored_stream_attaches_to_its_replica_on_a_new_path():
    outcome = run(one(faults=(fault("path-break"),)))
    assert len(outcome.world.network.opened) > 1
    assert instances(outcome) == [1]
    assert_complete(outcome)


@pytest.mark.parametrize("scenario", [one, two])
def test_the_client_is_stopped_for_longer_than_the_idle_time_out(scenario):
    outcome = run(scenario(faults=(fault("client-stop", duration_s=40.0),)))
    assert outcome.took_s > 40
    assert_complete(outcome)


def test_a_restarted_server_knows_nothing_of_the_stream():
    outcome = run(one(faults=(fault("restart", duration_s=0.5),), recovery_time_s=10.0))
    assert outcome.world.client.streams[0].seen == "reset"


def test_a_draining_anchor_hands_over():
    outcome = run(two(faults=(fault("drain"),)))
    assert_complete(outcome)


def test_a_rolling_restart_loses_nothing():
    faults = (fault("drain", target="0", value=8000), fault("drain", target="1", value=16_000))
    outcome = run(two(servers=(server(),) * 3, faults=faults))
    assert_complete(outcome)


@pytest.mark.parametrize("scenario", [one, two])
def test_a_server_whose_application_is_down_is_passed_over(scenario):
    outcome = run(scenario(servers=(server(refuses=True), server(sighted_s=0.1))))
    assert_complete(outcome)


def test_all_applications_are_down():
    outcome = run(two(servers=(server(refuses=True), server(refuses=True))))
    assert outcome.world.client.streams[0].seen == "refused"


def test_a_dialogue_goes_on_elsewhere():
    stream = ClientPlan(answers=(2000,) * 10, greeting_bytes=40, finish="half-close")
    outcome = run(two(streams=(stream,), faults=(fault("kill", value=9000),)))
    assert_complete(outcome)


def test_a_hot_standby_takes_over():
    stream = ClientPlan(answers=(50,) * 20, finish="half-close")
    outcome = run(two(streams=(stream,), replicas=2, faults=(fault("kill", value=400),)))
    assert_complete(outcome)
