"""Server: the window of produced downstream of one replica, with digests and chain values (SPEC §5.5, §5.7, §5.8).

Keeps bytes, digests and chain values from the floor on and nothing below; what is produced below the floor is hashed
and dropped. Blocks are the unit of storage, so that the floor frees whole pieces.
"""

from __future__ import annotations

from bisect import insort

from kwik.kdp.digest import Algorithm, Pair, RunningHash
from kwik.types import Offset


class Producer:
    """Fed with the application's output; serves ranges of it, digests, and pairs at offsets."""

    def __init__(
        self, block_bytes: int, algorithm: Algorithm | None, *, floor: Offset, credit: Offset, cap_bytes: int
    ) -> None:
        self.block_bytes = block_bytes
        self.floor = floor
        self.credit = credit
        self.cap_bytes = cap_bytes
        self.produced = 0
        self.final: Offset | None = None
        self._algorithm = algorithm
        self._running = RunningHash(algorithm, block_bytes) if algorithm else None
        self._blocks: dict[int, bytearray] = {}
        self._digests: dict[int, bytes] = {}
        self._chains: dict[int, bytes] = {}
        self._to_watch: list[Offset] = []
        self._watched: dict[Offset, Pair] = {}

    @property
    def is_hashed(self) -> bool:
        """Whether digests exist at all."""
        return self._running is not None

    @property
    def held_bytes(self) -> int:
        """Output kept in memory."""
        return max(0, self.produced - self.floor)

    def allowance(self) -> int:
        """Bytes that may be read from the application now (SPEC §5.5)."""
        if self.final is not None:
            return 0
        return max(0, min(self.credit, self.floor + self.cap_bytes) - self.produced)

    def set_floor(self, floor: Offset) -> bool:
        """Raise the floor (monotone) and free what lies below; True if it moved."""
        if floor <= self.floor:
            return False
        first, last = self.floor // self.block_bytes, floor // self.block_bytes
        self.floor = floor
        top = self.produced // self.block_bytes + 1
        for block in range(first, min(last, top)):
            for table in (self._blocks, self._digests, self._chains):
                table.pop(block, None)
        return True

    def append(self, data: bytes) -> None:
        """Output of the application, in order."""
        view = memoryview(data)
        while view:
            size = self._next_cut(len(view))
            self._append_piece(view[:size])
            view = view[size:]

    def finish(self) -> None:
        """The application ended its output here."""
        self.final = self.produced
        if self._running is not None:
            rest = self._running.digest_of_rest()
            if rest is not None and self.produced > self.floor:
                self._digests[self.produced // self.block_bytes] = rest

    def read(self, offset: Offset, size: int) -> bytes:
        """Up to `size` bytes from `offset` (floor <= offset < produced), never across a block's end."""
        block, start = divmod(offset, self.block_bytes)
        data = self._blocks.get(block)
        return b"" if data is None else bytes(memoryview(data)[start : start + size])

    def digest(self, block: int) -> bytes | None:
        """Digest of a whole block, or of the last one once the end is known; None if not known (any more)."""
        return self._digests.get(block)

    def watch(self, offset: Offset) -> None:
        """Remember the pair at this offset when the output passes it, whatever the floor is then."""
        if offset > self.produced and offset not in self._to_watch:
            insort(self._to_watch, offset)

    def unwatch(self, offset: Offset) -> None:
        """Forget it again."""
        self._watched.pop(offset, None)

    def pair_at(self, offset: Offset) -> Pair | None:
        """The pair at an offset that the output has reached; None if it has not, or if it is forgotten."""
        if self._running is None or offset > self.produced:
            return None
        if offset == self.produced:
            return self._running.pair
        kept = self._watched.get(offset)
        if kept is not None:
            return kept
        return self._computed_pair(offset)

    def _computed_pair(self, offset: Offset) -> Pair | None:
        block, size = divmod(offset, self.block_bytes)
        chain, data = self._chains.get(block), self._blocks.get(block)
        if chain is None or data is None or self._algorithm is None:
            return None
        return Pair(chain, self._algorithm(memoryview(data)[:size]).digest())

    def _next_cut(self, size: int) -> int:
        """Pieces end at block ends and at watched offsets."""
        cut = min(size, self.block_bytes - self.produced % self.block_bytes)
        if self._to_watch:
            cut = min(cut, self._to_watch[0] - self.produced)
        return cut

    def _append_piece(self, piece: memoryview) -> None:
        block = self.produced // self.block_bytes
        keep = self.produced >= self.floor
        if keep:
            if block not in self._blocks:
                self._blocks[block] = bytearray()
                if self._running is not None:
                    self._chains[block] = self._running.chain
            self._blocks[block] += piece
        self.produced += len(piece)
        if self._running is not None:
            for digest in self._running.update(piece):
                if keep:
                    self._digests[block] = digest
        if self._to_watch and self._to_watch[0] == self.produced:
            del self._to_watch[0]
            if self._running is not None:
                self._watched[self.produced] = self._running.pair
