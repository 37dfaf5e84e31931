"""Every knob: defaults that work, and values out of range refused with a text that names the knob."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from kwik.config import KIB, Config, ServerConfig
from kwik.errors import ConfigError

SERVER = {"service": "files.example:80", "server_id": "a"}


def test_the_defaults_are_right():
    config = Config()
    assert config.block_bytes == 16 * KIB
    assert ServerConfig(service="files.example:80", server_id="a").replicated is False


def test_configuration_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Config().replicas = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_bytes", 0),
        ("block_bytes", -16),
        ("block_bytes", 16 * KIB + 1),
        ("block_bytes", 128 * KIB),
        ("receive_window_bytes", 32 * KIB - 1),
        ("memory_bytes", 32 * KIB - 1),
        ("first_window_bytes", 0),
        ("replay_limit_bytes", -1),
        ("min_paths", 0),
        ("min_paths", 9),
        ("max_paths", 65),
        ("replicas", 0),
        ("replicas", 9),
        ("race_stagger_s", -0.1),
        ("host_delay_s", -0.1),
        ("discovery_time_s", -0.1),
        ("dial_time_s", -0.1),
        ("recovery_time_s", -0.1),
        ("keepalive_s", 0.0),
        ("idle_timeout_s", 0.0),
        ("session_idle_s", 0.0),
    ],
)
def test_a_client_value_out_of_range_is_named(name: str, value: float):
    with pytest.raises(ConfigError, match=name):
        Config(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_bytes", 16),
        ("block_bytes", 64 * KIB),
        ("receive_window_bytes", 32 * KIB),
        ("memory_bytes", 32 * KIB),
        ("replay_limit_bytes", 0),
        ("max_paths", 64),
        ("replicas", 8),
        ("recovery_time_s", 0.0),
    ],
)
def test_a_client_value_at_its_border_is_taken(name: str, value: float):
    assert getattr(Config(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("server_id", "", "server_id"),
        ("server_id", "é" * 33, "server_id"),
        ("upstream_credit_bytes", 0, "upstream_credit_bytes"),
        ("upstream_window_bytes", 64 * KIB - 1, "upstream_window_bytes"),
        ("send_window_bytes", 0, "send_window_bytes"),
        ("memory_bytes", 0, "limits"),
        ("max_replicas", 0, "limits"),
        ("max_sessions", 0, "limits"),
        ("linger_s", -1.0, "linger_s"),
        ("drain_s", -1.0, "drain_s"),
    ],
)
def test_a_server_value_out_of_range_is_named(name: str, value: object, says: str):
    with pytest.raises(ConfigError, match=says):
        ServerConfig(**{**SERVER, name: value})  # type: ignore[arg-type]
