"""One watch of one service by mDNS: from the library's events to sightings.

The library's own resolver loses instances when many answer at once (an address that arrives before its SRV record is
dropped by a waiting request), so each event leads to looks into the cache first, and to a request only as fallback.
Its expiry is no sign of death either (pointers are kept for at least 1125 s): what leaves here are hints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from kwik.discovery.mdns_records import SERVICE_TYPE, RecordError, believable, read_txt
from kwik.discovery.mdns_responder import MdnsTimings
from kwik.discovery.outbox import Outbox
from kwik.kcp.sighting import Sighting, SightingKind, find_defect

MAX_INSTANCES: Final = 1024
"""Instances of all services that are followed at once; more are ignored, with a warning."""
_MAX_REQUESTS: Final = 8


@dataclass(slots=True)
class _Instance:
    """One name on the network: what was last said about it, and the next look at it."""

    name: str
    last: Sighting | None = None
    timer: asyncio.TimerHandle | None = None
    request: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Forget the looks that are due."""
        if self.timer is not None:
            self.timer.cancel()
        if self.request is not None:
            self.request.cancel()
        self.timer = self.request = None


class Browse:
    """Follows every Kwik instance on the network and puts those of one service into an outbox. Event loop only."""

    def __init__(
        self,
        zeroconf: Zeroconf,
        service: str,
        outbox: Outbox,
        *,
        source: str,
        accept_loopback: Callable[[], bool],
        timings: MdnsTimings,
        on_overflow: Callable[[str], None],
    ) -> None:
        self.heard = asyncio.Event()
        self._zeroconf = zeroconf
        self._service = service
        self._outbox = outbox
        self._source = source
        self._accept_loopback = accept_loopback
        self._timings = timings
        self._on_overflow = on_overflow
        self._instances: dict[str, _Instance] = {}
        self._requests = asyncio.Semaphore(_MAX_REQUESTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Browse for ever; starting again every `rebrowse_s` finds what lost packets hid. Ends by cancellation."""
        try:
            while True:
                browser = AsyncServiceBrowser(self._zeroconf, SERVICE_TYPE, handlers=[self._on_event])
                try:
                    await asyncio.sleep(self._timings.rebrowse_s)
                finally:
                    await browser.async_cancel()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        for instance in self._instances.values():
            instance.stop()
        self._instances.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _on_event(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        self.heard.set()
        key = name.lower()
        instance = self._instances.get(key)
        if state_change is ServiceStateChange.Removed:
            if instance is not None:
                instance.stop()
                self._retract(instance)
                del self._instances[key]
            return
        if instance is None:
            if len(self._instances) >= MAX_INSTANCES:
                self._on_overflow(f"mDNS: more than {MAX_INSTANCES} instances on the network, the others are ignored")
                return
            instance = self._instances[key] = _Instance(name)
        instance.stop()
        self._look(instance, 0)

    def _look(self, instance: _Instance, step: int) -> None:
        """Read the cache; when it is incomplete look again after the next pause, and at last ask the network."""
        instance.timer = None
        pauses = self._timings.rechecks_s
        if self._read_cache(instance):
            if step <= len(pauses):
                instance.timer = self._loop.call_later(self._timings.settle_s, self._look, instance, len(pauses) + 1)
        elif step < len(pauses):
            instance.timer = self._loop.call_later(pauses[step], self._look, instance, step + 1)
        elif step == len(pauses):
            instance.request = self._loop.create_task(self._ask(instance), name="mdns-request")
            self._tasks.add(instance.request)
            instance.request.add_done_callback(self._tasks.discard)
            self._outbox.watch_task(instance.request)

    async def _ask(self, instance: _Instance) -> None:
        async with self._requests:
            info = _new_info(instance.name)
            if info is not None:
                await info.async_request(self._zeroconf, self._timings.request_s * 1000)
        # Whatever the request says, the cache decides: answers may be complete there and not in the request.
        self._look(instance, len(self._timings.rechecks_s) + 1)

    def _read_cache(self, instance: _Instance) -> bool:
        info = _new_info(instance.name)
        if info is None:
            return True
        if not info.load_from_cache(self._zeroconf):
            return False
        sighting = self._sighting(instance, info)
        if sighting is None:
            self._retract(instance)
        elif sighting != instance.last:
            instance.last = sighting
            self._outbox.put(sighting)
        return True

    def _sighting(self, instance: _Instance, info: AsyncServiceInfo) -> Sighting | None:
        """Return what the records say, or None when they speak of another service or cannot be believed."""
        try:
            fields = read_txt(info.text or b"")
        except RecordError:
            return None
        hosts = sorted(info.parsed_scoped_addresses(), key=_preference)
        addresses = believable(hosts, info.port or 0, accept_loopback=self._accept_loopback())
        if fields.service != self._service or not addresses:
            return None
        sighting = Sighting(
            kind=SightingKind.FOUND,
            source=self._source,
            service=self._service,
            addresses=addresses,
            key=instance.name.lower(),
            server_id=fields.server_id,
            weight=info.weight,
            region=fields.region,
            state=fields.state,
        )
        return None if find_defect(sighting) else sighting

    def _retract(self, instance: _Instance) -> None:
        if instance.last is not None:
            gone = SightingKind.GONE
            self._outbox.put(Sighting(gone, self._source, self._service, (), instance.last.key))
            instance.last = None


def _new_info(name: str) -> AsyncServiceInfo | None:
    """Always a fresh one: an info that is used again adds new addresses to the old ones."""
    try:
        return AsyncServiceInfo(SERVICE_TYPE, name)
    except ZeroconfError:  # a name that no well-behaved responder sends
        return None


def _preference(host: str) -> tuple[bool, str]:
    return host.lower().startswith(("fe80:", "169.254.")), host
