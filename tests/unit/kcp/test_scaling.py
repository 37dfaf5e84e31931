"""How many paths a session should have."""

from __future__ import annotations

import pytest

from kwik.kcp.scaling import RELEASE_AFTER_S, RELEASE_EVERY_S, FollowWant, ScalingView
from tests.unit.kcp.rig import START


def view(wanted: int, paths: int, *, min_paths: int = 1, max_paths: int = 8) -> ScalingView:
    return ScalingView(wanted=wanted, distinct=paths, paths=paths, min_paths=min_paths, max_paths=max_paths)


@pytest.mark.parametrize(
    ("wanted", "min_paths", "servers"), [(0, 1, 0), (0, 2, 0), (1, 1, 1), (1, 2, 2), (5, 1, 5), (20, 1, 8)]
)
def test_it_follows_the_want_upwards_at_once_within_bounds(wanted: int, min_paths: int, servers: int):
    target = FollowWant().on_view(view(wanted, 0, min_paths=min_paths), START)
    assert (target.servers, target.release) == (servers, False)


def test_an_extra_path_is_released_after_a_while_and_the_next_one_later():
    policy = FollowWant()
    assert not policy.on_view(view(1, 3), START).release
    due = policy.deadline()
    assert due == START + RELEASE_AFTER_S
    assert not policy.on_view(view(1, 3), due - 0.1).release
    assert policy.on_view(view(1, 3), due).release
    assert not policy.on_view(view(1, 2), due).release
    assert policy.deadline() == due + RELEASE_EVERY_S
    assert policy.on_view(view(1, 2), due + RELEASE_EVERY_S).release
    assert not policy.on_view(view(1, 1), due + 60).release
    assert policy.deadline() is None


def test_a_need_that_returns_starts_the_wait_again():
    policy = FollowWant()
    policy.on_view(view(1, 2), START)
    policy.on_view(view(2, 2), START + 9)
    assert not policy.on_view(view(1, 2), START + 11).release
    assert policy.on_view(view(1, 2), START + 21).release


def test_min_paths_stay_even_without_streams():
    policy = FollowWant()
    policy.on_view(view(0, 2, min_paths=2), START)
    assert policy.deadline() is None
