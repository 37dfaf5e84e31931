"""Bytes in any order, overlapping, repeated: they come out once and in order, and cost what they are."""

import pytest
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from kwik.quic import pipes
from kwik.quic.pipes import PipeReceiver

TEXT = bytes(range(256)) * 2


@given(st.lists(st.tuples(st.integers(0, 511), st.integers(0, 60)), max_size=60))
def test_any_order_gives_the_stream(spans):
    receiver = PipeReceiver(2)
    out = bytearray()
    held: set[int] = set()
    for start, size in [*spans, (0, 512)]:
        data = TEXT[start : start + size]
        event = receiver.handle_frame(QuicStreamFrame(data=data, offset=start))
        held.update(range(start, start + len(data)))
        if event is not None:
            assert event.data
            assert not event.end_stream
            out += event.data
        front = next((i for i in range(513) if i not in held), 512)
        assert len(out) == front == receiver.starting_offset()
        assert sum(map(len, receiver._pieces)) == len([i for i in held if i >= front])
    assert bytes(out) == TEXT
    assert receiver.highest_offset == 512


def test_pieces_are_bounded(monkeypatch):
    monkeypatch.setattr(pipes, "MAX_PIECES", 100)
    receiver = PipeReceiver(2)
    for offset in range(1, 201, 2):
        receiver.handle_frame(QuicStreamFrame(data=b"x", offset=offset))
    with pytest.raises(QuicConnectionError, match="too many out-of-order pieces"):
        receiver.handle_frame(QuicStreamFrame(data=b"x", offset=201))
