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
    strangers = [stage.server(certificate=certificate, link={}) for _ in range(2)]
    right = stage.server(link=LINK)
    reading = Reading.of(stage.dial(replicas=3, config=CONFIG), "stranger", SIZE, holds=[SIZE])
    until(lambda: reading.size == SIZE, "all bytes have come")
    for stranger in strangers:
        until(lambda stranger=stranger: stranger.link_stats()["down"]["delivered_packets"] > 0, "it was tried")  # type: ignore[misc]
    right.open()
    reading.finish()
    assert right.report()["streams"] == 1
    assert [stranger.report()["path_bytes"] for stranger in strangers] == [0, 0]


def test_time_is_bounded_when_every_candidate_is_a_stranger(stage: Stage) -> None:
    for certificate in ("other-name", "expired", "other-ca"):
        stage.server(certificate=certificate)
    began = time.monotonic()
    with pytest.raises(OSError, match="certificate"):
        stage.dial(timeout=15)
    print(f"refused after {time.monotonic() - began:.1f} s")


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
