"""Discovery on the local network: multicast DNS and DNS-SD (RFC 6762, RFC 6763), service type `_kwik._udp`.

One provider is one mDNS engine (sockets on port 5353, shared with other mDNS programs of the host) for all its
watches and announcements. It opens with the first of them and closes, after goodbyes, with the last. A server that
crashes stays listed for many minutes: mDNS finds candidates, health tells who lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceNameAlreadyRegistered
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from kwik.discovery.mdns_browse import Browse
from kwik.discovery.mdns_net import Choice, IpVersion, LocalAddress, explain, local_addresses, multicast_works
from kwik.discovery.mdns_records import (
    SERVICE_TYPE,
    announced_hosts,
    host_name,
    instance_name,
    is_loopback,
    offer_port,
    txt_of,
)
from kwik.discovery.mdns_responder import MdnsTimings, Responder
from kwik.discovery.outbox import Outbox, WarningBoard
from kwik.discovery.provider import Announcement, DiscoveryError, Offer
from kwik.errors import ConfigError
from kwik.kcp.sighting import Sighting
from kwik.types import parse_service

__all__ = ["MdnsProvider", "MdnsTimings", "multicast_works"]

_QUIET: Final = "no other Kwik server of any service announces itself here, or multicast is filtered on the way"
_BLOCKED: Final = "multicast does not even come back to this host"
_ADVICE: Final = (
    "multicast may be blocked (containers on a bridge network, cloud networks, guest Wi-Fi);"
    " use DNS, a registry or name the servers"
)


class MdnsProvider:
    """Finds and announces servers by mDNS; a DiscoveryProvider, an Announcer and a Warns.

    `interfaces`: addresses or names (`eth0`) of this host; None means all. With loopback addresses only
    (`["127.0.0.1"]`) nothing leaves the host, and servers at loopback addresses are believed; otherwise not.
    `ip_version`: "auto" takes every family that the interfaces have. IPv4-only and IPv6-only hosts do not see each
    other. `cooperating_responders` skips the probing for a unique name (1.2 s): only where names cannot clash (tests).
    """

    def __init__(
        self,
        interfaces: Sequence[str] | None = None,
        *,
        ip_version: IpVersion = "auto",
        name: str = "mdns",
        cooperating_responders: bool = False,
        timings: MdnsTimings | None = None,
        list_addresses: Callable[[], Sequence[LocalAddress]] = local_addresses,
    ) -> None:
        if isinstance(interfaces, str):
            raise ConfigError(f"mDNS: give the interfaces as a list: [{interfaces!r}]")
        if interfaces is not None and not interfaces:
            raise ConfigError("mDNS: the list of interfaces is empty: name at least one, or leave it out for all")
        if ip_version not in ("auto", "v4", "v6", "both"):
            raise ConfigError(f"mDNS: ip_version {ip_version!r} is none of auto, v4, v6, both")
        self._name = name
        self._cooperating = cooperating_responders
        self._timings = timings or MdnsTimings()
        self._warnings = WarningBoard()
        self._responder = Responder(interfaces, ip_version, timings=self._timings, list_addresses=list_addresses)

    @property
    def name(self) -> str:
        """See DiscoveryProvider."""
        return self._name

    def on_warning(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """See Warns. Warns once when no answer came for 10 s, or when there are too many instances to follow."""
        return self._warnings.subscribe(callback)

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        """See DiscoveryProvider. Raises DiscoveryError when no socket can be opened, ConfigError for a bad service."""
        spelling = parse_service(service)
        outbox = Outbox()
        zeroconf = await self._responder.acquire()
        tasks: list[asyncio.Task[None]] = []
        try:
            outbox.watch_task(self._responder.poll)
            browse = Browse(
                zeroconf.zeroconf,
                spelling,
                outbox,
                source=self._name,
                accept_loopback=lambda: self._responder.choice.loopback_only,
                timings=self._timings,
                on_overflow=self._warnings.set,
            )
            loop = asyncio.get_running_loop()
            tasks.append(loop.create_task(browse.run(), name="mdns-browse"))
            tasks.append(loop.create_task(self._warn_of_silence(browse.heard), name="mdns-silence"))
            for task in tasks:
                outbox.watch_task(task)
            while True:
                yield await outbox.get()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.shield(asyncio.ensure_future(self._end_watch(tasks)))

    async def announce(self, offer: Offer) -> Announcement:
        """See Announcer. Takes 1.2 s while the name is probed; a name already taken gets `-2`, `-3`, … appended.

        Raises ConfigError for an offer that DNS-SD cannot express, DiscoveryError when the network is not usable.
        """
        mark = secrets.token_hex(8)
        zeroconf = await self._responder.acquire()
        try:
            info = _service_info(offer, instance_name(offer.label, offer.server_id), mark, self._responder.choice)
            rest = await zeroconf.async_register_service(
                info, allow_name_change=True, cooperating_responders=self._cooperating
            )
        except BaseException as error:
            await self._responder.release()
            if isinstance(error, ServiceNameAlreadyRegistered):
                raise ConfigError(f"mDNS: server {offer.server_id} is announced already under this label") from error
            if isinstance(error, ZeroconfError):
                raise explain(error) from error
            raise
        announcement = MdnsAnnouncement(self._responder, zeroconf, offer, info, rest=rest, mark=mark)
        with contextlib.suppress(ConfigError):
            await announcement.update(offer)  # the interfaces may have changed during the probing
        return announcement

    async def _end_watch(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks)
        await self._responder.release()

    async def _warn_of_silence(self, heard: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._timings.silence_s):
                await heard.wait()
        except TimeoutError:
            hosts = [address.host for address in self._responder.choice.addresses if not address.is_ipv6]
            works = not hosts or await multicast_works(min(hosts, key=is_loopback))
            reason = _QUIET if works else _BLOCKED
            self._warnings.set(f"no mDNS answers for {self._timings.silence_s:g} s: {reason}; {_ADVICE}")
        await heard.wait()
        self._warnings.set(None)


class MdnsAnnouncement:
    """One announced server: an `Announcement`. Made by `MdnsProvider.announce`."""

    def __init__(
        self,
        responder: Responder,
        zeroconf: AsyncZeroconf,
        offer: Offer,
        info: AsyncServiceInfo,
        *,
        rest: Awaitable[None],
        mark: str,
    ) -> None:
        self._responder = responder
        self._zeroconf = zeroconf
        self._offer = offer
        self._info = info
        self._mark = mark
        self._rest = _in_background(rest)
        self._closing: asyncio.Future[None] | None = None
        self._unsubscribe = responder.on_change(self._on_interfaces)

    @property
    def instance(self) -> str:
        """The instance name on the network, without the type: after a clash it ends in `-2`, `-3`, …"""
        return self._info.name.removesuffix(f".{SERVICE_TYPE}")

    async def update(self, offer: Offer) -> None:
        """See Announcement."""
        same = (self._offer.service, self._offer.server_id, self._offer.label)
        if (offer.service, offer.server_id, offer.label) != same:
            raise ConfigError("mDNS: service, server_id and label of an announcement stay: close it, announce anew")
        async with self._responder.lock:
            if self._closing is not None:
                raise DiscoveryError("mDNS: this announcement is closed")
            await self._publish(offer)

    async def close(self) -> None:
        """See Announcement. Sends three goodbyes within 0.25 s."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._withdraw())
        await asyncio.shield(self._closing)

    async def _on_interfaces(self) -> None:
        if self._closing is None:
            with contextlib.suppress(ConfigError):  # no usable address for a moment: leave what was announced
                await self._publish(self._offer)

    async def _publish(self, offer: Offer) -> None:
        info = _service_info(offer, self._info.name, self._mark, self._responder.choice)
        if _hosts(info) != _hosts(self._info):
            # Caches keep addresses younger than 1 s beside those that replace them (RFC 6762 §10.2): a fresh host
            # name makes sure that old and new ones never mix.
            self._mark = secrets.token_hex(8)
            info = _service_info(offer, self._info.name, self._mark, self._responder.choice)
        elif (info.text, info.port, info.weight) == (self._info.text, self._info.port, self._info.weight):
            return
        await self._stop_broadcast()
        self._offer, self._info = offer, info
        self._rest = _in_background(await self._zeroconf.async_update_service(info))

    async def _stop_broadcast(self) -> None:
        """The repeats of what was announced last would overwrite what comes now."""
        self._rest.cancel()
        await asyncio.wait([self._rest])

    async def _withdraw(self) -> None:
        self._unsubscribe()
        try:
            async with self._responder.lock:
                await self._stop_broadcast()
                goodbyes = await self._zeroconf.async_unregister_service(self._info)
            await goodbyes
        except ZeroconfError:
            pass  # the engine closed already: nothing can be said any more
        finally:
            await self._responder.release()


def _service_info(offer: Offer, name: str, mark: str, choice: Choice) -> AsyncServiceInfo:
    own = [address.host for address in choice.addresses]
    return AsyncServiceInfo(
        SERVICE_TYPE,
        name,
        port=offer_port(offer),
        weight=offer.weight,
        properties=txt_of(offer),
        server=host_name(mark),
        parsed_addresses=announced_hosts(offer, own, loopback_only=choice.loopback_only),
    )


def _hosts(info: AsyncServiceInfo) -> list[bytes]:
    return info.addresses_by_version(IPVersion.All)


def _in_background(repeats: Awaitable[None]) -> asyncio.Future[None]:
    """The library repeats an announcement three times; a failure of a repeat is nobody's concern."""
    future = asyncio.ensure_future(repeats)
    future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    return future
