"""One instance of a server's application, joined to its port as the engine's bridge joins a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.sim.apps import Program

if TYPE_CHECKING:
    from kwik.core.port import PortKey
    from kwik.sim.hosts import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast an application produces; None: at once."""

    rate_bytes_s: float | None = None
    chunk_bytes: int = 256
    pauses: tuple[tuple[int, float], ...] = ()
    """(offset, seconds): when its output has come so far, it pauses once."""


AT_ONCE: Final = Pace()


class ServerPort:
    """Feeds a program from its port and its port from the program. Keeps what a test wants to know of it."""

    def __init__(self, host: Host, key: PortKey, program: Program, pace: Pace) -> None:
        self.host = host
        self.key = key
        self.program = program
        self.upstream = bytearray()
        self.saw_eof = False
        self.produced_bytes = 0
        self.is_accepted = False
        self.is_aborted = False
        self.is_done = False
        self._pace = pace
        self._pauses = list(pace.pauses)
        self._waits = False
        self._told_eof = False

    # ------------------------------------------------------------ App

    def on_readable(self) -> None:
        """Read all, then answer."""
        core, now = self.host.core, self.host.clock.now
        while (view := core.peek(self.key)) is not None and len(view):
            data = bytes(view)
            core.consume(self.key, len(data), now)
            self.upstream += data
            self.program.feed(data)
        if not self.saw_eof and core.at_end(self.key):
            self.saw_eof = True
            self.program.feed_eof()
        self.pump()

    def on_writable(self) -> None:
        """There is room for output."""
        self.pump()

    def on_reset(self, code: int, text: str, *, refused: bool) -> None:
        """The application's socket is reset."""
        self.is_aborted = True

    def on_done(self) -> None:
        """Both directions have ended."""
        self.is_done = True

    # ------------------------------------------------------------ output

    def pump(self) -> None:
        """Produce what pace and port allow."""
        if not self.is_accepted or self.is_aborted or self.is_done:
            return
        while not self._waits and (limit := self._limit()) > 0:
            data = self.program.take(limit)
            if not data:
                break
            self.produced_bytes += len(data)
            self.host.core.on_app_bytes(self.key, data, self.host.clock.now)
            if self._pace.rate_bytes_s is not None:
                self._wait(len(data) / self._pace.rate_bytes_s)
        if not self._told_eof and not self._waits and self.program.ended and not self.program.available:
            self._told_eof = True
            self._end()

    def _end(self) -> None:
        core, now = self.host.core, self.host.clock.now
        if self.program.aborted:
            self.is_aborted = True
            core.on_app_closed(self.key, now, aborted=True)
        else:
            core.on_app_eof(self.key, now)

    def _limit(self) -> int:
        limit = self.host.core.allowance(self.key)
        if self._pace.rate_bytes_s is not None:
            limit = min(limit, self._pace.chunk_bytes)
        if self._pauses:
            at, pause_s = self._pauses[0]
            if self.produced_bytes >= at:
                del self._pauses[0]
                self._wait(pause_s)
                return 0
            limit = min(limit, at - self.produced_bytes)
        return limit

    def _wait(self, delay_s: float) -> None:
        self._waits = True
        self.host.clock.after(delay_s, self.host.enter, self._go_on)

    def _go_on(self) -> None:
        self._waits = False
        self.pump()
