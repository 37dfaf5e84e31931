"""One of three servers of a replicated service goes away without a word: the stream goes on, exactly.

Each fault strikes the anchor and a helper: before the victim's first block, in mid-block, and between the last byte
and the end. Take-over rule `exact`.
"""

from __future__ import annotations

import pytest

from tests.proc.harness import until
from tests.proc.harness_faults import (
    FAULTS,
    THE_END,
    Fault,
    Hit,
    MissedError,
    by_role,
    retried,
    wait_all_owe,
    wait_before_first_block,
)
from tests.proc.harness_stage import Reading, Server, Stage, path_to, stats_of

SIZE = 3_000_000
CONFIG = {"receive_window_bytes": 2**20, "first_window_bytes": 2**17}  # so that helpers are needed early

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
every_victim = pytest.mark.parametrize("victim", ["anchor", "helper"])


def three_servers(stage: Stage, delay_ms: float, holds: list[int]) -> Reading:
    """A stream on three servers, the first of them the anchor; its applications wait at the first hold."""
    link = {"rate_mbps": 20, "delay_ms": delay_ms}
    anchor = stage.server(link=link)
    conn = stage.dial(replicas=3, config=CONFIG)
    reading = Reading.of(conn, "faults", SIZE, holds=holds)
    anchor.wait("accept")
    for _ in range(2):
        stage.server(link=link)
    for server in stage.servers:
        server.wait("hold")
    assert stats_of(conn).anchor == anchor.id
    return reading


def begin(stage: Stage) -> None:
    """All applications at the same time: each has its part from the start."""
    for server in stage.servers:
        server.open(1)


def of_role(reading: Reading, stage: Stage, victim: str) -> Server:
    """The anchor, or a helper, of now."""
    return by_role(reading, stage.servers)[0 if victim == "anchor" else 1]


def finish(reading: Reading, hit: Hit, survivors: list[Server], gates: int) -> None:
    """Everything comes, exactly, and then the end; from an anchor that is not the victim."""
    until(lambda: reading.is_over or reading.size == SIZE, "all bytes have come")
    assert not reading.is_over, "the end is held back"
    until(lambda: stats_of(reading.conn).anchor != hit.victim.id, "the anchor is another one")
    assert stats_of(reading.conn).takeovers >= hit.was_anchor
    hit.check_silence()
    for server in survivors:
        server.open(gates)
    reading.finish()
    hit.tell(reading)
    if hit.owed != THE_END:
        hit.check_resumed(reading)
    if hit.fault.heal is not None:
        hit.fault.heal(hit.victim)


@every_fault
@every_victim
@retried
def test_before_the_first_block(stage: Stage, fault: Fault, victim: str) -> None:
    reading = three_servers(stage, 50, [0, SIZE])
    begin(stage)
    target = stage.servers[0 if victim == "anchor" else 1]
    path = wait_before_first_block(reading, target)
    hit = Hit.strike(fault, target, reading, path)
    if victim == "anchor" and hit.offset:
        raise MissedError  # it came between the picture and the blow
    assert hit.owed_bytes > 0
    assert hit.was_anchor == (victim == "anchor")
    finish(reading, hit, [server for server in stage.servers if server is not target], 2)


@every_fault
@every_victim
@retried
def test_in_mid_block(stage: Stage, fault: Fault, victim: str) -> None:
    reading = three_servers(stage, 30, [0, SIZE])
    begin(stage)
    [(target, path)] = wait_all_owe(reading, lambda: [of_role(reading, stage, victim)], SIZE // 4)
    hit = Hit.strike(fault, target, reading, path)
    if hit.offset == SIZE:
        raise MissedError  # what was owed came between the picture and the blow
    assert hit.owed_bytes > 0
    assert hit.was_anchor == (victim == "anchor")
    assert hit.offset > 0
    finish(reading, hit, [server for server in stage.servers if server is not target], 2)


@every_fault
@every_victim
@retried
def test_between_the_last_byte_and_the_end(stage: Stage, fault: Fault, victim: str) -> None:
    reading = three_servers(stage, 30, [0, SIZE])
    begin(stage)
    until(lambda: reading.size == SIZE, "all bytes have come")
    target = of_role(reading, stage, victim)
    assert path_to(reading.conn, target) is not None
    target.wait("hold", lambda event: event["offset"] == SIZE)
    assert not target.told("over")
    hit = Hit.strike(fault, target, reading)
    assert hit.was_anchor == (victim == "anchor")
    assert (hit.offset, hit.owed) == (SIZE, THE_END)
    finish(reading, hit, [server for server in stage.servers if server is not target], 2)
