"""Where a session looks for servers: its providers, how long they have, and what each of them answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from kwik.discovery.provider import DiscoveryProvider
from kwik.discovery.static import StaticProvider
from kwik.discovery.supervisor import Discovery, ProviderReport
from kwik.errors import ConfigError
from kwik.kcp.sighting import Sighting
from kwik.types import ServiceName

ServerList = tuple[str | tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a dial said about discovery; equal values may share a session. Providers are equal if they are the same."""

    servers: ServerList | None
    """`servers=`: these, and nobody else unless `providers` says so too."""
    providers: tuple[str | DiscoveryProvider, ...] | None
    """`discovery=`: names or objects; None: mDNS, unless `servers` is given."""


class HostProvider:
    """The dialled host:port itself, as one more candidate, after `delay_s`. A DiscoveryProvider."""

    def __init__(self, service: ServiceName, delay_s: float) -> None:
        self.inner = StaticProvider([service], name="host")
        self._delay_s = delay_s

    @property
    def name(self) -> str:
        """See DiscoveryProvider."""
        return self.inner.name

    def on_warning(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """See Warns."""
        return self.inner.on_warning(callback)

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        """See DiscoveryProvider."""
        await asyncio.sleep(self._delay_s)
        sightings = self.inner.watch(service)
        try:
            async for sighting in sightings:
                yield sighting
        finally:
            await sightings.aclose()  # type: ignore[attr-defined]


def build_providers(spec: SourceSpec, service: ServiceName, host_delay_s: float) -> list[DiscoveryProvider]:
    """The providers of a session. Raises ConfigError for an unknown name or an entry that cannot be right."""
    chosen: list[DiscoveryProvider] = []
    if spec.servers is not None:
        chosen.append(StaticProvider(spec.servers))
        if spec.providers is None:
            return chosen
    named = ("mdns",) if spec.providers is None else spec.providers
    chosen.extend(find_provider(each) for each in named)
    if spec.servers is None:
        chosen.append(HostProvider(service, host_delay_s if named else 0.0))
    return chosen


def find_provider(given: str | object) -> DiscoveryProvider:
    """The provider of that name ("mdns"), or the object itself. Raises ConfigError."""
    if given == "mdns":
        from kwik.discovery.mdns import MdnsProvider  # loading zeroconf takes a while: only who uses it pays

        return MdnsProvider()
    if not isinstance(given, str) and isinstance(given, DiscoveryProvider):
        return given
    raise ConfigError(f'discovery: {given!r} is neither "mdns" nor a DiscoveryProvider object')


class Sources:
    """Runs the providers of one session. Event loop's thread only."""

    def __init__(
        self,
        service: ServiceName,
        providers: Sequence[DiscoveryProvider],
        *,
        rng: random.Random,
        on_sighting: Callable[[Sighting], None],
        on_done: Callable[[str], None],
    ) -> None:
        self._providers = providers
        self._discovery = Discovery(service, providers, on_sighting, rng, on_report=self._on_report)
        self._on_done = on_done
        self._timer: asyncio.TimerHandle | None = None

    def start(self, limit_s: float) -> None:
        """Ask everybody; `on_done(text)` follows once: after `limit_s`, or when nobody is left who could add more."""
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._tell_done)
        self._discovery.start()

    async def close(self) -> None:
        """Stop them all and free what they hold."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._discovery.close()

    def text(self) -> str:
        """Who was asked, and what each answered."""
        return "; ".join(map(_report_text, self._discovery.reports())) or "nobody: no discovery source is configured"

    def _on_report(self, report: ProviderReport) -> None:
        if self._timer is not None and all(map(_is_through, self._providers, self._discovery.reports())):
            asyncio.get_running_loop().call_soon(self._tell_done)

    def _tell_done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._on_done(self.text())


def _is_through(provider: DiscoveryProvider, report: ProviderReport) -> bool:
    """A list that was gone through has nothing to add; any other source may."""
    inner = provider.inner if isinstance(provider, HostProvider) else provider
    if not isinstance(inner, StaticProvider):
        return False
    return report.answers >= len(inner.servers) or report.state in ("degraded", "failed")


def _report_text(report: ProviderReport) -> str:
    count = "1 server" if report.answers == 1 else f"{report.answers} servers"
    if report.state == "ok":
        return f"{report.name} ({count})"
    return f"{report.name} ({count}; {report.detail})" if report.answers else f"{report.name} ({report.detail})"
