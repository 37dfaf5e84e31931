"""Announcing a server under other addresses."""

from __future__ import annotations

from dataclasses import replace

from kwik.apps.advertise import AdvertisedAt
from kwik.discovery.provider import Announcement, Announcer, Offer
from kwik.types import Address

OWN, OTHER = Address("10.0.0.1", 4433), Address("192.0.2.7", 443)
OFFER = Offer("files.example:80", "one", (OWN,))


class Recorder:
    """An Announcer and its Announcement."""

    def __init__(self) -> None:
        self.said: list[Offer | str] = []

    async def announce(self, offer: Offer) -> Announcement:
        self.said.append(offer)
        return self

    async def update(self, offer: Offer) -> None:
        self.said.append(offer)

    async def close(self) -> None:
        self.said.append("closed")


async def test_every_offer_has_the_other_address():
    recorder = Recorder()
    announcer = AdvertisedAt(recorder, [OTHER])
    assert isinstance(announcer, Announcer)
    announcement = await announcer.announce(OFFER)
    assert isinstance(announcement, Announcement)
    await announcement.update(replace(OFFER, state="drain"))
    await announcement.close()
    elsewhere = replace(OFFER, addresses=(OTHER,))
    assert recorder.said == [elsewhere, replace(elsewhere, state="drain"), "closed"]
