"""Client: bytes that have arrived and are not delivered, block by block, each copy from one replica (SPEC §6.1)."""

from __future__ import annotations

from collections.abc import Callable

from kwik.base.ranges import RangeSet
from kwik.types import Offset

MAX_COPIES = 2
"""Copies of one block held at a time (SPEC §7)."""


class Copy:
    """One replica's copy of one block, complete or not. `digest` is the client's own, once it was computed."""

    __slots__ = ("_ahead", "data", "digest", "filled", "source")

    def __init__(self, source: int) -> None:
        self.source = source
        self.data = bytearray()
        self.filled = 0
        self.digest: bytes | None = None
        self._ahead: RangeSet | None = None

    def add(self, start: int, payload: bytes | memoryview) -> None:
        """Bytes at `start` within the block; what is already there stays as it is."""
        end = start + len(payload)
        if self.digest is not None or end <= self.filled:
            # A judged copy must not change behind the judge's back.
            return
        if start < self.filled:
            payload = payload[self.filled - start :]
            start = self.filled
        if start > len(self.data):
            self.data.extend(bytes(start - len(self.data)))
        self.data[start:end] = payload
        if start == self.filled:
            self.filled = end
            self._join_ahead()
        else:
            self._ahead = self._ahead or RangeSet()
            self._ahead.add(start, end)

    def _join_ahead(self) -> None:
        if self._ahead is not None:
            self.filled = self._ahead.first_gap(self.filled)
            self._ahead.subtract(0, self.filled)
            if not self._ahead:
                self._ahead = None


class Reassembler:
    """Blocks by index, at most two copies each."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self._blocks: dict[int, list[Copy]] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of all copies, gaps included."""
        return sum(len(copy.data) for copies in self._blocks.values() for copy in copies)

    def copies(self, block: int) -> list[Copy]:
        """The copies of a block."""
        return self._blocks.get(block, [])

    def blocks(self) -> list[int]:
        """Blocks of which anything is held, ascending."""
        return sorted(self._blocks)

    def add(
        self, source: int, offset: Offset, payload: bytes | memoryview, may_evict: Callable[[int, Copy], bool]
    ) -> list[Copy]:
        """Take bytes of one replica; returns the copies that they went to (none if two better ones are held).

        `may_evict(block, copy)` says whether a copy may make room for a new one.
        """
        touched = []
        position = 0
        while position < len(payload):
            block, start = divmod(offset + position, self.block_bytes)
            size = min(self.block_bytes - start, len(payload) - position)
            copy = self._copy_for(source, block, may_evict)
            if copy is not None:
                copy.add(start, payload[position : position + size])
                touched.append(copy)
            position += size
        return touched

    def drop_below(self, block: int) -> None:
        """Everything below this block is delivered."""
        for index in [index for index in self._blocks if index < block]:
            del self._blocks[index]

    def drop_copy(self, block: int, source: int) -> None:
        """A copy was found to be wrong, or is of no use."""
        left = [copy for copy in self._blocks.get(block, []) if copy.source != source]
        if left:
            self._blocks[block] = left
        else:
            self._blocks.pop(block, None)

    def drop_source(self, source: int) -> None:
        """Nothing of this replica is wanted any more."""
        for block in list(self._blocks):
            self.drop_copy(block, source)

    def _copy_for(self, source: int, block: int, may_evict: Callable[[int, Copy], bool]) -> Copy | None:
        copies = self._blocks.setdefault(block, [])
        for copy in copies:
            if copy.source == source:
                return copy
        if len(copies) >= MAX_COPIES:
            victim = next((copy for copy in copies if may_evict(block, copy)), None)
            if victim is None:
                return None
            copies.remove(victim)
        copies.append(Copy(source))
        return copies[-1]
