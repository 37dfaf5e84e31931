"""The frames of ordinary 1-RTT packets: at most one ACK, then STREAM frames as aioquic writes them, then padding.

Whatever is written in another way, legal or not, is left to the stock code: it knows the errors. What is written here
is what aioquic writes, byte for byte.
"""

import struct
from collections.abc import Sequence

from aioquic.quic.packet import QuicFrameType

Piece = tuple[int, int, int, int]
"""A STREAM frame: stream id, offset, and where its bytes begin and end in the packet's payload."""
Ack = tuple[list[range], int]
"""An ACK frame: acknowledged packet numbers, ascending and apart; the encoded delay."""

STREAM_WITH_OFFSET_AND_LENGTH = QuicFrameType.STREAM_BASE | 4 | 2
MOST_RANGES = 64
"""Ranges of an ACK frame that are taken; aioquic sends no more."""

_ACK = int(QuicFrameType.ACK)
_STREAM = int(STREAM_WITH_OFFSET_AND_LENGTH)
# By the two bits that say how long the offset is: offset and two-byte length.
_HEADS = tuple(struct.Struct(form) for form in (">BH", ">HH", ">IH", ">QH"))
_ENDS = tuple(2 + head.size for head in _HEADS)
_MASKS = (0x3F, 0x3FFF, 0x3FFF_FFFF, 0x3FFF_FFFF_FFFF_FFFF)


def parse(plain: bytes) -> tuple[Ack | None, list[Piece]] | None:
    """The frames of this payload; None if it is empty or has anything that is not usual."""
    try:
        ack, at = _pull_ack(plain) if plain[0] == _ACK else (None, 0)
        pieces: list[Piece] = []
        size = len(plain)
        while at < size:
            if plain[at] != _STREAM:
                return (ack, pieces) if not any(plain[at:]) else None
            stream, kind = plain[at + 1], plain[at + 2] >> 6
            offset, length = _HEADS[kind].unpack_from(plain, at + 2)
            begin = at + _ENDS[kind]
            at = begin + (length & 0x3FFF)
            if stream > 0x3F or length >> 14 != 1 or at > size or at == begin:
                return None
            pieces.append((stream, offset & _MASKS[kind], begin, at))
    except (IndexError, struct.error):
        return None
    return ack, pieces


def _pull_ack(plain: bytes) -> tuple[Ack, int]:
    """RFC 9000 §19.3. Raises IndexError for what is not there or must not be."""
    largest, at = _pull_number(plain, 1)
    delay, at = _pull_number(plain, at)
    count, at = _pull_number(plain, at)
    length, at = _pull_number(plain, at)
    if count >= MOST_RANGES:
        raise IndexError("more ranges than usual")
    low = largest - length
    ranges = [range(low, largest + 1)]
    for _ in range(count):
        gap, at = _pull_number(plain, at)
        length, at = _pull_number(plain, at)
        high = low - gap - 1
        low = high - 1 - length
        ranges.append(range(low, high))
    if low < 0:
        raise IndexError("a range below 0")
    ranges.reverse()
    return (ranges, delay), at


def _pull_number(plain: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 §16), and where it ends."""
    first = plain[at]
    if first < 0x40:
        return first, at + 1
    kind = first >> 6
    end = at + (1 << kind)
    if end > len(plain):
        raise IndexError("cut off")
    return int.from_bytes(plain[at:end], "big") & _MASKS[kind], end


def encode_number(value: int) -> bytes:
    """A variable-length integer (RFC 9000 §16) in its shortest form."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")


def encode_ack(ranges: Sequence[range], delay: int) -> bytes:
    """An ACK frame of all these ranges; the delay is encoded already."""
    newest = ranges[-1]
    numbers = [newest.stop - 1, delay, len(ranges) - 1, newest.stop - 1 - newest.start]
    start = newest.start
    for each in reversed(ranges[:-1]):
        numbers += (start - each.stop - 1, each.stop - each.start - 1)
        start = each.start
    return b"\x02" + b"".join(map(encode_number, numbers))


def stream_header(stream: bytes, offset: int, length: int) -> bytes:
    """All of a STREAM frame before its bytes; `stream` is the encoded id."""
    if offset:
        return b"\x0e%b%b%b" % (stream, encode_number(offset), (length | 0x4000).to_bytes(2, "big"))
    return b"\x0a%b%b" % (stream, (length | 0x4000).to_bytes(2, "big"))
