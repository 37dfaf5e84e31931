"""One application's socket <-> one port of a core: bytes, half-closes, closes, with back-pressure in both directions.

The reset rule is here (and in `kwik.conn`, which raises the stored reason): a stream that failed makes the
application's descriptor fail with ECONNRESET; it never shows an end of file. How is told in `kwik.engine.local`.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kwik.engine import watch
from kwik.engine.handle import StreamHandle, registry
from kwik.engine.local import PIECE_BYTES, LocalEnd
from kwik.engine.watch import Watcher

if TYPE_CHECKING:
    from kwik.core.port import BytePort, PortKey
    from kwik.errors import KwikError


class BridgeOwner(Protocol):
    """Whoever drives the core behind the port."""

    def on_input(self) -> None:
        """The bridge has called into the port from an event of its own: perform what the core asks for now."""

    def on_handed_over(self, *, answered: bool) -> None:
        """An application of this process that had read everything was given more: it probably waits.

        `answered`: it has said something since it was given something last.
        """

    def on_port_defect(self, key: PortKey, error: Exception) -> None:
        """A call into the port raised what it must not."""


@dataclass(slots=True)
class _Readiness:
    """What is known of the application's socket."""

    readable: bool = True
    writable: bool = True
    has_news: bool = False
    """The port was told something in this event."""
    has_asked: bool = False
    """It has written since it was given something."""


PIECES_PER_TURN = 4
"""Pieces of 64 KiB moved in each direction before other work gets the loop."""
DISCARD_S = 5.0
"""How long what an application wrote before its close is still waited for when output comes that nobody reads."""


class Bridge:
    """Event loop's thread only. Calls into the port synchronously; `owner.on_input` after each event of its own.

    The application's side is described by the descriptor alone; `handle` gets the reason of a failure and may say that
    a close is an abort. The driver calls `pump` on PortReadable and PortWritable, `reset` on PortReset, `finish` on
    PortDone.
    """

    def __init__(
        self,
        end: LocalEnd,
        port: BytePort,
        key: PortKey,
        *,
        watcher: Watcher,
        handle: StreamHandle,
        owner: BridgeOwner,
    ) -> None:
        self.handle = handle
        self.key = key
        self._end = end
        self._port = port
        self._watcher = watcher
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._ready = _Readiness()
        self._input_ended = self._output_ended = False
        self._told_closed = self._discarding = self._lost_output = self._leaving = False
        self._soon: asyncio.Handle | None = None
        self._discard_timer: asyncio.TimerHandle | None = None
        self._drained: list[Callable[[], None]] = []

    def start(self, *, look: bool = False) -> None:
        """Begin; `look`: the application has its end for a while and may have written."""
        self._ready.readable = look  # if not: until the first event tells what is there
        self._watcher.add(self._end.sock.fileno(), self._on_event)
        self.pump()

    @property
    def is_open(self) -> bool:
        """False once the descriptor was given up."""
        return self._end.sock.fileno() >= 0

    # ------------------------------------------------------------ what the driver calls

    def pump(self) -> None:
        """Move what can be moved now, a bounded amount of it; the rest follows by itself."""
        try:
            self._pump()
        except Exception as error:  # noqa: BLE001 - a defect of the core: the owner reports it
            self._owner.on_port_defect(self.key, error)

    def _pump(self) -> None:
        if not self.is_open:
            return
        more = self._pull()
        if self.is_open:
            more = self._push() or more
        if more and self.is_open and self._soon is None:
            self._soon = self._loop.call_soon(self._again)

    def reset(self, error: KwikError) -> None:
        """The stream failed: the application sees a reset, behind the bytes that it was handed before."""
        self.handle.reason = error
        self._give_up(reset=True)

    def finish(self) -> None:
        """The stream is over, in order, in both directions."""
        self._give_up(reset=False)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call once everything that the application has written by now was given to the core (or the bridge ended)."""
        self._drained.append(callback)
        if not self.is_open or self._input_ended or self._end.is_drained():
            self._tell_drained()

    def leave(self) -> None:
        """The process ends: as if the application closed its socket now, after what it has written."""
        if not self._told_closed:
            self._leaving = self._ready.readable = True
            self.pump()

    # ------------------------------------------------------------ events

    def _on_event(self, mask: int) -> None:
        self._end.on_event(mask)
        if mask & (watch.READABLE | watch.ENDED | watch.FAILED):
            self._ready.readable = True
        if mask & (watch.WRITABLE | watch.FAILED | watch.HUNG_UP) and not self._ready.writable:
            self._set_writable(True)
        self._ready.has_news = False
        self.pump()
        if self._ready.has_news:
            # Once for all applications that have something new: their bytes share packets.
            self._watcher.after_batch(self._owner.on_input)

    def _again(self) -> None:
        self._soon = None
        self.pump()
        self._owner.on_input()

    # ------------------------------------------------------------ application -> core

    def _pull(self) -> bool:
        """True if there may be more."""
        if self._end.hung_up and self.handle.aborted:
            self._tell_closed(aborted=True)
            return False
        for _ in range(PIECES_PER_TURN):
            if self._input_ended:
                # Only a full close is left to be seen.
                self._check_closed()
                return False
            if not self._ready.readable:
                return False
            if not self._pull_piece():
                return False
        return True

    def _pull_piece(self) -> bool:
        """False if nothing more is to be had now."""
        room = self._port.allowance(self.key)
        if room <= 0:
            if self._end.is_ended():
                self._on_end_of_input()
            return False
        try:
            data = self._end.receive(min(room, PIECE_BYTES))
        except BlockingIOError:
            self._on_all_read()
            return False
        except OSError:
            self._tell_closed(aborted=True)
            return False
        if data:
            self._ready.has_news = self._ready.has_asked = True
            self._port.on_app_bytes(self.key, data, self._loop.time())
            if not self._end.emptied:
                return True
            self._on_all_read()
            return False
        self._on_end_of_input()
        return False

    def _on_all_read(self) -> None:
        self._ready.readable = False
        self._tell_drained()
        if self._leaving:
            self._on_end_of_input()

    def _on_end_of_input(self) -> None:
        self._input_ended = self._ready.has_news = True
        self._ready.readable = False
        self._tell_drained()
        if not self._end.was_reset():
            self._port.on_app_eof(self.key, self._loop.time())
        self._check_closed()

    def _check_closed(self) -> None:
        if self._end.hung_up or self._leaving:
            aborted = self._lost_output or self.handle.aborted or self._end.was_reset()
            self._tell_closed(aborted=aborted)

    def _tell_closed(self, *, aborted: bool) -> None:
        """The application is gone; the port still has to settle what it has."""
        if not self._told_closed:
            self._told_closed = self._input_ended = self._output_ended = self._ready.has_news = True
            self._port.on_app_closed(self.key, self._loop.time(), aborted=aborted)
            self._release(reset=False)

    # ------------------------------------------------------------ core -> application

    def _push(self) -> bool:
        """True if there may be more."""
        for _ in range(PIECES_PER_TURN):
            if self._output_ended or not self._ready.writable:
                return False
            piece = self._port.peek(self.key)
            if piece is None or not len(piece):
                self._check_end_of_output()
                return False
            if not self._push_piece(piece):
                return False
        return True

    def _push_piece(self, piece: memoryview) -> bool:
        """False if nothing more can go now."""
        if self._discarding:
            sent = len(piece)
        else:
            waits = self._end.waits()
            try:
                sent = self._end.send(piece)
            except BlockingIOError:
                self._set_writable(False)
                return False
            except OSError as error:
                piece.release()
                self._on_nobody_reads(error)
                return not self._told_closed
            if waits:
                self._owner.on_handed_over(answered=self._ready.has_asked)
                self._ready.has_asked = False
        piece.release()  # the core may not move its bytes while somebody looks at them
        self._ready.has_news = True
        self._port.consume(self.key, sent, self._loop.time())
        return True

    def _set_writable(self, writable: bool) -> None:
        self._ready.writable = writable
        self._watcher.want_writable(self._end.sock.fileno(), wanted=not writable)

    def _check_end_of_output(self) -> None:
        if self._port.at_end(self.key):
            self._output_ended = self._ready.has_news = True
            if not self._discarding:
                self._end.end_output()

    def _on_nobody_reads(self, error: OSError) -> None:
        """The application shut its reading side, or is gone: as TCP does, tell the writer by a reset if it is gone."""
        self._discarding = True
        if not self._end.hung_up and error.errno == errno.EPIPE:
            return  # SHUT_RD: TCP takes what comes and drops it
        self._lost_output = True
        if self._input_ended or self._end.is_ended():
            self._input_ended = True
            self._tell_closed(aborted=True)
        elif self._discard_timer is None:
            # What was written before the close may still get through.
            self._ready.readable = True
            self._discard_timer = self._loop.call_later(DISCARD_S, self._on_discard_over)
            self._loop.call_soon(self._again)

    def _on_discard_over(self) -> None:
        self._tell_closed(aborted=True)
        self._owner.on_input()

    # ------------------------------------------------------------ the end

    def _give_up(self, *, reset: bool) -> None:
        self._told_closed = True
        self._release(reset=reset)
        self.handle.done.set()

    def _release(self, *, reset: bool) -> None:
        for timer in (self._soon, self._discard_timer):
            if timer is not None:
                timer.cancel()
        registry.remove(self.handle)
        if self.is_open:
            self._watcher.remove(self._end.sock.fileno())
            self._end.close(reset=reset)
        self._tell_drained()

    def _tell_drained(self) -> None:
        waiting, self._drained = self._drained, []
        for callback in waiting:
            callback()
