"""What this session has itself seen of each address: failures, back-off, who answered, how fast it was.

Kept apart from the registry because it outlives the sightings: a record that flaps must not reset a back-off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from kwik.types import Address, Instance, Instant

FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 30.0
HURRY_EVERY_S: Final = 1.0
"""A fresh sighting ends a back-off at most this often."""
STEADY_S: Final = 10.0
"""A path that lived this long clears the failures of its address; one that dies sooner is a failure itself."""
MAX_REMEMBERED: Final = 2048
MAX_REASON_CHARS: Final = 160


@dataclass(slots=True)
class AddressRecord:
    """One address as this session knows it."""

    failures: int = 0
    """Failed attempts in a row."""
    retry_at: Instant | None = None
    draining_until: Instant | None = None
    hurried_at: Instant | None = None
    hopeless: bool = False
    """It speaks for another service or version: a fresh sighting does not change that."""
    instance: Instance | None = None
    """Who answered here last, by its own word."""
    last_answer: str = ""
    """What the last attempt came to, for people."""
    smoothed_rtt_s: float | None = None
    rate_bytes_s: float | None = None

    def blocked_until(self, now: Instant) -> Instant | None:
        """The instant before which it must not be tried, None if it may be tried now."""
        until = max((when for when in (self.retry_at, self.draining_until) if when is not None), default=None)
        return until if until is not None and until > now else None


class AddressBook:
    """All addresses that were tried, at most MAX_REMEMBERED, the longest unused forgotten first."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._records: dict[Address, AddressRecord] = {}

    def get(self, address: Address) -> AddressRecord | None:
        """What is known, None if it was never tried."""
        return self._records.get(address)

    def on_tried(self, address: Address) -> None:
        """An attempt begins."""
        record = self._touch(address)
        record.last_answer = "no answer yet"

    def on_failed(self, address: Address, reason: str, now: Instant, *, hopeless: bool = False) -> None:
        """An attempt failed, or a path died young: wait 0.5 s, then twice as long each time, up to 30 s, jittered."""
        record = self._touch(address)
        record.failures += 1
        record.hopeless = hopeless
        record.last_answer = reason[:MAX_REASON_CHARS]
        doublings = 6 if hopeless else min(record.failures - 1, 6)  # six lead to the maximum
        longest_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**doublings)
        record.retry_at = now + longest_s * (0.5 + 0.5 * self._rng.random())

    def on_admitted(self, address: Address, instance: Instance) -> None:
        """A path to this address is in use. Failures are cleared only when it has lasted (see on_ended)."""
        record = self._touch(address)
        record.instance = instance
        record.last_answer = f"server {instance.id} answered"
        record.hopeless = False

    def on_answered(self, address: Address, instance: Instance, what: str) -> None:
        """It answered but the path is not wanted."""
        record = self._touch(address)
        record.instance = instance
        record.failures = 0
        record.retry_at = None
        record.last_answer = what[:MAX_REASON_CHARS]

    def on_ended(self, address: Address, reason: str, lived_s: float, now: Instant) -> None:
        """A path that was in use is gone. After a long life the address may be tried again at once, but ranked last."""
        record = self._touch(address)
        record.draining_until = None  # whoever drained has left; what comes next here does not
        if lived_s < STEADY_S:
            self.on_failed(address, reason, now)
            return
        record.failures = 1
        record.retry_at = None
        record.last_answer = reason[:MAX_REASON_CHARS]

    def on_draining(self, address: Address, until: Instant) -> None:
        """Its server leaves: no new paths before `until`."""
        self._touch(address).draining_until = until

    def on_measured(self, address: Address, smoothed_rtt_s: float | None, congestion_window: int) -> None:
        """How the path does. The rate is what the congestion window allows in a round trip: a guess, but measured."""
        if smoothed_rtt_s is not None and smoothed_rtt_s > 0:
            record = self._touch(address)
            record.smoothed_rtt_s = smoothed_rtt_s
            record.rate_bytes_s = congestion_window / smoothed_rtt_s

    def on_fresh_sighting(self, address: Address, now: Instant) -> None:
        """Somebody has just seen it: end its back-off, at most once in HURRY_EVERY_S."""
        record = self._records.get(address)
        if record is None or record.retry_at is None or record.hopeless:
            return
        if record.hurried_at is None or now - record.hurried_at >= HURRY_EVERY_S:
            record.hurried_at = now
            record.retry_at = None

    def _touch(self, address: Address) -> AddressRecord:
        record = self._records.pop(address, None) or AddressRecord()
        if len(self._records) >= MAX_REMEMBERED:
            del self._records[next(iter(self._records))]
        self._records[address] = record  # at the end: the order is that of use
        return record
