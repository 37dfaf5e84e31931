"""One instance of a server's application, joined to its port as the engine's bridge joins a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.sim.apps import Program
from kwik.sim.pace import Pace, Pacer

if TYPE_CHECKING:
    from kwik.core.port import PortKey
    from kwik.sim.hosts import Host


class ServerPort:
    """Feeds a program from its port and its port from the program. Keeps what a test wants to know of it."""

    def __init__(self, host: Host, key: PortKey, program: Program, pace: Pace, taking: Pace) -> None:
        self.host = host
        self.key = key
        self.program = program
        self.upstream = bytearray()
        self.saw_eof = False
        self.produced_bytes = 0
        self.is_accepted = False
        self.is_aborted = False
        self.is_done = False
        self._told_eof = False
        self._producing = Pacer(host, pace, self.pump)
        self._taking = Pacer(host, taking, self.on_readable)

    # ------------------------------------------------------------ App

    def on_readable(self) -> None:
        """Read what the pace allows, then answer."""
        core, now, taking = self.host.core, self.host.clock.now, self._taking
        while (limit := taking.limit(len(self.upstream))) and (view := core.peek(self.key)) is not None and len(view):
            data = bytes(view[:limit])
            core.consume(self.key, len(data), now)
            self.upstream += data
            self.program.feed(data)
            taking.on_moved(len(data))
        if not self.saw_eof and not taking.is_waiting and core.at_end(self.key):
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
        core, producing = self.host.core, self._producing
        while not producing.is_waiting:
            data = self.program.take(min(core.allowance(self.key), producing.limit(self.produced_bytes)))
            if not data:
                break
            self.produced_bytes += len(data)
            core.on_app_bytes(self.key, data, self.host.clock.now)
            producing.on_moved(len(data))
        if not self._told_eof and not producing.is_waiting and self.program.ended and not self.program.available:
            self._told_eof = True
            self._end()

    def _end(self) -> None:
        core, now = self.host.core, self.host.clock.now
        if self.program.aborted:
            self.is_aborted = True
            core.on_app_closed(self.key, now, aborted=True)
        else:
            core.on_app_eof(self.key, now)
