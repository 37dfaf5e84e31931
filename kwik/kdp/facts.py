"""What the cores may know about the transport below a path: plain measurements, taken at one moment.

The outside world fills one `PathFacts` per path on request (QUIC in production, simulated pipes in tests);
the data plane judges silence, rates and arrival times by it. Nothing in here changes after it was made.
"""

from typing import NamedTuple


class PathFacts(NamedTuple):
    """Measurements of one path at the instant they were asked for.

    Instants are float seconds on the monotonic clock that the caller passes around as `now`; durations end in
    `_s`, sizes in `_bytes` or say so below. None means "not measured yet" or "nothing of the kind", never zero.
    A tuple, for one is made for each path in each turn, and a frozen dataclass of this size takes three times as long.
    """

    last_packet_at: float | None
    """When the last authenticated packet was received on this path."""
    oldest_unacked_at: float | None
    """When the oldest packet was sent that asks for an acknowledgement and has none (application data only)."""
    smoothed_rtt_s: float | None
    """Smoothed round-trip time (RFC 9002 §5.3)."""
    rtt_variance_s: float
    """Mean deviation of the round-trip time; 0.0 before the first sample."""
    min_rtt_s: float | None
    """Smallest round-trip time seen."""
    latest_rtt_s: float | None
    """Newest sample of the round-trip time."""
    max_ack_delay_s: float
    """Longest time for which the other side says that it may hold back an acknowledgement."""
    unsent_bytes: int
    """Bytes handed to the transport that no packet carries yet, over all pipes."""
    congestion_window: int
    """Bytes that may be in flight."""
    bytes_in_flight: int
    """Bytes sent and neither acknowledged nor declared lost."""
    lost_packets: int
    """Packets declared lost since the path began."""
    received_bytes: int | None = None
    """Content of all authenticated packets received since the path began, in whatever order they came."""
