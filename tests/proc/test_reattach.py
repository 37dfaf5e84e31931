"""A path's death is not a server's: when it is dead a new one attaches to the same replica (SPEC §5.3, DESIGN §4.9).

Each test makes sure that the old path is really gone (its number is), that the new one has another number, and that
the server's application is the same one that it was: nothing is run twice.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest

import kwik
from tests.proc.harness import Child, until
from tests.proc.harness_content import content
from tests.proc.harness_faults import FAULTS, PAUSE_S, Hit, by_role, patience, retried, wait_all_owe
from tests.proc.harness_stage import Reading, Server, Stage, request_line, stats_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 30}
CONFIG = {"receive_window_bytes": 2**20, "first_window_bytes": 2**17}  # so that helpers are needed early

BACK_OFF_S = 5.0
"""The longest pause between two attempts to reach a lost server."""


def numbers(conn: kwik.Conn) -> set[int]:
    """The numbers of the session's paths."""
    return {path.path for path in conn.paths()}


def strike_all(stage: Stage, conn: kwik.Conn, reading: Reading) -> list[Hit]:
    """Every server goes away without a word, in mid-stream; returns when all their paths are dead."""
    pairs = wait_all_owe(reading, lambda: by_role(reading, stage.servers), SIZE // 8)
    old = numbers(conn)
    hits = [Hit.strike(FAULTS["blackhole"], server, reading, path) for server, path in pairs]
    assert hits[0].was_anchor
    assert all(hit.owed_bytes > 0 for hit in hits)
    until(lambda: not old & numbers(conn), "all paths are dead")
    assert not reading.is_over
    return hits


@pytest.mark.parametrize("count", [pytest.param(1, id="anchored"), pytest.param(3, id="replicated on three")])
@retried
def test_every_path_dies_and_new_ones_attach(stage: Stage, count: int) -> None:
    """A black hole of about 4 s: nobody says a word until all paths are dead. Recovery time is 60 s, as by default."""
    first = stage.server(link=LINK, replicated=count > 1)
    conn = stage.dial(replicas=count, config=CONFIG)
    reading = Reading.of(conn, "attach", SIZE, holds=[0, 3 * SIZE // 4])
    first.wait("hold")
    for _ in range(count - 1):
        stage.server(link=LINK).wait("hold")
    for server in stage.servers:
        server.open(1)
    hits = strike_all(stage, conn, reading)
    for hit in hits:
        hit.check_silence()
        hit.victim.set_link(blackhole=None)
    healed_at = time.monotonic()
    until(lambda: reaches(conn, hits[0].victim), "a new path leads to the anchor")
    assert stats_of(conn).epoch <= count, "an anchor is changed for another replica only"
    for server in stage.servers:
        server.open(2)
    reading.finish()
    hits[0].tell(reading)
    hits[0].check_resumed(reading, since=healed_at, within_s=BACK_OFF_S + PAUSE_S)
    assert [server.report()["streams"] for server in stage.servers] == [1] * count


def reaches(conn: kwik.Conn, server: Server) -> bool:
    """Whether the session has a path to that server."""
    return any(path.server_id == server.id and path.state == "active" for path in conn.paths())


def test_an_upstream_goes_on_on_a_new_path(stage: Stage) -> None:
    """Bytes written while nobody is there, and before, reach the same application once and in order."""
    server = stage.server("echo", link=LINK, replicated=False)
    conn = stage.dial(config=CONFIG | {"keepalive_s": 0.2})
    data = content("attach-up", 400_000)
    reading = Reading(conn, data)
    conn.sendall(data[:100_000])
    until(lambda: reading.size > 50_000, "the echo is under way")
    old = numbers(conn)
    server.set_link(blackhole="both")
    conn.sendall(data[100_000:300_000])
    until(lambda: not old & numbers(conn), "the path is dead")
    server.set_link(blackhole=None)
    conn.sendall(data[300_000:])
    conn.shutdown(1)
    reading.finish()
    report = server.report()
    assert report["streams"] == 1
    assert report["upstream_sha256"] == hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------- the client's own sleep


@pytest.mark.parametrize(
    ("slept_s", "idle_s"),
    [pytest.param(3.0, 1.0, id="short"), pytest.param(40.0, 30.0, id="40 s", marks=[pytest.mark.soak])],
)
@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
@pytest.mark.timeout(120)
def test_a_client_sleeps(stage: Stage, slept_s: float, idle_s: float, replicated: bool) -> None:
    """SIGSTOP in mid-stream for longer than a path's idle time-out: new paths attach to the same replicas, at once."""
    for _ in range(2):
        stage.server(link=LINK, replicated=replicated)
    client = stage.client(idle_timeout_s=idle_s, keepalive_s=idle_s / 5, replicas=2)
    servers = [server.address for server in stage.servers]
    line = request_line("sleep", SIZE, holds=[SIZE // 2])
    client.ask("dial", count=1, servers=servers, line=line.decode())
    client.ask("read", stream=0)
    before = awake_and_owed(client)
    client.stop()
    with pytest.raises(AssertionError, match="did not say"):
        client.wait("read", limit_s=slept_s)  # this is the sleep: nothing can come
    client.go_on()
    ends_at = time.monotonic() + patience(PAUSE_S)
    old = {path["path"] for path in before["paths"]}
    until(
        lambda: attached(client, before["stats"]["anchor"], old),
        "a new path leads to the anchor",
        ends_at - time.monotonic(),
    )
    until(
        lambda: client.ask("report", stream=0)["delivered"]["0"] >= SIZE // 2,
        "the stream goes on as far as its servers may send",
        ends_at - time.monotonic(),
    )
    for server in stage.servers:
        server.open()
    over = client.wait("read", limit_s=30)
    assert over["error"] == ""
    assert (over["size"], over["sha256"]) == (SIZE, hashlib.sha256(content("sleep", SIZE)).hexdigest())
    streams = sorted(server.report()["streams"] for server in stage.servers)
    assert streams in ([[0, 1]] if not replicated else [[0, 1], [1, 1]])


def test_a_client_sleeps_for_longer_than_its_replica_lingers(stage: Stage) -> None:
    """Its server has forgotten the stream: that is said at once, and what to do."""
    server = stage.server(link=LINK, replicated=False, config={"linger_s": 0.5})
    client = stage.client(idle_timeout_s=1.0, keepalive_s=0.2)
    line = request_line("sleep", SIZE, holds=[SIZE // 2])
    client.ask("dial", count=1, servers=[server.address], line=line.decode())
    client.ask("read", stream=0)
    awake_and_owed(client)
    client.stop()
    with pytest.raises(AssertionError, match="did not say"):
        client.wait("read", limit_s=4.0)
    client.go_on()
    over = client.wait("read", limit_s=patience(PAUSE_S))
    assert over["error"].startswith("StreamReset")
    assert "dial again" in over["error"]


def awake_and_owed(client: Child) -> dict[str, Any]:
    """The client's picture at a moment when it has read something and is owed more by the anchor."""
    seen: list[dict[str, Any]] = []

    def is_owed() -> bool:
        report = client.ask("report", stream=0)
        seen.append(report)
        anchor = report["stats"]["anchor"]
        owed = sum(path["outstanding_bytes"] for path in report["paths"] if path["server_id"] == anchor)
        return bool(report["delivered"]["0"] > SIZE // 8 and owed > 0)

    until(is_owed, "the client is at it")
    print(f"the anchor is {seen[-1]['stats']['anchor']}; owed: {seen[-1]['paths']}")
    return seen[-1]


def attached(client: Child, anchor: str, old: set[int]) -> bool:
    """Whether the anchor of before has a path that it did not have then, and nobody has taken over."""
    report = client.ask("report", stream=0)
    paths: dict[int, str] = {path["path"]: path["server_id"] for path in report["paths"]}
    return not old & paths.keys() and anchor in paths.values()
