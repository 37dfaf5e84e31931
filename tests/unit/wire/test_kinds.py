"""Each field kind: what it accepts, what it refuses on the way out and on the way in, and its stated maximum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.wire import kinds, schema, varint
from kwik.wire.schema import REGISTRY
from tests.strategies import values

KINDS = {field.kind.label: field.kind for spec in REGISTRY.values() for field in spec.fields}
LARGEST = varint.encode(varint.MAX)

# label, a value that must not be written, and the bytes that it would have had (None: there are none)
REFUSED = [
    ("uint", varint.MAX + 1, None),
    ("uint", -1, None),
    ("uint", "7", None),
    ("uint8", 256, "4100"),
    ("uint8", -1, None),
    ("uint8", 1.5, None),
    ("flag", 2, "02"),
    ("flag", 1, None),
    ("service text", "x" * 301, "412d" + "78" * 301),
    ("service text", "é" * 151, "412e" + "c3a9" * 151),
    ("service text", b"x", None),
    ("service text", "\ud800", "03eda080"),
    ("reason text", "x" * 201, "40c9" + "78" * 201),
    ("server id text", "x" * 65, "4041" + "78" * 65),
    ("bytes16", bytes(15), "00" * 15),
    ("bytes16", bytes(17), None),
    ("bytes16", "x" * 16, None),
    ("digest", bytes(31), "00" * 31),
    ("digest", None, None),
    ("blob", bytes(1), "0100"),
    ("blob", bytes(31), "1f" + "00" * 31),
    ("blob", bytes(33), "21" + "00" * 33),
    ("digest list", (), "00"),
    ("digest list", (bytes(32),) * 65, "4041" + "00" * 32 * 65),
    ("digest list", (bytes(31),), "01" + "00" * 31),
    ("digest list", bytes(32), None),
    ("path list", tuple(range(17)), "11" + "00" * 17),
    ("path list", (-1,), None),
    ("path list", 3, None),
    ("block ranges", (), "00"),
    ("block ranges", ((1, 0),), "010100"),
    ("block ranges", ((varint.MAX, 1),), "01" + LARGEST.hex() + "01"),
    ("block ranges", ((0, 1),) * 17, "11" + "0001" * 17),
    ("block ranges", ((1, 2, 3),), None),
    ("block ranges", (7,), None),
    ("order marks", (), "00"),
    ("order marks", ((0, 0),) * 17, "11" + "0000" * 17),
    ("order marks", (("a", 1),), None),
    ("extensions", tuple((i, b"") for i in range(33)), "21" + "".join(f"{i:02x}00" for i in range(33))),
    ("extensions", ((1, bytes(257)),), "01014101" + "00" * 257),
    ("extensions", ((2, b""), (1, b"")), "0202000100"),
    ("extensions", ((1, b""), (1, b"")), "0201000100"),
    ("extensions", ((1, "text"),), None),
    ("payload", bytes(16385), "00" * 16385),
    ("payload", "text", None),
]


@pytest.mark.parametrize("label", KINDS)
@given(data=st.data())
def test_what_is_written_is_read_and_within_bounds(label, data):
    kind = KINDS[label]
    value = data.draw(values(kind))
    written = kind.write(value)
    assert kind.read(written, 0) == (value, len(written))
    assert kind.size(value) == len(written) <= kind.max_bytes


@pytest.mark.parametrize(("label", "value", "encoded"), REFUSED)
def test_out_of_bounds_is_refused_both_ways(label, value, encoded):
    kind = KINDS[label]
    with pytest.raises(ValueError, match=r"\w"):
        kind.write(value)
    if encoded is not None:
        with pytest.raises(ValueError, match=r"\w"):
            kind.read(bytes.fromhex(encoded), 0)


@pytest.mark.parametrize("label", [label for label in KINDS if label != "payload"])
@given(data=st.data())
def test_every_truncation_says_how_much_is_missing(label, data):
    kind = KINDS[label]
    written = kind.write(data.draw(values(kind)))
    for cut in sorted({0, 1, len(written) // 2, len(written) - 1} - {len(written)}):
        with pytest.raises(varint.Truncated) as caught:
            kind.read(written[:cut], 0)
        assert cut < caught.value.need <= len(written)


def test_every_kind_is_used_and_named_once():
    declared = [
        extra
        for name in dir(schema)
        for extra in getattr(getattr(schema, name), "__metadata__", ())
        if isinstance(extra, kinds.Kind)
    ]
    assert sorted(kind.label for kind in declared) == sorted(KINDS)


def test_a_memoryview_is_as_good_as_bytes():
    assert KINDS["payload"].write(memoryview(b"abc")) == b"abc"
    assert KINDS["payload"].size(memoryview(b"abc")) == 3


def test_the_longest_encoding_of_a_value_counts_for_the_maximum():
    wide = b"".join((0xC000_0000_0000_0000 | number).to_bytes(8, "big") for number in (16, *range(16)))
    kind = KINDS["path list"]
    assert kind.read(wide, 0) == (tuple(range(16)), len(wide))
    assert kind.max_bytes == len(wide)
