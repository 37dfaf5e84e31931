"""A dishonest server: an honest core whose frames are changed on their way out (SPEC §2, guarantee 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kwik.sim.apps import FLIP
from kwik.sim.scenario import LieKind
from kwik.types import PathId
from kwik.wire import codec, frames

_FALSE_DIGEST = b"\xa5" * 32


class Liar:
    """Decodes what the core says, bends it, and encodes it again; one for all paths of a server.

    data: announces the truth and sends other bytes. digests: announces what it does not send. final: ends the stream
    too early. withhold: promises blocks and never sends them. probe: answers every PROBE wrongly.
    """

    def __init__(self, lie: LieKind, at: int) -> None:
        self.told = 0
        self._lie = lie
        self._at = at
        self._decoders: dict[tuple[PathId, int], codec.Decoder] = {}

    def alter(self, path: PathId, pipe: int, data: bytes) -> bytes:
        """What is sent instead of `data`, the next bytes of a pipe."""
        decoder = self._decoders.get((path, pipe))
        if decoder is None:
            sort: Literal["data", "control"] = "data" if pipe else "control"
            decoder = self._decoders[path, pipe] = codec.Decoder("server", sort)
        return b"".join(self._say(item) for item in decoder.feed(data))

    def _say(self, item: codec.Received) -> bytes:
        if isinstance(item, codec.DataPiece):
            return self._say_data(item)
        assert not isinstance(item, codec.UpstreamPiece)
        bent = self._bend(item)
        self.told += bent is not item
        return codec.encode(bent)

    def _say_data(self, piece: codec.DataPiece) -> bytes:
        payload = bytes(piece.payload)
        if piece.offset + len(payload) > self._at and self._lie in ("data", "withhold"):
            self.told += 1
            if self._lie == "withhold":
                return b""
            true = max(0, self._at - piece.offset)
            payload = payload[:true] + bytes(byte ^ FLIP for byte in payload[true:])
        return codec.encode_data(piece.replica, piece.order, piece.offset, payload)

    def _bend(self, frame: codec.ControlFrame) -> codec.ControlFrame:
        match self._lie, frame:
            case "digests", frames.Digests():
                return replace(frame, digests=tuple(_FALSE_DIGEST for _ in frame.digests))
            case "digests", frames.Run():
                return replace(frame, digest=_FALSE_DIGEST)
            case "final", frames.Fin():
                return replace(frame, final=max(0, frame.final - 1))
            case "probe", frames.Probed():
                return replace(frame, prefix=_FALSE_DIGEST)
            case _:
                return frame
