"""The streams of a client's session: dials under way, flushes under way, and what a Conn may ask."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from kwik.engine.bridge import Bridge
from kwik.engine.early import EarlyDial
from kwik.engine.handle import SocketName, StreamHandle, registry, socket_name
from kwik.engine.local import LocalEnd, UnixEnd, make_pair
from kwik.engine.watch import Watcher
from kwik.errors import KwikError, StreamReset
from kwik.types import ServiceName, service_address

if TYPE_CHECKING:
    from kwik.core.actions import Accept
    from kwik.core.client import ClientCore
    from kwik.core.port import PortKey
    from kwik.engine.driver import Driver
    from kwik.kdp.snapshots import PathSnapshot, StreamStats

Dialled = tuple[socket.socket, StreamHandle]
"""The application's end of a new stream's pair, and what its Conn is to know."""


DIALLED_PAUSE_S = 200e-6
"""What it takes to wake a thread that waits for its dial, and to let it write its request, which OPEN takes along."""


class ClientStreams:
    """Implements StreamOwner. Event loop's thread only."""

    def __init__(
        self,
        core: ClientCore,
        driver: Driver,
        service: ServiceName,
        *,
        watcher: Watcher,
        explain: Callable[[KwikError], KwikError],
        new_pair: Callable[[], tuple[UnixEnd, socket.socket]] = make_pair,
    ) -> None:
        self._core = core
        self._driver = driver
        self.remote = socket_name(service_address(service))
        self._watcher = watcher
        self._explain = explain
        self._new_pair = new_pair
        self._dials: dict[PortKey, _Dial] = {}
        self._adopted: dict[PortKey, asyncio.TimerHandle | None] = {}
        """Early dials that no server was found for yet, and when they are given up."""
        self._flushes: dict[int, tuple[PortKey, asyncio.Future[None]]] = {}
        self._last_token = 0

    @property
    def is_empty(self) -> bool:
        """False while a stream is open or being dialled."""
        return not self._driver.bridges and not self._dials

    async def dial(self, *, replicas: int, confirm: bool, give: Callable[[Dialled], None] | None = None) -> Dialled:
        """A new stream. Raises KwikError; cancelled, it gives the stream up. `give`: see ClientSession.dial."""
        key = self._core.dial(self._driver.now, replicas=replicas)
        dial = self._dials[key] = _Dial(confirm, give)
        try:
            if self._core.may_open_now():
                self._driver.turn()
            else:
                self._driver.step_soon()  # discovery has its first word before
            return await dial.result
        except BaseException:
            self._give_up(key, dial)
            raise
        finally:
            del self._dials[key]

    def adopt(self, dial: EarlyDial, late: Callable[[], KwikError]) -> None:
        """A new stream whose application has its socket already; `late` makes the error for one that took too long."""
        try:
            key = self._core.dial(self._driver.now, replicas=dial.replicas)
        except KwikError as error:
            dial.fail(error)
            return
        dial.control.control = _Control(self._core, self, self._driver, key)
        self._adopted[key] = None
        bridge = self._bridge(key, dial.end, dial.handle)
        if dial.end.is_drained() and self._driver.handover is not None:
            self._driver.handover.note()  # the request is probably being written this very moment
            self._driver.handover.settle()
        bridge.start(look=True)
        path = self._core.open_now(key, self._driver.now)
        if path is not None:
            self._driver.turn(path)
            return  # on_stream follows
        self._driver.turn()
        if key in self._adopted:
            loop = asyncio.get_running_loop()
            self._adopted[key] = loop.call_later(dial.limit_s, self._on_late, key, late)

    def _on_late(self, key: PortKey, late: Callable[[], KwikError]) -> None:
        if key in self._adopted:
            self._driver.end_stream(key, late())
            self._core.on_app_closed(key, self._driver.now, aborted=True)
            self._driver.turn()

    def _settle_adopted(self, key: PortKey) -> None:
        timer = self._adopted.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def flush(self, key: PortKey, replicas: int) -> None:
        """See StreamControl."""
        bridge = self._driver.bridges.get(key)
        if bridge is None:
            return
        drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        bridge.when_drained(lambda: _succeed(drained))
        await drained
        if key not in self._driver.bridges:
            if bridge.handle.reason is not None:
                raise bridge.handle.reason
            return
        self._last_token += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        token, self._flushes[self._last_token] = self._last_token, (key, done)
        try:
            self._core.flush(key, replicas, token, self._driver.now)
            self._driver.turn()
            await done
        finally:
            del self._flushes[token]

    def fail_all(self, error: KwikError) -> None:
        """The session is over: nobody waits any longer."""
        for dial in list(self._dials.values()):
            dial.is_over = True
            _fail(dial.result, error)
        for _, done in list(self._flushes.values()):
            _fail(done, error)

    # ------------------------------------------------------------ StreamOwner

    def accept(self, action: Accept) -> None:
        """See StreamOwner. A client's core does not ask for this."""
        raise AssertionError("a client was asked to accept a stream")

    def on_stream(self, key: PortKey, *, confirmed: bool) -> None:
        """See StreamOwner."""
        self._settle_adopted(key)
        dial = self._dials.get(key)
        if dial is not None and not dial.result.done() and (confirmed or not dial.confirm):
            dialled = self._open_port(key)
            dial.result.set_result(dialled)
            if dial.give is not None:
                dial.give(dialled)
                if self._driver.handover is not None:
                    self._driver.handover.note(DIALLED_PAUSE_S)

    def on_flushed(self, token: int) -> None:
        """See StreamOwner."""
        if token in self._flushes:
            _succeed(self._flushes[token][1])

    def on_port_over(self, key: PortKey, error: KwikError | None) -> None:
        """See StreamOwner."""
        self._settle_adopted(key)
        bridge = self._driver.bridges.get(key)
        if bridge is not None:
            bridge.handle.final_stats = self._core.stream_stats(key, self._driver.now)
        for owner, done in list(self._flushes.values()):
            if owner == key and error is None:
                _succeed(done)
            elif owner == key and error is not None:
                _fail(done, error)
        dial = self._dials.get(key)
        if dial is not None:
            dial.is_over = True
            _fail(dial.result, self._explain(error or StreamReset("the stream ended before it began")))

    # ------------------------------------------------------------ inside

    def _open_port(self, key: PortKey) -> Dialled:
        end, application = self._new_pair()
        control = _Control(self._core, self, self._driver, key)
        handle = StreamHandle(self.local_name(), self.remote, control)
        registry.add(application.fileno(), handle)
        self._bridge(key, end, handle).start()
        return application, handle

    def _bridge(self, key: PortKey, end: LocalEnd, handle: StreamHandle) -> Bridge:
        bridge = Bridge(end, self._core, key, watcher=self._watcher, handle=handle, owner=self._driver)
        self._driver.bridges[key] = bridge
        return bridge

    def local_name(self) -> SocketName:
        """What getsockname() is to say. From any thread."""
        for path in self._driver.paths.all():
            return path.local_address
        return ("0.0.0.0", 0)

    def _give_up(self, key: PortKey, dial: _Dial) -> None:
        result = dial.result
        if result.done() and not result.cancelled() and result.exception() is None:
            result.result()[0].close()  # the bridge sees it
        elif not dial.is_over:
            self._core.on_app_closed(key, self._driver.now, aborted=True)
            self._driver.step()


class _Dial:
    """One dial under way."""

    def __init__(self, confirm: bool, give: Callable[[Dialled], None] | None) -> None:
        self.confirm = confirm
        self.give = give
        self.is_over = False
        """The core has forgotten the key."""
        self.result: asyncio.Future[Dialled] = asyncio.get_running_loop().create_future()


class _Control:
    """Implements StreamControl for one stream."""

    def __init__(self, core: ClientCore, streams: ClientStreams, driver: Driver, key: PortKey) -> None:
        self._core = core
        self._streams = streams
        self._driver = driver
        self._key = key

    async def paths(self) -> list[PathSnapshot]:
        """See StreamControl."""
        return self._core.path_views(self._driver.now)

    async def stats(self) -> StreamStats | None:
        """See StreamControl."""
        return self._core.stream_stats(self._key, self._driver.now)

    async def flush(self, replicas: int) -> None:
        """See StreamControl."""
        await self._streams.flush(self._key, replicas)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[Dialled] | asyncio.Future[None], error: KwikError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marked as seen: whoever waited may have gone
