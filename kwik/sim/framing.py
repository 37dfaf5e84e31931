"""What Kwik says besides the stream, and where, so that a plain connection can be made to carry as much there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from kwik.sim.plain import HEAD_BYTES, Remark
from kwik.sim.watch import Watch
from kwik.types import PathId
from kwik.wire import codec

if TYPE_CHECKING:
    from kwik.sim.endpoints import ServerHost
    from kwik.sim.hosts import Host
    from kwik.sim.world import World

Side = Literal["client", "server"]


@dataclass(slots=True)
class FramingWatch(Watch):
    """Writes down the remarks of both sides of a run with one server and one stream."""

    client: list[Remark] = field(default_factory=list)
    server: list[Remark] = field(default_factory=list)

    def begin(self, world: World) -> None:
        Watch.begin(self, world)
        _listen(world.client, "client", self.client)

    def on_start(self, host: ServerHost, *, is_suspect: bool) -> None:
        Watch.on_start(self, host, is_suspect=is_suspect)
        _listen(host, "server", self.server)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of all remarks of client and server."""
        return sum(remark.size for remark in self.client), sum(remark.size for remark in self.server)


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
        size = stream_bytes(self._decoders[pipe].feed(data))
        self.total += size
        return size


def stream_bytes(frames: Iterable[codec.Received]) -> int:
    """Bytes of the stream in these frames."""
    return sum(len(frame.payload) for frame in frames if isinstance(frame, codec.DataPiece | codec.UpstreamPiece))


def _listen(host: Host, side: Side, remarks: list[Remark]) -> None:
    sent, received = _Count(side), _Count("server" if side == "client" else "client")
    note_as_well, alter = host.note, host.altered

    def note(path: PathId, pipe: int, data: bytes) -> None:
        note_as_well(path, pipe, data)
        received.feed(pipe, data)

    def altered(path: PathId, pipe: int, data: bytes) -> bytes:
        before = sent.total
        said = sent.feed(pipe, data)
        # A plain connection brings a head of its own for each piece of the stream.
        size = len(data) - said - (HEAD_BYTES if said else 0)
        if size > 0:
            remarks.append(Remark(received.total, before, size))
        return alter(path, pipe, data)

    host.note = note  # type: ignore[method-assign]
    host.altered = altered  # type: ignore[method-assign]
