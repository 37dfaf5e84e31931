"""How fast an application moves bytes one way, in chunks, and where it pauses: for readers, writers and takers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kwik.sim.hosts import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast an application moves bytes; a rate of None: at once."""

    rate_bytes_s: float | None = None
    chunk_bytes: int = 256
    pauses: tuple[tuple[int, float], ...] = ()
    """(offset, seconds): when it has come so far, it pauses once."""


AT_ONCE: Final = Pace()
NO_LIMIT: Final = 1 << 30


class Pacer:
    """Says how much may move now, and calls `go_on` when a wait is over."""

    def __init__(self, host: Host, pace: Pace, go_on: Callable[[], None]) -> None:
        self.is_waiting = False
        self._host = host
        self._pace = pace
        self._go_on = go_on
        self._pauses = list(pace.pauses)

    def limit(self, moved_bytes: int) -> int:
        """Bytes that may move now, `moved_bytes` having moved before; 0 while it waits or when a pause begins."""
        if self.is_waiting:
            return 0
        limit = NO_LIMIT if self._pace.rate_bytes_s is None else self._pace.chunk_bytes
        if self._pauses:
            at, pause_s = self._pauses[0]
            if moved_bytes >= at:
                del self._pauses[0]
                self._wait(pause_s)
                return 0
            limit = min(limit, at - moved_bytes)
        return limit

    def on_moved(self, size: int) -> None:
        """So many bytes have moved: the next ones wait as the rate asks."""
        if self._pace.rate_bytes_s is not None:
            self._wait(size / self._pace.rate_bytes_s)

    def _wait(self, delay_s: float) -> None:
        self.is_waiting = True
        self._host.clock.after(delay_s, self._host.enter, self._wake)

    def _wake(self) -> None:
        self.is_waiting = False
        self._go_on()
