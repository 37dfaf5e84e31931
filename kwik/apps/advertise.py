"""Announces a server under other addresses than those it listens on: behind a NAT, a relay or an emulated link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kwik.discovery.provider import Announcement, Announcer, Offer
from kwik.types import Address


class AdvertisedAt:
    """An Announcer that passes every offer on to another one, with these addresses in place of the server's own."""

    def __init__(self, announcer: Announcer, addresses: Sequence[Address]) -> None:
        self._announcer = announcer
        self._addresses = tuple(addresses)

    async def announce(self, offer: Offer) -> Announcement:
        """See Announcer."""
        inner = await self._announcer.announce(replace(offer, addresses=self._addresses))
        return _Readdressed(inner, self._addresses)


class _Readdressed:
    def __init__(self, inner: Announcement, addresses: tuple[Address, ...]) -> None:
        self._inner = inner
        self._addresses = addresses

    async def update(self, offer: Offer) -> None:
        """See Announcement."""
        await self._inner.update(replace(offer, addresses=self._addresses))

    async def close(self) -> None:
        """See Announcement."""
        await self._inner.close()
