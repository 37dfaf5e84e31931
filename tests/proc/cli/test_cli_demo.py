"""`kwik demo` as a process: small, but with everything in it; and nothing stays behind, however it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import kwik
from kwik.apps import demo, demo_stage
from kwik.apps.demo_show import Screen
from kwik.discovery.mdns import MdnsProvider
from kwik.kcp.sighting import Sighting
from tests.conftest import multicast_is_there
from tests.proc.cli.commands import Commands, Process

SMALL = ["--size", "6MB", "--rate", "16mbit", "--rtt", "20ms"]


def test_the_anchor_is_killed_and_the_file_arrives(commands: Commands):
    code, out, err = commands.run("demo", *SMALL, "--json", "--keep-dir", "stage")
    assert (code, err) == (0, "")
    seen = json.loads(out)
    assert seen["ok"]
    assert seen["bytes"] == 6_000_000
    assert seen["killed"] in seen["shares"]
    assert 0 < seen["killed_after_s"] < seen["seconds"]
    assert 0 < seen["kill_pause_s"] <= seen["longest_pause_s"]
    assert seen["one_server_sample_bytes"] == 600_000
    assert seen["stats"]["takeovers"] >= 1  # one for the kill; a slow machine may have outrun an anchor before
    assert sum(seen["shares"].values()) >= seen["bytes"]
    assert seen["found_by"] == ("mdns" if multicast_is_there() else "list")
    assert isinstance(seen["steady_holds"], bool)
    assert isinstance(seen["pause_holds"], bool)
    assert {path.name for path in (commands.folder / "stage").glob("*.log")} == {
        *(f"link-{number}.log" for number in (1, 2, 3)),
        *(f"server-{number}.log" for number in (1, 2, 3)),
    }


class Dials:
    """Dials of a demo in this process, with what each was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[dict[str, Any]] = []
        self._dial = kwik.dial
        monkeypatch.setattr(demo, "dial", self)

    def __call__(self, service: str, **options: Any) -> kwik.Conn:
        self.told.append(options)
        return self._dial(service, **options)

    @property
    def last_sources(self) -> tuple[Any, list[type]]:
        """Servers that were named to the last dial, and whom it asked."""
        return self.told[-1]["servers"], [type(each) for each in self.told[-1].get("discovery", ())]


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Dials:
    return Dials(monkeypatch)


PLAN = demo_stage.DemoPlan(servers=2, size_bytes=1_000_000, kill=False)


@pytest.mark.multicast
def test_mdns_alone_finds_the_servers(dials: Dials):
    """Nobody but mDNS is asked and no server is named: whatever is found was found by it."""
    out = io.StringIO()
    seen = demo.run_demo(PLAN, Screen(out))
    assert dials.last_sources == ([], [MdnsProvider])
    assert (seen.is_right, seen.found_by) == (True, "mdns")
    assert "found by mDNS" in out.getvalue()


def test_without_multicast_a_list_finds_them_and_it_says_so(dials: Dials, monkeypatch: pytest.MonkeyPatch):
    async def no_multicast(interface: str) -> bool:
        return False

    monkeypatch.setattr(demo_stage, "multicast_works", no_multicast)
    out = io.StringIO()
    seen = demo.run_demo(PLAN, Screen(out))
    servers, asked = dials.last_sources
    assert (len(servers), asked) == (2, [])
    assert (seen.is_right, seen.found_by) == (True, "list")
    assert "multicast does not work on loopback here: the servers are found by a list instead of mDNS" in out.getvalue()


def test_when_mdns_finds_nobody_the_list_does(dials: Dials, monkeypatch: pytest.MonkeyPatch):
    """Multicast seems to work, and the announcements are lost all the same."""

    async def multicast(interface: str) -> bool:
        return True

    class Deaf(MdnsProvider):
        async def watch(self, service: str) -> AsyncIterator[Sighting]:
            for nothing in list[Sighting]():
                yield nothing

    monkeypatch.setattr(demo_stage, "multicast_works", multicast)
    monkeypatch.setattr("kwik.discovery.mdns.MdnsProvider", Deaf)
    out = io.StringIO()
    seen = demo.run_demo(PLAN, Screen(out))
    assert [bool(each["servers"]) for each in dials.told] == [True, False, True], "the sample, mDNS, the list"
    assert (seen.is_right, seen.found_by) == (True, "list")
    assert "mDNS found nobody: the servers are found by a list instead" in out.getvalue()


def test_one_server(commands: Commands):
    code, out, err = commands.run("demo", "--one", "--size", "2MB")
    assert (code, err) == (0, "")
    assert "SHA-256        right" in out
    assert "server-1 100%" in out
    assert "kill" not in out


def test_without_a_kill(commands: Commands):
    code, out, _ = commands.run("demo", "--servers", "2", "--no-kill", *SMALL, "--json")
    assert code == 0
    seen = json.loads(out)
    assert (seen["killed"], seen["kill_pause_s"]) == (None, None)
    assert all(count > 0 for count in seen["shares"].values())


def test_a_folder_that_is_in_use_is_left_alone(commands: Commands):
    (commands.folder / "mine").mkdir()
    (commands.folder / "mine" / "file").write_text("mine")
    code, _, err = commands.run("demo", "--keep-dir", "mine")
    assert code == 1
    assert "not empty" in err
    assert [path.name for path in (commands.folder / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "servers"), [(signal.SIGINT, 3), (signal.SIGTERM, 1), (signal.SIGKILL, 1)])
def test_nothing_stays_behind(commands: Commands, number: int, servers: int):
    process = under_way(commands, servers)
    children = [os.pidfd_open(child) for child in children_of(process.popen.pid)]
    assert len(children) == 2 * servers
    process.signal(number)
    assert process.finish()[0] in (130, 143, -9)
    for child in children:
        assert select.select([child], [], [], 20)[0], "a child lives on"
        os.close(child)
    if number != signal.SIGKILL:
        assert list((commands.folder / "tmp").iterdir()) == []


def under_way(commands: Commands, servers: int) -> Process:
    """A demo in the middle of its download."""
    temporary = commands.folder / "tmp"
    temporary.mkdir()
    options = ["--size", "12MB", "--rate", "8mbit", "--no-kill", "--servers", servers]
    process = commands.start("demo", *options, settings={"TMPDIR": str(temporary)})
    while "%" not in process.line():
        pass
    return process


def children_of(pid: int) -> list[int]:
    """Its child processes, those of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.extend(map(int, (task / "children").read_text().split()))
    return found
