"""The paths of one core: its numbers on one side, QUIC's objects on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.errors import error_code_name
from kwik.kdp.facts import PathFacts
from kwik.quic.ends import EndKind, PathEnd
from kwik.types import Instant, PathId

if TYPE_CHECKING:
    from kwik.quic.adapter import QuicPath


class PathTable:
    """Event loop's thread only. Its `facts` is the core's FactsView."""

    def __init__(self) -> None:
        self._paths: dict[PathId, QuicPath] = {}
        self._numbers: dict[QuicPath, PathId] = {}
        self._last = 0

    def add(self, number: PathId, path: QuicPath) -> None:
        """A path that the core has numbered."""
        self._paths[number] = path
        self._numbers[path] = number

    def add_numbered(self, path: QuicPath) -> PathId:
        """A path that came in; its number was never used here before."""
        self._last += 1
        number = PathId(self._last)
        self.add(number, path)
        return number

    def remove(self, path: QuicPath) -> PathId | None:
        """The path is over; returns what its number was."""
        number = self._numbers.pop(path, None)
        if number is not None:
            del self._paths[number]
        return number

    def find(self, number: PathId) -> QuicPath | None:
        """The path of that number, None when it is over."""
        return self._paths.get(number)

    def number_of(self, path: QuicPath) -> PathId | None:
        """The number of that path, None when it is over."""
        return self._numbers.get(path)

    def all(self) -> list[QuicPath]:
        """Every path that is not over."""
        return list(self._numbers)

    def facts(self, path: PathId, now: Instant) -> PathFacts | None:
        """See FactsView."""
        found = self._paths.get(path)
        return None if found is None else found.facts(now)


def describe_end(end: PathEnd) -> str:
    """Why a path ended, in words for whoever dialled."""
    if end.kind is EndKind.CLOSED_BY_OTHER:
        name = "without a reason" if end.code is None else error_code_name(end.code)
        return f"the server closed the path ({name}{': ' + end.detail if end.detail else ''})"
    if end.kind is EndKind.REFUSED_TLS:
        return f"its certificate was not accepted ({end.detail}): check cafile and the names in the certificate"
    return end.detail or end.kind.value
