"""QUIC variable-length integers (RFC 9000 §16): 1, 2, 4 or 8 bytes, of which the first two bits tell the width.

Every width is accepted for every value, as RFC 9000 §16 allows; the shortest is written.
"""

from typing import Final

Buffer = bytes | bytearray | memoryview
"""What is read from: anything whose items are integers from 0 to 255 and whose slices are buffers again."""

MAX: Final = (1 << 62) - 1
"""The largest integer that can be written."""

MAX_SIZE_BYTES: Final = 8

LARGEST_BYTE: Final = 63
"""The largest integer that is written as one byte, which then is the integer."""

ONE_BYTE: Final = tuple(bytes((value,)) for value in range(LARGEST_BYTE + 1))
"""What `encode` gives for those."""

_VALUE_BITS: Final = {2: (1 << 14) - 1, 4: (1 << 30) - 1, 8: MAX}


class Truncated(ValueError):
    """The buffer ends inside a value. `need` is the index up to which bytes are required to make progress."""

    def __init__(self, need: int) -> None:
        super().__init__("the bytes end inside the value")
        self.need = need


def encode(value: int) -> bytes:
    """The shortest encoding. Raises ValueError outside 0..`MAX`."""
    if value < 0x40:
        if value >= 0:
            return ONE_BYTE[value]
    elif value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    elif value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    elif value <= MAX:
        return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
    raise ValueError(f"{value} is outside 0..2^62-1")


def decode(buffer: Buffer, pos: int) -> tuple[int, int]:
    """The integer at `pos` and the index behind it. Raises `Truncated` if the buffer ends before it does."""
    if pos >= len(buffer):
        raise Truncated(pos + 1)
    first = buffer[pos]
    if first < 0x40:
        return first, pos + 1
    width = 1 << (first >> 6)
    end = pos + width
    if end > len(buffer):
        raise Truncated(end)
    return int.from_bytes(buffer[pos:end], "big") & _VALUE_BITS[width], end


def size(value: int) -> int:
    """Bytes that `encode` makes of the value. Raises ValueError outside 0..`MAX`."""
    if 0 <= value < 0x40:
        return 1
    if 0 <= value < 0x4000:
        return 2
    if 0 <= value < 0x4000_0000:
        return 4
    if 0 <= value <= MAX:
        return 8
    raise ValueError(f"{value} is outside 0..2^62-1")
