"""The one mDNS engine that all watches and announcements of a provider share, and its interfaces as they come and go.

Opened by the first who needs it, closed with goodbyes by the last. `lock` is held while records are announced, changed
or withdrawn and while interfaces are reconciled: a re-announcement that overtakes a goodbye would revive a dead record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncZeroconf

from kwik.discovery.mdns_net import Choice, IpVersion, LocalAddress, choose, explain, local_addresses
from kwik.discovery.provider import DiscoveryError

_START_LIMIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class MdnsTimings:
    """How long things wait, in seconds. The defaults are for real networks; tests shorten them."""

    rechecks_s: tuple[float, ...] = (0.06, 0.1, 0.2)
    """Pauses before each further look into the cache after an event; only then is the network asked."""
    request_s: float = 3.0
    settle_s: float = 1.5
    """One more look, after replaced addresses have left the cache (1 s, RFC 6762 §10.2)."""
    rebrowse_s: float = 30.0
    interfaces_s: float = 5.0
    silence_s: float = 10.0


class Responder:
    """Shares one AsyncZeroconf among its users. Event loop only."""

    def __init__(
        self,
        interfaces: Sequence[str] | None,
        ip_version: IpVersion,
        *,
        timings: MdnsTimings,
        list_addresses: Callable[[], Sequence[LocalAddress]] = local_addresses,
    ) -> None:
        self.lock = asyncio.Lock()
        self._interfaces = None if interfaces is None else tuple(interfaces)
        self._ip_version: IpVersion = ip_version
        self._timings = timings
        self._list_addresses = list_addresses
        self._users = 0
        self._gate = asyncio.Lock()
        self._zeroconf: AsyncZeroconf | None = None
        self._choice: Choice | None = None
        self._poll: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    async def acquire(self) -> AsyncZeroconf:
        """Return the engine, started. Each success needs one `release`. Raises DiscoveryError."""
        async with self._gate:
            zeroconf = self._zeroconf
            if zeroconf is None:
                zeroconf = self._zeroconf = await self._open()
            if self._poll is None or self._poll.done():
                follow = self._follow_interfaces(zeroconf)
                self._poll = asyncio.get_running_loop().create_task(follow, name="mdns-interfaces")
            self._users += 1
            return zeroconf

    async def release(self) -> None:
        """Give it back; the last one closes it. Goes on to the end even when the caller is cancelled."""
        await asyncio.shield(asyncio.ensure_future(self._release()))

    @property
    def choice(self) -> Choice:
        """The interfaces in use. Only between `acquire` and `release`."""
        assert self._choice is not None
        return self._choice

    @property
    def poll(self) -> asyncio.Task[None]:
        """The task that follows the interfaces: whoever depends on them watches it. Only while acquired."""
        assert self._poll is not None
        return self._poll

    def on_change(self, listener: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Await `listener()` after each change of addresses, `lock` held; returns what removes it again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    async def _open(self) -> AsyncZeroconf:
        try:
            choice = choose(self._interfaces, self._ip_version, self._list_addresses())
            zeroconf = AsyncZeroconf(interfaces=list(choice.interfaces), ip_version=choice.version)
            # In a task of its own: a cancellation that reaches the library here leaves its sockets open for ever.
            starting = asyncio.ensure_future(zeroconf.zeroconf.async_wait_for_start(timeout=_START_LIMIT_S))
            try:
                await asyncio.shield(starting)
            except BaseException:
                await asyncio.shield(asyncio.ensure_future(_abandon(zeroconf, starting)))
                raise
        except DiscoveryError:
            raise
        except (OSError, RuntimeError, ZeroconfError) as error:
            raise explain(error) from error
        self._choice = choice
        return zeroconf

    async def _release(self) -> None:
        async with self._gate:
            self._users -= 1
            if self._users > 0:
                return
            zeroconf, self._zeroconf = self._zeroconf, None
            poll, self._poll = self._poll, None
            if poll is not None:
                poll.cancel()
                await asyncio.wait([poll])
            if zeroconf is not None:
                await zeroconf.async_close()

    async def _follow_interfaces(self, zeroconf: AsyncZeroconf) -> None:
        while True:
            await asyncio.sleep(self._timings.interfaces_s)
            try:
                choice = choose(self._interfaces, self._ip_version, self._list_addresses())
            except (DiscoveryError, OSError):
                continue  # all interfaces down for a moment: the old sockets may work again, so keep them
            changed = choice != self._choice
            async with self.lock:
                self._choice = choice
                # Also when nothing changed: an IPv6 address cannot be used in its first second (RFC 4862 §5.4), and
                # what is in use already is left alone.
                await zeroconf.async_update_interfaces(list(choice.interfaces), choice.version)
                if not changed:
                    continue
                for listener in tuple(self._listeners):
                    await listener()


async def _abandon(zeroconf: AsyncZeroconf, starting: asyncio.Future[None]) -> None:
    await asyncio.wait([starting])
    await zeroconf.async_close()
