"""Client: the change of anchor (SPEC §6.4). Decides on a candidate, probes it, and says when it has matched.

Pure bookkeeping of one stream's candidacy; the stream performs the change. The epoch changes only when the answer for
exactly the offset at which delivery stands has matched the client's own pair.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kwik.kdp.digest import Pair
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.types import Instant, Offset

MAX_OPEN_PROBES = 8
"""Unanswered and unmatched probes of one candidacy; SPEC §7 allows 16."""
HOLD_S = 1.0
"""No change back for this long unless the new anchor is silent too (SPEC §6.4)."""

OUTRUN_FACTOR = 2.0
"""A path so many times as fast is much faster (SPEC §6.4)."""


class Trouble(Enum):
    """Why another anchor is sought."""

    NONE = "none"
    SILENT = "silent"
    DEAD = "dead"
    DRAINING = "draining"
    SLOW = "slow"
    OUTRUN = "outrun"
    """A helper has a much faster path that is no longer: its announcements would come sooner."""
    REFUTED = "refuted"


UNHURRIED = (Trouble.DRAINING, Trouble.OUTRUN)
"""The anchor still serves: it is replaced at an offset ahead, without a pause."""


class Takeover:
    """At most one candidate at a time."""

    def __init__(self) -> None:
        self.candidate: ReplicaView | None = None
        self.trouble = Trouble.NONE
        self.changed_at: Instant | None = None
        self.stuck_since: Instant | None = None
        self.waited_s = 0.0
        """How long delivery has stood, in all, for want of the present anchor's announcements."""
        self.looked_at: Instant = 0.0
        self.stood_looked_at: Instant = 0.0
        self.stood_since: tuple[Offset, Instant] | None = None
        """Where delivery stands although more was produced, and since when."""
        self.tried_at: Instant = 0.0
        """When something was last done about it."""
        self.is_stuck = False
        """It has stood so for so long that silence alone does not explain it (SPEC §6.3)."""
        self.began_at: Instant = 0.0
        self.passed_over: set[int] = set()
        """Candidates that had their turn in this trouble."""
        self._probes: dict[int, Offset] = {}
        self._answers: dict[Offset, Pair] = {}
        self._next_probe = 1

    @property
    def is_running(self) -> bool:
        """Whether a candidate is being probed."""
        return self.candidate is not None

    def begin(self, candidate: ReplicaView, trouble: Trouble, now: Instant) -> None:
        """A new candidacy."""
        self.candidate, self.trouble, self.began_at = candidate, trouble, now
        self.passed_over.add(candidate.number)
        self._probes.clear()
        self._answers.clear()

    def end(self) -> None:
        """The candidacy is over, whatever its outcome."""
        self.candidate, self.trouble = None, Trouble.NONE
        self._probes.clear()
        self._answers.clear()

    def probe_at(self, offset: Offset) -> int | None:
        """Number of a probe to send for this offset; None if it was asked already or too many are open."""
        if offset in self._answers or offset in self._probes.values():
            return None
        if len(self._probes) >= MAX_OPEN_PROBES:
            return None
        number, self._next_probe = self._next_probe, self._next_probe + 1
        self._probes[number] = offset
        return number

    def resend(self) -> None:
        """The path that carried the probes is gone: they must be asked again."""
        self._probes.clear()

    def on_answer(self, view: ReplicaView, probe: int, offset: Offset, pair: Pair | None) -> bool:
        """An answer came; False if it says that the candidate's output ends before the offset."""
        if view is not self.candidate or self._probes.get(probe) != offset:
            return True
        del self._probes[probe]
        if pair is None:
            return False
        self._answers[offset] = pair
        return True

    def answer(self, offset: Offset) -> Pair | None:
        """The candidate's pair at this offset, if it is known."""
        return self._answers.get(offset)

    def has_answer(self, delivered: Offset) -> bool:
        """Whether the pair at some offset that delivery has not passed is known."""
        return any(offset >= delivered for offset in self._answers)

    def stop_at(self, delivered: Offset) -> Offset | None:
        """While a living anchor is being replaced delivery must stand at the probed offset for a moment."""
        if self.trouble not in UNHURRIED:
            return None
        if self.candidate is None:
            return None
        # Nobody waits for a candidate whose output is not there yet.
        reach = self.candidate.produced
        ahead = [offset for offset in [*self._probes.values(), *self._answers] if delivered <= offset <= reach]
        return min(ahead, default=None)


def best_candidate(
    views: list[ReplicaView], anchor: ReplicaView | None, stood: tuple[Offset, Offset], now: Instant
) -> ReplicaView | None:
    """Who may take over: alive, heard, agreeing so far; one that sent FIN only with all of the upstream (SPEC §6.4).

    `stood` is (delivered, end of the upstream). Among them the one that announces soonest and delivers fastest.
    """
    able = [view for view in views if view is not anchor and _may_take_over(view, *stood)]

    def merit(view: ReplicaView) -> tuple[bool, bool, float, int, int]:
        best = view.live_paths()[0]
        # One that is about to leave still finishes what it has: better than nobody.
        rate = best.rate_bytes_s(now) or 0.0
        return (not is_leaving(view), view.agreement.has_agreed, rate, view.produced, -view.number)

    return max(able, key=merit, default=None)


class Pace(NamedTuple):
    """How fast a replica's best path is: its rate, its smoothed RTT, and how long what it owes will last."""

    rate_bytes_s: float
    rtt_s: float
    owed_s: float

    def is_much_faster(self, other: Pace) -> bool:
        """By its rate alone."""
        return self.rate_bytes_s >= OUTRUN_FACTOR * other.rate_bytes_s

    def outruns(self, anchor: Pace) -> bool:
        """Much faster, and what it announces comes no later: the anchor's announcements queue behind its data."""
        return self.is_much_faster(anchor) and self.rtt_s <= max(anchor.rtt_s, anchor.owed_s)


def pace_of(view: ReplicaView, now: Instant) -> Pace | None:
    """None if its path was not measured."""
    live = view.live_paths()
    rate = live[0].rate_bytes_s(now) if live else None
    return Pace(rate, live[0].rtt_s, live[0].outstanding_bytes / rate) if rate else None


def is_leaving(view: ReplicaView) -> bool:
    """Its server drains."""
    return any(path.is_draining for path in view.paths.values())


def _may_take_over(view: ReplicaView, delivered: Offset, upstream_end: Offset) -> bool:
    if view.state is not ViewState.LIVE or not view.live_paths() or view.reset_at is not None:
        return False
    return view.final is None or (view.final >= delivered and view.taken >= upstream_end)
