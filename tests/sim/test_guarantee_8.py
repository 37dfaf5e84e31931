"""Nothing runs twice unasked: one instance of a stream, unless the service is replicated (SPEC §2)."""

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import server
from tests.sim.runs import assert_complete, fault, instances, one, run, two


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_anchored_stream_runs_once(count):
    outcome = run(one(servers=(server(),) * count))
    assert sum(instances(outcome)) == 1
    assert_complete(outcome)


@pytest.mark.parametrize("kind", ["kill", "kill-told", "black-hole", "path-break", "stop", "restart", "drain"])
@pytest.mark.parametrize("trigger", ["opened", "mid-block"])
def test_whatever_happens_to_its_server(kind, trigger):
    faults = (fault(kind, trigger=trigger, duration_s=2.0),)
    outcome = run(one(servers=(server(), server(sighted_s=0.01)), faults=faults, recovery_time_s=5.0))
    assert sum(instances(outcome)) == 1


@pytest.mark.parametrize("after_s", [0.02, 0.0225, 0.025, 0.03, 0.0335, 0.035, 0.04])
@pytest.mark.parametrize("kind", ["black-hole", "kill", "path-break"])
def test_an_open_of_unknown_outcome_stays_where_it_was_sent(kind, after_s):
    faults = (fault(kind, target="0", trigger="time", value=after_s, duration_s=2.0),)
    servers = (server(), server(sighted_s=0.01))
    outcome = run(one(servers=servers, faults=faults, recovery_time_s=5.0, streams=(ClientPlan(answers=(3000,)),)))
    assert sum(instances(outcome)) <= 1


def test_a_replicated_stream_runs_once_per_server():
    faults = tuple(fault("kill", value=value) for value in (8000, 16_000))
    outcome = run(two(servers=(server(),) * 4, faults=faults))
    assert max(instances(outcome)) == 1


def test_a_stream_refused_is_offered_elsewhere_and_runs_once():
    outcome = run(one(servers=(server(refuses=True), server(sighted_s=0.01))))
    assert instances(outcome) == [0, 1]
