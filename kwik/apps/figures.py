"""Sizes, rates and times as people write and read them. Decimal units, as networks have them. Pure."""

from __future__ import annotations

from kwik.apps.link_units import parse_queue

_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_RATES = (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3))


def parse_size(text: str) -> int:
    """`60MB`, `64KiB`, `1.5gb` or a bare number of bytes, at least 1. Raises ValueError that shows what is right."""
    try:
        size = int(text) if text.isdecimal() and text.isascii() else parse_queue(text)
    except ValueError:
        size = None
    if not size:
        raise ValueError(f"{text!r} is not a size; write 60MB, 64KiB or a number of bytes")
    return size


def size_text(count: float) -> str:
    """`60.0 MB`, `512 B`."""
    for unit, size in _SIZES:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def rate_text(bits_per_second: float) -> str:
    """`55.3 Mbit/s`."""
    for unit, size in _RATES:
        if bits_per_second >= size:
            return f"{bits_per_second / size:.1f} {unit}"
    return f"{bits_per_second:.0f} bit/s"


def bit_rate(count_bytes: float, duration_s: float) -> float:
    """Bits per second; 0 for no time at all."""
    return count_bytes * 8 / duration_s if duration_s > 0 else 0.0


def time_text(duration_s: float) -> str:
    """`12.3 s`, `85 ms`, `3 min 05 s`."""
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    if duration_s < 100:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return f"{minutes} min {rest:02d} s"
