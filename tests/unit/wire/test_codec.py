"""The codec of a pipe: any cut gives the same frames, payload comes at once, and memory stays bounded."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwik.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kwik.wire import codec, varint
from kwik.wire.codec import DataPiece, Decoder, UpstreamPiece, encode, encode_data, encode_data_head
from kwik.wire.frames import MAX_DATA_PAYLOAD, Ack, Closed, Data, Grant, Open, Upstream
from kwik.wire.messages import Drain
from kwik.wire.schema import BY_CLASS, REGISTRY
from tests.strategies import PIPES, cuts, encoded, frames, frames_of, integers, joined, merged

each_pipe = pytest.mark.parametrize(("sender", "pipe"), PIPES)

MARK = bytes(range(32))
UPSTREAM = Upstream(5, 1000, 20, 1, MARK, MARK[::-1], b"hello")
DATA = Data(7, 3, 70_000, b"world")


def fed(decoder, pieces):
    return [item for piece in pieces for item in decoder.feed(piece)]


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


def outcome(sender, pipe, pieces):
    """What came out, or the error, and the most that was buffered."""
    decoder = Decoder(sender, pipe)
    received = []
    for piece in pieces:
        try:
            received += decoder.feed(piece)
        except RemoteProtocolError as error:
            return received, (error.code, error.frame, error.field, error.offset, error.message)
        assert decoder.buffered_bytes <= decoder.max_buffered_bytes
    return received, decoder.buffered_bytes


# ---------------------------------------------------------------- whole, cut, byte by byte


@each_pipe
@settings(max_examples=50)
@given(data=st.data())
def test_any_cut_gives_the_same_frames(sender, pipe, data):
    sequence = data.draw(st.lists(frames(sender, pipe), max_size=4))
    octets = encoded(sequence)
    for pieces in ([octets], data.draw(cuts(octets)), [memoryview(octets)]):
        decoder = Decoder(sender, pipe)
        assert joined(fed(decoder, pieces)) == merged(sequence)
        assert decoder.buffered_bytes == 0


@each_pipe
@settings(max_examples=30)
@given(data=st.data())
def test_byte_by_byte_gives_the_same_frames(sender, pipe, data):
    sequence = data.draw(st.lists(frames(sender, pipe), max_size=3))
    assert joined(fed(Decoder(sender, pipe), bytewise(encoded(sequence)))) == merged(sequence)


def damaged(data, octets):
    octets = bytearray(octets)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=9))
    return bytes(octets)


@each_pipe
@settings(max_examples=50)
@given(data=st.data())
def test_any_bytes_give_frames_or_one_error_in_any_cut(sender, pipe, data):
    sequence = data.draw(st.lists(frames(sender, pipe), max_size=3))
    octets = damaged(data, encoded(sequence))
    whole, end = outcome(sender, pipe, [octets])
    for pieces in (data.draw(cuts(octets)), [*bytewise(octets[:2000]), octets[2000:]]):
        cut, cut_end = outcome(sender, pipe, pieces)
        assert cut_end == end
        if isinstance(end, int):  # else frames before the fault are given only by an earlier feed
            assert contents(cut) == contents(whole)


def contents(received):
    """Pieces reduced to what does not depend on the cut, also where the last frame is not whole."""
    result: list[Any] = []
    for item in received:
        if isinstance(item, DataPiece | UpstreamPiece):
            who = (type(item), item.replica, getattr(item, "order", None), getattr(item, "after", None))
            start, payload = item.offset, bytes(item.payload)
            if result and isinstance(result[-1], tuple) and result[-1][0] == who:
                _, before, earlier = result[-1]
                if before + len(earlier) == start:
                    result.pop()
                    start, payload = before, earlier + payload
            result.append((who, start, payload))
        else:
            result.append(item)
    return result


@each_pipe
@given(octets=st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(sender, pipe, octets):
    assert outcome(sender, pipe, [octets])[1] == outcome(sender, pipe, bytewise(octets))[1]


# ---------------------------------------------------------------- payload in pieces


def test_data_is_handed_up_before_the_frame_is_whole():
    octets = encode(DATA)
    decoder = Decoder("server", "data")
    head = len(octets) - len(DATA.payload)
    assert decoder.feed(octets[:head]) == []
    assert decoder.buffered_bytes == 0
    assert decoder.feed(octets[head : head + 2]) == [DataPiece(7, 3, 70_000, b"wo")]
    assert decoder.feed(octets[head + 2 :] + octets) == [
        DataPiece(7, 3, 70_002, b"rld"),
        DataPiece(7, 3, 70_000, b"world"),
    ]


def test_upstream_is_handed_up_before_the_frame_is_whole_and_ends_once():
    octets = encode(UPSTREAM)
    pieces = fed(Decoder("client", "control"), [octets[:-3], octets[-3:-2], octets[-2:]])
    marks = (MARK, MARK[::-1])
    assert pieces == [
        UpstreamPiece(5, 1000, 20, 0, *marks, b"he", False),
        UpstreamPiece(5, 1002, 20, 0, *marks, b"l", False),
        UpstreamPiece(5, 1003, 20, 1, *marks, b"lo", True),
    ]


@pytest.mark.parametrize("flags", [0, 1])
def test_an_upstream_without_payload_is_one_piece(flags):
    octets = encode(Upstream(5, 1000, 0, flags, b"", b"", b""))
    piece = UpstreamPiece(5, 1000, 0, flags, b"", b"", b"", True)
    assert Decoder("client", "data").feed(octets * 2) == [piece, piece]
    assert fed(Decoder("client", "data"), bytewise(octets)) == [piece]


def test_pieces_of_a_memoryview_share_its_memory():
    octets = encode(DATA)
    (piece,) = Decoder("server", "data").feed(memoryview(octets))
    assert isinstance(piece, DataPiece)
    assert isinstance(piece.payload, memoryview)
    assert piece.payload.obj is octets


def test_one_byte_less_than_a_head_waits_for_exactly_that_byte():
    octets = encode(UPSTREAM)
    head = len(octets) - len(UPSTREAM.payload)
    for cut in range(1, head):
        decoder = Decoder("client", "data")
        assert decoder.feed(octets[:cut]) == []
        assert decoder.buffered_bytes == cut
        (piece,) = decoder.feed(octets[cut:])
        assert isinstance(piece, UpstreamPiece)
        assert (piece.payload, piece.is_last) == (b"hello", True)


# ---------------------------------------------------------------- the fast path of DATA


@given(frames_of(BY_CLASS[Data]))
def test_the_fast_path_of_data_is_the_generated_encoder(frame):
    generated = BY_CLASS[Data].encode(frame)
    fields = (frame.replica, frame.order, frame.offset)
    assert encode(frame) == encode_data(*fields, frame.payload) == generated
    assert encode_data(*fields, memoryview(frame.payload)) == generated
    assert encode_data_head(*fields, len(frame.payload)) + frame.payload == generated
    assert codec.size(frame) == len(generated)


@given(integers(), integers(), integers(), st.integers(1, 300))
def test_the_pieces_of_data_are_what_the_generated_decoder_reads(replica, order, offset, size):
    if offset + size <= varint.MAX:
        octets = encode_data(replica, order, offset, bytes(size))
        (piece,) = Decoder("server", "data").feed(octets)
        _, at = varint.decode(octets, 0)
        _, at = varint.decode(octets, at)
        assert [BY_CLASS[Data].decode(octets[at:], 0)] == joined([piece])


@pytest.mark.parametrize(
    ("fields", "payload", "text"),
    [
        ((1, 2, 3), b"", "payload: 0 bytes"),
        ((1, 2, 3), bytes(MAX_DATA_PAYLOAD + 1), "payload: 16385 bytes"),
        ((-1, 2, 3), b"x", "replica, order or offset"),
        ((1, varint.MAX + 1, 3), b"x", "replica, order or offset"),
        ((1, 2, varint.MAX), b"x", "ends beyond"),
    ],
)
def test_data_out_of_bounds_is_not_sent(fields, payload, text):
    replica, order, offset = fields
    with pytest.raises(LocalProtocolError, match=f"^DATA.*{text}"):
        encode_data(replica, order, offset, payload)
    with pytest.raises(LocalProtocolError, match=f"^DATA.*{text}"):
        encode(Data(replica, order, offset, payload))


def test_upstream_out_of_bounds_is_not_sent():
    assert encode(Upstream(1, varint.MAX - 1, 0, 0, b"", b"", b"x"))
    with pytest.raises(LocalProtocolError, match=r"^UPSTREAM\.payload: ends beyond"):
        encode(Upstream(1, varint.MAX, 0, 0, b"", b"", b"x"))


# ---------------------------------------------------------------- errors


def wire(type_, body, length=None):
    return varint.encode(type_) + varint.encode(len(body) if length is None else length) + body


FORMAT, UNKNOWN = ErrorCode.FRAME_FORMAT, ErrorCode.UNKNOWN_FRAME
FAR = varint.encode(varint.MAX)

# name, sender, pipe, bytes, expected code, frame, field, offset
REJECTED: dict[str, tuple[Any, ...]] = {
    "frame of the server from a client": ("client", "control", encode(Closed(1)), FORMAT, "CLOSED", "type", 0),
    "frame of the client from a server": ("server", "control", encode(Ack(1, 2, 3)), FORMAT, "ACK", "type", 0),
    "control frame on a data pipe": ("client", "data", encode(Ack(1, 2, 3)), FORMAT, "ACK", "type", 0),
    "data on the control pipe": ("server", "control", encode(DATA), FORMAT, "DATA", "type", 0),
    "behind a good frame": ("server", "control", encode(Closed(1)) * 2 + encode(DATA), FORMAT, "DATA", "type", 6),
    "unknown type": ("client", "control", wire(0x7F, b""), UNKNOWN, "frame 0x7f", "type", 0),
    "below the skippable": ("client", "control", wire(0x3FFF, b""), UNKNOWN, "frame 0x3fff", "type", 0),
    "above the skippable": ("client", "control", wire(0x8000, b""), UNKNOWN, "frame 0x8000", "type", 0),
    "too much to skip": ("client", "data", wire(0x4000, b"", 65537), FORMAT, "frame 0x4000", "length", 0),
    "body too long, at once": ("client", "control", wire(0x23, b"", 25), FORMAT, "ACK", "length", 0),
    "data too long, at once": ("server", "data", wire(0x40, b"", 16409), FORMAT, "DATA", "length", 0),
    "payload too long": ("server", "data", wire(0x40, b"\1\2\3", 3 + 16385), FORMAT, "DATA", "payload", 8 + 1),
    "data without payload": ("server", "data", wire(0x40, b"\1\2\3"), FORMAT, "DATA", "payload", 6),
    "data beyond the last offset": ("server", "data", wire(0x40, b"\1\2" + FAR, 11), FORMAT, "DATA", "payload", 13),
    "data head longer than the body": ("server", "data", wire(0x40, b"\1\2"), FORMAT, "DATA", "offset", 5),
    "data head cut by the body": ("server", "data", wire(0x40, b"\1\x40", 2), FORMAT, "DATA", "order", 4),
    "blob of 31 bytes": ("client", "data", wire(0x41, b"\1\2\3\0\x1f", 100), FORMAT, "UPSTREAM", "chain", 8),
    "upstream beyond": ("client", "data", wire(0x41, b"\1" + FAR + b"\0\0\0\0", 14), FORMAT, "UPSTREAM", "payload", 16),
    "field out of bounds": ("client", "control", encode(Ack(1, 2, 3)) + wire(0x27, b"\1\2\x41\0"), FORMAT,
                            "ASK_DIGESTS", "count", 9),
    "body ends in a field": ("client", "control", wire(0x23, b"\1\2"), FORMAT, "ACK", "credit", 4),
    "bytes left over": ("client", "control", wire(0x23, b"\1\2\3\4"), FORMAT, "ACK", "body", 5),
}  # fmt: skip


@pytest.mark.parametrize("case", REJECTED)
def test_rejected(case):
    sender, pipe, octets, *expected = REJECTED[case]
    for pieces in ([octets], bytewise(octets)):
        decoder = Decoder(sender, pipe)
        with pytest.raises(RemoteProtocolError) as caught:
            fed(decoder, pieces)
        error = caught.value
        assert [error.code, error.frame, error.field, error.offset] == expected
        assert decoder.buffered_bytes == 0
        with pytest.raises(RemoteProtocolError) as again:
            decoder.feed(encode(DATA))
        assert again.value is error


def test_unknown_skippable_frames_are_skipped_in_any_cut():
    octets = wire(0x4000, b"") + encode(Closed(1)) + wire(0x7FFF, bytes(65536)) + encode(Closed(2))
    for step in (1, 7, 1200, len(octets)):
        decoder = Decoder("server", "control")
        pieces = [octets[at : at + step] for at in range(0, len(octets), step)]
        assert fed(decoder, pieces) == [Closed(1), Closed(2)]


# ---------------------------------------------------------------- bounds


@each_pipe
def test_what_is_held_is_bounded_by_the_longest_control_frame_or_head(sender, pipe):
    bound = Decoder(sender, pipe).max_buffered_bytes
    assert bound <= (10_000 if pipe == "control" else 200)


def test_a_long_control_frame_is_held_until_it_is_whole():
    frame = Open(1, 2, 0, 1, "s:1", 16384, 1, 0, 0, 4, tuple((n, bytes(256)) for n in range(32)))
    octets = encode(frame)
    decoder = Decoder("client", "control")
    assert decoder.feed(octets[:-1]) == []
    assert decoder.buffered_bytes == len(octets) - 1 <= decoder.max_buffered_bytes
    assert decoder.feed(octets[-1:] + encode(Grant(1, 2, True, ((0, 1),)))) == [frame, Grant(1, 2, True, ((0, 1),))]
    assert decoder.buffered_bytes == 0


def test_size_is_what_encode_makes():
    for frame in (UPSTREAM, DATA, Closed(70_000), Drain(5)):
        assert codec.size(frame) == len(encode(frame))


def test_the_unions_of_frames_are_the_registry():
    declared = {spec.cls for spec in REGISTRY.values()}
    assert set(codec.Frame.__args__) == declared
    assert set(codec.ClientFrame.__args__) | {Upstream} == {s.cls for s in REGISTRY.values() if s.sender == "client"}
    assert set(codec.ServerFrame.__args__) | {Data} == {s.cls for s in REGISTRY.values() if s.sender == "server"}
