"""What the control plane asks for, as values. The engine performs the path actions; the core reads the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwik.types import Address, Instance, PathId
    from kwik.wire.messages import ServerHello


@dataclass(frozen=True, slots=True)
class OpenPath:
    """Start a QUIC handshake with ``address``; the outcome is told by on_path_writable or on_path_down."""

    path: PathId
    address: Address


@dataclass(frozen=True, slots=True)
class ClosePath:
    """Close the path with an application error code (SPEC §8); on_path_down still follows."""

    path: PathId
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class PingPath:
    """Send a QUIC PING; its acknowledgement is told by on_pong with the same ``ping``."""

    path: PathId
    ping: int


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Put a KCP message on the path's control pipe, before everything else."""

    path: PathId
    message: object


@dataclass(frozen=True, slots=True)
class PathAdmitted:
    """The path's server hello was read and, for a known instance, both proofs were verified (SPEC §4.2)."""

    path: PathId
    instance: Instance
    hello: ServerHello
    joined: bool


@dataclass(frozen=True, slots=True)
class PathGone:
    """The path is no more; ``instance_dead`` says that its server instance is known to be gone for good."""

    path: PathId
    instance: Instance | None
    reason: str
    instance_dead: bool


@dataclass(frozen=True, slots=True)
class InstanceDraining:
    """The server takes no new streams; its anchors are to be handed over within ``deadline_s``."""

    instance: Instance
    deadline_s: float


@dataclass(frozen=True, slots=True)
class NoCandidates:
    """No path is up, none is being tried and nothing is left to try now (cold dials wait for sightings or fail)."""

    detail: str


ControlAction = (
    OpenPath | ClosePath | PingPath | SendMessage | PathAdmitted | PathGone | InstanceDraining | NoCandidates
)
