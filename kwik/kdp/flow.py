"""Memory: one budget shared so that a newcomer always finds room (SPEC §6.6)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

GROWTH_PART: Final = 2
"""All growth together takes at most 1/2 of the budget; the rest is for guarantees alone."""
NEWCOMER_PART: Final = 4
"""A newcomer starts with its guarantee and this part of what growth has left."""


class MemoryPool:
    """A budget of bytes and who has reserved how much of it.

    Sharing rule: everybody has a guarantee; beyond it a holder may grow only up to what growth has left then (a dynamic
    threshold with factor 1; Choudhury and Hahne, "Dynamic queue length thresholds", 1998). Holders that never use what
    they have cannot take the guarantees of those that come later.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._guarantees: dict[Hashable, int] = {}
        self._grown: dict[Hashable, int] = {}
        self._guaranteed_bytes = 0
        self._grown_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Reserved by all holders."""
        return self._guaranteed_bytes + self._grown_bytes

    @property
    def room_bytes(self) -> int:
        """Left for growth; never negative."""
        return max(0, self.total_bytes // GROWTH_PART - self._grown_bytes)

    def held_by(self, holder: Hashable) -> int:
        """Reserved by this holder."""
        return self._guarantees.get(holder, 0) + self._grown.get(holder, 0)

    def has_room(self, guarantee_bytes: int) -> bool:
        """Whether a newcomer with this guarantee would be admitted now."""
        return self.used_bytes + guarantee_bytes <= self.total_bytes

    def admit(self, holder: Hashable, guarantee_bytes: int) -> bool:
        """Reserve a newcomer's guarantee; False if it does not fit."""
        if not self.has_room(guarantee_bytes):
            return False
        self._guarantees[holder] = guarantee_bytes
        self._guaranteed_bytes += guarantee_bytes
        return True

    def start_with(self, holder: Hashable, wanted_bytes: int) -> int:
        """What a newcomer starts with beyond its guarantee; repeats change nothing. Returns what it has now."""
        if holder in self._guarantees and holder not in self._grown:
            extra = max(0, wanted_bytes - self._guarantees[holder])
            self._set(holder, min(extra, self.room_bytes // NEWCOMER_PART))
        return self.held_by(holder)

    def grow(self, holder: Hashable, wanted_bytes: int) -> int:
        """Reserve up to `wanted_bytes` in all, as far as the sharing rule lets; returns what the holder has now."""
        guarantee = self._guarantees.get(holder)
        if guarantee is None:
            return self.held_by(holder)
        grown = self._grown.get(holder, 0)
        missing = wanted_bytes - guarantee - grown
        if missing > 0:
            # grown + growth <= room - growth: what the holder gets never exceeds what is left.
            grown = grown + min(missing, max(0, (self.room_bytes - grown) // 2))
            self._set(holder, grown)
        return guarantee + grown

    def shrink(self, holder: Hashable, to_bytes: int) -> None:
        """Give back what is above `to_bytes`; the guarantee stays."""
        grown = to_bytes - self._guarantees.get(holder, 0)
        if holder in self._grown and grown < self._grown[holder]:
            self._set(holder, max(0, grown))

    def release(self, holder: Hashable) -> None:
        """The holder is gone."""
        self._guaranteed_bytes -= self._guarantees.pop(holder, 0)
        self._grown_bytes -= self._grown.pop(holder, 0)

    def _set(self, holder: Hashable, grown: int) -> None:
        self._grown_bytes += grown - self._grown.get(holder, 0)
        self._grown[holder] = grown
