"""Nobody offers the service, or not everybody can: clear errors in bounded time, and the others are used."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

import kwik
from tests.proc.cli.commands import Commands
from tests.proc.harness_stage import SERVICE, Reading, Stage


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_no_source_knows_a_server(stage: Stage) -> None:
    with pytest.raises(kwik.NoServers, match="listing") as caught:
        stage.dial(config={"discovery_time_s": 0.3}, timeout=15)
    assert isinstance(caught.value, ConnectionRefusedError)


def test_the_only_address_is_a_closed_port(stage: Stage) -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        stage.dial(servers=[("127.0.0.1", closed_port())], timeout=15)
    print(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_the_only_server_is_behind_a_black_hole(stage: Stage) -> None:
    server = stage.server(link={})
    server.set_link(blackhole="both")
    with pytest.raises(OSError, match=r"127\.0\.0\.1") as caught:
        stage.dial(servers=[server.address], timeout=2)
    print(type(caught.value), caught.value)
    assert isinstance(caught.value, TimeoutError | ConnectionRefusedError)
    server.set_link(blackhole=None)
    Reading.of(stage.dial(servers=[server.address]), "back", 1000).finish()


@pytest.mark.parametrize("count", [1, 3])
def test_dead_candidates_cost_little(stage: Stage, count: int) -> None:
    for number in range(count):
        stage.listing.add(f"dead {number}", ("127.0.0.1", closed_port()))
    stage.server()
    began = time.monotonic()
    Reading.of(stage.dial(), "alive", 1000).finish()
    print(f"{count} dead candidates: {time.monotonic() - began:.3f} s")


def test_a_draining_server_is_not_used(stage: Stage) -> None:
    first = stage.server(link={"delay_ms": 1})
    Reading.of(stage.dial(), "first", 1000).finish()
    first.ask("drain")
    second = stage.server(link={"delay_ms": 50})
    for number in range(3):
        Reading.of(stage.dial(), f"second {number}", 1000).finish()
    assert first.report()["streams"] == 1
    assert second.report()["streams"] == 3


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_a_gateway_whose_application_is_down(stage: Stage, tmp_path: Path, replicated: bool) -> None:
    """Refused before anything was touched: another server is asked; if there is none the dialler is told why."""
    with Commands(tmp_path) as commands:
        down = gateway_without_application(stage, commands, replicated)
        with pytest.raises(ConnectionRefusedError, match="cannot be reached") as caught:
            stage.dial(servers=[down], confirm=True, timeout=15)
        print(caught.value)
        conn = stage.dial(servers=[down], timeout=15)
        with pytest.raises(ConnectionRefusedError):
            conn.recv(1)
        stage.listing.add("down", down)
        stage.server(replicated=replicated, link={"delay_ms": 30})
        for number in range(3):
            Reading.of(stage.dial(), f"other {number}", 100_000).finish()


def gateway_without_application(stage: Stage, commands: Commands, replicated: bool) -> tuple[str, int]:
    files = stage.certificates.files("right")
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        upstream = "{}:{}".format(*unused.getsockname())
        gateway = commands.start(
            *("serve", "--listen", "127.0.0.1:0", "--service", SERVICE, "--upstream", upstream, "--json"),
            *("--cert", files["certfile"], "--key", files["keyfile"], *(["--replicated"] if replicated else [])),
        )
        host, _, port = gateway.ready()["listen"].rpartition(":")
        return host, int(port)
