"""What a QUIC endpoint allows and how it behaves: one frozen value, shared by all paths of an endpoint."""

from dataclasses import dataclass

from kwik.errors import ConfigError

SMALLEST_DATAGRAM_BYTES = 1200
LARGEST_DATAGRAM_BYTES = 16_400
"""Above this aioquic's two-byte length fields overflow and a transfer stalls without an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicLimits:
    """Limits of one endpoint. Raises ConfigError when a value cannot work."""

    max_data_pipes: int = 4
    """Data pipes that each side may open on a path, beside its control pipe."""
    window_bytes: int = 16 * 1024 * 1024
    """Receive credit of a path and of each of its pipes. Also the most that a hostile sender can make us hold."""
    idle_timeout_s: float = 30.0
    """A path on which nothing arrives for so long is over (the smaller value of both sides counts)."""
    handshake_timeout_s: float = 10.0
    """A path whose handshake takes longer is over."""
    ahead_s: float = 0.010
    """How far the unsent bytes of a path may run ahead of what its congestion window lets go at once."""
    datagram_bytes: int = SMALLEST_DATAGRAM_BYTES
    """UDP payload of what this side sends. Every path carries 1200; nothing larger is probed for."""
    max_half_open: int = 256
    """Server: paths whose handshake is not complete. Newcomers beyond are refused without keeping state."""
    max_paths: int = 4096
    """Server: paths altogether. Newcomers beyond are refused without keeping state."""
    congestion: str = "cubic"
    """Congestion controller: "cubic" or "reno"."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_data_pipes <= 16:
            raise ConfigError(f"max_data_pipes must be 1 to 16, not {self.max_data_pipes}")
        if self.window_bytes < 65_536:
            raise ConfigError(f"window_bytes must be at least 65536, not {self.window_bytes}")
        if self.idle_timeout_s <= 0 or self.handshake_timeout_s <= 0 or self.ahead_s < 0:
            raise ConfigError("idle_timeout_s and handshake_timeout_s must be positive, ahead_s not negative")
        if not SMALLEST_DATAGRAM_BYTES <= self.datagram_bytes <= LARGEST_DATAGRAM_BYTES:
            raise ConfigError(
                f"datagram_bytes must be {SMALLEST_DATAGRAM_BYTES} to {LARGEST_DATAGRAM_BYTES}, "
                f"not {self.datagram_bytes}"
            )
        if self.max_half_open < 1 or self.max_paths < 1:
            raise ConfigError("max_half_open and max_paths must be at least 1")
        if self.congestion not in ("cubic", "reno"):
            raise ConfigError(f'congestion must be "cubic" or "reno", not {self.congestion!r}')
