"""Every knob, frozen and validated, by lifetime: Config for a client, ServerConfig for a server.

Pure: reading the environment or a file is `kwik.settings`' work. Every quantity has its unit in its name, and the
text under a field says what it costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kwik.errors import ConfigError

KIB: Final = 1024
MIB: Final = 1024 * 1024
MIN_STREAM_EXTRA_BYTES: Final = 16 * KIB
"""Each open stream is guaranteed one block plus this much (SPEC §6.6)."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ConfigError(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a client may choose. Raises ConfigError when a value is out of range."""

    block_bytes: int = 16 * KIB
    """Block size of new streams: a power of two, 16 to 64 KiB. Smaller blocks verify sooner and cost more frames."""
    receive_window_bytes: int = 4 * MIB
    """Most downstream bytes a stream may have authorised and not yet delivered. At least 2 x sum of rates x RTT."""
    first_window_bytes: int = 1 * MIB
    """Part of the window granted inside OPEN, before anything is known of the path."""
    memory_bytes: int = 64 * MIB
    """Budget of the session for undelivered downstream bytes, shared by all its streams (SPEC §6.6)."""
    replay_limit_bytes: int = 1 * MIB
    """Upstream kept from byte 0 so that a new replica can be recruited; also what a writer may run ahead."""
    recruit_backlog_bytes: int = 256 * KIB
    """A replicated stream with this much produced and not yet received asks for more replicas."""
    replicas: int = 1
    """Replicas opened from the start: hot standbys for long-lived streams."""
    max_replicas: int = 8
    """Most replicas of one stream at a time."""
    min_paths: int = 1
    """Paths kept while the session has streams."""
    max_paths: int = 8
    """Most paths of the session."""
    race_stagger_s: float = 0.25
    """Delay between connection attempts of the opening race (RFC 8305 §5)."""
    host_delay_s: float = 0.25
    """How long the dialled host:port itself waits for providers before it becomes a candidate."""
    discovery_time_s: float = 3.0
    """How long providers have before a dial without any candidate fails."""
    dial_time_s: float = 30.0
    """How long a dial without its own time-out may take."""
    recovery_time_s: float = 60.0
    """How long a stream without any replica waits for its anchor to come back before it is reset."""
    keepalive_s: float = 1.0
    """Interval of the pings of an otherwise idle path in use."""
    idle_timeout_s: float = 30.0
    """QUIC idle time-out of a path."""
    session_idle_s: float = 10.0
    """How long a session without streams keeps its paths for the next dial."""
    scheduler: str = "earliest"
    """Name of the scheduler plug-in."""

    def __post_init__(self) -> None:
        power_of_two = self.block_bytes > 0 and self.block_bytes & (self.block_bytes - 1) == 0
        _require(power_of_two and self.block_bytes <= 64 * KIB, "block_bytes must be a power of two up to 65536")
        smallest = self.block_bytes + min(MIN_STREAM_EXTRA_BYTES, self.block_bytes)
        _require(self.receive_window_bytes >= smallest, f"receive_window_bytes must be at least {smallest}")
        _require(self.memory_bytes >= smallest, f"memory_bytes must be at least {smallest}")
        _require(self.first_window_bytes > 0, "first_window_bytes must be positive")
        _require(self.replay_limit_bytes >= 0, "replay_limit_bytes must not be negative")
        _require(1 <= self.min_paths <= self.max_paths <= 64, "need 1 <= min_paths <= max_paths <= 64")
        _require(1 <= self.replicas <= self.max_replicas, "need 1 <= replicas <= max_replicas")
        for name in ("race_stagger_s", "host_delay_s", "discovery_time_s", "dial_time_s", "recovery_time_s"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")
        for name in ("keepalive_s", "idle_timeout_s", "session_idle_s"):
            _require(getattr(self, name) > 0, f"{name} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What a server may choose. Raises ConfigError when a value is out of range."""

    service: str
    """The service that this server serves, host:port."""
    server_id: str
    """Stable name of this server, 1 to 64 bytes."""
    replicated: bool = False
    """True if the service's streams may run on more than one server; replay then repeats requests there."""
    send_window_bytes: int = 4 * MIB
    """Most output a replica holds above its floor."""
    upstream_credit_bytes: int = 64 * KIB
    """Upstream a client may send per replica before the first UPSTREAM_STATE."""
    upstream_window_bytes: int = 1 * MIB
    """Most upstream held per replica and not yet taken by the application."""
    memory_bytes: int = 512 * MIB
    """Budget of the process for output and upstream of all replicas."""
    max_replicas: int = 4096
    """Most replicas at a time, lingering ones included."""
    max_sessions: int = 1024
    """Most sessions at a time."""
    linger_s: float = 120.0
    """How long a replica whose paths are gone waits for its client."""
    drain_s: float = 30.0
    """How long a graceful stop lets streams finish."""
    min_block_bytes: int = 16 * KIB
    """Smallest block size accepted in OPEN; tests and simulations use smaller ones."""

    def __post_init__(self) -> None:
        _require(1 <= len(self.server_id.encode()) <= 64, "server_id must have 1 to 64 bytes")
        _require(self.upstream_credit_bytes > 0, "upstream_credit_bytes must be positive")
        _require(self.upstream_window_bytes >= self.upstream_credit_bytes, "upstream_window_bytes is below the credit")
        _require(self.send_window_bytes > 0, "send_window_bytes must be positive")
        _require(self.memory_bytes > 0 and self.max_replicas > 0 and self.max_sessions > 0, "limits must be positive")
        _require(self.linger_s >= 0 and self.drain_s >= 0, "linger_s and drain_s must not be negative")
