"""The receiving half of a pipe: bytes that came out of order are kept as they are, never as a zero-filled buffer.

aioquic's own receiver fills a gap with zeros up to the highest offset, so that a single byte sent far ahead makes it
allocate the whole window. Here memory follows the bytes that really came; the number of pieces is bounded as well.
"""

from bisect import bisect_right

from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.stream import QuicStreamReceiver

MAX_PIECES = 65_536
"""Out-of-order pieces of one pipe. A full window of whole packets has a quarter of that; more is an attack."""


class PipeReceiver(QuicStreamReceiver):
    """Reassembles one pipe. The caller has checked flow control and that the frame carries no FIN."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id=stream_id, readable=True)
        self._starts: list[int] = []  # sorted; the pieces are disjoint and all lie above _buffer_start
        self._pieces: list[bytes] = []

    @property
    def pieces(self) -> int:
        """Out-of-order pieces that are held."""
        return len(self._starts)

    def handle_frame(self, frame: QuicStreamFrame) -> StreamDataReceived | None:
        """Take one frame; what became contiguous comes back. Raises QuicConnectionError beyond MAX_PIECES."""
        data = self.take(frame.offset, frame.data)
        return StreamDataReceived(data=data, end_stream=False, stream_id=self._stream_id or 0) if data else None

    def take(self, start: int, data: bytes) -> bytes:
        """Take bytes at offset `start`; what became contiguous, perhaps nothing, comes back. Raises as above."""
        end = start + len(data)
        self.highest_offset = max(self.highest_offset, end)
        if start != self._buffer_start or self._starts:
            if end <= self._buffer_start:
                return b""
            self._insert(max(start, self._buffer_start), end, start, data)
            data = self._take_front()
            end = self._buffer_start + len(data)
        self._buffer_start = end
        return data

    def _insert(self, start: int, end: int, base: int, data: bytes) -> None:
        """Keep those parts of [start, end) that are not held yet; `data` begins at offset `base`."""
        starts, pieces = self._starts, self._pieces
        index = bisect_right(starts, start)
        if index:
            start = max(start, starts[index - 1] + len(pieces[index - 1]))
        while start < end:
            stop = min(end, starts[index]) if index < len(starts) else end
            if stop > start:
                starts.insert(index, start)
                pieces.insert(index, data[start - base : stop - base])
                index += 1
            if index == len(starts):
                break
            start = max(start, starts[index] + len(pieces[index]))
            index += 1
        if len(starts) > MAX_PIECES:
            raise QuicConnectionError(
                error_code=QuicErrorCode.FLOW_CONTROL_ERROR,
                frame_type=QuicFrameType.STREAM_BASE,
                reason_phrase="too many out-of-order pieces",
            )

    def _take_front(self) -> bytes:
        """Remove and return what is contiguous from the delivered offset on."""
        offset, count = self._buffer_start, 0
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start != offset:
                break
            offset += len(piece)
            count += 1
        if not count:
            return b""
        data = self._pieces[0] if count == 1 else b"".join(self._pieces[:count])
        del self._starts[:count], self._pieces[:count]
        return data
