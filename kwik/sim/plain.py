"""The yardstick: a pair of cores that do nothing but carry one stream over one path, as plain QUIC would.

The client opens a path to the first server it hears of; both directions go as length-prefixed pieces on a data pipe, a
piece of length 0 ends a direction. No verification, no recovery: a path that ends resets its streams. On request it
carries framing as well (remarks, on the control pipe): bytes that mean nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from kwik.core.actions import Accept, OpenPath, PortDone, PortReadable, PortReset, PortWritable, WakePath
from kwik.core.port import PortKey
from kwik.errors import ErrorCode
from kwik.kcp.sighting import Sighting
from kwik.types import Instant, PathId

if TYPE_CHECKING:
    from kwik.kdp.snapshots import PathSnapshot, ReplicaSnapshot

MOST_AHEAD: Final = 1 << 20
"""Bytes that an application may write ahead of the path."""
HEAD_BYTES: Final = 4
OPENING: Final = b"\xff" * HEAD_BYTES
"""Precedes the first piece of a client: the stream begins even if the client has nothing to say yet."""
REMARKS_PIPE: Final = 0


@dataclass(frozen=True, slots=True)
class Remark:
    """Bytes that are not the stream's, said when `received` and `sent` bytes of the stream had come and gone.

    Nothing depends on a remark: it is said there and never waited for. So a plain connection that repeats Kwik's
    remarks excuses what Kwik's messages weigh, and not what they make wait.
    """

    received: int
    sent: int
    size: int
    is_joined: bool = False
    """True if it goes along with the next bytes of the stream, and not before there are any."""


@dataclass(slots=True)
class _Flow:
    """One stream at one end: what goes out, what came in."""

    key: PortKey
    path: PathId | None = None
    out: bytearray = field(default_factory=bytearray)
    is_out_ended: bool = False
    is_end_sent: bool = False
    inbox: bytearray = field(default_factory=bytearray)
    is_in_ended: bool = False
    raw: bytearray = field(default_factory=bytearray)
    opening: bytes = b""
    left: int = 0
    """Bytes of the piece that is arriving which are still to come."""
    is_open: bool = True


class PlainCore:
    """What both ends have in common; the pipe's number is the stream's."""

    def __init__(self, remarks: Sequence[Remark] = ()) -> None:
        self._flows: dict[PortKey, _Flow] = {}
        self._actions: deque[object] = deque()
        self._remarks = deque(remarks)
        self._received_bytes = 0
        self._sent_bytes = 0

    # ------------------------------------------------------------ ports

    def allowance(self, key: PortKey) -> int:
        flow = self._flows.get(key)
        return MOST_AHEAD - len(flow.out) if flow is not None and flow.is_open and not flow.is_out_ended else 0

    def on_app_bytes(self, key: PortKey, data: bytes, now: Instant) -> None:
        self._flows[key].out += data
        self._wake(key)

    def on_app_eof(self, key: PortKey, now: Instant) -> None:
        flow = self._flows.get(key)
        if flow is not None:
            flow.is_out_ended = True
            self._wake(key)

    def _wake(self, key: PortKey) -> None:
        path = self._flows[key].path
        if path is not None:
            self._actions.append(WakePath(path))

    def on_app_closed(self, key: PortKey, now: Instant, *, aborted: bool) -> None:
        flow = self._flows.pop(key, None)
        if flow is not None:
            self._actions.append(PortDone(key))

    def peek(self, key: PortKey) -> memoryview | None:
        flow = self._flows.get(key)
        return memoryview(bytes(flow.inbox)) if flow is not None and flow.inbox else None

    def consume(self, key: PortKey, size: int, now: Instant) -> None:
        del self._flows[key].inbox[:size]

    def at_end(self, key: PortKey) -> bool:
        flow = self._flows.get(key)
        return flow is not None and flow.is_in_ended and not flow.inbox

    # ------------------------------------------------------------ paths

    def _flow_of(self, path: PathId, pipe: int) -> _Flow | None:
        return next((flow for flow in self._flows.values() if flow.path == path and flow.key == pipe), None)

    def on_path_data(self, path: PathId, pipe: int, data: bytes, now: Instant) -> None:
        flow = self._flow_of(path, pipe)
        if flow is None:
            return
        before = len(flow.inbox)
        self._take_in(flow, data)
        self._received_bytes += len(flow.inbox) - before
        self._actions.append(PortReadable(flow.key))

    def _take_in(self, flow: _Flow, data: bytes) -> None:
        raw = flow.raw
        raw += data
        while raw:
            if not flow.left:
                if len(raw) < HEAD_BYTES:
                    break
                head = bytes(raw[:HEAD_BYTES])
                del raw[:HEAD_BYTES]
                flow.left = 0 if head == OPENING else int.from_bytes(head, "big")
                flow.is_in_ended = head == bytes(HEAD_BYTES)
            part = raw[: flow.left]
            flow.inbox += part
            flow.left -= len(part)
            del raw[: len(part)]

    def on_path_down(self, path: PathId, reason: str, now: Instant) -> None:
        for key in [flow.key for flow in self._flows.values() if flow.path == path]:
            del self._flows[key]
            self._actions.append(PortReset(key, ErrorCode.SERVER_GONE, reason, refused=False))

    def on_pong(self, path: PathId, ping: int, now: Instant) -> None:
        """Nobody pings."""

    def wants_room(self, path: PathId) -> bool:
        return self._has_remark() or any(self._has_news(flow) for flow in self._flows.values() if flow.path == path)

    def _has_remark(self) -> bool:
        if not self._remarks:
            return False
        remark = self._remarks[0]
        if remark.received > self._received_bytes or remark.sent > self._sent_bytes:
            return False
        return not remark.is_joined or any(self._has_news(flow) for flow in self._flows.values())

    def _has_news(self, flow: _Flow) -> bool:
        return flow.is_open and (bool(flow.out) or bool(flow.opening) or (flow.is_out_ended and not flow.is_end_sent))

    def on_room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        pieces: list[tuple[int, bytes]] = []
        while self._has_remark() and size > 0:
            pieces.append((REMARKS_PIPE, self._next_remark(size)))
            size -= len(pieces[-1][1])
        for flow in self._flows.values():
            if flow.path != path or not self._has_news(flow) or size <= HEAD_BYTES:
                continue
            pieces.append((flow.key, self._next_piece(flow, size - HEAD_BYTES)))
            size -= len(pieces[-1][1])
        return pieces

    def _next_remark(self, limit: int) -> bytes:
        remark = self._remarks.popleft()
        if remark.size > limit:
            self._remarks.appendleft(replace(remark, size=remark.size - limit))
        return bytes(min(remark.size, limit))

    def _next_piece(self, flow: _Flow, limit: int) -> bytes:
        opening, flow.opening = flow.opening, b""
        if self._remarks and (until := self._remarks[0].sent - self._sent_bytes) > 0:
            limit = min(limit, until)
        data = bytes(flow.out[:limit])
        del flow.out[: len(data)]
        self._sent_bytes += len(data)
        if data:
            self._actions.append(PortWritable(flow.key))
        elif not flow.is_out_ended:
            return opening
        flow.is_end_sent = not data
        return opening + len(data).to_bytes(HEAD_BYTES, "big") + data

    def on_timeout(self, now: Instant) -> None:
        """There are no timers."""

    def deadline(self) -> Instant | None:
        return None

    def actions(self) -> list[object]:
        actions = list(self._actions)
        self._actions.clear()
        return actions


class PlainClient(PlainCore):
    """One path to the first server that is named."""

    def __init__(self, remarks: Sequence[Remark] = ()) -> None:
        super().__init__(remarks)
        self._next_key = 1
        self._is_opening = False
        self._path: PathId | None = None

    def on_sighting(self, sighting: Sighting, now: Instant) -> None:
        if not self._is_opening:
            self._is_opening = True
            self._actions.append(OpenPath(PathId(1), sighting.addresses[0]))

    def on_discovery_done(self, detail: str, now: Instant) -> None:
        """Nothing waits for it."""

    def on_path_writable(self, path: PathId, binding: bytes, now: Instant) -> None:
        self._path = path
        for flow in self._flows.values():
            flow.path = path
        self._actions.append(WakePath(path))

    def dial(self, now: Instant, *, replicas: int = 1) -> PortKey:
        key = self._next_key
        self._next_key += 1
        self._flows[key] = _Flow(key, self._path, opening=OPENING)
        self._wake(key)
        return key

    def close(self, now: Instant) -> None:
        self._flows.clear()

    def readable(self) -> list[PortKey]:
        """Nothing is decided here that an application would wait for."""
        return []

    def path_views(self, now: Instant) -> Sequence[PathSnapshot]:
        return ()

    def anchor_of(self, key: PortKey) -> str:
        return ""


class PlainServer(PlainCore):
    """Accepts a stream when its first bytes come."""

    def on_path_writable(self, path: PathId, binding: bytes, remote: tuple[str, int] | None, now: Instant) -> None:
        """The client speaks first, but for remarks."""
        self._actions.append(WakePath(path))

    def _begin(self, path: PathId, pipe: int) -> None:
        self._flows[pipe] = _Flow(pipe, path, is_open=False)
        self._actions.append(Accept(pipe, "plain", None))

    def on_path_data(self, path: PathId, pipe: int, data: bytes, now: Instant) -> None:
        if pipe != REMARKS_PIPE and self._flow_of(path, pipe) is None:
            self._begin(path, pipe)
        super().on_path_data(path, pipe, data, now)

    def accepted(self, key: PortKey, now: Instant) -> None:
        self._flows[key].is_open = True
        self._wake(key)
        self._actions.append(PortReadable(key))

    def refused(self, key: PortKey, code: int, text: str, now: Instant) -> None:
        del self._flows[key]

    def drain(self, now: Instant) -> None:
        """Nothing to do."""

    def stop(self, now: Instant) -> None:
        self._flows.clear()

    def readable(self) -> list[PortKey]:
        """Nothing is decided here that an application would wait for."""
        return []

    def replica_views(self, now: Instant) -> Sequence[ReplicaSnapshot]:
        return ()
