"""Limits that cannot work are refused; ends of paths read well and stay short."""

import pytest

from kwik.errors import ConfigError
from kwik.quic import PathEnd, QuicLimits
from kwik.quic.adapter import EndKind


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_data_pipes", 0),
        ("max_data_pipes", 17),
        ("window_bytes", 1000),
        ("idle_timeout_s", 0),
        ("handshake_timeout_s", -1),
        ("ahead_s", -0.1),
        ("datagram_bytes", 1199),
        ("datagram_bytes", 17_000),
        ("max_half_open", 0),
        ("max_paths", 0),
        ("congestion", "bbr"),
    ],
)
def test_impossible_limits_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        QuicLimits(**{name: value})


def test_ends_are_printable():
    assert str(PathEnd(EndKind.IDLE, None, "")) == "idle"
    assert str(PathEnd(EndKind.ERROR, 5, "a\nb\x1b[0m")) == "error 5: a?b?[0m"
    assert len(PathEnd(EndKind.ERROR, 5, "x" * 5000).detail) == 200
