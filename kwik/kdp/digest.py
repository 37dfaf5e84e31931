"""Digests of blocks, runs and chains (SPEC §1), and the running hash over a downstream.

Plug-in point: an algorithm is anything that makes hashers. BLAKE3 is mandatory [0.11 CPU-s per GB at 16 KiB blocks].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from blake3 import blake3

from kwik.wire.frames import DIGEST_BLAKE3

DIGEST_BYTES: Final = 32
ZERO_CHAIN: Final = bytes(DIGEST_BYTES)
"""chain(-1): nothing came before block 0."""
RUN_BLOCKS: Final = 16
"""A run covers at most this many blocks (SPEC §5.7)."""


class Hasher(Protocol):
    """One hash computation; digest() may be called at any time and does not end it."""

    def update(self, data: bytes | memoryview | bytearray, /) -> object:
        """Hash more bytes."""

    def digest(self) -> bytes:
        """32 bytes over everything so far."""


class Algorithm(Protocol):
    """Makes hashers; called once a block."""

    def __call__(self, data: bytes | memoryview | bytearray = b"", /) -> Hasher: ...


ALGORITHMS: Final[dict[int, Algorithm]] = {DIGEST_BLAKE3: blake3}
"""By their number in OPEN."""


class Pair(NamedTuple):
    """What two replicas must agree on at an offset: chain before its block and hash of the block's prefix."""

    chain: bytes
    prefix: bytes


def next_chain(algorithm: Algorithm, chain: bytes, digest: bytes) -> bytes:
    """chain(b) from chain(b-1) and the digest of block b (SPEC §1)."""
    return algorithm(chain + digest).digest()


def run_digest(algorithm: Algorithm, digests: Iterable[bytes]) -> bytes:
    """Hash over the digests of one run's blocks (SPEC §1)."""
    return algorithm(b"".join(digests)).digest()


class RunningHash:
    """Hashes a byte sequence from offset 0 block by block and knows chain and prefix hash where it stands."""

    __slots__ = ("_algorithm", "_block_bytes", "_hasher", "chain", "offset")

    def __init__(self, algorithm: Algorithm, block_bytes: int) -> None:
        self._algorithm = algorithm
        self._block_bytes = block_bytes
        self._hasher = algorithm()
        self.chain = ZERO_CHAIN
        self.offset = 0

    @property
    def pair(self) -> Pair:
        """The pair at `offset` (SPEC §1)."""
        return Pair(self.chain, self._hasher.digest())

    def update(self, data: memoryview | bytes) -> list[bytes]:
        """Hash more bytes; returns the digests of the blocks that became whole, in order."""
        digests = []
        position = 0
        while position < len(data):
            left = self._block_bytes - self.offset % self._block_bytes
            piece = data[position : position + left]
            self._hasher.update(piece)
            self.offset += len(piece)
            position += len(piece)
            if len(piece) == left:
                digests.append(self._close_block())
        return digests

    def digest_of_rest(self) -> bytes | None:
        """Digest of the last, shorter block; None if the sequence stands at a block's start."""
        return self._hasher.digest() if self.offset % self._block_bytes else None

    def _close_block(self) -> bytes:
        digest = self._hasher.digest()
        self.chain = next_chain(self._algorithm, self.chain, digest)
        self._hasher = self._algorithm()
        return digest
