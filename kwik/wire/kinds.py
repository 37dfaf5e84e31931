"""Field kinds: how one field of a frame is written, read and bounded (SPEC §9).

A kind is stateless. `write` and `read` raise ValueError (`varint.Truncated` where the bytes end too early) and know
neither the frame nor the field that they serve: `kwik.wire.schema` adds both.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

from kwik.wire import varint
from kwik.wire.varint import Buffer, Truncated

_INTEGER_SOURCE: Final = """\
{v} = data[pos]
if {v} < 64:
    pos += 1
elif {v} < 128:
    {v} = ({v} & 63) << 8 | data[pos + 1]
    pos += 2
elif {v} < 192:
    {v} = read_u32(data, pos)[0] & 0x3FFFFFFF
    pos += 4
else:
    {v} = read_u64(data, pos)[0] & 0x3FFFFFFFFFFFFFFF
    pos += 8
"""

_LENGTH_SOURCE: Final = (
    _INTEGER_SOURCE.replace("{v}", "length")
    + """\
if not length {allowed} or pos + length > len(data):
    raise ValueError
"""
)
_OCTETS_SOURCE: Final = """\
{v} = bytes(data[pos:pos + length])
pos += length
"""
_TEXT_SOURCE: Final = """\
{v} = str(data[pos:pos + length], "utf-8")
pos += length
"""


class Kind(ABC):
    """One way to put a value into bytes. `label` and `encoding` are SPEC's words for it."""

    encoding: ClassVar[str]
    """How the bytes look, for the table of kinds in SPEC §9."""

    is_last: ClassVar[bool] = False
    """Whether the value takes all that is left of the body, so that no field may follow."""

    def __init__(self, label: str, bounds: str, max_bytes: int) -> None:
        self.label = label
        self.bounds = bounds
        self.max_bytes = max_bytes

    @abstractmethod
    def write(self, value: object) -> bytes:
        """The encoded value. Raises ValueError if it is of another type or out of bounds."""

    @abstractmethod
    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        """The value at `pos` and the index behind it. The end of the buffer is the end of the body."""

    def size(self, value: object) -> int:
        """Bytes that `write` makes of the value."""
        return len(self.write(value))

    def write_source(self, value: str, write: str) -> str:
        """An expression for what `write`, known by that name, gives for the expression `value`.

        It must fail whenever `write` does, by any of `kwik.wire.schema.FAULTS`; `write` then says what is wrong.
        """
        return f"{write}({value})"

    def read_source(self, variable: str, read: str) -> str:
        """Statements that do what `read` does, on `data` and `pos`, for the compiled decoder.

        They must fail whenever `read` does, by any of `kwik.wire.schema.FAULTS`; `read` then says what is wrong.
        Compiled code knows it by the name that is given here.
        """
        return f"{variable}, pos = {read}(data, pos)\n"


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{type(value).__name__} is not an integer")
    return value


def _octets(value: object) -> bytes:
    # A memoryview of octets serves as well, without a copy; the cast keeps callers' types simple.
    if isinstance(value, memoryview):
        return bytes(value)
    if not isinstance(value, bytes):
        raise ValueError(f"{type(value).__name__} is not bytes")
    return value


def _items(value: object, minimum: int, maximum: int) -> Sequence[object]:
    if not isinstance(value, tuple | list):
        raise ValueError(f"{type(value).__name__} is not a tuple")
    _check_count(len(value), minimum, maximum)
    return value


def _check_count(count: int, minimum: int, maximum: int) -> None:
    if not minimum <= count <= maximum:
        raise ValueError(f"{count} entries; allowed are {minimum} to {maximum}")


def _take(buffer: Buffer, pos: int, count: int) -> bytes:
    end = pos + count
    if end > len(buffer):
        raise Truncated(end)
    return bytes(buffer[pos:end])


class Integer(Kind):
    """An integer from 0 to `maximum`."""

    encoding = "integer"

    def __init__(self, label: str, maximum: int, bounds: str) -> None:
        super().__init__(label, bounds, varint.MAX_SIZE_BYTES)
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        return varint.encode(self._checked(_integer(value)))

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        value, pos = varint.decode(buffer, pos)
        return self._checked(value), pos

    def size(self, value: object) -> int:
        return varint.size(self._checked(_integer(value)))

    def write_source(self, value: str, write: str) -> str:
        small = min(self.maximum, varint.LARGEST_BYTE)
        return f"one_byte[{value}] if 0 <= {value} <= {small} else {write}({value})"

    def read_source(self, variable: str, read: str) -> str:
        source = _INTEGER_SOURCE.format(v=variable)
        if self.maximum < varint.MAX:
            source += f"if {variable} > {self.maximum}:\n    raise ValueError\n"
        return source

    def _checked(self, value: int) -> int:
        if value > self.maximum:
            raise ValueError(f"{value} is outside {self.bounds}")
        return value


class Boolean(Kind):
    """True or false."""

    encoding = "integer, 0 for false and 1 for true"

    def write(self, value: object) -> bytes:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is not a bool")
        return b"\x01" if value else b"\x00"

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        value, pos = varint.decode(buffer, pos)
        if value > 1:
            raise ValueError(f"{value} is neither 0 nor 1")
        return value == 1, pos

    def read_source(self, variable: str, read: str) -> str:
        check = f"if {variable} > 1:\n    raise ValueError\n{variable} = {variable} == 1\n"
        return _INTEGER_SOURCE.format(v=variable) + check


class Text(Kind):
    """Text of at most `maximum` bytes of UTF-8."""

    encoding = "integer length, then that many bytes of UTF-8"

    def __init__(self, label: str, maximum: int) -> None:
        super().__init__(label, f"at most {maximum} bytes", varint.MAX_SIZE_BYTES + maximum)
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        if not isinstance(value, str):
            raise ValueError(f"{type(value).__name__} is not a string")
        encoded = value.encode("utf-8")
        self._check(len(encoded))
        return varint.encode(len(encoded)) + encoded

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        length, pos = varint.decode(buffer, pos)
        self._check(length)
        try:
            return _take(buffer, pos, length).decode("utf-8"), pos + length
        except UnicodeDecodeError:
            raise ValueError("the text is not UTF-8") from None

    def read_source(self, variable: str, read: str) -> str:
        return _LENGTH_SOURCE.format(v=variable, allowed=f"<= {self.maximum}") + _TEXT_SOURCE.format(v=variable)

    def _check(self, length: int) -> None:
        if length > self.maximum:
            raise ValueError(f"{length} bytes of text; allowed are {self.bounds}")


class Octets(Kind):
    """Exactly `length` bytes."""

    encoding = "the bytes, without a length"

    def __init__(self, label: str, length: int) -> None:
        super().__init__(label, f"{length} bytes", length)
        self.length = length

    def write(self, value: object) -> bytes:
        octets = _octets(value)
        if len(octets) != self.length:
            raise ValueError(f"{len(octets)} bytes instead of {self.length}")
        return octets

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        return _take(buffer, pos, self.length), pos + self.length


class OptionalOctets(Kind):
    """Nothing, or exactly `length` bytes."""

    encoding = "integer length, then that many bytes"

    def __init__(self, label: str, length: int) -> None:
        super().__init__(label, f"0 or {length} bytes", varint.MAX_SIZE_BYTES + length)
        self.length = length

    def write(self, value: object) -> bytes:
        if type(value) is bytes and not value:
            return b"\x00"
        octets = _octets(value)
        self._check(len(octets))
        return varint.encode(len(octets)) + octets

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        length, pos = varint.decode(buffer, pos)
        self._check(length)
        return _take(buffer, pos, length), pos + length

    def read_source(self, variable: str, read: str) -> str:
        return _LENGTH_SOURCE.format(v=variable, allowed=f"in (0, {self.length})") + _OCTETS_SOURCE.format(v=variable)

    def _check(self, length: int) -> None:
        if length not in (0, self.length):
            raise ValueError(f"{length} bytes; allowed are {self.bounds}")


class OctetsList(Kind):
    """From 1 to `maximum` entries of `length` bytes each."""

    encoding = "integer count, then the entries"

    def __init__(self, label: str, length: int, maximum: int) -> None:
        super().__init__(label, f"1 to {maximum} of {length} bytes", varint.MAX_SIZE_BYTES + length * maximum)
        self.length = length
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        entries = [_octets(entry) for entry in _items(value, 1, self.maximum)]
        if any(len(entry) != self.length for entry in entries):
            raise ValueError(f"each entry needs {self.length} bytes")
        return varint.encode(len(entries)) + b"".join(entries)

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        count, pos = varint.decode(buffer, pos)
        _check_count(count, 1, self.maximum)
        length = self.length
        octets = _take(buffer, pos, count * length)
        return tuple(octets[at : at + length] for at in range(0, len(octets), length)), pos + len(octets)


class IntegerList(Kind):
    """At most `maximum` integers."""

    encoding = "integer count, then the integers"

    def __init__(self, label: str, maximum: int) -> None:
        super().__init__(label, f"at most {maximum} integers", varint.MAX_SIZE_BYTES * (1 + maximum))
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        entries = _items(value, 0, self.maximum)
        return varint.encode(len(entries)) + b"".join(varint.encode(_integer(entry)) for entry in entries)

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        count, pos = varint.decode(buffer, pos)
        _check_count(count, 0, self.maximum)
        entries = []
        for _ in range(count):
            entry, pos = varint.decode(buffer, pos)
            entries.append(entry)
        return tuple(entries), pos


class PairList(Kind):
    """From 1 to `maximum` pairs of integers."""

    encoding = "integer count, then two integers each"

    def __init__(self, label: str, what: str, maximum: int) -> None:
        super().__init__(label, f"1 to {maximum} of {what}", varint.MAX_SIZE_BYTES * (1 + 2 * maximum))
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        pairs = _items(value, 1, self.maximum)
        parts = [varint.encode(len(pairs))]
        for pair in pairs:
            first, second = (_integer(number) for number in _items(pair, 2, 2))
            self.check(first, second)
            parts += (varint.encode(first), varint.encode(second))
        return b"".join(parts)

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        count, pos = varint.decode(buffer, pos)
        _check_count(count, 1, self.maximum)
        pairs = []
        for _ in range(count):
            first, pos = varint.decode(buffer, pos)
            second, pos = varint.decode(buffer, pos)
            self.check(first, second)
            pairs.append((first, second))
        return tuple(pairs), pos

    def check(self, first: int, second: int) -> None:
        """Raises ValueError if the two do not go together; any two integers do here."""


class RangeList(PairList):
    """Pairs of a first number and a count: never empty, and never beyond the largest integer."""

    def check(self, first: int, second: int) -> None:
        if second < 1:
            raise ValueError(f"the range at {first} is empty")
        if first + second > varint.MAX:
            raise ValueError(f"the range at {first} ends beyond 2^62-1")


class TypedEntries(Kind):
    """Optional values by id, ids ascending. Ids that a version does not know are kept, for it to ignore."""

    encoding = "integer count, then per entry: integer id, integer length, that many bytes"

    def __init__(self, label: str, maximum: int, entry_bytes: int) -> None:
        largest = 2 * varint.MAX_SIZE_BYTES + entry_bytes
        bounds = f"at most {maximum}, ids strictly ascending, at most {entry_bytes} bytes each"
        super().__init__(label, bounds, varint.MAX_SIZE_BYTES + maximum * largest)
        self.maximum = maximum
        self.entry_bytes = entry_bytes

    def write(self, value: object) -> bytes:
        if value == ():
            return b"\x00"
        entries = _items(value, 0, self.maximum)
        parts = [varint.encode(len(entries))]
        previous = -1
        for entry in entries:
            number, content = _items(entry, 2, 2)
            identifier, octets = _integer(number), _octets(content)
            self._check(previous, identifier, len(octets))
            parts += (varint.encode(identifier), varint.encode(len(octets)), octets)
            previous = identifier
        return b"".join(parts)

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        count, pos = varint.decode(buffer, pos)
        _check_count(count, 0, self.maximum)
        entries = []
        previous = -1
        for _ in range(count):
            identifier, pos = varint.decode(buffer, pos)
            length, pos = varint.decode(buffer, pos)
            self._check(previous, identifier, length)
            entries.append((identifier, _take(buffer, pos, length)))
            pos += length
            previous = identifier
        return tuple(entries), pos

    def read_source(self, variable: str, read: str) -> str:
        some = super().read_source(variable, read)
        return f"if data[pos] == 0:\n    {variable} = ()\n    pos += 1\nelse:\n    {some}"

    def _check(self, previous: int, identifier: int, length: int) -> None:
        if identifier <= previous:
            raise ValueError(f"id {identifier} follows id {previous}")
        if length > self.entry_bytes:
            raise ValueError(f"id {identifier} has {length} bytes; allowed are {self.entry_bytes}")


class Rest(Kind):
    """All that is left of the body, at most `maximum` bytes."""

    encoding = "the bytes up to the end of the body"
    is_last = True

    def __init__(self, label: str, maximum: int) -> None:
        super().__init__(label, f"at most {maximum} bytes", maximum)
        self.maximum = maximum

    def write(self, value: object) -> bytes:
        octets = _octets(value)
        self.check(len(octets))
        return octets

    def read(self, buffer: Buffer, pos: int) -> tuple[object, int]:
        self.check(len(buffer) - pos)
        return bytes(buffer[pos:]), len(buffer)

    def size(self, value: object) -> int:
        octets = _octets(value)
        self.check(len(octets))
        return len(octets)

    def check(self, length: int) -> None:
        """Raises ValueError if a payload of `length` bytes is too long."""
        if length > self.maximum:
            raise ValueError(f"{length} bytes of payload; allowed are {self.bounds}")
