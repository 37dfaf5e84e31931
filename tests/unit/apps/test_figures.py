"""Sizes, rates and times as people write and read them."""

import pytest

from kwik.apps.figures import bit_rate, parse_size, rate_text, size_text, time_text


@pytest.mark.parametrize(
    ("text", "size"), [("60MB", 60_000_000), ("64KiB", 65536), ("1.5gb", 1_500_000_000), ("512", 512), ("7b", 7)]
)
def test_parse_size(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0MB", "-1", "bdp", "MB", "5 apples", "\u0665"])
def test_what_is_no_size(text: str):
    with pytest.raises(ValueError, match="60MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (60_000_000, "60.0 MB"), (2.5e9, "2.5 GB")]
)
def test_size_text(count: float, text: str):
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0 bit/s"), (1500, "1.5 kbit/s"), (55.31e6, "55.3 Mbit/s"), (1e9, "1.0 Gbit/s")]
)
def test_rate_text(rate: float, text: str):
    assert rate_text(rate) == text


@pytest.mark.parametrize(("duration", "text"), [(0, "0 ms"), (0.0853, "85 ms"), (12.34, "12.3 s"), (185, "3 min 05 s")])
def test_time_text(duration: float, text: str):
    assert time_text(duration) == text


def test_bit_rate():
    assert bit_rate(1000, 2) == 4000
    assert bit_rate(1000, 0) == 0
