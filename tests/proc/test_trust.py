"""Servers that must not be believed, or only as far as they agree: strangers, liars, clones, replicas that differ."""

from __future__ import annotations

import time
from typing import Any

import pytest

import kwik
from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_stage import Reading, Server, Stage, share_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 10}
CONFIG = {"receive_window_bytes": 2**20, "recovery_time_s": 2.0}
HELLO_BYTES = 400
"""More than a CLIENT_HELLO has, less than any stream."""


# ---------------------------------------------------------------- certificates


@pytest.mark.parametrize("certificate", ["other-name", "expired", "other-ca"])
def test_a_stranger_gets_no_byte_of_a_stream(stage: Stage, certificate: str) -> None:
    stranger = stage.server("sink", certificate=certificate)
    with pytest.raises(ConnectionRefusedError, match="certificate"):
        stage.dial(servers=[stranger.address], timeout=10)
    report = stranger.report()
    assert report["streams"] == 0
    assert report["path_bytes"] == 0, "not even the hello, which has the session's secret"


@pytest.mark.parametrize("certificate", ["other-name", "expired", "other-ca"])
def test_a_stranger_among_servers_is_left_out(stage: Stage, certificate: str) -> None:
    strangers = [stage.server(certificate=certificate) for _ in range(2)]
    right = stage.server(link=LINK)
    reading = Reading.of(stage.dial(replicas=3, config=CONFIG), "stranger", SIZE)
    reading.finish()
    assert right.report()["streams"] == 1
    assert [stranger.report()["path_bytes"] for stranger in strangers] == [0, 0]


def test_a_server_of_another_service_is_not_used(stage: Stage) -> None:
    other = stage.server("sink", service="app.example:80")
    with pytest.raises(ConnectionRefusedError):
        stage.dial(servers=[other.address], confirm=True, timeout=10)
    assert other.report()["streams"] == 0


# ---------------------------------------------------------------- replicas that differ


def anchor_and_helper(stage: Stage, **options: Any) -> tuple[Server, Server, kwik.Conn]:
    """A stream on an honest anchor; the helper is as the options say."""
    anchor = stage.server(link=LINK)
    conn = stage.dial(replicas=2, config=CONFIG)
    anchor.wait("accept")
    return anchor, stage.server(link=LINK, **options), conn


def test_a_diverging_helper_gives_nothing(stage: Stage) -> None:
    _, helper, conn = anchor_and_helper(stage, salt="another body of equal length")
    reading = Reading.of(conn, "differs", SIZE, holds=[SIZE])
    until(lambda: reading.size == SIZE, "all bytes have come")
    share = share_of(conn, helper)
    assert share is None or (share.delivered_bytes, share.state) == (0, "divergent")
    assert helper.report()["streams"] == 1
    stage.servers[0].open()
    reading.finish()


def test_a_diverging_helper_never_takes_over(stage: Stage) -> None:
    anchor, helper, conn = anchor_and_helper(stage, salt="another body of equal length")
    reading = Reading.of(conn, "differs", SIZE)
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    helper.wait("accept")
    anchor.kill()
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError), "a reset, never a splice"
    assert not reading.is_wrong
    assert reading.size < SIZE


def test_whoever_is_anchor_is_the_stream(stage: Stage) -> None:
    """Of two servers that differ the stream is one, whole."""
    for salt in ("this", "that"):
        stage.server(link=LINK, salt=salt)
    conn = stage.dial(replicas=2, config=CONFIG)
    conn.sendall(b'{"seed": "either", "size": 1000000}\n')
    conn.shutdown(1)
    data = b"".join(iter(lambda: conn.recv(65536), b""))
    assert data in (content("either", 1_000_000, "this"), content("either", 1_000_000, "that"))


# ---------------------------------------------------------------- replicas that lie


@pytest.mark.parametrize("lie", ["data", "digests", "final", "withhold", "probe"])
def test_a_lying_helper_changes_nothing(stage: Stage, lie: str) -> None:
    _, helper, conn = anchor_and_helper(stage, lie=[lie, SIZE // 3])
    reading = Reading.of(conn, "lies", SIZE)
    helper.wait("request")
    reading.finish()
    stats = conn.stats()
    lies = helper.report()["lies"]
    print(f"{lie}: {lies} lies, {stats.rejected_blocks if stats else '?'} blocks rejected")
    if lie in ("digests", "withhold", "data"):
        assert lies > 0


@pytest.mark.parametrize("lie", ["data", "digests", "final", "withhold", "probe"])
def test_a_liar_never_takes_over_with_wrong_bytes(stage: Stage, lie: str) -> None:
    """The honest anchor dies: what was read is right, and the end, if it comes, is the true end.

    As anchor, a server may say what it likes (it IS the stream then) about bytes behind the change; so nothing is
    claimed about bytes behind the point at which delivery stood, but for lies that the PROBE itself uncovers.
    """
    anchor, helper, conn = anchor_and_helper(stage, lie=[lie, SIZE])
    reading = Reading.of(conn, "lies", SIZE)
    helper.wait("request")
    until(lambda: reading.size > SIZE // 3, "the stream is under way")
    anchor.kill()
    reading.wait_over()
    if lie == "probe":
        assert isinstance(reading.error, ConnectionResetError)
        assert reading.size < SIZE
    if lie != "final":
        assert not reading.is_wrong
        assert reading.error is not None or reading.size == SIZE


# ---------------------------------------------------------------- clones


def test_two_servers_with_one_id_are_two(stage: Stage) -> None:
    """One id, two incarnations: both serve."""
    for _ in range(2):
        stage.server(link=LINK, server_id="same")
    stage.listing.add("second", stage.servers[1].address)
    conn = stage.dial(replicas=2, config=CONFIG)
    reading = Reading.of(conn, "one id", SIZE)
    for server in stage.servers:
        server.wait("request")
    reading.finish()


@pytest.mark.parametrize("forge", [False, True], ids=["honest", "forging"])
def test_a_clone_cannot_stand_in_for_its_original(stage: Stage, forge: bool) -> None:
    """Same id, same incarnation, a good certificate: without the proof it never becomes a path to the anchor."""
    incarnation = "00112233445566778899aabbccddeeff"
    original = stage.server(link=LINK, replicated=False, server_id="same", incarnation=incarnation)
    conn = stage.dial(config=CONFIG)
    reading = Reading.of(conn, "clone", SIZE)
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    address = original.address
    original.kill()
    clone = stage.server(replicated=False, server_id="same", incarnation=incarnation, forge=forge, listed=False)
    stage.listing.add("clone", clone.address)
    stage.listing.add("same", address)
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert not reading.is_wrong
    assert clone.report()["streams"] == 0, "nothing runs twice"


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_two_servers_behind_one_address(stage: Stage, replicated: bool) -> None:
    """A load balancer that knows nothing of Kwik: each path ends at a server of its own; streams stay whole."""
    servers = [stage.server(listed=False, replicated=replicated) for _ in range(2)]
    address = stage.balancer(*servers)
    for number in range(4):
        config = {"session_idle_s": 5.0 + number}  # a session of its own
        Reading.of(stage.dial(servers=[address], config=config), f"balanced {number}", 500_000).finish()
    streams = [server.report()["streams"] for server in servers]
    assert all(streams), "both were used"
    if not replicated:
        assert sum(streams) == 4


# ---------------------------------------------------------------- once only


def test_an_anchored_stream_is_seen_by_one_application(stage: Stage) -> None:
    """Races over slow, dying and dead candidates: each stream ran on at most one server, once."""
    for number in range(5):
        delay_ms = (300, 30, 120, 5, 60)[number]
        stage.server("echo", replicated=False, link={"rate_mbps": 20, "delay_ms": delay_ms})
    names, answered = [f"stream {number}\n".encode() for number in range(12)], 0
    for number, name in enumerate(names):
        if number == 4:
            stage.servers[3].kill()
        if number == 8:
            stage.servers[1].set_link(blackhole="both")
        config = {"race_stagger_s": 0.02, "session_idle_s": 5.0 + number, "recovery_time_s": 1.0}
        try:
            conn = stage.dial(config=config, timeout=10)
            conn.sendall(name)
            conn.shutdown(1)
            answered += b"".join(iter(lambda conn=conn: conn.recv(65536), b"")) == name  # type: ignore[misc]
        except ConnectionError as error:
            print(name, error)
    stage.servers[1].set_link(blackhole=None)
    seen = [event["data"] for server in stage.servers for event in server.told("first")]
    assert len(seen) == len(set(seen)), "a stream was seen by two applications"
    assert answered >= len(names) - 2, "others were there to serve"


def test_time_is_bounded_when_every_candidate_is_a_stranger(stage: Stage) -> None:
    for certificate in ("other-name", "expired", "other-ca"):
        stage.server(certificate=certificate)
    began = time.monotonic()
    with pytest.raises(OSError, match="certificate"):
        stage.dial(timeout=15)
    print(f"refused after {time.monotonic() - began:.1f} s")
