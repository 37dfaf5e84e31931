"""Time in which the client did not run."""

from kwik.kdp import slept
from kwik.kdp.session import BLAME_WAIT_S
from tests.unit.kdp.session_rig import P1, SessionRig


def test_a_sleep_is_taken_off_everybodys_time():
    rig = SessionRig()
    key, _, _ = rig.pair()
    stream = rig.session.streams[key]
    stream.recovering_since = stream.takeover.stuck_since = stream.takeover.began_at = rig.now
    rig.now += 40.0
    slept.excuse(rig.session, 39.0, rig.now)
    assert stream.recovering_since == stream.takeover.stuck_since == stream.takeover.began_at == rig.now - 1.0


def test_nobody_is_blamed_at_once_for_a_sleep():
    rig = SessionRig()
    rig.pair()
    rig.now += 40.0
    slept.excuse(rig.session, 39.0, rig.now)
    rig.hush(P1)
    assert not rig.session.paths[P1].is_silent
    rig.now += BLAME_WAIT_S
    rig.hush(P1)
    assert rig.session.paths[P1].is_silent


def test_what_was_not_under_way_is_left_alone():
    rig = SessionRig()
    key, _, _ = rig.pair()
    stream = rig.session.streams[key]
    slept.excuse(rig.session, 39.0, rig.now)
    assert stream.recovering_since is None
    assert stream.takeover.stuck_since is None
