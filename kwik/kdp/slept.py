"""The client's process, or its machine, did not run for a while: that time is nobody's fault (SPEC §6.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwik.kdp.session import DataSession
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instant


def excuse(session: DataSession, late_s: float, now: Instant) -> None:
    """We did not run for so long, in which no stream has waited for anybody and no path was slow."""
    session.on_lag(late_s, now)
    for path in session.paths.values():
        path.rate.on_gap(late_s)
    for stream in session.streams.values():
        _take_off(stream, late_s)
    session.touch_all()


def _take_off(stream: ClientStream, late_s: float) -> None:
    takeover = stream.takeover
    if stream.recovering_since is not None:
        stream.recovering_since += late_s
    if takeover.stuck_since is not None:
        takeover.stuck_since += late_s
    takeover.began_at += late_s
