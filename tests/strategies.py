"""Hypothesis strategies derived from the wire declarations: any field, any frame, any cut of some bytes."""

from functools import singledispatch
from itertools import accumulate

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kwik.wire import codec, kinds, varint
from kwik.wire.codec import DataPiece, Frame, Received, UpstreamPiece
from kwik.wire.frames import UPSTREAM_FIN, Data, Upstream
from kwik.wire.schema import REGISTRY, FrameSpec

SPECS = [REGISTRY[number] for number in sorted(REGISTRY)]
PIPES = [("client", "control"), ("server", "control"), ("client", "data"), ("server", "data")]

_EDGES = [edge + step for edge in (0, 0x40, 0x4000, 0x4000_0000, varint.MAX) for step in (-1, 0, 1)]


def integers(maximum: int = varint.MAX) -> SearchStrategy[int]:
    """Integers of every width, the borders between the widths more often."""
    edges = [edge for edge in _EDGES if 0 <= edge <= maximum]
    return st.one_of(st.integers(0, min(maximum, 300)), st.sampled_from(edges), st.integers(0, maximum))


@singledispatch
def values(kind: kinds.Kind) -> SearchStrategy[object]:
    """Every value that a field of this kind may have."""
    raise TypeError(f"no strategy for {kind.label}")


@values.register
def _(kind: kinds.Integer) -> SearchStrategy[object]:
    return integers(kind.maximum)


@values.register
def _(kind: kinds.Boolean) -> SearchStrategy[object]:
    return st.booleans()


@values.register
def _(kind: kinds.Text) -> SearchStrategy[object]:
    text = st.text(st.characters(codec="utf-8"), max_size=kind.maximum)
    return text.filter(lambda value: len(value.encode()) <= kind.maximum)


@values.register
def _(kind: kinds.Octets) -> SearchStrategy[object]:
    return st.binary(min_size=kind.length, max_size=kind.length)


@values.register
def _(kind: kinds.OptionalOctets) -> SearchStrategy[object]:
    return st.one_of(st.just(b""), st.binary(min_size=kind.length, max_size=kind.length))


@values.register
def _(kind: kinds.OctetsList) -> SearchStrategy[object]:
    entry = st.binary(min_size=kind.length, max_size=kind.length)
    return st.lists(entry, min_size=1, max_size=kind.maximum).map(tuple)


@values.register
def _(kind: kinds.IntegerList) -> SearchStrategy[object]:
    return st.lists(integers(), max_size=kind.maximum).map(tuple)


@values.register
def _(kind: kinds.PairList) -> SearchStrategy[object]:
    return st.lists(st.tuples(integers(), integers()), min_size=1, max_size=kind.maximum).map(tuple)


@values.register
def _(kind: kinds.RangeList) -> SearchStrategy[object]:
    pair = st.tuples(integers(), integers()).filter(lambda pair: pair[1] >= 1 and sum(pair) <= varint.MAX)
    return st.lists(pair, min_size=1, max_size=kind.maximum).map(tuple)


@values.register
def _(kind: kinds.TypedEntries) -> SearchStrategy[object]:
    content = st.binary(max_size=kind.entry_bytes)
    return st.dictionaries(integers(), content, max_size=kind.maximum).map(
        lambda entries: tuple(sorted(entries.items()))
    )


@values.register
def _(kind: kinds.Rest) -> SearchStrategy[object]:
    return st.one_of(
        st.binary(max_size=64), st.integers(0, kind.maximum).map(lambda size: bytes(i & 255 for i in range(size)))
    )


def _is_legal(frame: object) -> bool:
    # What no single field can tell: DATA is never empty, and no payload ends beyond the largest offset.
    if isinstance(frame, Data):
        return 0 < len(frame.payload) <= varint.MAX - frame.offset
    return not isinstance(frame, Upstream) or frame.offset + len(frame.payload) <= varint.MAX


def frames_of(spec: FrameSpec) -> SearchStrategy[Frame]:
    """Every frame of one type."""
    fields = {field.name: values(field.kind) for field in spec.fields}
    return st.builds(spec.cls, **fields).filter(_is_legal)


def frames(sender: str | None = None, pipe: str | None = None) -> SearchStrategy[Frame]:
    """Every frame, or every one that this sender may put on that sort of pipe."""
    chosen = [s for s in SPECS if sender in (None, s.sender) and (pipe is None or s.pipe in (pipe, "any"))]
    return st.one_of([frames_of(spec) for spec in chosen])


def cuts(data: bytes) -> SearchStrategy[list[bytes]]:
    """The bytes in a few pieces, some of them possibly empty."""
    places = st.lists(st.integers(0, len(data)), max_size=8).map(sorted)
    return places.map(lambda at: [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)])


def joined(received: list[Received]) -> list[Frame]:
    """What a decoder gave, with the pieces of each payload put together again to whole frames.

    Only for bytes of whole frames; adjacent DATA of one order cannot be told apart and becomes one (see `merged`).
    """
    whole: list[Frame] = []
    parts: list[UpstreamPiece] = []
    for item in received:
        if isinstance(item, DataPiece):
            whole.append(Data(item.replica, item.order, item.offset, bytes(item.payload)))
        elif isinstance(item, UpstreamPiece):
            parts.append(item)
            if item.is_last:
                whole.append(_upstream(parts))
                parts = []
        else:
            whole.append(item)
    assert not parts
    return merged(whole)


def _upstream(parts: list[UpstreamPiece]) -> Upstream:
    first, last = parts[0], parts[-1]
    sizes = [len(part.payload) for part in parts]
    assert [part.offset - first.offset for part in parts] == [0, *accumulate(sizes[:-1])]
    assert not any(part.flags & UPSTREAM_FIN or part.is_last for part in parts[:-1])
    payload = b"".join(part.payload for part in parts)
    return Upstream(first.replica, first.offset, first.after, last.flags, first.chain, first.prefix, payload)


def merged(whole: list[Frame]) -> list[Frame]:
    """The same frames with DATA that continues its predecessor added to it, for comparing different cuts."""
    result: list[Frame] = []
    for frame in whole:
        last = result[-1] if result else None
        if (
            isinstance(frame, Data)
            and isinstance(last, Data)
            and (last.replica, last.order, last.offset + len(last.payload))
            == (frame.replica, frame.order, frame.offset)
        ):
            result[-1] = Data(last.replica, last.order, last.offset, last.payload + frame.payload)
        else:
            result.append(frame)
    return result


def encoded(sequence: list[Frame]) -> bytes:
    """The bytes of several frames, one behind the other."""
    return b"".join(codec.encode(frame) for frame in sequence)
