"""A provider that does what a test tells it: the fake for everything that stands behind `DiscoveryProvider`."""

import asyncio
from collections.abc import AsyncIterator, Callable

from kwik.discovery.outbox import Outbox, WarningBoard
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address, parse_service


class ScriptedProvider:
    """Holds records that a test adds and removes; fails, warns and ends on command. Counts its watches."""

    def __init__(self, name: str = "scripted") -> None:
        self.records: dict[str, Sighting] = {}
        self.watches = 0
        self.open_watches = 0
        self._name = name
        self._outboxes: list[Outbox] = []
        self._board = WarningBoard()
        self._watched = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    def on_warning(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        return self._board.subscribe(callback)

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        parse_service(service)
        outbox = Outbox()
        self._outboxes.append(outbox)
        self.watches += 1
        self.open_watches += 1
        self._watched.set()
        try:
            for record in self.records.values():
                outbox.put(record)
            while True:
                yield await outbox.get()
        finally:
            self.open_watches -= 1
            self._outboxes.remove(outbox)

    async def wait_for_watch(self, number: int) -> None:
        """Return when the provider is being watched for the n-th time."""
        while self.watches < number:
            self._watched.clear()
            await self._watched.wait()

    def put(self, sighting: Sighting) -> None:
        """Say it now to all watches, and to later ones as long as it is not gone."""
        self.records.pop(sighting.key, None)
        if sighting.kind is SightingKind.FOUND:
            self.records[sighting.key] = sighting
        for outbox in self._outboxes:
            outbox.put(sighting)

    def fail(self, error: BaseException) -> None:
        """Make every watch raise."""
        for outbox in self._outboxes:
            outbox.fail(error)

    def warn(self, text: str | None) -> None:
        self._board.set(text)


def sighting(key: str = "k1", *, source: str = "scripted", service: str = "a.example:80", port: int = 4433, **fields):
    """A valid FOUND, fields as wanted."""
    fields.setdefault("addresses", (Address("127.0.0.1", port),))
    return Sighting(kind=SightingKind.FOUND, source=source, service=service, key=key, **fields)


def gone(key: str = "k1", *, source: str = "scripted", service: str = "a.example:80") -> Sighting:
    return Sighting(SightingKind.GONE, source, service, (), key)
