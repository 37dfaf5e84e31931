"""Pairs of sockets made ahead, while nobody waits: making one takes the kernel longer than all that is done with it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from kwik.engine.local import UnixEnd, make_pair


class Face(Protocol):
    """What a socket for an application is made into."""

    def fileno(self) -> int:
        """Its descriptor."""

    def close(self) -> None:
        """Give it up."""


FaceType = TypeVar("FaceType", bound=Face)


class Shelf(Generic[FaceType]):
    """At most one pair waits here. `take` from any thread, the rest on the engine's."""

    def __init__(self, make: Callable[[socket.socket], FaceType]) -> None:
        self._make = make
        self._pairs: list[tuple[UnixEnd, FaceType]] = []
        self._is_closed = False

    def take(self) -> tuple[UnixEnd, FaceType]:
        """The engine's end, and the application's."""
        with contextlib.suppress(IndexError):  # two threads may come at once
            return self._pairs.pop()
        return self._new()

    def refill(self) -> None:
        """Nobody waits now."""
        if not self._pairs and not self._is_closed:
            with contextlib.suppress(OSError):  # no descriptors are left: whoever comes next will hear of it
                self._pairs.append(self._new())

    def descriptors(self) -> list[int]:
        """What a forked child has to give up."""
        return [number for end, face in self._pairs for number in (end.sock.fileno(), face.fileno())]

    def close(self) -> None:
        """The engine ends."""
        self._is_closed = True
        while self._pairs:
            end, face = self._pairs.pop()
            face.close()
            end.sock.close()

    def _new(self) -> tuple[UnixEnd, FaceType]:
        end, application = make_pair()
        return end, self._make(application)
