"""Round robin over the lanes that have room: the yardstick that every better scheduler must beat."""

from __future__ import annotations

from collections.abc import Iterable

from kwik.kdp.scheduler import Lane
from kwik.types import Range


class RoundRobin:
    """Next block to the next lane with room."""

    def __init__(self) -> None:
        self._turn = 0

    def plan(self, blocks: Iterable[Range], lanes: list[Lane], block_bytes: int) -> None:
        """Fill the lanes (see Scheduler.plan)."""
        for start, stop in blocks:
            for block in range(start, stop):
                if not any(lane.has_room(block_bytes) for lane in lanes):
                    return
                self._place(block, lanes, block_bytes)

    def _place(self, block: int, lanes: list[Lane], block_bytes: int) -> None:
        for step in range(len(lanes)):
            lane = lanes[(self._turn + step) % len(lanes)]
            if lane.may(block) and lane.has_room(block_bytes):
                lane.assigned.append(block)
                lane.queued_bytes += block_bytes
                self._turn = (self._turn + step + 1) % len(lanes)
                return
