"""The demo as it goes: on a terminal one line per server that renews itself, elsewhere a line every two seconds."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from typing import Final, TextIO

from kwik.apps.figures import bit_rate, rate_text, size_text

PLAIN_EVERY_S: Final = 2.0
RENEW_EVERY_S: Final = 0.2
BAR: Final = 24


@dataclass(frozen=True, slots=True)
class ServerRow:
    """One server now."""

    server: str
    role: str
    delivered_bytes: int


class Screen:
    """Shows rows and messages on a stream; nothing at all if there is none. May be used from two threads."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._renew = stream is not None and stream.isatty()
        self._lock = threading.Lock()
        self._drawn = 0
        self._before: dict[str, int] = {}
        self._before_at: float | None = None
        self._told_at: float | None = None

    def say(self, text: str) -> None:
        """A message that stays."""
        with self._lock:
            if self._stream is not None:
                self._erase()
                print(text, file=self._stream, flush=True)

    def show(self, rows: list[ServerRow], received_bytes: int, size_bytes: int, now: float) -> None:
        """The servers now, if it is time; `now` in seconds of a monotonic clock."""
        with self._lock:
            if self._stream is None:
                return
            if self._told_at is None:
                self._told_at = now
                self._rates(rows, now)  # what later ones are measured against
            if now - self._told_at < (RENEW_EVERY_S if self._renew else PLAIN_EVERY_S):
                return
            self._told_at = now
            rates = self._rates(rows, now)
            if self._renew:
                self._draw(rows, rates, received_bytes, size_bytes)
            else:
                parts = ", ".join(f"{row.server} {rate_text(rates[row.server])}" for row in rows)
                text = f"  {received_bytes / size_bytes:4.0%}  {rate_text(sum(rates.values()))}  [{parts}]"
                print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the lines away that renew themselves."""
        with self._lock:
            if self._stream is not None:
                self._erase()
                self._stream.flush()

    def _rates(self, rows: list[ServerRow], now: float) -> dict[str, float]:
        passed_s = now - self._before_at if self._before_at is not None else 0.0
        rates = {row.server: bit_rate(row.delivered_bytes - self._before.get(row.server, 0), passed_s) for row in rows}
        self._before = {row.server: row.delivered_bytes for row in rows}
        self._before_at = now
        return rates

    def _draw(self, rows: list[ServerRow], rates: dict[str, float], received_bytes: int, size_bytes: int) -> None:
        self._erase()
        columns = max(shutil.get_terminal_size().columns - 1, 20)
        lines = [_row_text(row, rates[row.server], size_bytes) for row in rows]
        total = f"{size_text(received_bytes):>9}  {received_bytes / size_bytes:4.0%}  {rate_text(sum(rates.values()))}"
        lines.append(f"  {'all':<10} {'':<8} {_bar(received_bytes, size_bytes)} {total}")
        assert self._stream is not None
        self._stream.write("".join(f"{line[:columns]}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)

    def _erase(self) -> None:
        if self._drawn and self._stream is not None:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[J")
        self._drawn = 0


def _row_text(row: ServerRow, rate_bps: float, size_bytes: int) -> str:
    share = f"{size_text(row.delivered_bytes):>9}  {row.delivered_bytes / size_bytes:4.0%}  {rate_text(rate_bps)}"
    return f"  {row.server:<10} {row.role:<8} {_bar(row.delivered_bytes, size_bytes)} {share}"


def _bar(part: int, whole: int) -> str:
    filled = min(BAR, part * BAR // max(whole, 1))
    return "#" * filled + "." * (BAR - filled)
