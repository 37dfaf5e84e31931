"""What the data plane asks for, as values; `kwik.core.actions` gathers them with those of the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwik.types import PathId

PortKey = int
"""Names an application's end of a stream within its core; never reused."""


@dataclass(frozen=True, slots=True)
class WakePath:
    """The core has something to say on this path: ask on_room as soon as the path has room."""

    path: PathId


@dataclass(frozen=True, slots=True)
class PortReadable:
    """peek(key) has bytes for the application, or at_end(key) has become true."""

    key: PortKey


@dataclass(frozen=True, slots=True)
class PortWritable:
    """allowance(key) has grown from nothing: reading from the application may go on."""

    key: PortKey


@dataclass(frozen=True, slots=True)
class PortReset:
    """The stream failed: the application must see a reset, never an end of file. Nothing more comes for this key."""

    key: PortKey
    code: int
    text: str
    refused: bool
    """True if the service refused the stream before any application saw it (ConnectionRefusedError)."""


@dataclass(frozen=True, slots=True)
class PortDone:
    """Both directions have ended and everything is settled; the key may be forgotten."""

    key: PortKey


@dataclass(frozen=True, slots=True)
class StreamSent:
    """OPEN of this stream is about to leave on a verified path: dial may return (client only)."""

    key: PortKey


@dataclass(frozen=True, slots=True)
class StreamConfirmed:
    """A server's application has been reached (client only)."""

    key: PortKey


@dataclass(frozen=True, slots=True)
class Flushed:
    """The condition of flush(token) is met (client only)."""

    token: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Reach the application for a new replica, then call accepted() or refused() with this key (server only)."""

    key: PortKey
    service: str
    remote: tuple[str, int] | None
