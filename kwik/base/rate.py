"""Delivery rate of one path: a windowed maximum of samples, as BBR estimates the bottleneck's bandwidth.

Source: draft-ietf-ccwg-bbr (BBR.max_bw: maximum over some round trips, limited samples count only if they raise it)
and draft-cheng-iccrg-delivery-rate-estimation. Two differences, because the receiver measures here. It sees arrivals,
so a sample runs from one arrival to another. And the window's clock stops while nothing is owed: an idle path is not
slow, its estimate only grows stale.
"""

from collections import deque

from kwik.types import Instant

MIN_INTERVAL_S = 0.010
"""Shortest sample: packets that arrive in one burst say nothing about the rate."""

WINDOW_ROUNDS = 10
"""Length of the window in round trips (BBR version 1; version 3 keeps two of its probing cycles)."""

MIN_WINDOW_S = 1.0
"""Shortest window: on a short path ten round trips are less than one hiccup."""

STALE_AFTER_S = 2.0
"""How long an idle path's estimate is trusted."""


class DeliveryRate:
    """Tell it when the path starts to owe bytes, when bytes arrive, and when nothing is owed any more.

    While busy, arrivals are cut into samples of at least max(`min_interval_s`, round trip): the bytes after the
    sample's first arrival up to its last, over the time between. `round_s` may change at any time (`set_round`).
    A busy spell too short for that counts from the moment the path became busy; as this includes the time to the
    first byte, it is a lower bound and taken only if it raises the estimate.
    Times must not run backwards. Memory: at most one number per `min_interval_s` of the window.
    """

    __slots__ = (
        "_bytes", "_idle_since", "_idle_total_s", "_interval_start", "_is_aged", "_last", "_maxima", "_min_interval_s",
        "_min_window_s", "_round_s", "_spell_bytes", "_spell_start", "_stale_after_s",
    )  # fmt: skip

    def __init__(
        self,
        round_s: float = 0.0,
        *,
        min_interval_s: float = MIN_INTERVAL_S,
        min_window_s: float = MIN_WINDOW_S,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        if min_interval_s <= 0 or min_window_s < min_interval_s:
            raise ValueError(f"need 0 < min_interval_s <= min_window_s, not {min_interval_s} and {min_window_s}")
        self._min_interval_s = min_interval_s
        self._min_window_s = min_window_s
        self._stale_after_s = stale_after_s
        self.set_round(round_s)
        # Falling rates with rising times: the first is the maximum, each later one is the next when it leaves.
        self._maxima: deque[tuple[float, float]] = deque()
        self._is_aged = False
        self._idle_since: Instant | None = None
        self._idle_total_s = 0.0
        self._spell_start: Instant | None = None
        self._spell_bytes = 0
        self._interval_start: Instant | None = None
        self._last: Instant | None = None
        self._bytes = 0

    def set_round(self, round_s: float) -> None:
        """The path's present round trip: the length of a sample, and a tenth of the window."""
        if not round_s >= 0:
            raise ValueError(f"round trip of {round_s} s: give a length of time")
        self._round_s = round_s

    def on_busy(self, now: Instant, *, since: Instant | None = None) -> None:
        """The path owes bytes from now on; `since`: it began at some time after that. No effect if it did already."""
        if self._spell_start is not None:
            return
        if self._idle_since is not None:
            idle_s = now - self._idle_since
            self._is_aged |= idle_s > self._stale_after_s
            self._idle_total_s += idle_s
        self._idle_since = None
        self._spell_start, self._spell_bytes = now if since is None else since, 0
        self._interval_start, self._last, self._bytes = None, None, 0

    def on_delivered(self, n_bytes: int, now: Instant) -> None:
        """Bytes arrived. Ignored while the path owes nothing."""
        if self._spell_start is None or n_bytes <= 0:
            return
        self._spell_bytes += n_bytes
        last, self._last = self._last, now
        if self._interval_start is None or last is None or now <= self._interval_start:
            # What arrives first was on its way before the sample began: it starts the clock and is not counted.
            self._interval_start = now
            return
        if now > last and last - self._interval_start >= max(self._min_interval_s, self._round_s):
            # Not before all that arrived at one instant is counted: a packet may bring parts of several blocks.
            self._close_interval(self._interval_start, last)
        self._bytes += n_bytes

    def on_gap(self, gap_s: float) -> None:
        """Nobody could have taken bytes for so long: the clock stood still, and the sample that spans it is dropped."""
        self._interval_start, self._last, self._bytes = None, None, 0
        if self._spell_start is not None:
            self._spell_start += gap_s
            self._idle_total_s += gap_s

    def on_idle(self, now: Instant) -> None:
        """The path owes nothing any more. Without effect if it did not owe anything."""
        if self._spell_start is None:
            return
        if self._last is not None:
            self._close_spell(self._spell_start, self._last)
        self._spell_start = None
        self._idle_since = now

    def rate_bytes_s(self, now: Instant) -> float | None:
        """The estimate in bytes per second, above 0; None before the first sample.

        When every sample has left the window (the path owes bytes and none arrive) the newest remains.
        """
        self._expire(self._busy_clock(now))
        return self._maxima[0][1] if self._maxima else None

    def is_stale(self, now: Instant) -> bool:
        """Whether the estimate needs another look: never measured, or idle for more than 2 s and not measured since."""
        if not self._maxima or self._is_aged:
            return True
        return self._idle_since is not None and now - self._idle_since > self._stale_after_s

    def _close_interval(self, start: Instant, now: Instant) -> None:
        self._record(self._bytes / (now - start), now, is_limited=False)
        self._interval_start, self._bytes = now, 0

    def _close_spell(self, start: Instant, last: Instant) -> None:
        if self._interval_start is not None and last - self._interval_start >= self._min_interval_s:
            self._close_interval(self._interval_start, last)
        elif last - start >= self._min_interval_s:
            self._record(self._spell_bytes / (last - start), last, is_limited=True)

    def _record(self, rate: float, now: Instant, *, is_limited: bool) -> None:
        clock = self._busy_clock(now)
        self._expire(clock)
        if is_limited and self._maxima and rate <= self._maxima[0][1]:
            return
        if self._is_aged:
            self._maxima.clear()
            self._is_aged = False
        while self._maxima and self._maxima[-1][1] <= rate:
            self._maxima.pop()
        self._maxima.append((clock, rate))

    def _expire(self, clock: float) -> None:
        maxima = self._maxima
        if len(maxima) > 1:
            window_s = max(self._min_window_s, WINDOW_ROUNDS * self._round_s)
            while len(maxima) > 1 and clock - maxima[0][0] > window_s:
                maxima.popleft()

    def _busy_clock(self, now: Instant) -> float:
        return (now if self._idle_since is None else self._idle_since) - self._idle_total_s
