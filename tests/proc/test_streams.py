"""Streams between processes, without faults: every shape of a TCP dialogue, over one server and over several."""

from __future__ import annotations

import hashlib
import json
import socket

import pytest

import kwik
from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_faults import MissedError, retried
from tests.proc.harness_stage import READ_BYTES, Reading, Stage, request_line, share_of, stats_of

MB = 1_000_000
WAN = {"rate_mbps": 40, "delay_ms": 10}


def read_all(conn: kwik.Conn) -> bytes:
    return b"".join(iter(lambda: conn.recv(READ_BYTES), b""))


def read_exactly(conn: kwik.Conn, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = conn.recv(size - len(data))
        assert piece, "a silent early end"
        data += piece
    return data


# ---------------------------------------------------------------- bytes both ways


@pytest.mark.parametrize("count", [1, 3, 8])
@retried
def test_a_large_body_comes_from_every_server(stage: Stage, count: int) -> None:
    size = 4 * MB
    for _ in range(count):
        stage.server(link={"rate_mbps": 64 / count, "delay_ms": 5})
    conn = stage.dial()
    reading = Reading.of(conn, "large", size, holds=[size])
    until(lambda: reading.size == size, "everything but the end has come")
    shares = {share.server_id: share.delivered_bytes for share in stats_of(conn).shares}
    print(f"{count} servers: {shares}")
    assert sum(shares.values()) == size
    if len(shares) < count or not all(shares.values()):
        raise MissedError  # somebody came too late for his part
    for server in stage.servers:
        server.open()
    reading.finish()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("replicated", [True, False])
def test_large_echo(stage: Stage, count: int, replicated: bool) -> None:
    for _ in range(count):
        stage.server("echo", replicated=replicated, link=WAN)
    conn = stage.dial()
    data = content("echo", 2 * MB)
    reading = Reading(conn, data)
    conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)
    reading.finish()
    reports = [server.report() for server in stage.servers]
    digest = hashlib.sha256(data).hexdigest()
    assert digest in [report["upstream_sha256"] for report in reports]
    if not replicated:
        assert sum(report["streams"] for report in reports) == 1


def test_a_large_upstream(stage: Stage) -> None:
    stage.server("sink", link=WAN)
    conn = stage.dial()
    data = content("upstream", 4 * MB)
    conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)
    assert json.loads(read_all(conn)) == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_small_dialogues_over_one_session(stage: Stage) -> None:
    for _ in range(3):
        stage.server("echo")
    for number in range(20):
        conn = stage.dial()
        conn.sendall(b"%d\n" % number)
        assert read_exactly(conn, len(b"%d\n" % number)) == b"%d\n" % number
        conn.shutdown(socket.SHUT_WR)
        assert conn.recv(1) == b""
    assert sum(server.report()["streams"] for server in stage.servers) == 20, "small streams touch one server each"


# ---------------------------------------------------------------- who speaks, who ends first


def test_the_server_speaks_first(stage: Stage) -> None:
    for _ in range(2):
        stage.server("greet")
    conn = stage.dial()
    with conn.makefile("rb") as lines:
        assert lines.readline() == b"220 ready\r\n"
        for word in (b"help", b"noop"):
            conn.sendall(word + b"\r\n")
            assert lines.readline() == b"250 " + word.upper() + b"\r\n"
        conn.sendall(b"quit\r\n")
        assert lines.readline() == b"250 QUIT\r\n"
        assert lines.read() == b""
    conn.close()


def test_the_client_ends_first_and_reads_on(stage: Stage) -> None:
    stage.server(link=WAN)
    Reading.of(stage.dial(), "half", MB).finish()


def test_the_server_ends_first_and_listens_on(stage: Stage) -> None:
    server = stage.server("early", link=WAN)
    conn = stage.dial()
    assert conn.recv(1) == b"", "its end comes before anything was said"
    data = content("late", MB)
    conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)
    heard = server.wait("heard")
    assert (heard["size"], heard["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("app", ["echo", "close", "sink", "greet"])
def test_half_close_at_the_very_start(stage: Stage, app: str) -> None:
    for _ in range(2):
        stage.server(app)
    conn = stage.dial()
    conn.shutdown(socket.SHUT_WR)
    expected = {"echo": 0, "close": 0, "sink": len(b'{"size": 0, "sha256": ""}\n') + 64, "greet": 11}
    assert len(read_all(conn)) == expected[app]


def test_close_at_once(stage: Stage) -> None:
    server = stage.server("echo")
    stage.dial().close()
    assert server.wait("over")["end"] == "end", "an orderly end, not a reset"


def test_both_ends_close_at_once(stage: Stage) -> None:
    stage.server("close")
    for _ in range(10):
        conn = stage.dial()
        conn.shutdown(socket.SHUT_WR)
        assert conn.recv(1) == b""


# ---------------------------------------------------------------- one stream, several requests


def test_a_recruit_in_the_second_answer_of_a_kept_alive_stream(stage: Stage) -> None:
    anchor = stage.server(link={"rate_mbps": 20, "delay_ms": 10})
    conn = stage.dial(config={"receive_window_bytes": 2**20})
    bodies = [content("first", 20_000), content("second", 3 * MB), content("third", 100_000)]
    conn.sendall(request_line("first", 20_000))
    assert read_exactly(conn, 20_000) == bodies[0]
    helper = stage.server(link={"rate_mbps": 20, "delay_ms": 10})
    conn.sendall(request_line("second", 3 * MB))
    assert read_exactly(conn, 3 * MB) == bodies[1]
    share = share_of(conn, helper)
    assert share is not None, "the second answer recruits"
    assert share.delivered_bytes > 0
    conn.sendall(request_line("third", 100_000))
    conn.shutdown(socket.SHUT_WR)
    assert read_all(conn) == bodies[2]
    assert [event["event"] for event in helper.told("request")] == ["request"] * 3, "it heard the whole dialogue"
    assert len(anchor.told("request")) == 3


# ---------------------------------------------------------------- aborts


@pytest.mark.parametrize("sent", [0, 1, 500_000])
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_an_abort_by_the_application_is_a_reset(stage: Stage, sent: int, half_closed: bool, count: int) -> None:
    for _ in range(count):
        stage.server("abort", link=WAN)
    conn = stage.dial(servers=[server.address for server in stage.servers])  # nobody else will turn up
    conn.sendall(request_line("abort", sent))
    if half_closed:
        conn.shutdown(socket.SHUT_WR)
    reading = Reading(conn, content("abort", sent))
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError), "never an end of file"
    assert not reading.is_wrong
    with pytest.raises(ConnectionResetError):
        conn.recv(1)


@pytest.mark.parametrize("half_closed", [False, True])
def test_an_abort_by_the_client_is_a_reset(stage: Stage, half_closed: bool) -> None:
    server = stage.server(link=WAN)
    conn = stage.dial()
    conn.sendall(request_line("abort", 4 * MB, holds=[MB]))
    read_exactly(conn, 1000)
    server.wait("hold")
    if half_closed:
        conn.shutdown(socket.SHUT_WR)
    conn.abort()
    server.open()
    assert server.wait("over")["end"] == "reset"
    until(lambda: not server.report()["replicas"], "the server has forgotten the stream")
