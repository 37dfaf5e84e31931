"""Whom the demo kills, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from kwik.apps.demo import _folder, _Run
from kwik.apps.demo_children import DemoError
from kwik.apps.demo_show import Screen
from kwik.apps.demo_stage import DemoPlan, Stage
from kwik.kdp.snapshots import ShareSnapshot, StreamStats


class Victim:
    def __init__(self) -> None:
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1


def stats(*shares: tuple[str, str, float | None]) -> StreamStats:
    return StreamStats(
        stream=1,
        state="open",
        anchor="",
        epoch=1,
        delivered_bytes=0,
        produced_bytes=0,
        written_bytes=0,
        duplicate_bytes=0,
        rejected_blocks=0,
        regrants=0,
        takeovers=0,
        recruitable=True,
        shares=tuple(ShareSnapshot(name, "", role, 10, first, first, "open") for name, role, first in shares),
    )


ALL = stats(("server-1", "helper", 1002.0), ("server-2", "anchor", 1001.0), ("server-3", "helper", 1003.0))


@pytest.fixture
def victims() -> dict[str, Victim]:
    return {f"server-{number}": Victim() for number in (1, 2, 3)}


def run_of(victims: dict[str, Victim], *, kill: bool = True) -> _Run:
    stage = Stage("files.demo.test:80", Path("ca.pem"), "", (), cast("Any", victims), True)
    return _Run(DemoPlan(size_bytes=1000, kill=kill), stage, Screen(None))


def kills(victims: dict[str, Victim]) -> list[int]:
    return [victim.kills for victim in victims.values()]


def test_the_anchor_is_killed_once_at_40_percent(victims: dict[str, Victim]):
    run = run_of(victims)
    run._on_bytes(399)
    run._on_stats(ALL)
    assert kills(victims) == [0, 0, 0]
    run._on_bytes(400)
    run._on_stats(ALL)
    run._on_stats(stats(("server-1", "anchor", 1002.0)))
    assert kills(victims) == [0, 1, 0]


def test_without_an_anchor_the_next_look_finds_one(victims: dict[str, Victim]):
    run = run_of(victims)
    run._on_bytes(500)
    run._on_stats(stats(("server-1", "helper", None)))
    assert kills(victims) == [0, 0, 0]
    run._on_stats(ALL)
    assert kills(victims) == [0, 1, 0]


def test_nobody_is_killed_unasked(victims: dict[str, Victim]):
    run = run_of(victims, kill=False)
    run._on_bytes(1000)
    run._on_stats(ALL)
    assert kills(victims) == [0, 0, 0]


def test_all_help_from_the_last_one_s_first_block(victims: dict[str, Victim]):
    run = run_of(victims)
    run._on_stats(stats(("server-1", "anchor", 1002.0), ("server-2", "helper", None), ("server-3", "helper", 1003.0)))
    assert run._all_help_at is None
    run._on_stats(
        stats(
            *((share.server_id, share.role, share.first_block_at) for share in ALL.shares),
            ("server-2", "helper", 1009.0),
        )
    )
    assert run._all_help_at == 1003.0, "a server that came back began when it first began"


def test_a_failure_of_the_second_thread_ends_the_reading(victims: dict[str, Victim]):
    run = run_of(victims)
    run._failure = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        run._on_bytes(1)


def test_folders(tmp_path: Path):
    with _folder(None) as made:
        assert made.is_dir()
    assert not made.exists()
    with _folder(tmp_path / "new" / "deep") as kept:
        (kept / "file").touch()
    assert (tmp_path / "new" / "deep" / "file").exists()
    with pytest.raises(DemoError, match="not empty"), _folder(tmp_path / "new"):
        pass
