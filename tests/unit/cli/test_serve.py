"""What `kwik serve` makes of its options and signals; the sockets are in tests/proc."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kwik.apps.gateway import Upstream
from kwik.cli import serve
from kwik.cli.main import build_parser, main
from kwik.quic.certs import issue, make_ca, write_issued
from kwik.types import Address, Instance


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("certs")
    write_issued(
        issue(make_ca(), ["files.example", "*.mirrors.example", "*.test", "10.0.0.1"]),
        folder / "cert.pem",
        folder / "key.pem",
    )
    return ["--cert", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]


def parse(certificate: list[str], *more: str) -> argparse.Namespace:
    arguments = ["serve", "--listen", "127.0.0.1:0", "--service", "Files.example:80", *certificate, *more]
    return build_parser(arguments).parse_args(arguments)


def test_options(certificate: list[str]):
    args = parse(certificate, "--upstream", "127.0.0.1:80", "--drain", "5")
    assert (args.listen, args.service, args.drain) == (Address("127.0.0.1", 0), "files.example:80", 5.0)
    assert args.upstream == Upstream(Address("127.0.0.1", 80))


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--files", ".", "--upstream", "127.0.0.1:80"],
        ["--upstream", "127.0.0.1:0"],
        ["--upstream", "unix:"],
        ["--files", ".", "--listen", "nowhere"],
        ["--files", ".", "--service", "files.example:0"],
        ["--files", ".", "--cert", "no-such-file"],
    ],
)
def test_wrong_usage(certificate: list[str], more: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        parse(certificate, *more)
    assert end.value.code == 2
    assert capsys.readouterr().err != ""


@pytest.mark.parametrize(
    "service", ["other.example:80", "a.b.mirrors.example:80", "mirrors.example:80", "a.test:80", "10.0.0.2:80"]
)
def test_a_certificate_for_another_host_is_refused(
    certificate: list[str], service: str, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--listen", "127.0.0.1:0", "--files", ".", *certificate, "--service", service]
    assert main(["serve", *arguments]) == 2
    assert "files.example, *.mirrors.example, *.test, 10.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize("service", ["files.example:80", "a.mirrors.example:80", "10.0.0.1:80"])
def test_a_certificate_for_the_host_passes(certificate: list[str], service: str):
    serve._check_certificate(certificate[1], certificate[3], cast("Any", service))


def fake_server() -> Any:
    return SimpleNamespace(addresses=(Address("127.0.0.1", 4433),), instance=Instance("one", bytes(16)))


def test_ready_lines(certificate: list[str], tmp_path: Path):
    args = parse(certificate, "--files", str(tmp_path))
    assert serve._ready_line(args, fake_server()) == "ready: serving files.example:80 on 127.0.0.1:4433, id one"
    args = parse(certificate, "--files", str(tmp_path), "--announce", "--advertise", "127.0.0.1:9", "--json")
    line = json.loads(serve._ready_line(args, fake_server()))
    assert (line["event"], line["listen"], line["announced"]) == ("ready", "127.0.0.1:4433", ["127.0.0.1:9"])


class Draining:
    """A server whose streams end when the test says so."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.was_cancelled = False

    async def drain(self) -> None:
        try:
            await self.ended.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_a_drain_ends_when_streams_have_ended():
    server = Draining()
    server.ended.set()
    await serve._drain(cast("Any", server), asyncio.Event())
    assert not server.was_cancelled


async def test_the_second_signal_ends_a_drain():
    server, stop, stop_now = Draining(), asyncio.Event(), asyncio.Event()
    serve._on_signal(stop, stop_now)
    assert (stop.is_set(), stop_now.is_set()) == (True, False)
    draining = asyncio.ensure_future(serve._drain(cast("Any", server), stop_now))
    await asyncio.sleep(0)
    serve._on_signal(stop, stop_now)
    await draining
    assert server.was_cancelled


def test_replicated_must_be_known_to_be_dangerous():
    assert "twice" in serve.REPLICATED_WARNING
