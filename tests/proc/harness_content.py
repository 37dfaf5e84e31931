"""What the tests' servers send: bytes that everybody can compute and nobody can guess."""

from __future__ import annotations

import functools
from random import Random


@functools.lru_cache(maxsize=8)
def content(seed: str, size: int, salt: str = "") -> bytes:
    """The body of that name and size; servers with different salts disagree in every block."""
    return Random(f"{seed}/{size}/{salt}").randbytes(size)
