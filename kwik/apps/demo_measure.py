"""What a reader saw, byte by byte in time, and what follows from it. Pure: all instants come from outside."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

from kwik.apps.figures import bit_rate


@dataclass(slots=True)
class ReadLog:
    """One entry for each read that brought bytes. Instants are seconds on one monotonic clock."""

    started_at: float
    """Before the dial."""
    times: list[float] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    """Bytes read so far, after the read of the same index."""

    def add(self, now: float, count: int) -> int:
        """A read brought `count` bytes. Returns how many there are now."""
        total = self.received_bytes + count
        self.times.append(now)
        self.totals.append(total)
        return total

    @property
    def received_bytes(self) -> int:
        """All bytes read."""
        return self.totals[-1] if self.totals else 0

    @property
    def duration_s(self) -> float:
        """From before the dial to the last byte."""
        return self.times[-1] - self.started_at if self.times else 0.0

    @property
    def first_byte_s(self) -> float:
        """From before the dial to the end of the first read."""
        return self.times[0] - self.started_at if self.times else 0.0

    def received_by(self, instant: float) -> int:
        """Bytes read until then."""
        count = bisect_right(self.times, instant)
        return self.totals[count - 1] if count else 0

    def goodput_bps(self, start: float | None = None, stop: float | None = None) -> float:
        """Bits per second that were read in that time; from before the dial, and to the last byte, when left out."""
        start = self.started_at if start is None else start
        stop = (self.times[-1] if self.times else start) if stop is None else stop
        return bit_rate(self.received_by(stop) - self.received_by(start), stop - start)

    def settled_bps(self, skip_bytes: int) -> float:
        """The rate after the first `skip_bytes`: without the start, when QUIC still looks for the link's rate."""
        index = bisect_right(self.totals, skip_bytes)
        if index >= len(self.times):
            return self.goodput_bps()
        return bit_rate(self.received_bytes - self.totals[index], self.times[-1] - self.times[index])

    def longest_pause_s(self, after: float | None = None, before: float | None = None) -> float:
        """The longest time between two reads; only those that end after `after` and begin before `before`."""
        gaps = (
            later - earlier
            for earlier, later in pairwise(self.times)
            if (after is None or later > after) and (before is None or earlier <= before)
        )
        return max(gaps, default=0.0)


def alone_s(sample: ReadLog, size_bytes: int) -> float:
    """How long one server would take for `size_bytes`, from a part that it delivered alone.

    The rate is that of the last two thirds of the part; the time to the first byte is counted once.
    """
    rate_bps = sample.settled_bps(sample.received_bytes // 3)
    return sample.first_byte_s + (size_bytes * 8 / rate_bps if rate_bps > 0 else float("inf"))


def links_bytes(rate_bps: float, spans_s: list[float]) -> float:
    """What links of this rate carry at most, each for its span of time, in bytes of IP packets."""
    return sum(spans_s) * rate_bps / 8
