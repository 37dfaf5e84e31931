"""Streams that no replica could follow, told by the first bytes of their upstream (SPEC §6.2).

TLS and SSH draw fresh random bytes at both ends: another server given the same upstream would answer something else,
and would be handed the start of a conversation that is meant for one server alone.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

SIGNATURES: Final = (b"\x16\x03", b"SSH-")
"""The head of a TLS handshake record, of any version since SSL 3, and of the SSH identification (RFC 4253 §4.2)."""
LONGEST: Final = max(map(len, SIGNATURES))


class Head(Enum):
    """What the first bytes of an upstream say."""

    UNDECIDED = auto()
    """Too few bytes: they may become a signature."""
    OPEN = auto()
    OPAQUE = auto()


def classify(head: bytes) -> Head:
    """Judge an upstream by what is known of its beginning."""
    if head.startswith(SIGNATURES):
        return Head.OPAQUE
    if any(signature.startswith(head) for signature in SIGNATURES):
        return Head.UNDECIDED
    return Head.OPEN
