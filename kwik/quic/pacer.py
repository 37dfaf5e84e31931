"""A pacer that releases quanta instead of single packets.

A Python event loop sleeps in milliseconds, and a wake-up costs more than a packet. The stock pacer wakes for each
packet once its bucket is empty; this one then stays shut until a millisecond's worth of credit (or one packet, if
that takes longer) has come together, so that a turn of the loop always sends a batch.
"""

from aioquic.quic.congestion.base import QuicCongestionControl
from aioquic.quic.recovery import QuicPacketPacer

GAIN = 1.25
"""Pacing rate over congestion window per RTT (RFC 9002 §7.7): above 1, so that pacing never limits throughput."""
SLOW_START_GAIN = 2.0
"""The same in slow start, where the window doubles within a round trip and pacing must not hold it back."""
QUANTUM_S = 0.001
"""Shortest sleep of the pacer; also the granularity of epoll in Python."""
LONGEST_QUANTUM_S = 0.0025
"""The same on long paths."""
QUANTUM_SHARE = 16
"""In between, a sleep is this part of the round trip."""
BURST_QUANTA = 2
"""Quanta of credit that may be saved up, so that a late wake-up loses nothing."""
BURST_PACKETS = 10
"""Least credit that may be saved up: the initial window of RFC 9002 §7.2."""
MOST_PACKETS = 128
"""Most credit that may be saved up: building so many packets takes some milliseconds, and the loop must breathe."""
SLOWEST_PACKET_S = 1.0
FASTEST_PACKET_S = 1e-7


def batch_time(round_trip_s: float) -> float:
    """How long packets may be held for the sake of larger batches; 0 where the event loop's granularity is too much."""
    held_s = round_trip_s / QUANTUM_SHARE
    return 0.0 if held_s < QUANTUM_S else min(held_s, LONGEST_QUANTUM_S)


class QuantumPacer(QuicPacketPacer):
    """Token bucket in seconds, refilled by the clock, emptied by `packet_time` per packet.

    Until a round trip was measured nothing is held back. `now` never runs backwards.
    """

    def __init__(self, *, max_datagram_size: int, controller: QuicCongestionControl) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._controller = controller
        self._shut_until: float | None = None
        self._quantum_s = QUANTUM_S

    # The supertype says float and returns None as well.
    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        """None if a packet may go now, otherwise the instant at which the next quantum may."""
        packet_s = self.packet_time
        if packet_s is None:
            return None
        if self._shut_until is not None:
            if now < self._shut_until:
                return self._shut_until
            self._shut_until = None
        self.update_bucket(now=now)
        # A thousandth less than a packet, so that rounding does not cost a whole sleep.
        if self.bucket_time >= 0.999 * packet_s:
            return None
        self._shut_until = now + max(packet_s - self.bucket_time, self._quantum_s)
        return self._shut_until

    def update_after_send(self, now: float) -> None:
        """Account for one packet.

        Acknowledgements are sent without asking and counted all the same: so there is no debt, or a path that mostly
        receives could never send.
        """
        if self.packet_time is not None:
            self.update_bucket(now=now)
            self.bucket_time = max(0.0, self.bucket_time - self.packet_time)

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Follow the congestion controller: gain x window / RTT."""
        threshold = self._controller.ssthresh
        gain = SLOW_START_GAIN if threshold is None or congestion_window < threshold else GAIN
        rate = gain * congestion_window / max(smoothed_rtt, 1e-6)
        packet_s = max(FASTEST_PACKET_S, min(self._max_datagram_size / rate, SLOWEST_PACKET_S))
        if self.packet_time is None:
            self.bucket_time = BURST_PACKETS * packet_s
        self.packet_time = packet_s
        self._quantum_s = max(QUANTUM_S, batch_time(smoothed_rtt))
        saved_s = max(BURST_QUANTA * self._quantum_s, BURST_PACKETS * packet_s)
        self.bucket_max = min(saved_s, MOST_PACKETS * packet_s)
        self.bucket_time = min(self.bucket_time, self.bucket_max)
