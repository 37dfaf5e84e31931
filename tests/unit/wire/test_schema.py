"""The compiler of declarations: what it makes, what it refuses, and that quick and careful decoding agree."""

import dataclasses
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwik.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from kwik.wire import kinds, schema, varint
from kwik.wire.frames import Ack, AskDigests, Data, Grant, Opened
from kwik.wire.schema import BY_CLASS, REGISTRY, Extensions, Payload, Uint, compile_frame, find_fault
from tests.strategies import SPECS, frames_of

NAMES = [spec.name for spec in SPECS]
each_frame = pytest.mark.parametrize("spec", SPECS, ids=NAMES)


def body_of(encoded: bytes) -> bytes:
    _, at = varint.decode(encoded, 0)
    length, at = varint.decode(encoded, at)
    assert len(encoded) == at + length
    return encoded[at:]


@each_frame
@settings(max_examples=40)
@given(data=st.data())
def test_every_frame_comes_back_from_its_bytes(spec, data):
    frame = data.draw(frames_of(spec))
    encoded = spec.encode(frame)
    assert varint.decode(encoded, 0)[0] == spec.number
    body = body_of(encoded)
    assert spec.decode(body, 0) == spec.decode(memoryview(body), 0) == frame
    assert spec.size(frame) == len(encoded)
    assert len(body) <= spec.max_body_bytes


def carefully(spec, body):
    """The frame by way of the kinds alone, or None."""
    values, pos = [], 0
    try:
        for field in spec.fields:
            value, pos = field.kind.read(body, pos)
            values.append(value)
    except ValueError:
        return None
    return spec.cls(*values) if pos == len(body) else None


def quickly(spec, body):
    try:
        return spec.decode(body, 0)
    except RemoteProtocolError:
        return None


@each_frame
@settings(max_examples=40)
@given(data=st.data())
def test_quick_and_careful_decoding_agree_on_any_body(spec, data):
    body = bytearray(body_of(spec.encode(data.draw(frames_of(spec)))))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=9))
    assert quickly(spec, bytes(body)) == carefully(spec, bytes(body))


@each_frame
@settings(max_examples=40)
@given(data=st.data())
def test_the_head_is_the_frame_without_its_payload(spec, data):
    frame = data.draw(frames_of(spec))
    body = body_of(spec.encode(frame))
    *values, pos = spec.read_head(body)
    assert values == [getattr(frame, field.name) for field in spec.head_fields]
    assert pos <= spec.max_head_bytes
    assert spec.has_payload == (len(spec.fields) > len(spec.head_fields))
    if not spec.has_payload:
        assert pos == len(body)


@each_frame
def test_every_declaration_makes_sense(spec):
    assert BY_CLASS[spec.cls] is REGISTRY[spec.number] is spec
    assert spec.doc.endswith(".")
    assert spec.section.startswith("§")
    assert spec.max_body_bytes <= schema.MAX_PAYLOAD_BYTES + 128
    assert "__slots__" in vars(spec.cls)
    assert not hasattr(spec.cls, "__post_init__")  # decoders do not run it


@pytest.mark.parametrize(
    ("body", "field", "offset", "text"),
    [
        ("", "replica", 100, "ends inside"),
        ("0740", "order", 101, "ends inside"),
        ("0703", "urgent", 102, "ends inside"),
        ("070302010501", "urgent", 102, "neither 0 nor 1"),
        ("07030000", "blocks", 103, "0 entries"),
        ("070300010500", "blocks", 103, "empty"),
        ("0703000105", "blocks", 103, "ends inside"),
        ("070300010501ff", "body", 106, "1 bytes left over"),
    ],
)
def test_an_error_names_frame_field_and_offset(body, field, offset, text):
    with pytest.raises(RemoteProtocolError, match=text) as caught:
        BY_CLASS[Grant].decode(bytes.fromhex(body), 100)
    error = caught.value
    assert (error.code, error.frame, error.field, error.offset) == (ErrorCode.FRAME_FORMAT, "GRANT", field, offset)
    assert error.__cause__ is None


@pytest.mark.parametrize("width", [2, 4, 8])
def test_integers_may_be_wider_than_they_need_be(width):
    wide = {2: "4007", 4: "80000007", 8: "c000000000000007"}[width]
    assert BY_CLASS[Ack].decode(bytes.fromhex(wide * 3), 0) == Ack(7, 7, 7)
    wide_flag = {2: "4001", 4: "80000001", 8: "c000000000000001"}[width]
    assert BY_CLASS[Opened].decode(bytes.fromhex("0707" + wide_flag * 2), 0) == Opened(7, 7, True, True)


def test_uint8_is_bounded_in_the_compiled_decoder_too():
    assert BY_CLASS[AskDigests].decode(bytes.fromhex("010240ff"), 0) == AskDigests(1, 2, 255)
    with pytest.raises(RemoteProtocolError, match=r"ASK_DIGESTS.count .*256 is outside 0\.\.255"):
        BY_CLASS[AskDigests].decode(bytes.fromhex("01024100"), 0)


@pytest.mark.parametrize("function", ["encode", "size"])
@pytest.mark.parametrize("wrong", [-1, varint.MAX + 1, "7", None, 1.0])
def test_encoding_a_wrong_value_names_the_field(function, wrong):
    with pytest.raises(LocalProtocolError, match=r"^ACK\.floor: "):
        getattr(BY_CLASS[Ack], function)(Ack(1, wrong, 3))


def test_a_fault_that_no_kind_explains_still_names_the_frame():
    class Hidden(kinds.Octets):
        calls = 0

        def write(self, value):
            self.calls += 1
            if self.calls == 1:
                raise ValueError("only once")
            return super().write(value)

    class Fickle:
        field: Annotated[bytes, Hidden("hidden", 1)]

    spec = compile_frame(Fickle, 1, sender="client", pipe="any", section="§1")
    with pytest.raises(LocalProtocolError, match=r"^FICKLE: only once"):
        spec.encode(spec.cls(b"x"))


def test_find_fault_counts_what_is_left_over():
    fields = BY_CLASS[Ack].fields
    assert str(find_fault(fields, b"\1\2\3\4\5")).startswith("2 bytes left over")


def test_frames_are_frozen_and_comparable():
    ack = Ack(1, 2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ack.floor = 5  # type: ignore[misc]  # what the test is about
    assert ack == Ack(1, 2, 3) != Ack(1, 2, 4)
    assert len({ack, Ack(1, 2, 3)}) == 1
    assert repr(ack) == "Ack(replica=1, floor=2, credit=3)"
    assert BY_CLASS[Ack].decode(b"\1\2\3", 0) == ack


def test_a_type_number_is_given_once():
    before = dict(REGISTRY)
    with pytest.raises(TypeError, match="0x40 belongs to DATA"):

        @schema.frame(BY_CLASS[Data].number, sender="client", spec="§1")
        class Again:
            replica: Uint

    assert dict(REGISTRY) == before


class NoFields:
    pass


class PayloadFirst:
    payload: Payload
    replica: Uint


class NoKind:
    replica: int


class StrangeKind:
    replica: Annotated[int, "uint"]


NoFields.__annotations__ = {}


@pytest.mark.parametrize("cls", [NoFields, PayloadFirst, NoKind, StrangeKind])
def test_senseless_declarations_are_refused(cls):
    with pytest.raises(TypeError, match=cls.__name__):
        compile_frame(cls, 1, sender="client", pipe="control", section="§1")


@pytest.mark.parametrize("number", [-1, varint.MAX + 1])
def test_a_type_number_fits_into_an_integer(number):
    class Fine:
        replica: Uint

    with pytest.raises(TypeError, match="no frame type"):
        compile_frame(Fine, number, sender="client", pipe="control", section="§1")


def test_names_on_the_wire_are_words_in_capitals():
    class TwoWords:
        """Says hello."""

        extensions: Extensions

    spec = compile_frame(TwoWords, 0x4001, sender="server", pipe="any", section="§1")
    assert (spec.name, spec.doc, spec.pipe) == ("TWO_WORDS", "Says hello.", "any")
    assert spec.encode(spec.cls(())) == bytes.fromhex("80004001 01 00")
