"""Slow and obvious versions of what the data plane computes, for comparison."""

from __future__ import annotations

from typing import cast

from blake3 import blake3

from kwik.kdp.digest import ZERO_CHAIN, Algorithm, Pair

BLAKE3 = cast("Algorithm", blake3)


def pattern(size: int, start: int = 0, salt: int = 0) -> bytes:
    """Bytes of a downstream that differ from offset to offset and from salt to salt."""
    return bytes((i * 131 + (i >> 8) * 17 + salt * 29 + 7) & 255 for i in range(start, start + size))


def blocks_of(data: bytes, block_bytes: int) -> list[bytes]:
    """The blocks; the last may be shorter, none is empty."""
    return [data[start : start + block_bytes] for start in range(0, len(data), block_bytes)]


def digests_of(data: bytes, block_bytes: int) -> list[bytes]:
    """Digest of every block, the shorter last one included."""
    return [blake3(block).digest() for block in blocks_of(data, block_bytes)]


def chain_before(data: bytes, block: int, block_bytes: int) -> bytes:
    """chain(block - 1)."""
    chain = ZERO_CHAIN
    for digest in digests_of(data[: block * block_bytes], block_bytes):
        chain = blake3(chain + digest).digest()
    return chain


def naive_pair(data: bytes, offset: int, block_bytes: int) -> Pair:
    """The pair at an offset, from the definition in SPEC §1."""
    block = offset // block_bytes
    prefix = data[block * block_bytes : offset]
    return Pair(chain_before(data, block, block_bytes), blake3(prefix).digest())


def naive_run(data: bytes, first: int, count: int, block_bytes: int) -> bytes:
    """Run digest over some blocks."""
    return blake3(b"".join(digests_of(data, block_bytes)[first : first + count])).digest()
