"""Round-trip time of one path, estimated as QUIC does (RFC 9002 §5): smoothed, variation, minimum, latest."""

INITIAL_RTT_S = 0.333
"""Assumed before the first sample (RFC 9002 §6.2.2)."""

GRANULARITY_S = 0.001
"""Resolution of timers (RFC 9002 §6.1.2)."""


class RttEstimator:
    """Fed with samples, it smooths them with the weights 1/8 and, for the variation, 1/4 (RFC 6298, RFC 9002 §5.3).

    Before the first sample the smoothed value is `initial_s`, the variation half of it, `min_s` and `latest_s` None.
    """

    __slots__ = ("latest_s", "min_s", "smoothed_s", "variance_s")

    def __init__(self, initial_s: float = INITIAL_RTT_S) -> None:
        self.smoothed_s = initial_s
        self.variance_s = initial_s / 2
        self.min_s: float | None = None
        self.latest_s: float | None = None

    @property
    def has_sample(self) -> bool:
        """Whether anything was measured yet."""
        return self.latest_s is not None

    def on_sample(self, rtt_s: float, ack_delay_s: float = 0.0) -> None:
        """Take one measured round trip, of which the other side says it spent `ack_delay_s` waiting.

        The caller bounds the delay by the agreed maximum (RFC 9002 §5.3). Negative values and NaN raise ValueError.
        """
        if not (rtt_s >= 0 and ack_delay_s >= 0):
            raise ValueError(f"round trip {rtt_s} s, delay {ack_delay_s} s: neither can be negative")
        first = self.min_s is None
        self.latest_s = rtt_s
        # The minimum ignores the delay: a delay that is overstated must not push it below the true value.
        self.min_s = rtt_s if self.min_s is None or rtt_s < self.min_s else self.min_s
        if first:
            self.smoothed_s = rtt_s
            self.variance_s = rtt_s / 2
            return
        adjusted = rtt_s - ack_delay_s if rtt_s >= self.min_s + ack_delay_s else rtt_s
        self.variance_s = 0.75 * self.variance_s + 0.25 * abs(self.smoothed_s - adjusted)
        self.smoothed_s = 0.875 * self.smoothed_s + 0.125 * adjusted

    def forget_min(self) -> None:
        """Take the latest sample for the minimum: after persistent congestion or a new route (RFC 9002 §5.2)."""
        self.min_s = self.latest_s

    def pto_s(self, max_ack_delay_s: float = 0.0) -> float:
        """How long to wait for an answer before probing: smoothed + max(4 variations, 1 ms) + delay (RFC 9002 §6.2)."""
        return self.smoothed_s + max(4 * self.variance_s, GRANULARITY_S) + max_ack_delay_s

    def __repr__(self) -> str:
        return f"RttEstimator(smoothed_s={self.smoothed_s:.6f}, variance_s={self.variance_s:.6f}, min_s={self.min_s})"
