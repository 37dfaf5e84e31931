"""The scheduler plug-in point (DESIGN §6): who is asked for which block. Pure; called by the stream, never blocks.

A scheduler is called whenever a lane has room for a block and blocks are unassigned, up to some hundred times a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kwik.base.ranges import RangeSet
from kwik.types import PathId, Range


@dataclass(slots=True)
class Lane:
    """One replica on one path, as the scheduler sees it; a plan fills `assigned` and raises `queued_bytes`."""

    replica: int
    path: PathId
    is_anchor: bool
    rate_bytes_s: float
    rtt_s: float
    queued_bytes: int
    target_bytes: int
    eligible: RangeSet | None
    """Blocks that may be ordered here; None: every block."""
    is_proven: bool
    expected_from: int | None = None
    """Blocks from here on will probably become eligible: announcements of them are on their way."""
    expected_in_s: float = 0.0
    """How long that takes."""
    assigned: list[int] = field(default_factory=list)

    def has_room(self, block_bytes: int) -> bool:
        """Whether one more block keeps the pipe within its target."""
        return self.queued_bytes + block_bytes <= self.target_bytes

    def eta_s(self, block_bytes: int) -> float:
        """Seconds until one more block would be complete, queueing included."""
        return self.rtt_s + (self.queued_bytes + block_bytes) / self.rate_bytes_s

    def may(self, block: int) -> bool:
        """Whether the block may be ordered here."""
        return self.eligible is None or block in self.eligible

    def expects(self, block: int) -> bool:
        """Whether the block may probably be ordered here soon."""
        return self.expected_from is not None and block >= self.expected_from


class Scheduler(Protocol):
    """Assigns blocks to lanes."""

    def plan(self, blocks: Iterable[Range], lanes: list[Lane], block_bytes: int) -> None:
        """Walk over the unassigned blocks in ascending order and fill the lanes' `assigned`."""
