"""Earliest completion first: the next needed block goes where it will be complete soonest, queueing included.

When the soonest lane is full the block is left for it, and its queue is charged in thought, so that slower lanes get
blocks further ahead that arrive just in time (the idea of ECF, Lim et al., CoNEXT 2017, with blocks for packets).
A block that a quicker lane may have as soon as it is announced is left for it as well: else a slow anchor, which may
have every block, would be given all the new ones first.
"""

from __future__ import annotations

from collections.abc import Iterable

from kwik.kdp.scheduler import Lane
from kwik.types import Range

UNCERTAINTY = 0.5
"""A prediction is off by up to this part of the time that a block takes on its lane: on a slow lane that is long, and
the reader waits for it (the hysteresis of ECF, there 1/4 of the round trip)."""


class Earliest:
    """The default scheduler."""

    def plan(self, blocks: Iterable[Range], lanes: list[Lane], block_bytes: int) -> None:
        """Fill the lanes (see Scheduler.plan)."""
        if len(lanes) == 1 and lanes[0].eligible is None:
            _fill(lanes[0], blocks, block_bytes)
            return
        charged = [0] * len(lanes)
        if not _have_room(lanes, block_bytes):
            return
        for start, stop in blocks:
            for block in range(start, stop):
                if self._place(block, lanes, charged, block_bytes) and not _have_room(lanes, block_bytes):
                    return

    def _place(self, block: int, lanes: list[Lane], charged: list[int], block_bytes: int) -> bool:
        """True if a lane has taken the block."""
        best = self._soonest(block, lanes, charged, block_bytes)
        if best is None:
            return False
        lane = lanes[best]
        if not charged[best] and lane.has_room(block_bytes) and lane.may(block):
            lane.assigned.append(block)
            lane.queued_bytes += block_bytes
            return True
        charged[best] += block_bytes
        return False

    def _soonest(self, block: int, lanes: list[Lane], charged: list[int], block_bytes: int) -> int | None:
        """Where the block would be complete first, announcements that are on their way included."""
        best: int | None = None
        best_eta = 0.0
        uncertain_bytes = UNCERTAINTY * block_bytes
        for index, lane in enumerate(lanes):
            eta = lane.eta_s(block_bytes) + (charged[index] + uncertain_bytes) / lane.rate_bytes_s
            if not lane.may(block):
                if not lane.expects(block):
                    continue
                eta += lane.expected_in_s
            if best is None or eta < best_eta:
                best, best_eta = index, eta
        return best


def _have_room(lanes: list[Lane], block_bytes: int) -> bool:
    return any(lane.has_room(block_bytes) for lane in lanes)


def _fill(lane: Lane, blocks: Iterable[Range], block_bytes: int) -> None:
    """The only lane, which may have every block: nothing is to be weighed, as many go there as it has room for."""
    room = (lane.target_bytes - lane.queued_bytes) // block_bytes
    for start, stop in blocks:
        taken = range(start, min(stop, start + max(room, 0)))
        lane.assigned += taken
        lane.queued_bytes += len(taken) * block_bytes
        room -= len(taken)
