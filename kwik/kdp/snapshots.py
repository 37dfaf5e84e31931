"""Frozen pictures of paths, streams and replicas for applications and tools."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PathSnapshot:
    """One path of a client's session."""

    path: int
    address: str
    server_id: str
    state: str
    """connecting, active, degraded, failing or closed."""
    smoothed_rtt_s: float | None
    rate_bytes_s: float | None
    outstanding_bytes: int
    received_bytes: int
    """Downstream payload that arrived on this path, useful or not."""
    silent: bool
    reason: str
    """Why the state last changed."""


@dataclass(frozen=True, slots=True)
class ShareSnapshot:
    """What one server contributed to a stream."""

    server_id: str
    address: str
    role: str
    delivered_bytes: int
    first_block_at: float | None
    last_block_at: float | None
    state: str


@dataclass(frozen=True, slots=True)
class StreamStats:
    """One stream of a client."""

    stream: int
    state: str
    anchor: str
    """Id of the server whose replica the stream is now."""
    epoch: int
    delivered_bytes: int
    produced_bytes: int
    written_bytes: int
    duplicate_bytes: int
    rejected_blocks: int
    """Whole blocks that arrived and differed from the anchor's digest."""
    regrants: int
    takeovers: int
    recruitable: bool
    shares: tuple[ShareSnapshot, ...]


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """One replica on a server."""

    replica: int
    session: str
    state: str
    produced_bytes: int
    floor: int
    upstream_taken_bytes: int
    paths: tuple[int, ...]
