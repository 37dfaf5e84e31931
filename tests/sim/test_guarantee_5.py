"""Bounded memory on both sides, whatever the streams, the servers and the reader do (SPEC §2)."""

from dataclasses import replace

import pytest

from kwik.sim.client_app import ClientPlan
from kwik.sim.pace import Pace
from kwik.sim.scenario import server
from tests.sim.runs import assert_complete, run, two


@pytest.mark.parametrize("count", [1, 4])
def test_a_reader_that_pauses(count):
    stream = ClientPlan(answers=(30_000,), reading=Pace(pauses=((5000, 20.0),)))
    outcome = run(two(streams=(stream,) * count))
    assert_complete(outcome)
    assert 0 < outcome.world.watch.client_held_bytes <= count * 2048 + 2000


def test_a_reader_that_is_slow():
    stream = ClientPlan(answers=(30_000,), reading=Pace(rate_bytes_s=10_000.0))
    assert_complete(run(two(servers=(server(),) * 4, streams=(stream,))))


def test_many_streams_with_little_memory():
    streams = tuple(ClientPlan(answers=(5000,), start_s=0.01 * number) for number in range(12))
    assert_complete(run(two(streams=streams, memory_blocks=8192)))


def test_a_paused_reader_does_not_stop_the_others():
    asleep = ClientPlan(answers=(30_000,), reading=Pace(pauses=((100, 60.0),)))
    awake = ClientPlan(answers=(30_000,), start_s=0.2)
    outcome = run(two(streams=(asleep, awake), memory_blocks=64))
    assert_complete(outcome)
    ended = [app.ended_at for app in outcome.world.client.streams]
    assert ended[1] < ended[0] - 50


def test_a_dial_without_memory_fails_clearly():
    streams = tuple(ClientPlan(answers=(3000,), start_s=0.001 * number, finish="half-close") for number in range(6))
    asleep = tuple(replace(plan, reading=Pace(pauses=((0, 5.0),))) for plan in streams)
    outcome = run(two(streams=asleep, memory_blocks=6))
    assert {app.seen for app in outcome.world.client.streams} <= {"end", "refused"}
    assert any(app.seen == "end" for app in outcome.world.client.streams)


def test_an_upload_that_nobody_reads_is_held_back():
    stream = ClientPlan(program="echo", answers=(60_000,), reading=Pace(rate_bytes_s=20_000.0))
    assert_complete(run(two(streams=(stream,), replay_limit_bytes=4096)))
