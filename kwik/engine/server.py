"""A server on the event loop: one ServerCore, one QUIC endpoint, and the application behind it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kwik.config import ServerConfig
from kwik.core.server import ServerCore
from kwik.engine.bridge import Bridge
from kwik.engine.driver import Driver, PathInputs
from kwik.engine.handle import SocketName, StreamHandle, socket_name
from kwik.engine.local import LocalEnd
from kwik.engine.paths import PathTable
from kwik.engine.thread import Engine
from kwik.errors import ErrorCode, KwikError, StreamReset
from kwik.quic import QuicEndpoint, QuicLimits, QuicPath, ServerTls
from kwik.types import INCARNATION_BYTES, Address, Instance, PathId

if TYPE_CHECKING:
    from kwik.core.actions import Accept
    from kwik.core.port import PortKey
    from kwik.kdp.snapshots import ReplicaSnapshot

REACH_LIMIT_S = 10.0
"""How long the application has to take a new stream."""

_log = logging.getLogger("kwik.engine")


@dataclass(frozen=True, slots=True)
class Reached:
    """An application that took a stream."""

    end: LocalEnd
    handle: StreamHandle
    tell: Callable[[], None] = lambda: None
    """Wakes the application, once its first bytes are there: from then on it wants the interpreter."""


Reach = Callable[[SocketName], Reached | Awaitable[Reached]]
"""Reaches the application for a stream from that client, at once if that needs no waiting. An OSError refuses the
stream; its text goes to the client."""


class ServerStreams:
    """Implements StreamOwner. Event loop's thread only."""

    def __init__(self, engine: Engine, core: ServerCore, driver: Driver, reach: Reach) -> None:
        self._engine = engine
        self._core = core
        self._driver = driver
        self._reach = reach
        self._reaching: dict[PortKey, asyncio.Task[None]] = {}

    def accept(self, action: Accept) -> None:
        """See StreamOwner."""
        try:
            reached = self._reach(socket_name(action.remote or ("0.0.0.0", 0)))
        except Exception as error:  # noqa: BLE001 - judged there
            self._fail(action.key, error)
            return
        if isinstance(reached, Reached):
            self._start(action.key, reached)
            self._engine.handover.note_accept()
            return
        task = self._engine.spawn(self._wait(action.key, reached), f"stream {action.key}")
        self._reaching[action.key] = task
        task.add_done_callback(lambda _: self._reaching.pop(action.key, None))

    def stop_reaching(self) -> None:
        """The server ends."""
        for task in list(self._reaching.values()):
            task.cancel()

    async def _wait(self, key: PortKey, reaching: Awaitable[Reached]) -> None:
        try:
            async with asyncio.timeout(REACH_LIMIT_S):
                reached = await reaching
        except Exception as error:  # noqa: BLE001 - judged there
            self._fail(key, error)
        else:
            if self._reaching.get(key) is asyncio.current_task():
                self._start(key, reached)
            else:
                reached.handle.reason = StreamReset("the client gave the stream up before it was accepted")
                reached.handle.done.set()
                reached.end.close(reset=True)

    def _fail(self, key: PortKey, error: Exception) -> None:
        if isinstance(error, OSError):
            text = error.strerror or str(error) or type(error).__name__
            self._refuse(key, ErrorCode.APPLICATION_DOWN, f"the application cannot be reached: {text}")
        else:
            _log.error("the application could not be given a stream", exc_info=error)
            self._refuse(key, ErrorCode.INTERNAL, "the server failed; its log says more")

    def _refuse(self, key: PortKey, code: ErrorCode, text: str) -> None:
        self._core.refused(key, code, text, self._driver.now)
        self._driver.step()

    def _start(self, key: PortKey, reached: Reached) -> None:
        self._core.accepted(key, self._driver.now)
        bridge = Bridge(
            reached.end,
            self._core,
            key,
            watcher=self._engine.watcher,
            handle=reached.handle,
            owner=self._driver,
        )
        self._driver.bridges[key] = bridge
        bridge.start()
        reached.tell()
        self._driver.step()

    def on_stream(self, key: PortKey, *, confirmed: bool) -> None:
        """See StreamOwner. A server's core does not say this."""
        raise AssertionError("a server was told of a dial")

    def on_flushed(self, token: int) -> None:
        """See StreamOwner. A server's core does not say this."""
        raise AssertionError("a server was told of a flush")

    def on_port_over(self, key: PortKey, error: KwikError | None) -> None:
        """See StreamOwner."""
        task = self._reaching.pop(key, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()


class EngineServer:
    """Implements PathOwner. Made by `start`, on the engine's thread, and used there only."""

    def __init__(self, engine: Engine, config: ServerConfig, reach: Reach) -> None:
        self.config = config
        self.instance = Instance(config.server_id, secrets.token_bytes(INCARNATION_BYTES))
        self._engine = engine
        paths = PathTable()
        self._core = ServerCore(
            config, incarnation=self.instance.incarnation, facts=paths.facts, token_bytes=secrets.token_bytes
        )
        self._driver = Driver(self._core, paths)
        self._driver.handover = engine.handover
        self._streams = ServerStreams(engine, self._core, self._driver, reach)
        self._driver.attach(self, self._streams)
        self._endpoint: QuicEndpoint | None = None
        self._drained = asyncio.Event()
        self._closed = asyncio.Event()
        self._draining = self._closing = False

    @classmethod
    async def start(
        cls, engine: Engine, address: Address, *, config: ServerConfig, tls: ServerTls, reach: Reach
    ) -> EngineServer:
        """Serve at this address (port 0: chosen by the system). Raises OSError when it cannot be had, ConfigError."""
        server = cls(engine, config, reach)
        limits = QuicLimits()
        driver = server._driver
        server._endpoint = await QuicEndpoint.listen(address, tls, server._adopt, limits, on_turn=driver.on_turn)
        engine.add_leaver(server.leave)
        return server

    @property
    def address(self) -> Address:
        """Where it listens."""
        assert self._endpoint is not None
        return Address(*self._endpoint.local_address[:2])

    def replica_views(self) -> list[ReplicaSnapshot]:
        """All replicas now."""
        return self._core.replica_views(self._driver.now)

    async def drain(self) -> None:
        """Take no new streams; return when the present ones have ended, or after ServerConfig.drain_s. Idempotent."""
        if not self._draining:
            self._draining = True
            self._core.drain(self._driver.now)
            self._driver.step()
        await self._drained.wait()

    async def retire(self, close: Callable[[], Awaitable[None]]) -> None:
        """Take no new streams; `close` now if there are none, else in the background, once they have ended."""
        if self._closing:
            return
        if not self._draining:
            self._draining = True
            self._core.drain(self._driver.now)
            self._driver.step()
        if not self._driver.bridges:
            await close()
            return

        async def close_later() -> None:
            await self._driver.wait_empty()
            await close()

        self._engine.spawn(close_later(), "end of a listener")

    async def close(self) -> None:
        """Stop at once: streams that are left are reset on both sides. Idempotent; returns when the socket is free."""
        if self._closing:
            await self._closed.wait()
            return
        self._closing = True
        self._engine.remove_leaver(self.leave)
        reason = "the server stops"
        try:
            self._core.stop(self._driver.now)
            self._driver.step()
        except Exception:  # noqa: BLE001 - logged
            _log.exception("internal error while stopping the server of %s", self.config.service)
        self._streams.stop_reaching()
        self._driver.close(StreamReset(reason, code=ErrorCode.SERVER_GONE))
        if self._endpoint is not None:
            await self._endpoint.close(ErrorCode.SERVER_GONE, reason)
        self._drained.set()
        self._closed.set()

    async def wait_closed(self) -> None:
        """Return when `close` has finished, whoever called it."""
        await self._closed.wait()

    async def leave(self, limit_s: float) -> None:
        """The process ends: what its applications have written is handed over within so many seconds, then close."""
        if not self._draining:
            self._draining = True
            self._core.drain(self._driver.now)
        await self._driver.leave(limit_s)
        await self.close()

    def _adopt(self, path: QuicPath) -> PathInputs:
        self._driver.paths.add_numbered(path)
        return self._driver.inputs

    # ------------------------------------------------------------ PathOwner

    def on_writable(self, number: PathId, path: QuicPath, binding: bytes, now: float) -> None:
        """See PathOwner."""
        remote = path.remote_address
        self._core.on_path_writable(number, binding, None if remote is None else remote[:2], now)

    def open_path(self, number: PathId, address: Address) -> None:
        """See PathOwner. A server's core does not ask for this."""
        raise AssertionError("a server was asked to open a path")

    def cancel_open(self, number: PathId) -> None:
        """See PathOwner: the path is over already."""

    def on_finished(self) -> None:
        """See PathOwner: drained."""
        self._drained.set()

    def on_defect(self, path: QuicPath | None) -> None:
        """See PathOwner. The path that did it goes, the others stay: a stranger must not be able to end them all."""
        if path is not None:
            path.close(ErrorCode.INTERNAL, "internal error", self._driver.now)
