"""The body of every answer: pseudo-random bytes that repeat at a period which is no multiple of a block."""

from __future__ import annotations

import random
from collections.abc import Iterator

PERIOD_BYTES = 1_000_003
PIECE_BYTES = 65536
_PATTERN = random.Random(7).randbytes(PERIOD_BYTES) * 2


def pieces(size: int) -> Iterator[memoryview]:
    """The body of that size, in pieces."""
    view, offset = memoryview(_PATTERN), 0
    while offset < size:
        begin = offset % PERIOD_BYTES
        piece = view[begin : begin + min(PIECE_BYTES, size - offset)]
        yield piece
        offset += len(piece)


def is_right(data: bytes | memoryview, offset: int) -> bool:
    """Whether these bytes (at most one period) stand at that offset of the body."""
    begin = offset % PERIOD_BYTES
    return _PATTERN[begin : begin + len(data)] == bytes(data)  # as bytes, which compares much faster than views
