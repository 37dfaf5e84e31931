"""Drives one core by the order of a turn: inputs, actions, room, actions again, send, one timer.

A turn begins with a batch of datagrams (QuicEndpoint.on_turn ends its first half), with a timer, with an
application's socket, or with a call. The driver is what all paths of its core report to, and what all bridges do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kwik.engine.paths import PathTable, describe_end
from kwik.engine.perform import PERFORM
from kwik.errors import ErrorCode, KwikError, StreamReset
from kwik.types import Address, PathId

if TYPE_CHECKING:
    from kwik.core.actions import Accept
    from kwik.core.port import BytePort, PathPort, PortKey
    from kwik.engine.bridge import Bridge
    from kwik.engine.handover import HandOver
    from kwik.quic.adapter import PathHome, QuicPath
    from kwik.quic.ends import PathEnd

    class Core(BytePort, PathPort, Protocol):
        """A ClientCore or a ServerCore."""

        def readable(self) -> list[PortKey]:
            """Streams that have bytes for their applications; each is told once, here or as PortReadable.

            Asked before actions(): applications then have their bytes before the decisions of the turn are made,
            which see at once what was taken.
            """

        def urgent(self) -> list[object]:
            """What is to be done before room is offered in this turn; if anything, actions() has time until then."""


DEFECT_PAUSE_S = 0.1
"""How soon a core that raised is asked again."""
ROUNDS_PER_TURN = 64
"""Actions may ask for inputs that make further actions; more rounds than this wait for the next turn."""

HURRIED_PAUSE_S = 0.002
"""How long decisions wait, at most, when something was sent before they were made."""

_log = logging.getLogger("kwik.engine")


class PathOwner(Protocol):
    """What differs between a client's session and a server. Called from inside a turn; must not block."""

    def on_writable(self, number: PathId, path: QuicPath, binding: bytes, now: float) -> None:
        """1-RTT keys exist: tell the core."""

    def open_path(self, number: PathId, address: Address) -> None:
        """OpenPath."""

    def cancel_open(self, number: PathId) -> None:
        """ClosePath for a path that has no QUIC connection yet."""

    def on_finished(self) -> None:
        """SessionIdle or Drained."""

    def on_defect(self, path: QuicPath | None) -> None:
        """The core raised what it must not; it was logged. `path`: the one whose input did it."""


class StreamOwner(Protocol):
    """The streams of a session, or of a server. Called from inside a turn; must not block."""

    def accept(self, action: Accept) -> None:
        """Accept."""

    def on_stream(self, key: PortKey, *, confirmed: bool) -> None:
        """StreamSent or StreamConfirmed."""

    def on_flushed(self, token: int) -> None:
        """Flushed."""

    def on_port_over(self, key: PortKey, error: KwikError | None) -> None:
        """PortReset (with the error) or PortDone; called before the bridge ends."""


class Driver:
    """Implements BridgeOwner for every bridge; `inputs` hears every path. Event loop's thread only."""

    def __init__(self, core: Core, paths: PathTable) -> None:
        self.core = core
        self.paths = paths
        self.owner: PathOwner
        self.streams: StreamOwner
        self.inputs = PathInputs(self)
        self.bridges: dict[PortKey, Bridge] = {}
        self.handover: HandOver | None = None
        """Told by the bridges when their applications are given something."""
        self.woken: dict[PathHome, None] = {}
        """Who has a path that is to be sent on."""
        self._empty: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self.is_hurried = False
        """The step of this turn comes a little later."""
        self._in_step = False
        self._closed = False

    def attach(self, owner: PathOwner, streams: StreamOwner) -> None:
        """Say who hears of what; before the first turn."""
        self.owner = owner
        self.streams = streams

    @property
    def now(self) -> float:
        """The clock of the loop, on which all instants of the core are."""
        return self._loop.time()

    # ------------------------------------------------------------ the turn

    def step(self) -> None:
        """Perform what the core asks for, until it asks for nothing; arm the timer. Inside a step: does nothing."""
        if self._in_step or self._closed:
            return
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._in_step = True
        self.is_hurried = False
        delay_s = 0.0
        try:
            for key in self.core.readable():
                if (bridge := self.bridges.get(key)) is not None:
                    bridge.pump()
            for _ in range(ROUNDS_PER_TURN):
                # First of all: who waits has its bytes now, and what it answers is decided upon together with the rest.
                if self.handover is not None:
                    self.handover.settle()
                actions = self.core.actions()
                if not actions or self._closed:
                    break
                for action in actions:
                    PERFORM[type(action)](self, action)
            else:
                self.step_soon()
        except Exception:  # noqa: BLE001 - logged
            delay_s = DEFECT_PAUSE_S
            self.report(None)
        finally:
            self._in_step = False
        self._arm(delay_s)

    def turn(self, first: PathId | None = None) -> None:
        """Step, and send in this very round of the loop what came of it. Not from inside a turn of QUIC.

        With `first` that path sends what is queued for it, and the step follows a little later.
        """
        if first is not None and self._send_first(first):
            return
        self.step()
        woken, self.woken = self.woken, {}
        for home in woken:
            home.flush()

    def _show(self) -> None:
        """Applications have the bytes that have come by now, before what else came with them is read."""
        keys = () if self._in_step or self._closed else self.core.readable()
        if not keys:
            return
        self._in_step = True  # what applications answer meanwhile is decided upon in this turn's step
        try:
            for key in keys:
                if (bridge := self.bridges.get(key)) is not None:
                    bridge.pump()
            if self.handover is not None:
                self.handover.settle()
        finally:
            self._in_step = False

    def _hurry(self) -> bool:
        """Whether something is to leave before the core decides anything; step follows then, after the turn."""
        if self._in_step or self._closed:
            return False
        self._in_step = True
        try:
            urgent = self.core.urgent()
            for action in urgent:
                PERFORM[type(action)](self, action)
            if urgent and self.handover is not None:
                self.handover.settle()
        except Exception:  # noqa: BLE001 - logged
            self.report(None)
            return False
        finally:
            self._in_step = False
        if urgent:
            self._step_later()
        return bool(urgent)

    def _step_later(self) -> None:
        """What would be said now costs the other side more than what it is about: it is busy with the request."""
        self.is_hurried = True
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_later(HURRIED_PAUSE_S, self._on_soon)

    def _send_first(self, number: PathId) -> bool:
        path = self.paths.find(number)
        if path is None or path.endpoint is None or self._in_step or self._closed:
            return False
        self._in_step = True
        self._step_later()
        try:
            path.wants_room = True
            path.endpoint.flush(path)
        finally:
            self._in_step = False
        return True

    def step_soon(self) -> None:
        """Step in the loop's next turn, once."""
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._on_soon)

    def end_stream(self, key: PortKey, error: KwikError | None) -> None:
        """The port is over: the application sees what is left and the end of file, or a reset with this error."""
        self.streams.on_port_over(key, error)
        bridge = self.bridges.pop(key, None)
        if bridge is not None and error is None:
            bridge.pump()  # the end of file, if it was not shown yet
            bridge.finish()
        elif bridge is not None and error is not None:
            bridge.reset(error)
        if not self.bridges:
            self._tell_empty()

    def end_all_streams(self, error: KwikError) -> None:
        """Every application sees a reset."""
        for key in list(self.bridges):
            self.end_stream(key, error)

    async def leave(self, limit_s: float) -> None:
        """The process ends: hand over what the applications have written; return when that is settled or time is up."""
        for bridge in list(self.bridges.values()):
            bridge.leave()
        self.step()
        await self.wait_empty(limit_s)

    async def wait_empty(self, limit_s: float | None = None) -> None:
        """Return when no stream is left, or time is up."""
        if self.bridges:
            empty = self._loop.create_future()
            self._empty.append(empty)
            await asyncio.wait([empty], timeout=limit_s)

    def close(self, error: KwikError) -> None:
        """No more turns; streams that are left are reset."""
        self._closed = True
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        self.end_all_streams(error)

    def _tell_empty(self) -> None:
        waiting, self._empty = self._empty, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def on_turn(self, paths: set[QuicPath], now: float) -> None:
        """QuicEndpoint.on_turn: everything that arrived was told, nothing was sent yet."""
        if not self._hurry():
            self.step()
        self.woken.clear()  # this endpoint sends anyway, others by themselves: turns do not nest
        for path in paths:
            self._ask(path)

    def _ask(self, path: QuicPath) -> None:
        number = self.paths.number_of(path)
        if number is not None:
            path.wants_room = self.core.wants_room(number)

    def _on_soon(self) -> None:
        self._soon = None
        self.turn()

    def _arm(self, delay_s: float = 0.0) -> None:
        deadline = None if self._closed else self.core.deadline()
        if deadline is not None and delay_s:
            deadline = max(deadline, self.now + delay_s)
        if self._timer is not None:
            if self._timer.when() == deadline and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.tell(None, self.core.on_timeout, self.now):
            self.turn()
        elif not self._closed:
            self._timer = self._loop.call_later(DEFECT_PAUSE_S, self._on_timer)

    def tell(self, path: QuicPath | None, call: Callable[..., None], *args: object) -> bool:
        """Call into the core; False if it raised what it must not. Protocol errors never leave a core."""
        try:
            call(*args)
        except Exception:  # noqa: BLE001 - logged
            self.report(path)
            return False
        return True

    def report(self, path: QuicPath | None) -> None:
        """The core is at fault (or we are): say so, and end what is affected."""
        _log.exception("internal error%s", "" if path is None else f" on {path.description}")
        self.owner.on_defect(path)

    # ------------------------------------------------------------ BridgeOwner

    def on_input(self) -> None:
        """See BridgeOwner."""
        self.turn()

    def on_handed_over(self, *, answered: bool) -> None:
        """See BridgeOwner."""
        if self.handover is not None:
            self.handover.note(is_answer=answered)

    def on_port_defect(self, key: PortKey, error: Exception) -> None:
        """See BridgeOwner. The stream is reset; the session's owner decides about the rest."""
        _log.error("internal error on stream %d", key, exc_info=error)
        self.end_stream(key, StreamReset("internal error: see the log", code=ErrorCode.INTERNAL))
        self.owner.on_defect(None)


class PathInputs:
    """Implements PathEvents for every path of the core."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        """See PathEvents."""
        number = self._driver.paths.number_of(path)
        if number is not None:
            self._driver.tell(path, self._driver.owner.on_writable, number, path, binding, now)

    def on_up(self, path: QuicPath, now: float) -> None:
        """See PathEvents. The cores only want to know about `on_writable`."""

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        """See PathEvents."""
        number = self._driver.paths.number_of(path)
        if number is not None and self._driver.tell(path, self._driver.core.on_path_data, number, pipe, data, now):
            self._driver.tell(path, self._driver._show)

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        """See PathEvents."""
        number = self._driver.paths.number_of(path)
        if number is None:
            path.wants_room = False
            return
        try:
            for pipe, data in self._driver.core.on_room(number, n_bytes, now):
                path.send(pipe, data)
            path.wants_room = self._driver.core.wants_room(number)
        except Exception:  # noqa: BLE001 - logged
            path.wants_room = False
            self._driver.report(path)
        if self._driver.is_hurried:
            return  # the step comes by itself
        if path.endpoint is None:
            self._driver.step_soon()
        else:
            path.endpoint.after_turn(self._driver.step)

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        """See PathEvents."""
        number = self._driver.paths.number_of(path)
        if number is not None:
            self._driver.tell(path, self._driver.core.on_pong, number, ping_id, now)

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        """See PathEvents."""
        number = self._driver.paths.remove(path)
        if number is not None:
            self._driver.tell(None, self._driver.core.on_path_down, number, describe_end(reason), now)
            self._driver.step_soon()
