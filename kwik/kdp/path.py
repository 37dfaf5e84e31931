"""Client: what the data plane knows of a path: rate, what it owes, whether it is silent (SPEC §6.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from kwik.base.rate import DeliveryRate
from kwik.kdp.facts import PathFacts
from kwik.kdp.outbox import Outbox
from kwik.types import Instance, Instant, PathId

MIN_SILENCE_S = 0.030
"""A path is silent max(this, smoothed RTT) after its first answer was due [reader's pause: 80 ms; PTO-like 130 ms]."""
DEFAULT_RTT_S = 0.1
"""Taken for a path whose RTT is not measured yet."""
PIPE_FACTOR = 1.5
"""Outstanding bytes as a multiple of rate x RTT [1.0: 93 % of the sum; 1.5: 99 %; 5: 96 % and twice the memory]."""
SLACK_S = 0.020
"""Added to the RTT: timers and queues of both ends."""
START_BYTES = 65536
"""Least outstanding while a path is starting up."""
START_FACTOR = 3
"""While starting up: this many times what came in the last round trip, so that slow start is never starved."""
FLAT_ROUNDS = 2
"""Start-up ends after this many round trips without growth."""
REST_S = 0.1
REST_RTTS = 2.0
"""A path that for max(100 ms, 2 RTT) neither brings data nor owes any that was produced waits for its application."""
SHARE_WINDOW_BYTES = 1 << 20
LEAST_SHARE = 0.25
"""A path that has carried little downstream so far could carry more."""
GROWTH = 1.25
"""Growth of a round that counts as growth (BBR's start-up exit, draft-ietf-ccwg-bbr §5.3.1.2)."""


@dataclass(slots=True)
class StartUp:
    """Whether a path still grows; its rounds are one smoothed RTT long."""

    is_over: bool = False
    best_round_bytes: int = 0
    last_round_bytes: int = 0
    round_bytes: int = 0
    round_end: Instant | None = None
    flat_rounds: int = 0

    def on_bytes(self, size: int, rtt_s: float, now: Instant) -> None:
        """Data arrived on a busy path."""
        if self.is_over:
            return
        if self.round_end is None:
            self.round_end = now + rtt_s
        self.round_bytes += size
        if now < self.round_end:
            return
        grown = self.round_bytes > GROWTH * self.best_round_bytes
        self.flat_rounds = 0 if grown else self.flat_rounds + 1
        self.best_round_bytes = max(self.best_round_bytes, self.round_bytes)
        self.last_round_bytes, self.round_bytes, self.round_end = self.round_bytes, 0, now + rtt_s
        self.is_over = self.flat_rounds >= FLAT_ROUNDS


@dataclass(slots=True)
class PayloadShare:
    """How much of what a path carries is downstream: the rest is heads, announcements and other control frames."""

    payload_bytes: float = 0.0
    packet_bytes: float = 0.0

    def on_packets(self, size: int) -> None:
        """Packets of so many bytes came; what is long past counts less and less."""
        self.packet_bytes += size
        if self.packet_bytes > SHARE_WINDOW_BYTES:
            self.packet_bytes /= 2
            self.payload_bytes /= 2

    @property
    def ratio(self) -> float:
        """Above 0, at most 1."""
        if not self.packet_bytes or not self.payload_bytes:
            return 1.0
        ratio = self.payload_bytes / self.packet_bytes
        return 1.0 if ratio > 1.0 else LEAST_SHARE if ratio < LEAST_SHARE else ratio


@dataclass(slots=True, eq=False)
class ClientPath:
    """One path as the data plane sees it. `instance` is None until the hello was read."""

    id: PathId
    address: str = ""
    instance: Instance | None = None
    upstream_before_hello: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    rate: DeliveryRate = field(default_factory=DeliveryRate)
    start_up: StartUp = field(default_factory=StartUp)
    outstanding_bytes: int = 0
    received_bytes: int = 0
    last_data_at: Instant | None = None
    is_silent: bool = False
    silent_due: Instant | None = None
    """When it becomes silent if nothing comes, as judged last; packets only move it later."""
    owed_due: Instant | None = None
    """When the first produced bytes that it owes are due, as judged last; None if it owes none that are produced."""
    stirred_at: Instant | None = None
    """The last order or data."""
    is_draining: bool = False
    in_use: bool = True
    facts: PathFacts | None = None
    rtt_s: float = DEFAULT_RTT_S
    """Smoothed RTT, or a guess; this and the next go with the facts, and are asked for many times in a turn."""
    min_rtt_s: float = DEFAULT_RTT_S
    """Smallest RTT seen, or a guess: what the path would need without any queue."""
    share: PayloadShare = field(default_factory=PayloadShare)

    @property
    def is_proven(self) -> bool:
        """Whether data ever came on it."""
        return self.received_bytes > 0

    def on_ordered(self, size: int, now: Instant) -> None:
        """An order for this many bytes was issued on the path."""
        self.rate.set_round(self.rtt_s)
        self.rate.on_busy(now)
        self.stirred_at = now
        self.outstanding_bytes += size

    def on_data(self, size: int, now: Instant) -> None:
        """Bytes arrived; release tells what of them was owed."""
        self._follow_pauses(now)
        if self.outstanding_bytes:
            self.rate.on_busy(now, since=self.stirred_at)  # after a pause nobody knows when they were produced
        self.stirred_at = now
        self.received_bytes += size
        self.last_data_at = now
        self.share.payload_bytes += size
        if self.facts is None or self.facts.received_bytes is None:
            self.rate.on_delivered(size, now)
        self.start_up.on_bytes(size, self.rtt_s, now)

    def on_facts(self, facts: PathFacts | None, now: Instant) -> None:
        """Fresh measurements. The rate is taken from packets: in order, bytes come in bursts behind each loss."""
        self._follow_pauses(now)
        before = self.facts
        if facts is before:
            return
        self.facts = facts
        smoothed_s, min_s = (None, None) if facts is None else (facts.smoothed_rtt_s, facts.min_rtt_s)
        self.rtt_s = DEFAULT_RTT_S if smoothed_s is None else smoothed_s
        self.min_rtt_s = self.rtt_s if min_s is None else min_s
        if before is None or facts is None or before.received_bytes is None or facts.received_bytes is None:
            return
        size = facts.received_bytes - before.received_bytes
        if size > 0:
            self.share.on_packets(size)
            self.rate.on_delivered(size, now)

    def _follow_pauses(self, now: Instant) -> None:
        """The rate's clock stands while nothing is owed that was produced: an application that pauses is no slow path.

        Orders name bytes long before they exist, and pings bring a few bytes: both look like a path that crawls.
        """
        if self.owed_due is not None and self.outstanding_bytes:
            self.rate.on_busy(now)
        elif self.stirred_at is not None and now - self.stirred_at > max(REST_S, REST_RTTS * self.rtt_s):
            self.rate.on_idle(self.stirred_at)

    def rate_bytes_s(self, now: Instant) -> float | None:
        """Delivery rate of the downstream's bytes; None before the first sample."""
        rate = self.rate.rate_bytes_s(now)
        return None if rate is None else rate * self.share.ratio

    def release(self, size: int, now: Instant) -> None:
        """Bytes are no longer outstanding: they came, or were revoked."""
        left = self.outstanding_bytes - size
        self.outstanding_bytes = left if left > 0 else 0
        if left <= 0:
            self.rate.on_idle(now)

    def target_bytes(self, rate_bytes_s: float, block_bytes: int) -> int:
        """How much should be outstanding so that the pipe never runs dry (DESIGN §6, fill every pipe)."""
        # The least RTT: the smoothed one holds our own queue, and would feed it.
        steady = int(PIPE_FACTOR * rate_bytes_s * (self.min_rtt_s + SLACK_S)) + block_bytes
        start_up = self.start_up
        if start_up.is_over:
            return max(steady, 2 * block_bytes)
        grown = START_FACTOR * max(start_up.last_round_bytes, start_up.round_bytes)
        return max(min(START_BYTES, 4 * block_bytes), grown, 2 * block_bytes)

    def silent_at(self, first_order_due: Instant | None) -> Instant | None:
        """When the path becomes silent if no packet comes before; None if it owes nothing."""
        facts, rtt_s = self.facts, self.rtt_s
        due = first_order_due
        if facts is not None and facts.oldest_unacked_at is not None:
            answer = facts.oldest_unacked_at + rtt_s + 4 * facts.rtt_variance_s + facts.max_ack_delay_s
            due = answer if due is None or answer < due else due
        if due is None:
            return None
        if facts is not None and facts.last_packet_at is not None:
            due = max(due, facts.last_packet_at)
        return due + (rtt_s if rtt_s > MIN_SILENCE_S else MIN_SILENCE_S)
