"""The plug-in point for discovery: what a provider promises, and what an announcer may offer.

A provider turns one source (a list, mDNS, DNS, a registry) into sightings. `kwik.discovery.supervisor` runs several
side by side, restarts those that fail and checks every sighting, so a provider needs neither try-again nor validation
around its own start. tests/contract/test_provider.py has the suite that every provider must pass.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kwik.errors import KwikError
from kwik.kcp.sighting import Sighting, SightingState
from kwik.types import Address


class DiscoveryError(KwikError):
    """A source of sightings cannot be used now; the message says which, why and what to do."""

    default_errno = errno.ENETUNREACH


@runtime_checkable
class DiscoveryProvider(Protocol):
    """One source of sightings.

    Called by `Discovery`, on the event loop of the engine, once per service and again after each failure. Nothing in
    it may block the loop: name look-ups and files belong into a thread. `name` (1 to 32 characters) is the `source` of
    each sighting, unique among the providers of one session.
    """

    @property
    def name(self) -> str:
        """The word for this source in reports, logs and `Sighting.source`."""
        ...

    def watch(self, service: str) -> AsyncIterator[Sighting]:
        """Yield what the source knows about `service` now, then each change, for ever.

        Best written as an async generator: `aclose()` or cancellation frees every socket and task. The first sightings
        should come within 3 s, because a dial waits no longer. A change that overtakes another of the same key may
        replace it. Raise to report a failure (any exception; its text is shown to the user); an end without one counts
        as a failure too. Several watches of one provider may run at once.
        """
        ...


@runtime_checkable
class Warns(Protocol):
    """Optional: a provider that can be unwell without failing (silence, one of several names unresolved)."""

    def on_warning(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """Call `callback(text)` once when something is wrong and `callback(None)` when it is well again.

        A warning that stands at the time of the call is repeated to the new callback. Returns the function that ends
        it. Called on the event loop; the callback must not block or raise.
        """
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server says about itself. `label` is free text for people; `weight` is 0 to 65535.

    `addresses` may hold 0.0.0.0 or ::, which an announcer replaces by the addresses of the network interfaces.
    """

    service: str
    server_id: str
    addresses: tuple[Address, ...]
    region: str = ""
    weight: int = 100
    state: SightingState = "up"
    label: str = "kwik"


@runtime_checkable
class Announcement(Protocol):
    """One announced offer; lives until `close()`."""

    async def update(self, offer: Offer) -> None:
        """Replace what is announced. Service, server_id and label must stay. Returns when the change is on its way.

        Raises ConfigError if the offer cannot be announced (the old one stays), DiscoveryError after `close()`.
        """
        ...

    async def close(self) -> None:
        """Withdraw: tell the network that the server is gone. May be called twice; survives cancellation."""
        ...


@runtime_checkable
class Announcer(Protocol):
    """Optional for a provider: a source that servers can write to. Called once per service of a server."""

    async def announce(self, offer: Offer) -> Announcement:
        """Announce the offer; returns when others can see it. May take seconds (mDNS probes for 1.2 s).

        Raises ConfigError for an offer that cannot be announced, DiscoveryError when the source cannot be reached.
        """
        ...
