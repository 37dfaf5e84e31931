"""A client's session on the event loop: one ClientCore, its paths, its sources, its streams."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Sequence

from kwik.config import Config
from kwik.core.client import ClientCore
from kwik.discovery.provider import DiscoveryProvider
from kwik.engine.driver import Driver, PathInputs
from kwik.engine.early import EarlyDial
from kwik.engine.local import LocalEnd
from kwik.engine.paths import PathTable
from kwik.engine.sources import Sources
from kwik.engine.streams import ClientStreams, Dialled
from kwik.engine.thread import Engine
from kwik.errors import ConnectRefused, DialTimeout, ErrorCode, KwikError, StreamReset
from kwik.kcp.sighting import Sighting
from kwik.quic import ClientTls, QuicEndpoint, QuicLimits, QuicPath
from kwik.types import Address, PathId, ServiceName

_log = logging.getLogger("kwik.engine")


class ClientSession:
    """Implements PathOwner. Made and used on the engine's thread only; `close` frees everything."""

    def __init__(
        self,
        engine: Engine,
        service: ServiceName,
        *,
        config: Config,
        tls: ClientTls,
        providers: Sequence[DiscoveryProvider],
    ) -> None:
        self.service = service
        self.config = config
        self.is_over = False
        """True once the session takes no new dials."""
        self._engine = engine
        self._tls = tls
        self._opening: dict[PathId, asyncio.Task[None]] = {}
        rng = random.Random(secrets.randbits(128))
        paths = PathTable()
        self._core = ClientCore(service, config, facts=paths.facts, token_bytes=secrets.token_bytes, rng=rng)
        self._driver = Driver(self._core, paths)
        self._driver.handover = engine.handover
        self._streams = ClientStreams(
            self._core,
            self._driver,
            service,
            watcher=engine.watcher,
            explain=self._explain,
            new_pair=engine.new_pair,
        )
        self._driver.attach(self, self._streams)
        self._sources = Sources(
            service, providers, rng=rng, on_sighting=self._on_sighting, on_done=self._on_discovery_done
        )
        engine.add_leaver(self.leave)

    def start(self) -> None:
        """Ask the providers."""
        self._sources.start(self.config.discovery_time_s)

    async def dial(
        self, *, replicas: int, confirm: bool, limit_s: float | None, give: Callable[[Dialled], None] | None = None
    ) -> Dialled:
        """A new stream. Raises ConnectRefused, NoServers, DialTimeout, StreamReset; cancelled, it gives the stream up.

        After `limit_s` seconds (None: Config.dial_time_s) DialTimeout. `give` gets the result a moment before.
        """
        limit_s = self.config.dial_time_s if limit_s is None else limit_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await self._streams.dial(replicas=replicas, confirm=confirm, give=give)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DialTimeout(self._timeout_text(limit_s)) from None

    @property
    def is_ready(self) -> bool:
        """True if a dial need not wait for anything. From any thread: it may have changed by the time it is used."""
        return not self.is_over and self._core.may_open_now()

    def early_dial(self, end: LocalEnd, *, replicas: int, limit_s: float) -> EarlyDial:
        """For `adopt`. From any thread."""
        names = {"local": self._streams.local_name(), "remote": self._streams.remote}
        return EarlyDial(end, **names, replicas=replicas, limit_s=limit_s)

    def adopt(self, dial: EarlyDial) -> None:
        """A stream whose application has its socket already. Whatever fails, fails there."""
        self._streams.adopt(dial, lambda: DialTimeout(self._timeout_text(dial.limit_s)))

    async def leave(self, limit_s: float) -> None:
        """The process ends: hand over what is written within so many seconds, then close."""
        await self._driver.leave(limit_s)
        await self.close()

    async def close(self) -> None:
        """Reset what is left, close all paths, stop discovery. Idempotent."""
        if self._begin_end():
            await self._end()

    async def _end(self) -> None:
        try:
            self._core.close(self._driver.now)
            self._driver.step()
        except Exception:  # noqa: BLE001 - logged
            _log.exception("internal error while closing the session of %s", self.service)
        await self._shut(ErrorCode.NO_ERROR, "the session is over")

    def _begin_end(self) -> bool:
        """False if it has begun before."""
        if self.is_over:
            return False
        self.is_over = True
        self._engine.remove_leaver(self.leave)
        for task in list(self._opening.values()):
            task.cancel()
        return True

    async def _shut(self, code: ErrorCode, reason: str) -> None:
        error = StreamReset(f"{reason}; dial again", code=code)
        self._driver.close(error)
        self._streams.fail_all(error)
        for path in self._driver.paths.all():
            path.close(code, reason, self._driver.now)
            if path.endpoint is not None:
                await path.endpoint.close()
        await self._sources.close()

    # ------------------------------------------------------------ PathOwner

    def on_writable(self, number: PathId, path: QuicPath, binding: bytes, now: float) -> None:
        """See PathOwner."""
        self._core.on_path_writable(number, binding, now)

    def open_path(self, number: PathId, address: Address) -> None:
        """See PathOwner."""
        task = self._engine.spawn(self._open_path(number, address), f"path to {address}")
        self._opening[number] = task
        task.add_done_callback(lambda _: self._opening.pop(number, None))

    async def _open_path(self, number: PathId, address: Address) -> None:
        def adopt(path: QuicPath) -> PathInputs:
            self._driver.paths.add(number, path)
            return self._driver.inputs

        limits = QuicLimits(idle_timeout_s=self.config.idle_timeout_s)
        try:
            await QuicEndpoint.connect(address, self._tls, adopt, limits, on_turn=self._driver.on_turn)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._core.on_path_down(number, f"cannot be reached: {reason}", self._driver.now)
            self._driver.step()

    def cancel_open(self, number: PathId) -> None:
        """See PathOwner."""
        task = self._opening.pop(number, None)
        if task is not None:
            task.cancel()
            self._core.on_path_down(number, "given up", self._driver.now)

    def on_finished(self) -> None:
        """See PathOwner: the session was idle for long enough."""
        if self._streams.is_empty and self._begin_end():  # at once: the next dial gets a new session
            self._engine.spawn(self._end(), f"end of the idle session of {self.service}")

    def on_defect(self, path: QuicPath | None) -> None:
        """See PathOwner. All streams of the session are reset; the next dial gets a new session."""
        if self._begin_end():
            reason = "internal error: see the log"
            error = StreamReset(reason, code=ErrorCode.INTERNAL)
            self._driver.end_all_streams(error)
            self._streams.fail_all(error)
            self._engine.spawn(self._shut(ErrorCode.INTERNAL, reason), f"end of the failed session of {self.service}")

    # ------------------------------------------------------------ sources and texts

    def _on_sighting(self, sighting: Sighting) -> None:
        self._core.on_sighting(sighting, self._driver.now)
        self._driver.step()

    def _on_discovery_done(self, asked: str) -> None:
        self._core.on_discovery_done(asked, self._driver.now)
        self._driver.step()

    def _timeout_text(self, limit_s: float) -> str:
        views = self._core.path_views(self._driver.now)
        tried = "; ".join(f"{view.address} {view.state}{view.reason and f' ({view.reason})'}" for view in views)
        return (
            f"no server of {self.service} was ready within {limit_s:g} s; asked: {self._sources.text()};"
            f" tried: {tried or 'nothing'}; check that a server runs there and that UDP reaches it, or allow more time"
        )

    def _explain(self, error: KwikError) -> KwikError:
        """Add who was asked."""
        asked = self._sources.text()
        if not isinstance(error, ConnectRefused) or asked in error.message:
            return error
        return type(error)(f"{error.message}; asked: {asked}", code=error.code)
