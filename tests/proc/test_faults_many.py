"""Several servers go at once, or the only one: the stream goes on where it can, else it is reset in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.proc.harness import until
from tests.proc.harness_faults import (
    FAULTS,
    PAUSE_S,
    Fault,
    Hit,
    MissedError,
    by_role,
    patience,
    retried,
    wait_all_owe,
    wait_mid_block,
)
from tests.proc.harness_stage import Reading, Server, Stage, path_to, share_of, stats_of

SIZE = 5_000_000
RECOVERY_S = 1.5
CONFIG = {"receive_window_bytes": 2**20, "first_window_bytes": 2**17, "recovery_time_s": RECOVERY_S}
LINK = {"rate_mbps": 20, "delay_ms": 30}

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
temporary = pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS.values() if fault.heal], ids=[name for name in FAULTS if FAULTS[name].heal]
)


def reading_from(
    stage: Stage,
    count: int,
    size: int = SIZE,
    *,
    replicated: bool = True,
    holds: list[int] | None = None,
    **config: object,
) -> Reading:
    """A stream on so many servers, the first of them the anchor; all begin at the same time, by their first gate."""
    anchor = stage.server(link=LINK, replicated=replicated)
    conn = stage.dial(replicas=count, config=CONFIG | config)
    reading = Reading.of(conn, "many", size, holds=[0, *(holds or [])])
    anchor.wait("hold")
    for _ in range(count - 1):
        stage.server(link=LINK, replicated=replicated)
    for server in stage.servers if replicated else ():
        server.wait("hold")
    for server in stage.servers:
        server.open(1)
    return reading


def strike_all(fault: Fault, choose: Callable[[], list[Server]], reading: Reading) -> list[Hit]:
    """All at once, in mid-stream; each of them owes bytes."""
    pairs = wait_all_owe(reading, choose, SIZE // 8)
    hits = [Hit.strike(fault, victim, reading, path) for victim, path in pairs]
    assert all(hit.owed_bytes > 0 for hit in hits)
    if reading.size == len(reading.expected):
        raise MissedError  # the last bytes were quicker than the last blow
    return hits


@every_fault
@pytest.mark.parametrize("survivor", ["anchor", "helper"])
@retried
def test_all_but_one(stage: Stage, fault: Fault, survivor: str) -> None:
    reading = reading_from(stage, 3)
    victims = slice(1, 3) if survivor == "anchor" else slice(0, 2)
    hits = strike_all(fault, lambda: by_role(reading, stage.servers)[victims], reading)
    assert [hit.was_anchor for hit in hits] == [survivor == "helper", False]
    reading.finish()
    stats = stats_of(reading.conn)
    [left] = set(stage.servers) - {hit.victim for hit in hits}
    assert stats.anchor == left.id
    assert stats.takeovers >= (survivor == "helper")
    for hit in hits:
        hit.check_silence()
        hit.tell(reading)
        hit.check_resumed(reading)


@every_fault
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
@retried
def test_all_for_good(stage: Stage, fault: Fault, count: int, replicated: bool) -> None:
    """A reset, never an end of file; after a correct beginning; when recovery_time_s is over."""
    reading = reading_from(stage, count, replicated=replicated)
    runs_on = count if replicated else 1
    hits = strike_all(fault, lambda: by_role(reading, stage.servers)[:runs_on], reading)
    hits += [Hit.strike(fault, server, reading) for server in stage.servers[runs_on:]]
    assert [hit.was_anchor for hit in hits] == [True, *[False] * (count - 1)]
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError), "never an end of file"
    assert not reading.is_wrong
    assert hits[0].offset <= reading.size < SIZE
    for hit in hits:
        hit.check_silence()
    assert reading.over_at is not None
    waited_s = reading.over_at - hits[-1].at
    print(f"{fault}: {reading.size} bytes, then for {waited_s:.1f} s nothing, then {reading.error}")
    assert RECOVERY_S - 0.5 <= waited_s <= patience(RECOVERY_S + PAUSE_S)


@temporary
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
@retried
def test_all_for_a_while(stage: Stage, fault: Fault, count: int, replicated: bool) -> None:
    """Whoever comes back in time goes on where it was; nothing is run twice."""
    reading = reading_from(stage, count, replicated=replicated, recovery_time_s=30.0)
    runs_on = count if replicated else 1
    hits = strike_all(fault, lambda: by_role(reading, stage.servers)[:runs_on], reading)
    hits += [Hit.strike(fault, server, reading) for server in stage.servers[runs_on:]]
    assert hits[0].was_anchor
    until(lambda: _is_noticed(reading, stage), "the client has noticed")
    assert not reading.is_over
    for hit in hits:
        hit.check_silence()
        assert fault.heal is not None
        fault.heal(hit.victim)
    healed_at = time.monotonic()
    reading.finish()
    hits[0].tell(reading)
    hits[0].check_resumed(reading, since=healed_at)
    reports = [server.report() for server in stage.servers]
    assert [report["streams"] for report in reports] == [1 if replicated or n == 0 else 0 for n in range(count)]


def _is_noticed(reading: Reading, stage: Stage) -> bool:
    paths = [path_to(reading.conn, server) for server in stage.servers]
    return all(path is None or path.silent or path.state not in ("active", "connecting") for path in paths)


@retried
def test_each_is_stopped_in_turn(stage: Stage) -> None:
    """SIGSTOP and SIGCONT of every server while a long body is read: all of them keep contributing."""
    size = 8_000_000
    reading = reading_from(stage, 3, size, holds=[size])
    until(lambda: reading.size > size // 8, "the stream is under way")
    hits, until_then = [], {}
    for number, server in enumerate(by_role(reading, stage.servers)):
        path = wait_mid_block(reading, server, size * (number + 1) // 6)
        hits.append(hit := Hit.strike(FAULTS["stop"], server, reading, path))
        assert hit.owed_bytes > 0
        until(lambda hit=hit: reading.size >= hit.offset + size // 8, "the reader got on without it")  # type: ignore[misc]
        hit.check_silence()
        hit.tell(reading)
        hit.check_resumed(reading)
        until_then[server.id] = delivered_by(reading, server)
        server.go_on()
    until(lambda: reading.size == size, "all bytes have come")
    for server in stage.servers:
        assert delivered_by(reading, server) > until_then[server.id], f"{server.id} is back and contributes"
        server.open(2)
    assert any(hit.was_anchor for hit in hits)
    assert stats_of(reading.conn).takeovers >= 1
    reading.finish()


def delivered_by(reading: Reading, server: Server) -> int:
    """What this server, in all its incarnations, has contributed."""
    return sum(share.delivered_bytes for share in stats_of(reading.conn).shares if share.server_id == server.id)


@retried
def test_a_server_that_turns_up_in_mid_stream_contributes(stage: Stage) -> None:
    reading = reading_from(stage, 1, 8_000_000)
    until(lambda: reading.size > 1_000_000, "the first server is at it")
    late = stage.server(link=LINK)
    late.open(1)
    until(lambda: contributes(reading, late), "it contributes")
    reading.finish()


def contributes(reading: Reading, server: Server) -> bool:
    """Whether something that was delivered came from that server."""
    if reading.is_over:
        raise MissedError
    share = share_of(reading.conn, server)
    return share is not None and share.delivered_bytes > 0


@pytest.mark.parametrize("count", [1, 2])
@retried
def test_a_server_is_killed_and_started_again_at_its_address(stage: Stage, count: int) -> None:
    """The new instance knows nothing of the stream; a replicated one is replayed to it, by itself or as a helper.

    The applications wait in the middle until the new instance's is there too: then it has its part in the rest.
    """
    size = 4_000_000
    reading = reading_from(stage, count, size, recovery_time_s=20.0, keepalive_s=0.2, holds=[size // 2, size])
    [(victim, path)] = wait_all_owe(reading, lambda: by_role(reading, stage.servers)[:1], size // 8)
    hit = Hit.strike(FAULTS["kill"], victim, reading, path)
    assert hit.was_anchor
    assert hit.owed_bytes > 0
    again = stage.restart(victim)
    again.open(1)
    again.wait("hold", lambda event: event["offset"] == size // 2)
    until(lambda: reading.size == size // 2, "the first half has come")
    before = delivered_by(reading, again)
    for server in stage.servers:
        server.open(2)
    until(lambda: reading.size == size, "all bytes have come")
    hit.tell(reading)
    stats = stats_of(reading.conn)
    print(stats.shares)
    assert delivered_by(reading, again) > before, "the new instance contributes"
    assert stats.takeovers >= 1 or count == 1
    for server in stage.servers:
        server.open(3)
    reading.finish()
    assert [server.report()["streams"] for server in stage.servers] == [1] * count


@retried
def test_an_anchored_stream_is_reset_when_its_server_was_started_again(stage: Stage) -> None:
    """The new instance at the address says that it does not know the stream: no need to wait for recovery_time_s."""
    reading = reading_from(stage, 1, replicated=False, recovery_time_s=3600.0)
    path = wait_mid_block(reading, stage.servers[0], SIZE // 4)
    hit = Hit.strike(FAULTS["kill"], stage.servers[0], reading, path)
    assert hit.owed_bytes > 0
    again = stage.restart(stage.servers[0])
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert not reading.is_wrong
    assert again.report()["streams"] == 0, "nothing runs twice"
