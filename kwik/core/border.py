"""Where bytes of a path become frames, and where a broken rule becomes the other side's fault (SPEC §3.2)."""

from __future__ import annotations

from collections.abc import Callable

from kwik.errors import LocalProtocolError, RemoteProtocolError
from kwik.wire.codec import DataPiece, Decoder, Received, UpstreamPiece
from kwik.wire.schema import BY_CLASS, Sender


class PipeReader:
    """The decoders of one path's incoming pipes; pipe 0 is the control pipe."""

    def __init__(self, sender: Sender) -> None:
        self._sender: Sender = sender
        self._decoders: dict[int, Decoder] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of frames that are not whole yet."""
        return sum(decoder.buffered_bytes for decoder in self._decoders.values())

    def feed(self, pipe: int, data: bytes, take: Callable[[Received], None]) -> None:
        """Decode and hand over; raises RemoteProtocolError for malformed frames and for those that break a rule."""
        decoder = self._decoders.get(pipe)
        if decoder is None:
            decoder = self._decoders[pipe] = Decoder(self._sender, "data" if pipe else "control")
        for received in decoder.feed(data):
            try:
                take(received)
            except RemoteProtocolError:
                raise
            except LocalProtocolError as error:
                raise error.as_remote(frame_name(received)) from error


def frame_name(received: Received) -> str:
    """As SPEC and the decoder's errors write it."""
    if isinstance(received, DataPiece | UpstreamPiece):
        return "DATA" if isinstance(received, DataPiece) else "UPSTREAM"
    return BY_CLASS[type(received)].name
