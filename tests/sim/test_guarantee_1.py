"""One stream, exactly: a prefix of the anchor's downstream, in order, each byte once (SPEC §2)."""

import pytest

from kwik.sim.apps import Twist
from kwik.sim.client_app import ClientPlan
from kwik.sim.scenario import server
from tests.sim.runs import LONG, assert_complete, assert_hit, fault, instances, one, run, two


def test_two_servers_give_one_stream():
    outcome = run(two())
    assert_complete(outcome)
    assert instances(outcome) == [1, 1]


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 4096])
def test_any_length(size):
    assert_complete(run(two(streams=(ClientPlan(answers=(size,)),))))


@pytest.mark.parametrize("trigger", ["bytes", "mid-block"])
def test_the_anchor_dies_in_the_middle(trigger):
    outcome = run(two(faults=(fault("kill", trigger=trigger),)))
    assert_hit(outcome, anchor=True)
    assert_complete(outcome)


def test_a_dialogue_is_replayed_as_a_dialogue():
    stream = ClientPlan(answers=(100, 400, 20_000, 900, 20_000), greeting_bytes=70, finish="half-close")
    outcome = run(two(streams=(stream,), faults=(fault("kill", value=22_000),)))
    assert_complete(outcome)
    written = outcome.world.client.streams[0].written
    for place in outcome.world.places:
        assert all(written.startswith(port.upstream) for port in place.host.instances)


def test_the_second_answer_recruits():
    outcome = run(two(streams=(ClientPlan(answers=(100, 60_000)),)))
    assert_complete(outcome)
    assert instances(outcome) == [1, 1]


def test_a_small_stream_stays_where_it_is():
    outcome = run(two(streams=(ClientPlan(answers=(150,)),)))
    assert_complete(outcome)
    assert sum(instances(outcome)) == 1


@pytest.mark.parametrize("finish", ["bye", "half-close", "half-close-first"])
def test_an_echo_with_bursts(finish):
    stream = ClientPlan(program="echo", answers=(3000, 10, 5000, 1), finish=finish)
    assert_complete(run(two(streams=(stream,))))


def test_a_replica_that_differs_is_not_read():
    outcome = run(two(servers=(server(), server(sighted_s=0.1, twist=Twist(kind="from", at=9000)))))
    assert_complete(outcome)


def test_a_replica_that_differs_may_not_take_over():
    servers = (server(), server(sighted_s=0.1, twist=Twist(kind="from", at=3000)))
    outcome = run(two(servers=servers, faults=(fault("kill"),), recovery_time_s=5.0))
    assert outcome.world.client.streams[0].seen == "reset"
    assert_hit(outcome, anchor=True)


def test_one_byte_is_enough_to_differ():
    servers = (server(), server(sighted_s=0.1, twist=Twist(kind="one-byte", at=10_000)))
    outcome = run(two(servers=servers))
    assert_complete(outcome)


def test_several_streams_share_a_session():
    streams = tuple(ClientPlan(answers=(15_000,), start_s=0.05 * number) for number in range(4))
    outcome = run(two(streams=streams, faults=(fault("kill", value=5000),)))
    assert_complete(outcome)


@pytest.mark.parametrize("finish", ["abort", "close"])
def test_the_application_leaves(finish):
    stream = ClientPlan(answers=(40_000,), finish=finish, leave_at=10_001)
    outcome = run(two(streams=(stream,)))
    assert len(outcome.world.client.streams[0].received) == 10_001


def test_an_application_that_aborts_is_a_reset():
    outcome = run(one(servers=(server(twist=Twist(kind="abort", at=9000)),)))
    assert outcome.world.client.streams[0].seen == "reset"


def test_an_anchor_that_ends_too_early_is_refuted():
    servers = (server(twist=Twist(kind="shorter", at=20_000)), server(sighted_s=0.1))
    outcome = run(two(servers=servers))
    assert outcome.world.watch.anchors == {0: ["s0", "s1"]}
    assert outcome.world.client.streams[0].seen == "end"
    assert len(outcome.world.client.streams[0].received) == LONG.total_bytes
