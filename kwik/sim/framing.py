"""What Kwik says besides the stream, and where, so that a plain connection can be made to carry as much there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from kwik.sim.plain import HEAD_BYTES, Remark
from kwik.sim.watch import Watch
from kwik.types import Instant, PathId
from kwik.wire import codec

if TYPE_CHECKING:
    from kwik.sim.endpoints import ServerHost
    from kwik.sim.hosts import Host
    from kwik.sim.world import World

Side = Literal["client", "server"]


@dataclass(slots=True)
class Remarks:
    """What one side said, in its order."""

    all: list[Remark] = field(default_factory=list)
    _alone_from: int = 0
    _at: Instant = 0.0
    """Those from `_alone_from` on were said at this instant, without bytes of the stream so far."""

    def add(self, at: Instant, *, sent: int, received: int, size: int, stream_bytes: int) -> None:
        """A piece of so many bytes is written, when the stream had come so far; some bytes are the stream's."""
        if at != self._at:
            self._at, self._alone_from = at, len(self.all)
        if size > stream_bytes:
            self.all.append(Remark(received, sent, size - stream_bytes))
        if stream_bytes:
            joined = [replace(remark, is_joined=True) for remark in self.all[self._alone_from :]]
            # A plain connection brings a head of its own for each piece of the stream.
            if joined and joined[-1].size <= HEAD_BYTES:
                joined.pop()
            elif joined:
                joined[-1] = replace(joined[-1], size=joined[-1].size - HEAD_BYTES)
            self.all[self._alone_from :] = joined
            self._alone_from = len(self.all)


@dataclass(slots=True)
class FramingWatch(Watch):
    """Writes down the remarks of both sides of a run with one server and one stream."""

    client: Remarks = field(default_factory=Remarks)
    server: Remarks = field(default_factory=Remarks)

    def begin(self, world: World) -> None:
        Watch.begin(self, world)
        _listen(world.client, "client", self.client)

    def on_start(self, host: ServerHost, *, is_suspect: bool) -> None:
        Watch.on_start(self, host, is_suspect=is_suspect)
        _listen(host, "server", self.server)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of all remarks of client and server."""
        return sum(remark.size for remark in self.client.all), sum(remark.size for remark in self.server.all)


class _Count:
    """Bytes of the stream among the bytes of a side's pipes."""

    def __init__(self, sender: Side) -> None:
        self.total = 0
        self._sender: Side = sender
        self._decoders: dict[int, codec.Decoder] = {}

    def feed(self, pipe: int, data: bytes) -> int:
        """How many of these bytes are the stream's."""
        if pipe not in self._decoders:
            self._decoders[pipe] = codec.Decoder(self._sender, "data" if pipe else "control")
        size = _stream_bytes(self._decoders[pipe].feed(data))
        self.total += size
        return size


def _stream_bytes(frames: Iterable[codec.Received]) -> int:
    """Bytes of the stream in these frames."""
    return sum(len(frame.payload) for frame in frames if isinstance(frame, codec.DataPiece | codec.UpstreamPiece))


def _listen(host: Host, side: Side, remarks: Remarks) -> None:
    sent, received = _Count(side), _Count("server" if side == "client" else "client")
    note_as_well, alter = host.note, host.altered

    def note(path: PathId, pipe: int, data: bytes) -> None:
        note_as_well(path, pipe, data)
        received.feed(pipe, data)

    def altered(path: PathId, pipe: int, data: bytes) -> bytes:
        before = sent.total
        said = sent.feed(pipe, data)
        remarks.add(host.clock.now, sent=before, received=received.total, size=len(data), stream_bytes=said)
        return alter(path, pipe, data)

    host.note = note  # type: ignore[method-assign]
    host.altered = altered  # type: ignore[method-assign]
