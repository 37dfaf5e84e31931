"""Every service that announces itself on the local network, by mDNS: for `kwik discover` without a name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from kwik.discovery.mdns_records import SERVICE_TYPE, RecordError, read_txt
from kwik.discovery.mdns_responder import MdnsTimings, Responder

MAX_INSTANCES: Final = 1024


async def list_services(interfaces: Sequence[str] | None, limit_s: float) -> dict[str, list[str]]:
    """Listen for `limit_s` seconds; services in order of name, each with the ids of its servers.

    Raises DiscoveryError when the network cannot be used.
    """
    responder = Responder(interfaces or None, "auto", timings=MdnsTimings())
    zeroconf = await responder.acquire()
    names: set[str] = set()

    def on_event(
        zeroconf: Zeroconf,  # noqa: ARG001 - the library names all four
        service_type: str,  # noqa: ARG001
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            names.discard(name)
        elif len(names) < MAX_INSTANCES:
            names.add(name)

    try:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE_TYPE, handlers=[on_event])
        await asyncio.sleep(limit_s)
        await browser.async_cancel()
        found = await asyncio.gather(*(_ask(zeroconf.zeroconf, name) for name in sorted(names)))
    finally:
        await responder.release()
    services: dict[str, list[str]] = {}
    for service, server in sorted(each for each in found if each is not None):
        services.setdefault(service, []).append(server)
    return services


async def _ask(zeroconf: Zeroconf, name: str) -> tuple[str, str] | None:
    """Service and server id of an instance; None if its records cannot be had or believed."""
    try:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if not info.load_from_cache(zeroconf):
            await info.async_request(zeroconf, 1000)
        fields = read_txt(info.text or b"")
    except (ZeroconfError, RecordError):
        return None
    return fields.service, fields.server_id or name.removesuffix(f".{SERVICE_TYPE}")
