"""The demo's plan and its file; the processes are in tests/proc."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kwik.apps.demo_stage import DemoPlan, make_file


def test_the_same_seed_makes_the_same_file(tmp_path: Path):
    first = make_file(tmp_path / "a", 3_000_000, 1)
    assert make_file(tmp_path / "b", 3_000_000, 1) == first
    assert make_file(tmp_path / "c", 3_000_000, 2) != first
    data = (tmp_path / "a").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (3_000_000, first)
    assert (tmp_path / "b").read_bytes() == data


def test_one_server_has_nothing_to_be_compared_with():
    assert DemoPlan(servers=1).sample_bytes == 0
    assert DemoPlan().sample_bytes == 6_000_000
