"""The seam between a core and an application's socket, the same on both sides (SPEC §11).

A port is one application's end of a stream: on the client the socket that dial returned, on the server the socket of
the service's application. The bridge (engine) and the simulator's applications drive it; both cores implement it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kwik.kdp.actions import PortKey

if TYPE_CHECKING:
    from kwik.kdp.facts import PathFacts
    from kwik.types import Instant, PathId

__all__ = ["BytePort", "FactsView", "PathPort", "PortKey"]


class BytePort(Protocol):
    """What the bridge may call. Nothing here blocks; unknown keys are ignored or answer 'nothing'."""

    def allowance(self, key: PortKey) -> int:
        """How many bytes may be read from the application now (0: stop reading until PortWritable)."""

    def on_app_bytes(self, key: PortKey, data: bytes, now: Instant) -> None:
        """Bytes that the application wrote; at most allowance(key) of them."""

    def on_app_eof(self, key: PortKey, now: Instant) -> None:
        """The application ended its direction (half-close); repeats are harmless."""

    def on_app_closed(self, key: PortKey, now: Instant, *, aborted: bool) -> None:
        """The application closed its socket altogether; ``aborted`` if by a reset or with unread data."""

    def peek(self, key: PortKey) -> memoryview | None:
        """The next bytes for the application, as one contiguous piece, or None. Valid until the next input."""

    def consume(self, key: PortKey, size: int, now: Instant) -> None:
        """The first ``size`` bytes of what peek() showed were handed to the application's socket."""

    def at_end(self, key: PortKey) -> bool:
        """True when everything was consumed and the end of file may be shown now."""


class PathPort(Protocol):
    """What whoever owns the paths calls on a core."""

    def on_path_data(self, path: PathId, pipe: int, data: bytes, now: Instant) -> None:
        """Bytes of one of the other side's pipes, in order within the pipe."""

    def on_path_down(self, path: PathId, reason: str, now: Instant) -> None:
        """The path ended; nothing more comes on it."""

    def on_pong(self, path: PathId, ping: int, now: Instant) -> None:
        """The acknowledgement of PingPath."""

    def on_room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        """Up to about ``size`` bytes to put on pipes now, as (pipe, bytes); an empty list: nothing to say."""

    def wants_room(self, path: PathId) -> bool:
        """True while on_room would give something."""

    def on_timeout(self, now: Instant) -> None:
        """The deadline has passed; early or repeated calls are harmless."""

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""

    def actions(self) -> list[object]:
        """What is to be done; a second call is empty."""


class FactsView(Protocol):
    """How a core looks at the facts of a path; None if the path is not known (any more)."""

    def __call__(self, path: PathId, now: Instant) -> PathFacts | None: ...
