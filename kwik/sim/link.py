"""One direction between the client and one server: rate, delay, jitter, loss, a drop-tail queue, misfortunes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kwik.sim.clock import Clock
from kwik.types import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    """What a link is like while nothing happens to it."""

    rate_bytes_s: float
    delay_s: float
    jitter_s: float = 0.0
    """Each packet is late by up to this much, drawn for itself: packets may overtake each other."""
    queue_bytes: int = 1 << 20
    loss: float = 0.0
    """Share of packets that vanish."""


@dataclass(slots=True, eq=False)
class _Packet:
    """One that was sent while the link was slowed down."""

    leaves_at: Instant
    arrives_at: Instant
    is_moved: bool = False


class Link:
    """Carries packets. Packets that a closed link (`is_hole`) or a full queue swallows are never heard of again."""

    def __init__(self, clock: Clock, plan: LinkPlan, rng: random.Random) -> None:
        self.plan = plan
        self.is_hole = False
        self.rate_bytes_s = plan.rate_bytes_s
        self.sent_bytes = 0
        self._clock = clock
        self._rng = rng
        self._free_at = clock.now
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] | None = None
        self._slow: list[tuple[_Packet, Callable[..., object], tuple[object, ...]]] | None = None
        """What was sent since the link was slowed down; None while it is not."""

    def send(self, size: int, deliver: Callable[..., object], *arguments: object) -> None:
        """Call `deliver(*arguments)` when a packet of `size` bytes that leaves now has arrived, if it does."""
        now = self._clock.now
        self.sent_bytes += size
        start = now if now > self._free_at else self._free_at
        if self.is_hole or (start - now) * self.rate_bytes_s + size > self.plan.queue_bytes:
            return
        self._free_at = start + size / self.rate_bytes_s
        if self.plan.loss and self._rng.random() < self.plan.loss:
            return
        jitter_s = self.plan.jitter_s
        late_s = self._rng.random() * jitter_s if jitter_s else 0.0
        arrives_at = self._free_at + self.plan.delay_s + late_s
        if self._slow is None:
            self._clock.at(arrives_at, self._arrive, deliver, arguments)
            return
        packet = _Packet(self._free_at, arrives_at)
        self._slow.append((packet, deliver, arguments))
        self._clock.at(arrives_at, self._arrive_late, packet, deliver, arguments)

    def slow_down(self, factor: float) -> None:
        """From now on the link is so many times slower."""
        self.rate_bytes_s = self.plan.rate_bytes_s / factor
        if self._slow is None:
            self._slow = []

    def speed_up(self) -> None:
        """The link is as fast as before, for what waits in its queue as well."""
        now, slow = self._clock.now, self._slow or []
        share = self.rate_bytes_s / self.plan.rate_bytes_s
        self.rate_bytes_s, self._slow = self.plan.rate_bytes_s, None
        self._free_at = max(now, now + (self._free_at - now) * share)
        for packet, deliver, arguments in slow:
            if packet.leaves_at > now:
                packet.is_moved = True
                sooner_s = (packet.leaves_at - now) * (1 - share)
                self._clock.at(packet.arrives_at - sooner_s, self._arrive, deliver, arguments)

    def stall(self) -> None:
        """From now on everything that should arrive waits."""
        if self._held is None:
            self._held = []

    def resume(self) -> None:
        """What waited arrives now, in its order, and the link is as before."""
        held, self._held = self._held or [], None
        for deliver, arguments in held:
            self._clock.at(self._clock.now, self._arrive, deliver, arguments)

    def _arrive_late(self, packet: _Packet, deliver: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not packet.is_moved:
            self._arrive(deliver, arguments)

    def _arrive(self, deliver: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self.is_hole:
            return
        if self._held is not None:
            self._held.append((deliver, arguments))
            return
        deliver(*arguments)
