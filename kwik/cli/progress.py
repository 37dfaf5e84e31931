"""The line that shows how a download goes: on a terminal one that renews itself, elsewhere one every two seconds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Final, TextIO

from kwik.apps.download import Progress, bytes_by_server
from kwik.apps.figures import bit_rate, rate_text, size_text, time_text

PLAIN_EVERY_S: Final = 2.0
SMOOTHING: Final = 0.3
"""Weight of the newest rate in the one that is shown."""


class ProgressLine:
    """Shows progress on `stream`; call `clear` at the end. `width` of the terminal: that of now by default."""

    def __init__(self, stream: TextIO, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._renew = stream.isatty()
        self._monotonic = monotonic
        self._told_at = self._last_at = monotonic()
        self._last_bytes = 0
        self._last_shares: dict[str, int] = {}
        self._rate_bps = 0.0
        self._share_rates: dict[str, float] = {}

    def show(self, progress: Progress) -> None:
        """Show it, if it is time."""
        now = self._monotonic()
        self._measure(progress, now)
        if self._renew:
            columns = max(shutil.get_terminal_size().columns - 1, 20)
            self._stream.write(f"\r\x1b[K{self._text(progress)[:columns]}")
        elif now - self._told_at >= PLAIN_EVERY_S:
            self._told_at = now
            self._stream.write(f"{self._text(progress)}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        if self._renew:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _measure(self, progress: Progress, now: float) -> None:
        passed_s, self._last_at = now - self._last_at, now
        fresh = bit_rate(progress.received_bytes - self._last_bytes, passed_s)
        self._rate_bps = _smooth(self._rate_bps, fresh)
        self._last_bytes = progress.received_bytes
        for name, count in bytes_by_server(progress.shares).items():
            fresh = bit_rate(count - self._last_shares.get(name, 0), passed_s)
            self._share_rates[name] = _smooth(self._share_rates.get(name, 0.0), fresh)
            self._last_shares[name] = count

    def _text(self, progress: Progress) -> str:
        parts = [size_text(progress.received_bytes)]
        if progress.total_bytes:
            left_bytes = progress.total_bytes - progress.received_bytes
            parts = [f"{progress.received_bytes / progress.total_bytes:4.0%}", f"of {size_text(progress.total_bytes)}"]
            parts.append(rate_text(self._rate_bps))
            if self._rate_bps > 0:
                parts.append(f"{time_text(left_bytes * 8 / self._rate_bps)} left")
        else:
            parts.append(rate_text(self._rate_bps))
        servers = [f"{name} {rate_text(rate)}" for name, rate in sorted(self._share_rates.items())]
        return "  ".join([*parts, f"[{', '.join(servers)}]" if servers else ""]).rstrip()


def _smooth(old: float, fresh: float) -> float:
    return fresh if old == 0 else old + SMOOTHING * (fresh - old)
