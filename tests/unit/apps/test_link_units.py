"""What people may write on the command line, and what they are told when they may not."""

from __future__ import annotations

import pytest

from kwik.apps.link_units import format_address, parse_address, parse_duration, parse_queue, parse_rate, parse_share


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20mbit", 20e6),
        ("1.5gbit", 1.5e9),
        ("800 kbit/s", 8e5),
        ("9600bit", 9600),
        ("20Mbit", 20e6),
        ("unlimited", None),
    ],
)
def test_rates(text: str, value: float | None):
    assert parse_rate(text) == value


@pytest.mark.parametrize(("text", "value"), [("20ms", 0.02), ("0.5s", 0.5), ("100us", 1e-4), ("0", 0.0), (".5s", 0.5)])
def test_durations(text: str, value: float):
    assert parse_duration(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("1%", 0.01), ("0.01", 0.01), ("0.1 %", 0.001), ("100%", 1.0), ("0", 0.0)])
def test_shares(text: str, value: float):
    assert parse_share(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("100kb", 100_000), ("64KiB", 65_536), ("1500b", 1500), ("BDP", None)])
def test_queues(text: str, value: int | None):
    assert parse_queue(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("127.0.0.1:4433", ("127.0.0.1", 4433)), ("files.example:80", ("files.example", 80)), ("[::1]:0", ("::1", 0))],
)
def test_addresses_there_and_back(text: str, value: tuple[str, int]):
    assert parse_address(text) == value
    assert format_address(*value) == text


@pytest.mark.parametrize(
    ("parse", "text", "example"),
    [
        (parse_rate, "20", "20mbit"),
        (parse_rate, "20mbps", "20mbit"),
        (parse_rate, "0mbit", "20mbit"),
        (parse_rate, "-1mbit", "20mbit"),
        (parse_duration, "20", "20ms"),
        (parse_duration, "fast", "20ms"),
        (parse_duration, "", "20ms"),
        (parse_share, "101%", "1%"),
        (parse_share, "2", "1%"),
        (parse_share, "1ms", "1%"),
        (parse_queue, "100", "100kb"),
        (parse_queue, "lots", "100kb"),
        (parse_address, "127.0.0.1", "HOST:PORT"),
        (parse_address, ":80", "HOST:PORT"),
        (parse_address, "a:65536", "HOST:PORT"),
        (parse_address, "a:port", "HOST:PORT"),
        (parse_address, "::1:80", "brackets"),
    ],
)
def test_a_refusal_shows_a_right_example(parse, text: str, example: str):
    with pytest.raises(ValueError, match="is not") as caught:
        parse(text)
    assert example in str(caught.value)
