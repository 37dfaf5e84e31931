"""What discovery has said about one service, merged by address: hints from strangers, bounded and aged.

The registry never says who is at an address; the hello does that. A record whose time to live has run out without a
word from its source goes *stale* (ranked last) before it goes away: a source that fails must not empty the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.base.timers import TimerTable
from kwik.kcp.sighting import MAX_ADDRESSES, Sighting, SightingKind

if TYPE_CHECKING:
    from kwik.types import Address, Instant

MAX_RECORDS: Final = 1024
MAX_RECORDS_PER_SOURCE: Final = 256
MAX_CANDIDATES: Final = 1024
"""Most distinct addresses; further ones of the records that are kept are ignored."""
STALE_S: Final = 300.0

RecordKey = tuple[str, str]
"""(source, key): one record of one source."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What all sources together say about one address."""

    address: Address
    server_id: str | None
    weight: int
    """The largest that is announced."""
    draining: bool
    """Every source that names the address says so."""
    stale: bool
    """Every source that names it has fallen silent."""
    sources: tuple[str, ...]


@dataclass(slots=True)
class _Record:
    sighting: Sighting
    addresses: tuple[Address, ...]
    stale: bool = False


class Registry:
    """The sightings of one service. Order is that of arrival; nothing here depends on hashing."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._records: dict[RecordKey, _Record] = {}
        self._per_source: dict[str, int] = {}
        self._holders: dict[Address, dict[RecordKey, None]] = {}
        self._timers: TimerTable[RecordKey] = TimerTable()
        self.dropped = 0
        """Sightings ignored because a bound was reached."""

    def on_sighting(self, sighting: Sighting, now: Instant) -> tuple[Address, ...]:
        """Take it in; the addresses that it speaks of. Sightings of other services are ignored."""
        key = (sighting.source, sighting.key)
        if sighting.service != self._service:
            return ()
        if sighting.kind is SightingKind.GONE:
            record = self._remove(key)
            return () if record is None else record.addresses
        if key not in self._records and not self._has_room(sighting.source):
            self.dropped += 1
            return ()
        self._remove(key)
        record = _Record(sighting, self._bounded(sighting.addresses))
        self._records[key] = record
        self._per_source[sighting.source] = self._per_source.get(sighting.source, 0) + 1
        for address in record.addresses:
            self._holders.setdefault(address, {})[key] = None
        self._timers.set(key, None if sighting.ttl_s is None else now + sighting.ttl_s)
        return record.addresses

    def addresses(self) -> list[Address]:
        """All that are sighted now, the longest known first."""
        return list(self._holders)

    def hint(self, address: Address) -> Hint | None:
        """What is said about the address; None if nobody names it."""
        keys = self._holders.get(address)
        if not keys:
            return None
        records = [self._records[key] for key in keys]
        ids = [record.sighting.server_id for record in records if record.sighting.server_id]
        return Hint(
            address=address,
            server_id=ids[0] if ids else None,
            weight=max(record.sighting.weight for record in records),
            draining=all(record.sighting.state == "drain" for record in records),
            stale=all(record.stale for record in records),
            sources=tuple(dict.fromkeys(source for source, _ in keys)),
        )

    def addresses_of(self, server_id: str) -> list[Address]:
        """Where that server was sighted, if the hints are right; the longest known first."""
        return [address for address, keys in self._holders.items() if self._names(keys, server_id)]

    def on_timeout(self, now: Instant) -> None:
        """Age records: fresh, stale, gone."""
        for key in self._timers.expired(now):
            record = self._records[key]
            if record.stale:
                self._remove(key)
            else:
                record.stale = True
                self._timers.set(key, now + STALE_S)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        return self._timers.deadline()

    def _names(self, keys: dict[RecordKey, None], server_id: str) -> bool:
        return any(self._records[key].sighting.server_id == server_id for key in keys)

    def _has_room(self, source: str) -> bool:
        return len(self._records) < MAX_RECORDS and self._per_source.get(source, 0) < MAX_RECORDS_PER_SOURCE

    def _bounded(self, addresses: tuple[Address, ...]) -> tuple[Address, ...]:
        kept: dict[Address, None] = {}
        room = MAX_CANDIDATES - len(self._holders)
        for address in addresses[:MAX_ADDRESSES]:
            if address in self._holders:
                kept[address] = None
            elif room > 0 and address not in kept:
                kept[address] = None
                room -= 1
        return tuple(kept)

    def _remove(self, key: RecordKey) -> _Record | None:
        record = self._records.pop(key, None)
        if record is None:
            return None
        self._timers.cancel(key)
        left = self._per_source[key[0]] - 1
        if left:
            self._per_source[key[0]] = left
        else:
            del self._per_source[key[0]]
        for address in record.addresses:
            holders = self._holders[address]
            del holders[key]
            if not holders:
                del self._holders[address]
        return record
