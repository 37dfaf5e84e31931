"""Client: how many distinct servers each stream could use. Need comes and goes with the backlog; it is kept a while."""

from __future__ import annotations

from kwik.types import Instant

KEEP_S = 0.5
"""A need counts for this long after it was last felt."""


class Wants:
    """One number per stream; the session needs as many servers as the neediest stream."""

    def __init__(self) -> None:
        self._needs: dict[int, tuple[int, Instant]] = {}
        """What counts, and when it was last felt."""
        self._falling: set[int] = set()
        """Streams that could do with fewer now."""

    def note(self, stream: int, servers: int, now: Instant) -> None:
        """The stream could use so many servers now."""
        before, since = self._needs.get(stream, (0, now))
        if servers >= before or since + KEEP_S <= now:
            self._needs[stream] = (servers, now)
            self._falling.discard(stream)
        else:
            self._falling.add(stream)

    def forget(self, stream: int) -> None:
        """The stream is over."""
        self._needs.pop(stream, None)
        self._falling.discard(stream)

    def most(self) -> int:
        """What the neediest stream could use; 0 if there is none."""
        return max([servers for servers, _ in self._needs.values()], default=0)

    def ends_at(self, stream: int) -> Instant | None:
        """When the stream's need must be looked at again; None if it is what counts."""
        return self._needs[stream][1] + KEEP_S if stream in self._falling else None
