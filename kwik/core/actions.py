"""Everything a core asks of whoever drives it, as values; one place in the engine performs them."""

from __future__ import annotations

from dataclasses import dataclass

from kwik.kcp.actions import ClosePath, OpenPath, PingPath
from kwik.kdp.actions import (
    Accept,
    Flushed,
    PortDone,
    PortReadable,
    PortReset,
    PortWritable,
    StreamConfirmed,
    StreamSent,
    WakePath,
)

__all__ = [
    "Accept",
    "Action",
    "ClosePath",
    "Drained",
    "Flushed",
    "OpenPath",
    "PingPath",
    "PortDone",
    "PortReadable",
    "PortReset",
    "PortWritable",
    "SessionIdle",
    "StreamConfirmed",
    "StreamSent",
    "WakePath",
]


@dataclass(frozen=True, slots=True)
class SessionIdle:
    """No stream has been open for Config.session_idle_s: the session and its paths may go (client only)."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The server has finished draining (server only)."""


Action = (
    OpenPath
    | ClosePath
    | PingPath
    | WakePath
    | PortReadable
    | PortWritable
    | PortReset
    | PortDone
    | StreamSent
    | StreamConfirmed
    | Flushed
    | Accept
    | SessionIdle
    | Drained
)
