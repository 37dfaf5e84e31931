"""Servers that leave in good order, in mid-stream: their streams go on at others, and nothing is lost."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import pytest

import kwik
from kwik.kcp import scaling
from tests.proc.cli.commands import Commands, Process
from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_faults import PAUSE_S, MissedError, by_role, patience, retried, wait_all_owe
from tests.proc.harness_stage import SERVICE, Endpoint, Reading, Stage, request_line, stats_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 20}
CONFIG = {"receive_window_bytes": 2**20, "first_window_bytes": 2**17}


def three_servers(stage: Stage, holds: list[int], drain_s: float) -> Reading:
    """A stream on three servers, which all begin at the same time."""
    options = {"link": LINK, "config": {"drain_s": drain_s}}
    stage.server(**options)  # type: ignore[arg-type]
    conn = stage.dial(replicas=3, config=CONFIG)
    reading = Reading.of(conn, "leaving", SIZE, holds=[0, *holds])
    stage.servers[0].wait("hold")
    for _ in range(2):
        stage.server(**options).wait("hold")  # type: ignore[arg-type]
    open_all(stage, 1)
    return reading


def open_all(stage: Stage, gates: int) -> None:
    """All applications go on behind so many holds."""
    for server in stage.servers:
        server.open(gates)


def longest_pause_s(reading: Reading, since: int) -> float:
    """Of the reader, behind that mark."""
    marks = reading.marks[since:]
    return max((later[0] - sooner[0] for sooner, later in itertools.pairwise(marks)), default=0.0)


# ---------------------------------------------------------------- one leaves


@retried
def test_a_draining_anchor_hands_over_in_mid_stream(stage: Stage) -> None:
    """It says so, and another one takes over while it still serves; then it may go at any time."""
    reading = three_servers(stage, [SIZE], 30.0)
    [(anchor, _)] = wait_all_owe(reading, lambda: by_role(reading, stage.servers)[:1], SIZE // 8)
    mark = len(reading.marks)
    anchor.ask("leave")
    until(lambda: stats_of(reading.conn).anchor != anchor.id, "another one has taken over")
    assert not anchor.told("left"), "it did not have to go for that"
    until(lambda: reading.size == SIZE, "all bytes have come")
    assert longest_pause_s(reading, mark) < patience(PAUSE_S)
    open_all(stage, 2)
    reading.finish()
    anchor.wait("left")


@retried
def test_a_path_is_removed_in_mid_stream(stage: Stage) -> None:
    """A helper leaves while it owes: its path goes, and the stream goes on as if nothing had been."""
    reading = three_servers(stage, [SIZE], 0.2)
    [(helper, path)] = wait_all_owe(reading, lambda: by_role(reading, stage.servers)[1:2], SIZE // 8)
    helper.ask("leave")
    helper.wait("left")
    until(lambda: path.path not in {each.path for each in reading.conn.paths()}, "its path is gone")
    until(lambda: reading.size == SIZE, "all bytes have come")
    assert stats_of(reading.conn).anchor != helper.id
    for server in stage.servers:
        if server is not helper:
            server.open(2)
    reading.finish()


@retried
def test_paths_that_are_not_needed_any_more_are_removed_in_mid_stream(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large stream brings two more servers; it ends, their paths go, and a small one beside it goes on."""
    monkeypatch.setattr(scaling, "RELEASE_AFTER_S", 0.5)
    monkeypatch.setattr(scaling, "RELEASE_EVERY_S", 0.1)
    first = stage.server(link=LINK)
    small = stage.dial(config=CONFIG)
    assert ask(small, "before") == content("before", 1000)
    [kept] = small.paths()
    for _ in range(2):
        stage.server(link=LINK)
    large = Reading.of(stage.dial(replicas=3, config=CONFIG), "large", SIZE, holds=[SIZE])
    until(lambda: len(small.paths()) == 3, "there are three paths")
    open_all(stage, 1)
    large.finish()

    def are_gone() -> bool:
        ours = [path.path for path in small.paths() if path.server_id == first.id]
        if len(stats_of(small).shares) > 1 or ours != [kept.path]:
            raise MissedError  # its path was silent for a moment on a busy machine: it needs more than that one too
        return len(small.paths()) == 1

    until(are_gone, "the other paths are gone")
    [left] = small.paths()
    assert left.path == kept.path
    assert ask(small, "after") == content("after", 1000)
    assert [share.server_id for share in stats_of(small).shares] == [first.id]
    small.shutdown(1)
    assert small.recv(1) == b""


def ask(conn: kwik.Conn, seed: str) -> bytes:
    """One small answer of a dialogue."""
    conn.sendall(request_line(seed, 1000))
    answer = b""
    while len(answer) < 1000:
        answer += conn.recv(1000 - len(answer))
    return answer


# ---------------------------------------------------------------- all of them, one after another


def test_a_rolling_restart_of_all_servers(stage: Stage) -> None:
    """Each leaves and comes back in turn, within one stream, which is at the end served by nobody of the beginning."""
    quarters = [SIZE // 4, SIZE // 2, 3 * SIZE // 4, SIZE]
    reading = three_servers(stage, quarters, 0.3)
    born = {server.pid for server in stage.servers}
    for turn, server in enumerate(list(stage.servers)):
        until(lambda turn=turn: reading.size > SIZE * turn // 4, "this quarter has begun")  # type: ignore[misc]
        server.ask("leave")
        server.wait("left")
        server.kill()
        again = stage.restart(server)
        again.open(turn + 1)
        at = quarters[turn]
        again.wait("hold", lambda event, at=at: event["offset"] == at)  # type: ignore[misc]
        until(lambda at=at: reading.size == at, "this quarter is over")  # type: ignore[misc]
        open_all(stage, turn + 2)
    assert not born & {server.pid for server in stage.servers}
    until(lambda: reading.size == SIZE, "all bytes have come")
    open_all(stage, 5)
    reading.finish()
    stats = stats_of(reading.conn)
    print(stats.takeovers, stats.shares)
    assert stats.takeovers >= 1
    assert [server.report()["streams"] for server in stage.servers] == [1, 1, 1]


def test_a_rolling_restart_under_a_dialogue(stage: Stage) -> None:
    """A stream on one server at a time, with nothing under way: each time it is replayed to another one."""
    for _ in range(2):
        stage.server(link=LINK, config={"drain_s": 0.2})
    conn = stage.dial(config=CONFIG | {"keepalive_s": 0.2})
    for turn in range(4):
        assert ask(conn, f"turn {turn}") == content(f"turn {turn}", 1000)
        [server] = [each for each in stage.servers if each.id == stats_of(conn).anchor]
        server.ask("leave")
        server.wait("left")
        server.kill()
        stage.restart(server)
    assert ask(conn, "the end") == content("the end", 1000)
    conn.shutdown(1)
    assert conn.recv(1) == b""
    assert stats_of(conn).takeovers >= 4


# ---------------------------------------------------------------- the program that people run


def serve(stage: Stage, commands: Commands, number: int) -> tuple[Process, Endpoint]:
    """`kwik serve --files` behind a link."""
    files = stage.certificates.files("right")
    process = commands.start(
        *("serve", "--listen", "127.0.0.1:0", "--service", SERVICE, "--files", "files", "--id", f"mirror{number}"),
        *("--cert", files["certfile"], "--key", files["keyfile"], "--json"),
    )
    port = int(process.ready()["listen"].rpartition(":")[2])
    _, address = stage.link_to(port, LINK, number)
    stage.listing.add(f"mirror{number}", address)
    return process, address


def test_sigterm_for_the_anchor_in_mid_stream(stage: Stage, tmp_path: Path) -> None:
    """`kwik serve` is told to stop: its stream goes on at another mirror, and it ends with code 0."""
    (tmp_path / "files").mkdir()
    body = content("mirror", SIZE)
    (tmp_path / "files" / "big.bin").write_bytes(body)
    with Commands(tmp_path) as commands:
        processes = {f"mirror{number}": serve(stage, commands, number)[0] for number in range(2)}
        conn = stage.dial(replicas=2, config=CONFIG)
        conn.sendall(b"GET /big.bin HTTP/1.1\r\nHost: files.example\r\nConnection: close\r\n\r\n")
        head = read_head(conn)
        assert head.startswith(b"HTTP/1.1 200 ")
        reading = Reading(conn, body)
        until(lambda: reading.size > SIZE // 8, "the stream is under way")
        until(lambda: len(stats_of(conn).shares) == 2, "both mirrors have it")
        anchor = stats_of(conn).anchor
        processes[anchor].signal(signal.SIGTERM)
        until(lambda: stats_of(conn).anchor != anchor, "the other mirror has taken over")
        still_there = anchor in {path.server_id for path in conn.paths()}
        assert reading.is_over or still_there, "it serves until it is not needed any more"
        reading.finish()
        stats = stats_of(conn)
        print(stats.shares)
        assert stats.anchor != anchor
        conn.close()
        code, _, errors = processes[anchor].finish()
        assert (code, errors) == (0, "")


def read_head(conn: kwik.Conn) -> bytes:
    """The head of an HTTP answer, byte by byte: what follows is the body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += conn.recv(1)
    return head
