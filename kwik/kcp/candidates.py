"""Where a session could connect: what discovery says joined with what the session has seen, put to the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.kcp.addresses import AddressBook, AddressRecord
from kwik.kcp.registry import Registry
from kwik.kcp.selection import CandidateView, Choice, SelectionPolicy
from kwik.kcp.sighting import SightingKind

if TYPE_CHECKING:
    from random import Random

    from kwik.kcp.sighting import Sighting
    from kwik.types import Address, Instance, Instant

MAX_NAMED: Final = 8
"""Addresses that an error text names one by one."""
MAX_HOMES: Final = 8
"""Addresses at which a lost instance is looked for."""
_NEVER_TRIED: Final = AddressRecord()


@dataclass(frozen=True, slots=True)
class Connected:
    """What is connected now; sets, for membership only."""

    addresses: frozenset[Address]
    served: frozenset[Instance]
    """Instances with a path that works."""
    server_ids: frozenset[str]
    """Ids of all servers with an open path, by hint where nothing better is known."""


class Candidates:
    """All candidate addresses of one service."""

    def __init__(self, service: str, policy: SelectionPolicy, rng: Random) -> None:
        self._service = service
        self._policy = policy
        self._rng = rng
        self.registry = Registry(service)
        self.book = AddressBook(rng)

    def on_sighting(self, sighting: Sighting, now: Instant) -> tuple[Address, ...]:
        """Take it in; the addresses that it speaks of."""
        addresses = self.registry.on_sighting(sighting, now)
        if sighting.kind is SightingKind.FOUND:
            for address in addresses:
                self.book.on_fresh_sighting(address, now)
        return addresses

    def are_all_in(self, connected: Connected) -> bool:
        """Whether every sighted address is connected, so that there is nothing to rank and no retry to wait for."""
        return connected.addresses.issuperset(self.registry.addresses())

    def rank(self, connected: Connected, now: Instant) -> list[Choice]:
        """What may be tried now, best first."""
        return self._policy.rank(self._views(connected, now), self._rng)

    def next_retry(self, connected: Connected, now: Instant) -> Instant | None:
        """When the first of those that must wait may be tried."""
        waits = [
            view.blocked_until
            for view in self._views(connected, now)
            if view.blocked_until is not None and not (view.connected or view.draining or view.instance_connected)
        ]
        return min(waits, default=None)

    def has_others(self, connected: Connected) -> bool:
        """Whether there is a candidate that could be tried, if not now then after its back-off."""
        return any(
            not (hint.draining or address in connected.addresses or self._is_served(address, connected))
            for address in self.registry.addresses()
            if (hint := self.registry.hint(address)) is not None
        )

    def homes(self, instance: Instance, home: Address) -> list[Address]:
        """Where to look for an instance: where it was last, where it answered, where its id was sighted."""
        sighted = self.registry.addresses()
        answered = [at for at in sighted if (seen := self.book.get(at)) is not None and seen.instance == instance]
        return list(dict.fromkeys([home, *answered, *self.registry.addresses_of(instance.id)]))[:MAX_HOMES]

    def describe(self) -> str:
        """Who was tried and what each answered, in one line."""
        addresses = self.registry.addresses()
        if not addresses:
            return f"no address of {self._service} is known"
        named = "; ".join(f"{address}: {self._answer(address)}" for address in addresses[:MAX_NAMED])
        rest = f"; and {len(addresses) - MAX_NAMED} more" if len(addresses) > MAX_NAMED else ""
        return f"no server of {self._service} can be reached: {named}{rest}"

    def _is_served(self, address: Address, connected: Connected) -> bool:
        seen = self.book.get(address)
        return seen is not None and seen.instance in connected.served

    def _answer(self, address: Address) -> str:
        record = self.book.get(address)
        if record is not None and record.last_answer:
            return record.last_answer
        hint = self.registry.hint(address)
        return "it is said to be leaving" if hint is not None and hint.draining else "not tried"

    def _views(self, connected: Connected, now: Instant) -> list[CandidateView]:
        return [self._view(address, connected, now) for address in self.registry.addresses()]

    def _view(self, address: Address, connected: Connected, now: Instant) -> CandidateView:
        hint = self.registry.hint(address)
        assert hint is not None, "an address of the registry has a holder"
        seen = self.book.get(address) or _NEVER_TRIED
        return CandidateView(
            address,
            server_id=hint.server_id,
            weight=hint.weight,
            draining=hint.draining,
            stale=hint.stale,
            connected=address in connected.addresses,
            instance=seen.instance,
            instance_connected=self._is_served(address, connected),
            server_connected=hint.server_id in connected.server_ids,
            failures=seen.failures,
            blocked_until=seen.blocked_until(now),
            smoothed_rtt_s=seen.smoothed_rtt_s,
            rate_bytes_s=seen.rate_bytes_s,
        )
