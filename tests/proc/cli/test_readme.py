"""What README.md tells people to type works: its blocks of sh and python run here, in order, with real servers."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import MULTICAST, multicast_is_there
from tests.proc.cli.commands import ROOT, Commands, environment
from tests.proc.cli.readme import DEMO, README, SECTION, table

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORT = re.compile(r"\b44\d\d\b")
LISTENING = re.compile(r"--listen (\S+) --service (\S+)")
PAGES = [README, ROOT / "certs" / "README.md"]
RUNS = frozenset({"sh", "python"})
SHOWS = frozenset({"text", "console", "toml"})


@dataclass(frozen=True)
class Block:
    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text("utf-8"))]


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def with_other_ports(found: list[Block]) -> list[Block]:
    """Those of the page may be in use."""
    known = sorted({port for block in found for port in PORT.findall(block.text)})
    others = dict(zip(known, map(str, free_ports(len(known))), strict=True))
    return [Block(block.kind, PORT.sub(lambda match: others[match[0]], block.text)) for block in found]


@pytest.mark.timeout(180)
def test_every_block_of_the_readme_runs(commands: Commands, not_run: Callable[[str], None]):
    kwik = commands.folder / "bin" / "kwik"
    kwik.parent.mkdir()
    kwik.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kwik "$@"\n')
    kwik.chmod(0o755)
    path = f"{kwik.parent}:{environment()['PATH']}"
    chosen = [each for each in blocks(README) if each.kind in RUNS]
    if not multicast_is_there():
        for each in chosen:
            if "mdns" in each.text:
                not_run(f"{MULTICAST} for its block {each.text.splitlines()[0]!r}")
        chosen = [each for each in chosen if "mdns" not in each.text]
    for number, block in enumerate(with_other_ports(chosen)):
        program = ["sh", "-eu", "-c"] if block.kind == "sh" else [sys.executable, "-W", "error", "-c"]
        # A file, because servers in the background would hold a pipe open.
        log = commands.folder / f"block-{number}.log"
        with log.open("wb") as out:
            process = commands.start_any(*program, block.text, settings={"PATH": path}, to=out)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(30)
        code = process.popen.returncode
        assert code == 0, f"{block.text}\n{log.read_text()}"
        for address, service in LISTENING.findall(block.text):
            wait_until_it_listens(commands, address, service)


def wait_until_it_listens(commands: Commands, address: str, service: str) -> None:
    check = ["discover", service, "--server", address, "--check", "--cafile", "certs/ca.pem"]
    for _ in range(30):
        if commands.run(*check)[0] == 0:
            return
    raise AssertionError(f"nothing listens at {address}")


def test_blocks_are_of_known_kinds():
    for page in PAGES:
        assert {block.kind for block in blocks(page)} <= RUNS | SHOWS, page


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:\$ |`)make ([a-z-]+)", README.read_text("utf-8"))
    assert {"demo", "test"} <= set(named) <= targets


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_settings_are_those_of_the_code():
    found = SECTION.search(README.read_text("utf-8"))
    assert found is not None
    assert found[0] == table(), "changed on purpose? python -m tests.proc.cli.readme --update"


def test_the_demo_s_output_is_there():
    found = DEMO.search(README.read_text("utf-8"))
    assert found is not None
    for row in ("SHA-256        right", "goodput", "steady", "shares", "longest pause", "at the kill", "verdict"):
        assert row in found[0]


def test_certificates_are_never_committed():
    ignored = subprocess.run(
        ["git", "check-ignore", "certs/ca.key", "certs/ca.pem", "certs/x.key"],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    if ignored.returncode == 128:  # not a working copy
        return
    assert ignored.stdout.split() == ["certs/ca.key", "certs/ca.pem", "certs/x.key"]
