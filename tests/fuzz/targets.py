"""What is fuzzed: a name, and a callable that takes any bytes and may raise nothing but RemoteProtocolError.

The decoders of pipes are here; `parsers` has what else reads bytes of strangers, `cores` whole endpoints.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from kwik.errors import RemoteProtocolError
from kwik.wire import codec
from kwik.wire.codec import DataPiece, Decoder, Received, UpstreamPiece
from kwik.wire.schema import Sender

Target = Callable[[bytes], object]

TARGETS: dict[str, Target] = {}
"""Every target by name. To add one, put it under `target`."""

SEEDS: dict[str, Sequence[bytes]] = {}
"""What mutation starts from, for targets that do not read frames."""


def target(name: str, seeds: Sequence[bytes] | None = None) -> Callable[[Target], Target]:
    """Register a callable under a name, which also begins the names of its corpus files. `seeds`: instead of frames."""

    def register(call: Target) -> Target:
        if name in TARGETS:
            raise ValueError(f"two targets are named {name}")
        TARGETS[name] = call
        if seeds is not None:
            SEEDS[name] = seeds
        return call

    return register


def _feed(decoder: Decoder, pieces: list[bytes]) -> tuple[list[Received], int, RemoteProtocolError | None]:
    """What came out, how many payload bytes, and the error."""
    frames: list[Received] = []
    payload_bytes = 0
    for piece in pieces:
        try:
            received = decoder.feed(piece)
        except RemoteProtocolError as error:
            return frames, payload_bytes, error
        assert decoder.buffered_bytes <= decoder.max_buffered_bytes
        for item in received:
            if isinstance(item, DataPiece | UpstreamPiece):
                payload_bytes += len(item.payload)
            else:
                frames.append(item)
    return frames, payload_bytes, None


def _decode(sender: Sender, pipe: Literal["control", "data"], octets: bytes) -> None:
    """Feed whole and in pieces; both must tell the same, and every frame must survive a round trip."""
    frames, payload_bytes, error = _feed(Decoder(sender, pipe), [octets])
    step = 1 + len(octets) % 23
    pieces = [octets[at : at + step] for at in range(0, len(octets), step)]
    cut_frames, cut_payload_bytes, cut_error = _feed(Decoder(sender, pipe), pieces)
    assert repr(error) == repr(cut_error), f"whole: {error!r}, cut: {cut_error!r}"
    again = b"".join(codec.encode(frame) for frame in cut_frames if not isinstance(frame, DataPiece | UpstreamPiece))
    assert Decoder(sender, "control").feed(again) == cut_frames
    if error is not None:
        raise error
    assert (frames, payload_bytes) == (cut_frames, cut_payload_bytes)


@target("client-control")
def client_control(octets: bytes) -> None:
    """What a server reads on a control pipe."""
    _decode("client", "control", octets)


@target("client-data")
def client_data(octets: bytes) -> None:
    """What a server reads on a data pipe."""
    _decode("client", "data", octets)


@target("server-control")
def server_control(octets: bytes) -> None:
    """What a client reads on the control pipe."""
    _decode("server", "control", octets)


@target("server-data")
def server_data(octets: bytes) -> None:
    """What a client reads on a data pipe."""
    _decode("server", "data", octets)


from tests.fuzz import cores, parsers  # noqa: E402 - they register theirs here

__all__ = ["SEEDS", "TARGETS", "cores", "parsers", "target"]
