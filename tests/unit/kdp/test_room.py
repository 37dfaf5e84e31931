"""Which streams look again when something has moved: those for which a path has room (DESIGN §6, fill every pipe)."""

from __future__ import annotations

from kwik.config import Config
from kwik.kdp.granting import paths_with_room
from kwik.kdp.path import ClientPath
from kwik.types import PathId

NOW = 1000.0
CONFIG = Config()


def path(number: int, outstanding: int) -> ClientPath:
    return ClientPath(PathId(number), outstanding_bytes=outstanding)


def test_an_idle_path_has_room_for_all():
    assert paths_with_room([path(1, 0)], CONFIG, NOW) == {(1, True), (1, False)}


def test_a_pipe_that_is_full_has_room_only_for_streams_that_have_no_other():
    full = path(1, 1 << 20)
    assert full.target_bytes(1.25e6, CONFIG.block_bytes) < full.outstanding_bytes < CONFIG.receive_window_bytes
    assert paths_with_room([full, path(2, 0)], CONFIG, NOW) == {(1, True), (2, True), (2, False)}


def test_a_window_that_is_full_has_room_for_nobody():
    assert paths_with_room([path(1, CONFIG.receive_window_bytes)], CONFIG, NOW) == set()
