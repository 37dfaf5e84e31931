"""Server applications: deterministic programs, whose output is a function of their upstream and of nothing else.

A Twist makes one server's program answer differently: that is a divergent replica, an application that dies early
with a clean end, or one that aborts. `reference` computes what an application must have seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol
from zlib import crc32

FLIP: Final = 0x5A
"""A twisted byte is the honest one XOR this: never equal to it."""

ProgramKind = Literal["answer", "echo"]
TwistKind = Literal["one-byte", "one-block", "from", "shorter", "longer", "abort"]


@lru_cache(maxsize=16)
def content(seed: int, size: int) -> bytes:
    """Bytes without any pattern, the same for the same seed; every server of a scenario asks for the same."""
    return random.Random(seed).randbytes(size)


class Program(Protocol):
    """An application without time: what goes in, what comes out."""

    aborted: bool
    """True when it ended by a reset."""

    @property
    def ended(self) -> bool:
        """True when `available` is all that will ever come."""

    def feed(self, data: bytes) -> None:
        """The next bytes of the upstream."""

    def feed_eof(self) -> None:
        """The end of the upstream."""

    @property
    def available(self) -> int:
        """Bytes of output that `take` can give."""

    def take(self, limit: int) -> bytes:
        """The next bytes of the output, at most `limit`."""


class Echo:
    """Sends back what it reads, and ends when that ends."""

    def __init__(self) -> None:
        self.ended = False
        self.aborted = False
        self._out = bytearray()

    def feed(self, data: bytes) -> None:
        self._out += data

    def feed_eof(self) -> None:
        self.ended = True

    @property
    def available(self) -> int:
        return len(self._out)

    def take(self, limit: int) -> bytes:
        data = bytes(self._out[:limit])
        del self._out[:limit]
        return data


class Answers:
    """Greets, then answers each line `GET <size> ...` with content that depends on all lines so far; `BYE` ends it.

    With `greeting_bytes` the server speaks first. The end of the upstream ends it as well, when all is answered.
    """

    def __init__(self, greeting_bytes: int) -> None:
        self.ended = False
        self.aborted = False
        self._out = [memoryview(content(greeting_bytes, greeting_bytes))] if greeting_bytes else []
        self._available = greeting_bytes
        self._line = bytearray()
        self._sum = 0

    def feed(self, data: bytes) -> None:
        self._line += data
        while not self.ended and (at := self._line.find(b"\n")) >= 0:
            line = bytes(self._line[:at])
            del self._line[: at + 1]
            self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        self._sum = crc32(line, self._sum)
        words = line.split()
        if len(words) >= 2 and words[0] == b"GET" and words[1].isdigit():
            body = content(self._sum, int(words[1]))
            self._out.append(memoryview(body))
            self._available += len(body)
        else:
            self.ended = True

    def feed_eof(self) -> None:
        self.ended = True

    @property
    def available(self) -> int:
        return self._available

    def take(self, limit: int) -> bytes:
        taken: list[memoryview] = []
        while limit and self._out:
            piece = self._out[0]
            if len(piece) > limit:
                taken.append(piece[:limit])
                self._out[0] = piece[limit:]
                limit = 0
            else:
                taken.append(piece)
                limit -= len(piece)
                del self._out[0]
        data = b"".join(taken)
        self._available -= len(data)
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Twist:
    """How one server's output differs, from byte `at` on; `size` is how long (one-block) or how much more (longer)."""

    kind: TwistKind
    at: int = 0
    size: int = 1


class Twisted:
    """A program whose output is bent."""

    def __init__(self, program: Program, twist: Twist) -> None:
        self.aborted = False
        self._program = program
        self._twist = twist
        self._position = 0
        self._extra = twist.size if twist.kind == "longer" else 0

    @property
    def _cut(self) -> int | None:
        """Bytes left before a twist ends the output; None if it never does."""
        return self._twist.at - self._position if self._twist.kind in ("shorter", "abort") else None

    @property
    def ended(self) -> bool:
        if self._cut == 0:
            self.aborted = self._twist.kind == "abort"
            return True
        return self._program.ended

    def feed(self, data: bytes) -> None:
        self._program.feed(data)

    def feed_eof(self) -> None:
        self._program.feed_eof()

    @property
    def available(self) -> int:
        available = self._program.available
        if self._extra and self._program.ended:
            available += self._extra
        return available if self._cut is None else min(available, self._cut)

    def take(self, limit: int) -> bytes:
        limit = min(limit, self.available)
        data = self._program.take(limit)
        if len(data) < limit and self._extra:
            more = min(limit - len(data), self._extra)
            self._extra -= more
            data += b"+" * more
        start, self._position = self._position, self._position + len(data)
        return self._bend(start, data)

    def _bend(self, start: int, data: bytes) -> bytes:
        twist = self._twist
        if twist.kind not in ("one-byte", "one-block", "from"):
            return data
        stop = {"one-byte": twist.at + 1, "one-block": twist.at + twist.size, "from": 1 << 62}[twist.kind]
        low, high = max(twist.at - start, 0), min(stop - start, len(data))
        if low >= high:
            return data
        return data[:low] + bytes(byte ^ FLIP for byte in data[low:high]) + data[high:]


def make_program(kind: ProgramKind, greeting_bytes: int, twist: Twist | None) -> Program:
    """A fresh instance of an application."""
    program: Program = Echo() if kind == "echo" else Answers(greeting_bytes)
    return program if twist is None else Twisted(program, twist)


@dataclass(frozen=True, slots=True)
class Output:
    """What a program says to an upstream."""

    data: bytes
    ended: bool
    aborted: bool


def reference(kind: ProgramKind, greeting_bytes: int, twist: Twist | None, upstream: bytes, *, eof: bool) -> Output:
    """The output that belongs to exactly this upstream."""
    program = make_program(kind, greeting_bytes, twist)
    program.feed(upstream)
    if eof:
        program.feed_eof()
    data = program.take(1 << 62)
    return Output(data, program.ended and not program.available, program.aborted)
