"""A path's death is not a server's: NAT rebinding, a laptop's sleep, a network that is bad but not gone."""

from __future__ import annotations

import hashlib

import pytest

from tests.proc.harness import LIMIT_S, until
from tests.proc.harness_content import content
from tests.proc.harness_faults import retried, wait_mid_block
from tests.proc.harness_sockets import IP_PMTUDISC_DO, mtu_discovery
from tests.proc.harness_stage import Reading, Stage, stats_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 10}


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
@pytest.mark.parametrize("times", [1, 5])
@retried
def test_nat_rebinding(stage: Stage, replicated: bool, times: int) -> None:
    server = stage.server(link=LINK, replicated=replicated)
    conn = stage.dial()
    reading = Reading.of(conn, "nat", SIZE)
    for number in range(times):
        wait_mid_block(reading, server, SIZE * (number + 1) // (times + 2))
        server.rebind()
    reading.finish()
    assert server.link_stats()["rebinds"] == times
    assert server.report()["streams"] == 1


@retried
def test_nat_rebinding_of_all_paths_to_another_address(stage: Stage) -> None:
    for _ in range(3):
        stage.server(link=LINK)
    reading = Reading.of(stage.dial(replicas=3), "nat", SIZE)
    wait_mid_block(reading, stage.servers[0], SIZE // 4)
    for server in stage.servers:
        server.rebind("127.0.0.2")
    reading.finish()
    assert [server.link_stats()["rebinds"] for server in stage.servers] == [1, 1, 1]


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_upstream_goes_on_after_a_rebinding(stage: Stage, replicated: bool) -> None:
    server = stage.server("echo", link=LINK, replicated=replicated)
    conn = stage.dial()
    data = content("nat-up", 2_000_000)
    reading = Reading(conn, data)
    for start in range(0, len(data), 500_000):
        conn.sendall(data[start : start + 500_000])
        server.rebind()
    conn.shutdown(1)
    reading.finish()
    assert server.link_stats()["rebinds"] == 4
    assert server.report()["upstream_sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("shape", "counters"),
    [
        ({"loss": 0.02}, ["lost"]),
        ({"reorder": 0.05, "jitter_s": 0.005}, ["reordered"]),
        ({"duplicate": 0.1, "corrupt": 0.01}, ["duplicated", "corrupted"]),
        ({"queue_bytes": 15_000}, ["dropped_queue"]),
    ],
    ids=["loss", "reordering", "duplicates and corruption", "short queue"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_bad_network(stage: Stage, shape: dict[str, float], counters: list[str], count: int) -> None:
    for _ in range(count):
        stage.server(link=LINK | shape)
    reading = Reading.of(stage.dial(replicas=count), "bad", 2_000_000)
    reading.finish()
    stats = [server.link_stats()["down"] for server in stage.servers]
    for counter in counters:
        happened = [each[counter] for each in stats]
        print(counter, happened)
        assert sum(happened) > 0, f"nothing was {counter}"


def test_an_idle_stream_outlives_the_idle_time_out(stage: Stage) -> None:
    """Nobody says a word for longer than QUIC lets a path be idle: it is kept alive, and is the same path."""
    server = stage.server("echo", link=LINK, replicated=False)
    conn = stage.dial(config={"idle_timeout_s": 2.0, "keepalive_s": 0.5})
    conn.sendall(b"before")
    assert conn.recv(100) == b"before"
    [before] = conn.paths()
    conn.settimeout(5.0)
    with pytest.raises(TimeoutError):
        conn.recv(1)  # this is the silence
    [after] = conn.paths()
    assert after.path == before.path
    conn.settimeout(LIMIT_S)
    conn.sendall(b"after")
    conn.shutdown(1)
    assert conn.recv(100) == b"after"
    assert conn.recv(1) == b""
    assert server.report()["streams"] == 1


def test_no_packet_may_be_fragmented(stage: Stage) -> None:
    """The kernel is told so for every socket, on both sides (SPEC §3)."""
    server = stage.server("echo")
    conn = stage.dial()
    conn.sendall(b"a")
    assert conn.recv(1) == b"a"
    ours, theirs = mtu_discovery(), server.ask("sockets")["mtu_discovery"]
    assert ours
    assert theirs
    assert {*ours, *theirs} == {IP_PMTUDISC_DO}


def test_unlike_paths(stage: Stage) -> None:
    """A slow and far helper never holds up what the others can send sooner, and every byte is right."""
    for link in (
        {"rate_mbps": 40, "delay_ms": 2},
        {"rate_mbps": 1, "delay_ms": 150},
        {"rate_mbps": 20, "delay_ms": 40},
    ):
        stage.server(link=link)
        if len(stage.servers) == 1:
            conn = stage.dial(replicas=3)
    reading = Reading.of(conn, "unlike", SIZE, holds=[SIZE])
    until(lambda: reading.size == SIZE, "all bytes have come")
    print(stats_of(conn).shares)
    for server in stage.servers:
        server.open()
    reading.finish()
