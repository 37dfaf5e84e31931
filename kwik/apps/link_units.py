"""What people write for rates, times, shares, sizes and addresses on the command line, and what it means.

Every parser raises ValueError with a message that shows a right example. Pure.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z%/]*)")
_RATES = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_rate(text: str) -> float | None:
    """`20mbit`, `1.5gbit`, `800kbit/s` in bits per second; `unlimited` is None."""
    if text.lower() == "unlimited":
        return None
    number, unit = _split(text, "a rate", "20mbit, 800kbit or unlimited")
    unit = unit.removesuffix("/s")
    if unit not in _RATES or number <= 0:
        raise ValueError(f"{text!r} is not a rate; write 20mbit, 800kbit or unlimited")
    return number * _RATES[unit]


def parse_duration(text: str) -> float:
    """`20ms`, `0.5s`, `100us` in seconds; a bare 0 needs no unit."""
    number, unit = _split(text, "a time", "20ms or 0.5s")
    if number == 0 and not unit:
        return 0.0
    if unit not in _SECONDS:
        raise ValueError(f"{text!r} is not a time; write 20ms or 0.5s")
    return number * _SECONDS[unit]


def parse_share(text: str) -> float:
    """`1%`, or the same as a fraction, `0.01`: a probability from 0 to 1."""
    number, unit = _split(text, "a share", "1% or 0.01")
    share = number / 100 if unit == "%" else number
    if unit not in ("", "%") or share > 1:
        raise ValueError(f"{text!r} is not a share; write 1% or 0.01")
    return share


def parse_queue(text: str) -> int | None:
    """`100kb`, `64KiB`, `1500b` in bytes; `bdp` (rate x 2 x delay) is None."""
    if text.lower() == "bdp":
        return None
    number, unit = _split(text, "a queue size", "100kb, 64KiB or bdp")
    if unit not in _SIZES:
        raise ValueError(f"{text!r} is not a queue size; write 100kb, 64KiB or bdp")
    return round(number * _SIZES[unit])


def parse_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:4433`, `files.example:80`, `[::1]:4433`: host without brackets, and port 0 to 65535."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not an address; an IPv6 host stands in brackets, as in [::1]:4433")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; write HOST:PORT, as in 127.0.0.1:4433")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """The inverse of `parse_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {what}; write {example}")
    return float(match[1]), match[2].lower()
