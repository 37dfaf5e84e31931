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


WAKING_S = 2.0
"""A stream is delayed so much at most by its client's sleep, the sleep itself and slow starts of new paths included."""
FAR = (server(rtt_s=0.1), server(rtt_s=0.08))


@pytest.mark.parametrize(("duration_s", "seed"), [(3.0, 1), (31.0, 2), (55.0, 3)])
@pytest.mark.parametrize("servers", [(server(),), FAR], ids=["one", "far"])
@pytest.mark.parametrize("scenario", [one, two], ids=["anchored", "replicated"])
def test_a_client_that_slept_goes_on_at_once(scenario, servers, duration_s, seed):
    """Also when the servers have given up its paths meanwhile (after 30 s), but not yet the replicas (after 60 s)."""
    calm = run(scenario(servers=servers))
    outcome = run(scenario(servers=servers, seed=seed, faults=(fault("client-stop", duration_s=duration_s),)))
    assert_hit(outcome, anchor=True)
    assert outcome.took_s < calm.took_s + duration_s + WAKING_S
    assert_complete(outcome)


@pytest.mark.parametrize("scenario", [one, two], ids=["anchored", "replicated"])
def test_a_client_that_slept_for_longer_than_its_replicas_linger_is_told_at_once(scenario):
    """One replay per server and stream, and none is left (SPEC §6.4)."""
    outcome = run(scenario(linger_s=5.0, faults=(fault("client-stop", duration_s=50.0),)))
    app = outcome.world.client.streams[0]
    assert app.seen == "reset"
    assert "gone" in str(app.failure)
    assert app.ended_at < outcome.faults[0].at + 50.0 + WAKING_S


@pytest.mark.parametrize("servers", [(server(),), FAR], ids=["one", "far"])
@pytest.mark.parametrize("scenario", [one, two], ids=["anchored", "replicated"])
def test_a_client_that_slept_notices_at_once_that_its_paths_are_dead(scenario, servers):
    """A laptop in another network: its sleep was shorter than any time-out, yet nothing passes on the old paths."""
    breaks = tuple(
        fault("path-break", target=str(number), trigger="time", value=1.0) for number, _ in enumerate(servers)
    )
    sleep = fault("client-stop", trigger="time", value=0.3, duration_s=10.0)
    outcome = run(scenario(servers=servers, faults=(sleep, *breaks)))
    assert_complete(outcome)
    assert outcome.took_s < 10.3 + 2 * WAKING_S


def test_a_sleep_does_not_use_up_the_time_of_recovery():
    """It began when the client was cut off already, and lasted longer than the client may wait for its server."""
    cut = fault("black-hole", duration_s=3.0)
    sleep = fault("client-stop", trigger="time", value=2.0, duration_s=25.0)
    outcome = run(one(recovery_time_s=20.0, faults=(cut, sleep)))
    assert_complete(outcome)


def test_a_sleep_is_taken_off_the_time_of_recovery_once():
    cut = fault("black-hole", duration_s=250.0)
    sleep = fault("client-stop", trigger="time", value=2.0, duration_s=25.0)
    outcome = run(one(recovery_time_s=20.0, faults=(cut, sleep)))
    assert outcome.world.client.streams[0].seen == "reset"
    assert 2.0 + 25.0 + 10.0 < outcome.took_s < 2.0 + 25.0 + 20.0 + WAKING_S


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
