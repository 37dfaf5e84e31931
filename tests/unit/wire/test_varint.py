"""QUIC integers: the RFC's own examples, every border, every truncation."""

import pytest
from hypothesis import given

from kwik.wire import varint
from tests.strategies import integers

# RFC 9000, appendix A.1.
RFC_EXAMPLES = {
    "c2197c5eff14e88c": 151_288_809_941_952_652,
    "9d7f3e7d": 494_878_333,
    "7bbd": 15_293,
    "25": 37,
}

BORDERS = [(0, 1), (63, 1), (64, 2), (16383, 2), (16384, 4), ((1 << 30) - 1, 4), (1 << 30, 8), (varint.MAX, 8)]


@pytest.mark.parametrize(("text", "value"), RFC_EXAMPLES.items())
def test_the_examples_of_the_rfc(text, value):
    assert varint.encode(value) == bytes.fromhex(text)
    assert varint.decode(bytes.fromhex(text), 0) == (value, len(text) // 2)


def test_a_longer_encoding_than_needed_is_read():
    assert varint.decode(bytes.fromhex("4025"), 0) == (37, 2)
    assert varint.decode(bytes.fromhex("c000000000000025"), 0) == (37, 8)


@pytest.mark.parametrize(("value", "width"), BORDERS)
def test_the_shortest_width_is_written(value, width):
    assert len(varint.encode(value)) == varint.size(value) == width


@pytest.mark.parametrize("value", [-1, -(1 << 70), varint.MAX + 1])
def test_what_does_not_fit_is_refused(value):
    with pytest.raises(ValueError, match="outside"):
        varint.encode(value)
    with pytest.raises(ValueError, match="outside"):
        varint.size(value)


@given(integers())
def test_round_trip_at_any_place_of_any_buffer(value):
    encoded = varint.encode(value)
    for buffer in (b"xx" + encoded, bytearray(b"xx" + encoded + b"y"), memoryview(b"xx" + encoded)):
        assert varint.decode(buffer, 2) == (value, 2 + len(encoded))


@given(integers())
def test_a_truncated_integer_says_how_far_it_reaches(value):
    encoded = varint.encode(value)
    with pytest.raises(varint.Truncated) as caught:
        varint.decode(b"", 0)
    assert caught.value.need == 1
    for cut in range(1, len(encoded)):
        with pytest.raises(varint.Truncated) as caught:
            varint.decode(encoded[:cut], 0)
        assert caught.value.need == len(encoded)
