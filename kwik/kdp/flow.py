"""Memory: one budget shared so that a newcomer always finds room (SPEC §6.6)."""

from __future__ import annotations

from collections.abc import Hashable


class MemoryPool:
    """A budget of bytes and who has reserved how much of it.

    Sharing rule: beyond its guarantee a holder may grow only up to what is left (a dynamic threshold with factor 1;
    Choudhury and Hahne, "Dynamic queue length thresholds", 1998). With n greedy holders each ends near total/(n+1).
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._held: dict[Hashable, int] = {}
        self._used = 0

    @property
    def used_bytes(self) -> int:
        """Reserved by all holders."""
        return self._used

    @property
    def free_bytes(self) -> int:
        """Left for growth; never negative."""
        return max(0, self.total_bytes - self._used)

    def held_by(self, holder: Hashable) -> int:
        """Reserved by this holder."""
        return self._held.get(holder, 0)

    def admit(self, holder: Hashable, guarantee_bytes: int) -> bool:
        """Reserve a newcomer's guarantee; False if it does not fit."""
        if self._used + guarantee_bytes > self.total_bytes:
            return False
        self._set(holder, guarantee_bytes)
        return True

    def grow(self, holder: Hashable, wanted_bytes: int) -> int:
        """Reserve up to `wanted_bytes` in all, as far as the sharing rule lets; returns what the holder has now."""
        held = self.held_by(holder)
        if wanted_bytes > held:
            # held + growth <= free - growth: what the holder gets never exceeds what is left.
            growth = min(wanted_bytes - held, max(0, (self.free_bytes - held) // 2))
            self._set(holder, held + growth)
        return self.held_by(holder)

    def shrink(self, holder: Hashable, to_bytes: int) -> None:
        """Give back what is above `to_bytes`."""
        if to_bytes < self.held_by(holder):
            self._set(holder, to_bytes)

    def release(self, holder: Hashable) -> None:
        """The holder is gone."""
        self._used -= self._held.pop(holder, 0)

    def _set(self, holder: Hashable, size: int) -> None:
        self._used += size - self._held.get(holder, 0)
        self._held[holder] = size
