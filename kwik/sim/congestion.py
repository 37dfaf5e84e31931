"""A congestion window as QUIC has it: slow start, then one packet a round trip; halved at most once a round trip."""

from __future__ import annotations

import math

from kwik.types import Instant

INITIAL_PACKETS = 10
MINIMUM_PACKETS = 2


class Congestion:
    """NewReno of RFC 9002 §7, without pacing."""

    def __init__(self, packet_bytes: int) -> None:
        self.window_bytes: float = INITIAL_PACKETS * packet_bytes
        self._packet_bytes = packet_bytes
        self._threshold_bytes = math.inf
        self._recovery_from: Instant = -math.inf

    def on_acknowledged(self, size: int, sent_at: Instant, *, is_window_used: bool) -> None:
        """A packet of `size` bytes arrived; a window that nobody fills does not grow (RFC 9002 §7.8)."""
        if sent_at <= self._recovery_from or not is_window_used:
            return
        if self.window_bytes < self._threshold_bytes:
            self.window_bytes += size
        else:
            self.window_bytes += self._packet_bytes * size / self.window_bytes

    def on_lost(self, sent_at: Instant, now: Instant) -> None:
        """A packet sent at `sent_at` is lost."""
        if sent_at <= self._recovery_from:
            return
        self._recovery_from = now
        self.window_bytes = max(self.window_bytes / 2, MINIMUM_PACKETS * self._packet_bytes)
        self._threshold_bytes = self.window_bytes
