"""`@frame`: one declaration of a frame becomes its dataclass, encoder, decoder, size and bounds (SPEC §3.2, §9).

The compiled decoder is optimistic: it names no field and stops at the first fault. Only then does a careful walk over
the same body, kind by kind, find out which field is wrong and where. Both come from the same kinds, so they agree.
"""

import re
import struct
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar, cast, dataclass_transform, get_args, get_origin

from kwik.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kwik.wire import kinds, varint
from kwik.wire.kinds import Kind
from kwik.wire.varint import Buffer, Truncated

MAX_PAYLOAD_BYTES: Final = 16384
HASH_BYTES: Final = 32

Uint = Annotated[int, kinds.Integer("uint", varint.MAX, "0..2^62-1")]
Uint8 = Annotated[int, kinds.Integer("uint8", 255, "0..255")]
Flag = Annotated[bool, kinds.Boolean("flag", "0 or 1", varint.MAX_SIZE_BYTES)]
ServiceText = Annotated[str, kinds.Text("service text", 300)]
ReasonText = Annotated[str, kinds.Text("reason text", 200)]
ServerIdText = Annotated[str, kinds.Text("server id text", 64)]
Bytes16 = Annotated[bytes, kinds.Octets("bytes16", 16)]
Digest = Annotated[bytes, kinds.Octets("digest", HASH_BYTES)]
Blob = Annotated[bytes, kinds.OptionalOctets("blob", HASH_BYTES)]
DigestList = Annotated[tuple[bytes, ...], kinds.OctetsList("digest list", HASH_BYTES, 64)]
PathList = Annotated[tuple[int, ...], kinds.IntegerList("path list", 16)]
BlockRanges = Annotated[
    tuple[tuple[int, int], ...], kinds.RangeList("block ranges", "(first block, count of at least 1)", 16)
]
OrderMarks = Annotated[tuple[tuple[int, int], ...], kinds.PairList("order marks", "(order, block)", 16)]
Extensions = Annotated[tuple[tuple[int, bytes], ...], kinds.TypedEntries("extensions", 32, 256)]
Payload = Annotated[bytes, kinds.Rest("payload", MAX_PAYLOAD_BYTES)]

Sender = Literal["client", "server"]
Pipe = Literal["control", "data", "any"]

FAULTS: Final = (ValueError, TypeError, IndexError, struct.error)
"""What encoding a wrong value or decoding wrong bytes may raise below this module, never above it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a frame."""

    name: str
    kind: Kind


class Fault(ValueError):
    """One field of a body is wrong. `offset` is where the field starts, in bytes from the start of the body.

    `field` is "body" for bytes behind the last field.

    `need` is set if the body merely ends too early: so many bytes of it are required to make progress.
    """

    def __init__(self, message: str, field: str, offset: int, need: int | None) -> None:
        super().__init__(message)
        self.field = field
        self.offset = offset
        self.need = need

    def as_error(self, frame: str, base: int) -> RemoteProtocolError:
        """The same for those above: `base` is where the body starts in what they call the offset."""
        return RemoteProtocolError(ErrorCode.FRAME_FORMAT, frame, self.field, base + self.offset, str(self))


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """Everything that follows from one declaration."""

    number: int
    """The type on the wire."""
    name: str
    """The name in SPEC and in messages: `ASK_DIGESTS` for the class `AskDigests`."""
    sender: Sender
    pipe: Pipe
    section: str
    """The section of SPEC that gives the meaning."""
    doc: str
    cls: type
    fields: tuple[Field, ...]
    max_body_bytes: int
    encode: Callable[[object], bytes]
    """The whole frame, header included. Raises LocalProtocolError that names the field out of bounds."""
    decode: Callable[[Buffer, int], object]
    """The frame of exactly this body. Raises RemoteProtocolError; its offset counts from the second argument."""
    size: Callable[[object], int]
    """Bytes that `encode` makes, at less cost. Raises as `encode` does, but need not see every fault."""

    has_payload: bool
    """Whether the body ends with a payload, which is handed up as it arrives."""
    head_fields: tuple[Field, ...]
    """All fields but the payload."""
    max_head_bytes: int
    """The longest that these can get."""
    read_head: Callable[[Buffer], tuple[Any, ...]]
    """Their values, and the index behind them. Raises one of `FAULTS`; `find_fault` tells why."""


_by_type: Final[dict[int, FrameSpec]] = {}
_by_class: Final[dict[type, FrameSpec]] = {}

REGISTRY: Final[Mapping[int, FrameSpec]] = MappingProxyType(_by_type)
"""All declared frames by type. Complete once `kwik.wire.frames` and `kwik.wire.messages` are imported."""

BY_CLASS: Final[Mapping[type, FrameSpec]] = MappingProxyType(_by_class)
"""The same by class."""


@dataclass_transform(frozen_default=True)
def frame(type_: int, *, sender: Sender, pipe: Pipe = "control", spec: str) -> Callable[[type[T]], type[T]]:
    """Turn a class whose annotations are field kinds, in wire order, into a registered frozen slotted dataclass.

    `spec` is the section of SPEC that gives the meaning. Raises TypeError if the type number is taken already.
    """

    def declare(cls: type[T]) -> type[T]:
        compiled = compile_frame(cls, type_, sender=sender, pipe=pipe, section=spec)
        if type_ in _by_type:
            raise TypeError(f"{cls.__name__}: type {type_:#x} belongs to {_by_type[type_].name}")
        _by_type[type_] = _by_class[compiled.cls] = compiled
        return cast("type[T]", compiled.cls)

    return declare


def compile_frame(cls: type, type_: int, *, sender: Sender, pipe: Pipe, section: str) -> FrameSpec:
    """What `frame` registers. Raises TypeError if the declaration makes no sense."""
    if not 0 <= type_ <= varint.MAX:
        raise TypeError(f"{cls.__name__}: {type_} is no frame type")
    fields = tuple(Field(name, _kind_of(cls, name, note)) for name, note in cls.__annotations__.items())
    if not fields or any(field.kind.is_last for field in fields[:-1]):
        raise TypeError(f"{cls.__name__}: a frame has fields, and a payload only at the end")
    finished: type = dataclass(frozen=True, slots=True)(cls)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()
    compiled = _compile(finished, name, varint.encode(type_), fields)
    head_fields = fields[:-1] if fields[-1].kind.is_last else fields
    return FrameSpec(
        number=type_,
        name=name,
        sender=sender,
        pipe=pipe,
        section=section,
        doc=(cls.__doc__ or "").strip(),
        cls=finished,
        fields=fields,
        max_body_bytes=sum(field.kind.max_bytes for field in fields),
        encode=cast("Callable[[object], bytes]", compiled["encode"]),
        decode=cast("Callable[[Buffer, int], object]", compiled["decode"]),
        size=cast("Callable[[object], int]", compiled["size"]),
        has_payload=head_fields is not fields,
        head_fields=head_fields,
        max_head_bytes=sum(field.kind.max_bytes for field in head_fields),
        read_head=cast("Callable[[Buffer], tuple[Any, ...]]", compiled["read_head"]),
    )


def find_fault(fields: tuple[Field, ...], body: Buffer) -> Fault:
    """What is wrong with a body that should consist of these fields: slow and careful, for bodies known to be wrong."""
    pos = 0
    for field in fields:
        try:
            _, after = field.kind.read(body, pos)
        except Truncated as short:
            return Fault("the body ends inside the field", field.name, pos, short.need)
        except ValueError as error:
            return Fault(str(error), field.name, pos, None)
        pos = after
    return Fault(f"{len(body) - pos} bytes left over", "body", pos, None)


def _kind_of(cls: type, name: str, annotation: object) -> Kind:
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Kind):
                return extra
    raise TypeError(f"{cls.__name__}.{name}: {annotation!r} is no field kind")


def _compile(cls: type, name: str, type_bytes: bytes, fields: tuple[Field, ...]) -> dict[str, object]:
    """The functions `encode`, `decode` and `size` of a frame, as dataclasses compiles its own."""

    def misuse(frame: object, error: Exception) -> LocalProtocolError:
        for field in fields:
            try:
                field.kind.write(getattr(frame, field.name))
            except FAULTS as fault:
                return LocalProtocolError(f"{name}.{field.name}: {fault}")
        return LocalProtocolError(f"{name}: {error}")

    def malformed(body: Buffer, base: int) -> RemoteProtocolError:
        return find_fault(fields, body).as_error(name, base)

    names: dict[str, object] = {
        "FAULTS": FAULTS,
        "misuse": misuse,
        "malformed": malformed,
        "make": cls.__new__,
        "cls": cls,
        "type_bytes": type_bytes,
        "one_byte": varint.ONE_BYTE,
        "write_length": varint.encode,
        "size_of_length": varint.size,
        "read_u32": struct.Struct(">I").unpack_from,
        "read_u64": struct.Struct(">Q").unpack_from,
    }
    for field in fields:
        names[f"set_{field.name}"] = getattr(cls, field.name).__set__
        names[f"write_{field.name}"] = _writer(field.kind)
        names[f"size_of_{field.name}"] = field.kind.size
        names[f"read_{field.name}"] = field.kind.read
    exec(_source(len(type_bytes), fields), names)
    return names


def _writer(kind: Kind) -> Callable[..., bytes]:
    # Encoding a plain integer needs no check beyond its own.
    return varint.encode if isinstance(kind, kinds.Integer) and kind.maximum == varint.MAX else kind.write


def _source(type_size: int, fields: tuple[Field, ...]) -> str:
    written = ", ".join(field.kind.write_source(f"frame.{field.name}", f"write_{field.name}") for field in fields)
    sizes = " + ".join(f"size_of_{field.name}(frame.{field.name})" for field in fields)
    reads = [field.kind.read_source(f"v_{field.name}", f"read_{field.name}") for field in fields]
    head = reads[:-1] if fields[-1].kind.is_last else reads
    values = ", ".join(f"v_{field.name}" for field in fields[: len(head)])
    sets = "".join(f"set_{field.name}(made, v_{field.name})\n" for field in fields)
    return f"""\
def encode(frame):
    try:
        body = b"".join(({written},))
    except FAULTS as error:
        raise misuse(frame, error) from None
    return type_bytes + write_length(len(body)) + body

def size(frame):
    try:
        body = {sizes}
    except FAULTS as error:
        raise misuse(frame, error) from None
    return {type_size} + size_of_length(body) + body

def decode(data, base):
    try:
        pos = 0
{textwrap.indent("".join(reads), " " * 8)}
        if pos == len(data):
            made = make(cls)
{textwrap.indent(sets, " " * 12)}
            return made
    except FAULTS:
        pass
    raise malformed(data, base)

def read_head(data):
    pos = 0
{textwrap.indent("".join(head), " " * 4)}
    return {values}, pos
"""
