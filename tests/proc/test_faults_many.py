"""Several servers go at once, or the only one: the stream goes on where it can, else it is reset in bounded time."""

from __future__ import annotations

import pytest

from tests.proc.harness import until
from tests.proc.harness_faults import FAULTS, Fault, Hit, wait_mid_block
from tests.proc.harness_stage import Reading, Stage, path_to, share_of, stats_of

SIZE = 4_000_000
CONFIG = {"receive_window_bytes": 2**20, "recovery_time_s": 1.5}
LINK = {"rate_mbps": 20, "delay_ms": 10}

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
temporary = pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS.values() if fault.heal], ids=[name for name in FAULTS if FAULTS[name].heal]
)


def reading_from(stage: Stage, count: int, size: int = SIZE, *, replicated: bool = True, **config: object) -> Reading:
    """A stream on so many servers, the first of them the anchor."""
    anchor = stage.server(link=LINK, replicated=replicated)
    conn = stage.dial(replicas=count, config=CONFIG | config)
    reading = Reading.of(conn, "many", size)
    anchor.wait("accept")
    for _ in range(count - 1):
        stage.server(link=LINK, replicated=replicated)
    for server in stage.servers if replicated else ():
        server.wait("accept")
    return reading


@every_fault
@pytest.mark.parametrize("survivor", [0, 1], ids=["anchor survives", "helper survives"])
def test_all_but_one(stage: Stage, fault: Fault, survivor: int) -> None:
    reading = reading_from(stage, 3)
    victims = [server for server in stage.servers if server is not stage.servers[survivor]]
    path = wait_mid_block(reading, victims[0], SIZE // 4)
    hits = [Hit.strike(fault, victims[0], reading, path), Hit.strike(fault, victims[1], reading)]
    assert hits[0].owed_bytes > 0
    assert hits[0].was_anchor == (survivor == 1)
    reading.finish()
    for hit in hits:
        hit.check_silence()
        hit.tell(reading)


@every_fault
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_all_for_good(stage: Stage, fault: Fault, count: int, replicated: bool) -> None:
    """A reset, never an end of file; after a correct beginning; when recovery_time_s is over."""
    reading = reading_from(stage, count, replicated=replicated)
    path = wait_mid_block(reading, stage.servers[0], SIZE // 4)
    hits = [Hit.strike(fault, stage.servers[0], reading, path)]
    hits += [Hit.strike(fault, server, reading) for server in stage.servers[1:]]
    assert hits[0].was_anchor
    assert hits[0].owed_bytes > 0
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError), "never an end of file"
    assert not reading.is_wrong
    assert 0 < reading.size < SIZE
    for hit in hits:
        hit.check_silence()
    print(f"{fault}: {reading.size} bytes, then {reading.error}")


@temporary
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_all_for_a_while(stage: Stage, fault: Fault, count: int, replicated: bool) -> None:
    """Whoever comes back in time goes on where it was; nothing is run twice."""
    reading = reading_from(stage, count, replicated=replicated, recovery_time_s=30.0)
    path = wait_mid_block(reading, stage.servers[0], SIZE // 4)
    hits = [Hit.strike(fault, stage.servers[0], reading, path)]
    hits += [Hit.strike(fault, server, reading) for server in stage.servers[1:]]
    until(lambda: _is_noticed(reading, stage), "the client has noticed")
    assert not reading.is_over
    for hit in hits:
        hit.check_silence()
        assert fault.heal is not None
        fault.heal(hit.victim)
    reading.finish()
    hits[0].tell(reading)
    reports = [server.report() for server in stage.servers]
    assert sum(report["streams"] for report in reports) == (count if replicated else 1)


def _is_noticed(reading: Reading, stage: Stage) -> bool:
    paths = [path_to(reading.conn, server) for server in stage.servers]
    return all(path is None or path.silent or path.state not in ("active", "connecting") for path in paths)


def test_each_is_stopped_in_turn(stage: Stage) -> None:
    """SIGSTOP and SIGCONT of every server while a long body is read: all of them keep contributing."""
    size = 8_000_000
    reading = reading_from(stage, 3, size)
    for number, server in enumerate(stage.servers):
        least = size * (number + 1) // 6
        until(lambda least=least: reading.size >= least, "the reader has come so far")  # type: ignore[misc]
        hit = Hit.strike(FAULTS["stop"], server, reading)
        until(lambda least=least: reading.size >= least + size // 8, "the reader got on without it")  # type: ignore[misc]
        hit.check_silence()
        hit.tell(reading)
        server.go_on()
    reading.finish()


def test_a_server_that_turns_up_in_mid_stream_contributes(stage: Stage) -> None:
    reading = reading_from(stage, 1, 8_000_000)
    until(lambda: reading.size > 1_000_000, "the first server is at it")
    late = stage.server(link=LINK)
    until(lambda: (share := share_of(reading.conn, late)) is not None and share.delivered_bytes > 0, "it contributes")
    assert stats_of(reading.conn).takeovers == 0
    reading.finish()


@pytest.mark.parametrize("count", [1, 2])
def test_a_server_is_killed_and_started_again_at_its_address(stage: Stage, count: int) -> None:
    """The new instance knows nothing of the stream; a replicated one is replayed to it, by itself or as a helper."""
    size = 6_000_000
    reading = reading_from(stage, count, size, recovery_time_s=20.0)
    wait_mid_block(reading, stage.servers[0], size // 4)
    hit = Hit.strike(FAULTS["kill"], stage.servers[0], reading)
    again = stage.restart(stage.servers[0])
    reading.finish()
    hit.tell(reading)
    if count == 1:
        assert again.report()["streams"] == 1


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
