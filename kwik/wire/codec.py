"""Bytes of a pipe into frames, and frames into bytes (SPEC §3.2): incremental, and bounded.

The payload of DATA and UPSTREAM is handed up in pieces as it arrives and never held here. What is held is at most one
incomplete frame of another type, or one incomplete head: `Decoder.buffered_bytes` never exceeds `max_buffered_bytes`.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from kwik.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kwik.wire import frames, messages, varint
from kwik.wire.schema import BY_CLASS, FAULTS, REGISTRY, FrameSpec, Sender, find_fault
from kwik.wire.varint import LARGEST_BYTE, Truncated

SKIPPABLE: Final = range(0x4000, 0x8000)
"""Types that a version which does not know them skips (SPEC §3.2)."""

MAX_SKIPPED_BYTES: Final = 65536
"""The longest body that is skipped (SPEC §3.2)."""

ClientFrame: TypeAlias = (
    messages.ClientHello
    | messages.Join
    | frames.Open
    | frames.Attach
    | frames.Anchor
    | frames.Ack
    | frames.Grant
    | frames.Revoke
    | frames.Probe
    | frames.AskDigests
    | frames.Close
)
"""What a client sends, UPSTREAM apart."""

ServerFrame: TypeAlias = (
    messages.ServerHello
    | messages.Joined
    | messages.Drain
    | frames.Opened
    | frames.Refused
    | frames.Attached
    | frames.UpstreamState
    | frames.Produced
    | frames.Digests
    | frames.Run
    | frames.Probed
    | frames.Revoked
    | frames.Busy
    | frames.Fin
    | frames.Reset
    | frames.Closed
    | frames.Diverged
)
"""What a server sends, DATA apart."""

ControlFrame: TypeAlias = ClientFrame | ServerFrame
Frame: TypeAlias = ControlFrame | frames.Data | frames.Upstream


class DataPiece(NamedTuple):
    """A part of the payload of a DATA frame, never empty. `offset` is that of its own first byte."""

    replica: int
    order: int
    offset: int
    payload: bytes | memoryview


class UpstreamPiece(NamedTuple):
    """A part of the payload of an UPSTREAM frame; empty only if the frame's payload is.

    `offset` is that of its own first byte. `flags` has UPSTREAM_FIN only on the last piece, behind which it counts.
    """

    replica: int
    offset: int
    after: int
    flags: int
    chain: bytes
    prefix: bytes
    payload: bytes | memoryview
    is_last: bool


Received: TypeAlias = ControlFrame | DataPiece | UpstreamPiece


def encode(frame: Frame) -> bytes:
    """The whole frame. Raises LocalProtocolError that names the frame and the field out of bounds."""
    if type(frame) is frames.Data:
        return encode_data(frame.replica, frame.order, frame.offset, frame.payload)
    spec = BY_CLASS[type(frame)]
    encoded = spec.encode(frame)
    if type(frame) is frames.Upstream:
        _check_end(spec.name, frame.offset, len(frame.payload))
    return encoded


def size(frame: Frame) -> int:
    """Bytes that `encode` makes of the frame, without making them. Raises LocalProtocolError on what it sees."""
    return BY_CLASS[type(frame)].size(frame)


_TYPE_OF_DATA: Final = varint.encode(BY_CLASS[frames.Data].number)


def encode_data(replica: int, order: int, offset: int, payload: bytes | memoryview) -> bytes:
    """A DATA frame; the payload, 1 to 16384 bytes, is copied once. Raises LocalProtocolError out of bounds."""
    return b"".join((encode_data_head(replica, order, offset, len(payload)), payload))


def encode_data_head(replica: int, order: int, offset: int, payload_bytes: int) -> bytes:
    """What precedes the payload of a DATA frame, for those who pass the payload on without copying it."""
    if not 1 <= payload_bytes <= frames.MAX_DATA_PAYLOAD:
        raise LocalProtocolError(f"DATA.payload: {payload_bytes} bytes; allowed are 1 to {frames.MAX_DATA_PAYLOAD}")
    try:
        head = varint.encode(replica) + varint.encode(order) + varint.encode(offset)
    except ValueError as error:
        raise LocalProtocolError(f"DATA: replica, order or offset: {error}") from None
    _check_end("DATA", offset, payload_bytes)
    return _TYPE_OF_DATA + varint.encode(len(head) + payload_bytes) + head


def _check_end(name: str, offset: int, payload_bytes: int) -> None:
    if offset + payload_bytes > varint.MAX:
        raise LocalProtocolError(f"{name}.payload: ends beyond offset 2^62-1")


class _Body(Protocol):
    """A body that is passed on or skipped as it arrives; `left` bytes of it are still to come."""

    left: int

    def take(self, part: bytes | memoryview) -> Received | None:
        """The next bytes of the body as a piece, or None for bytes that nobody wants."""


class _DataBody:
    __slots__ = ("left", "offset", "order", "replica")

    def __init__(self, head: tuple[Any, ...], left: int) -> None:
        self.replica, self.order, self.offset, _ = head
        self.left = left

    def take(self, part: bytes | memoryview) -> DataPiece:
        offset = self.offset
        self.offset += len(part)
        self.left -= len(part)
        return DataPiece(self.replica, self.order, offset, part)


class _UpstreamBody:
    __slots__ = ("after", "chain", "flags", "left", "offset", "prefix", "replica")

    def __init__(self, head: tuple[Any, ...], left: int) -> None:
        self.replica, self.offset, self.after, self.flags, self.chain, self.prefix, _ = head
        self.left = left

    def take(self, part: bytes | memoryview) -> UpstreamPiece:
        offset = self.offset
        self.offset += len(part)
        self.left -= len(part)
        is_last = not self.left
        flags = self.flags if is_last else self.flags & ~frames.UPSTREAM_FIN
        return UpstreamPiece(self.replica, offset, self.after, flags, self.chain, self.prefix, part, is_last)


class _SkippedBody:
    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, part: bytes | memoryview) -> None:
        self.left -= len(part)


_BODIES: Final[dict[type, type[_DataBody | _UpstreamBody]]] = {frames.Data: _DataBody, frames.Upstream: _UpstreamBody}


class Decoder:
    """What one sender's bytes on one pipe say. Feed them in any cut; the frames are the same."""

    def __init__(self, sender: Sender, pipe: Literal["control", "data"]) -> None:
        """`sender` is who wrote the bytes; `pipe` the sort of pipe that they came on."""
        self._sender = sender
        self._pipe = pipe
        self._specs = _allowed(sender, pipe)
        self._fed = 0
        self._base = 0
        self._pending = bytearray()
        self._want = 0
        self._body: _Body | None = None
        self._failure: RemoteProtocolError | None = None
        self.max_buffered_bytes = max(_held(spec) for spec in self._specs.values())

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of a frame that is not yet whole; at most `max_buffered_bytes`."""
        return len(self._pending)

    def feed(self, data: bytes | memoryview) -> list[Received]:
        """The frames and pieces that these bytes complete, in their order.

        Payloads are slices of `data`: of a memoryview (of octets) nothing is copied, but the pieces keep it alive.
        Raises RemoteProtocolError at the first fault, and again at every later call; frames in front of the fault in
        the same `data` are lost, for a fault closes the path. The error's offset counts bytes of the pipe.
        """
        if self._failure is not None:
            raise self._failure
        received: list[Received] = []
        try:
            pos = self._complete(data, received) if self._pending else 0
            self._base = self._fed
            self._scan(data, pos, received)
        except RemoteProtocolError as failure:
            self._failure = failure
            self._pending.clear()
            self._body = None
            raise
        self._fed += len(data)
        return received

    def _complete(self, data: bytes | memoryview, received: list[Received]) -> int:
        """Add to what is pending exactly what it lacks; the index in `data` from which on scanning goes on."""
        pending = self._pending
        self._base = self._fed - len(pending)
        pos = 0
        while True:
            part = data[pos : pos + self._want - len(pending)]
            pending += part
            pos += len(part)
            if len(pending) < self._want:
                return pos
            if self._frame(bytes(pending), 0, received) is not None:
                pending.clear()
                return pos

    def _scan(self, data: bytes | memoryview, pos: int, received: list[Received]) -> None:
        limit = len(data)
        while pos < limit:
            body = self._body
            if body is None:
                after = self._frame(data, pos, received)
                if after is None:
                    self._pending += data[pos:]
                    return
                pos = after
                continue
            end = min(pos + body.left, limit)
            piece = body.take(data[pos:end])
            if piece is not None:
                received.append(piece)
            if not body.left:
                self._body = None
            pos = end

    def _frame(self, data: bytes | memoryview, pos: int, received: list[Received]) -> int | None:
        """Read the frame, or the head of one with a payload, at `pos`; the index behind it.

        None if it is not all there: then `_want` tells how many bytes from `pos` on are needed to get further.
        """
        if pos + 1 < len(data) and data[pos] <= LARGEST_BYTE >= data[pos + 1]:  # as almost always
            type_, length, at = data[pos], data[pos + 1], pos + 2
        else:
            try:
                type_, at = varint.decode(data, pos)
                length, at = varint.decode(data, at)
            except Truncated as short:
                self._want = short.need - pos
                return None
        spec = self._specs.get(type_)
        if spec is None:
            self._check_skippable(type_, length, self._base + pos)
            self._body = _SkippedBody(length) if length else None
            return at
        if length > spec.max_body_bytes:
            message = f"{length} bytes; allowed are {spec.max_body_bytes}"
            raise _malformed(spec.name, "length", self._base + pos, message)
        end = at + length
        if spec.has_payload:
            body = self._head(spec, data, at, end)
            if body is None:
                self._want += at - pos
                return None
            if body.left:
                self._body = body
            else:
                received.append(body.take(b""))
            return end - body.left
        if end > len(data):
            self._want = end - pos
            return None
        frame: Any = spec.decode(bytes(data[at:end]), self._base + at)
        received.append(frame)
        return end

    def _head(self, spec: FrameSpec, data: bytes | memoryview, at: int, end: int) -> _DataBody | _UpstreamBody | None:
        """Read all but the payload of the body `data[at:end]`; None as in `_frame`, but `_want` counts from `at`."""
        head = bytes(data[at : min(end, at + spec.max_head_bytes)])
        try:
            values = spec.read_head(head)
        except FAULTS:
            fault = find_fault(spec.head_fields, head)
            if fault.need is None or fault.need > end - at:
                raise fault.as_error(spec.name, self._base + at) from None
            self._want = fault.need
            return None
        start: int = at + values[-1]
        body = _BODIES[spec.cls](values, end - start)
        _check_payload(spec, body.offset, body.left, self._base + start)
        return body

    def _check_skippable(self, type_: int, length: int, offset: int) -> None:
        known = REGISTRY.get(type_)
        if known is not None:
            message = f"not allowed from a {self._sender} on a {self._pipe} pipe"
            raise _malformed(known.name, "type", offset, message)
        name = f"frame {type_:#x}"
        if type_ not in SKIPPABLE:
            raise RemoteProtocolError(ErrorCode.UNKNOWN_FRAME, name, "type", offset, "unknown, and not to be skipped")
        if length > MAX_SKIPPED_BYTES:
            raise _malformed(name, "length", offset, f"{length} bytes to skip; allowed are {MAX_SKIPPED_BYTES}")


def _malformed(frame: str, field: str, offset: int, message: str) -> RemoteProtocolError:
    return RemoteProtocolError(ErrorCode.FRAME_FORMAT, frame, field, offset, message)


def _check_payload(spec: FrameSpec, start: int, length: int, offset: int) -> None:
    if length > frames.MAX_DATA_PAYLOAD:
        raise _malformed(spec.name, "payload", offset, f"{length} bytes; allowed are {frames.MAX_DATA_PAYLOAD}")
    if start + length > varint.MAX:
        raise _malformed(spec.name, "payload", offset, "ends beyond offset 2^62-1")
    if not length and spec.cls is frames.Data:
        raise _malformed(spec.name, "payload", offset, "is empty")


def _allowed(sender: Sender, pipe: str) -> Mapping[int, FrameSpec]:
    return {type_: spec for type_, spec in REGISTRY.items() if spec.sender == sender and spec.pipe in (pipe, "any")}


def _held(spec: FrameSpec) -> int:
    return 2 * varint.MAX_SIZE_BYTES + (spec.max_head_bytes if spec.has_payload else spec.max_body_bytes)
