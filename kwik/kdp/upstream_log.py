"""Client: everything written, kept from byte 0 as long as a replica may need it (SPEC §5.9).

Up to `replay_limit` the log stays whole and the stream is recruitable; past it the log keeps only what some live
replica has not received yet.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from kwik.kdp.opaque import LONGEST, Head, classify
from kwik.kdp.upstream_sink import Mark
from kwik.types import Offset

MARK_BYTES = 64
"""What one mark counts against the replay limit (SPEC §5.9)."""


@dataclass(frozen=True, slots=True)
class UpstreamPiece:
    """A piece as it goes into one UPSTREAM frame."""

    offset: Offset
    payload: bytes
    mark: Mark
    fin: bool


class UpstreamLog:
    """The client's memory of one upstream. Offsets are absolute; pieces never mix two marks."""

    def __init__(self, replay_limit_bytes: int) -> None:
        self.end: Offset = 0
        self.final_mark: Mark | None = None
        self._limit_bytes = replay_limit_bytes
        self._starts: list[Offset] = []
        self._chunks: list[tuple[bytes, Mark]] = []
        self._is_whole = True
        self._mark_count = 0
        self.head = Head.UNDECIDED

    @property
    def is_for_all(self) -> bool:
        """Whether other replicas than the anchor may be sent the upstream (SPEC §6.2)."""
        return self.head is Head.OPEN or (self.head is Head.UNDECIDED and (self.is_finished or not self.end))

    @property
    def base(self) -> Offset:
        """First byte still kept."""
        return self._starts[0] if self._starts else self.end

    @property
    def held_bytes(self) -> int:
        """Bytes kept."""
        return self.end - self.base

    @property
    def is_recruitable(self) -> bool:
        """True while a new replica could be given everything from byte 0."""
        return self._is_whole

    @property
    def is_finished(self) -> bool:
        """The application has ended the upstream."""
        return self.final_mark is not None

    def append(self, data: bytes, mark: Mark) -> None:
        """Bytes that the application wrote; `data` must not be empty."""
        if not self._chunks or self._chunks[-1][1] != mark:
            self._mark_count += 1
        self._starts.append(self.end)
        self._chunks.append((data, mark))
        self.end += len(data)
        if self.head is Head.UNDECIDED:
            self._judge_head()
        if self.end + MARK_BYTES * self._mark_count > self._limit_bytes:
            self._is_whole = False

    def _judge_head(self) -> None:
        # Nothing is freed before the head is decided: so short a log is whole.
        self.head = classify(b"".join(data for data, _ in self._chunks)[:LONGEST])
        if self.head is Head.OPAQUE:
            self._is_whole = False

    def finish(self, mark: Mark) -> None:
        """The application ended the upstream."""
        if self.final_mark is None:
            self.final_mark = mark

    def free(self, received: Offset) -> None:
        """All live replicas have received everything below; drop it unless the log is kept whole for recruits."""
        if self._is_whole:
            return
        count = bisect_right(self._starts, received) - 1
        if count >= 0 and received >= self._starts[count] + len(self._chunks[count][0]):
            count += 1
        if count > 0:
            del self._starts[:count]
            del self._chunks[:count]

    def piece(self, offset: Offset, limit: int) -> UpstreamPiece | None:
        """Up to `limit` bytes from `offset`, or the bare end; None if nothing is there to send."""
        if offset >= self.end:
            if self.final_mark is None:
                return None
            return UpstreamPiece(self.end, b"", self.final_mark, fin=True)
        index = bisect_right(self._starts, offset) - 1
        data, mark = self._chunks[index]
        start = offset - self._starts[index]
        payload = data[start : start + limit]
        last = self.final_mark is not None and offset + len(payload) == self.end and mark == self.final_mark
        return UpstreamPiece(offset, payload, mark, fin=last)

    def lowest_mark(self, received: Offset) -> Offset | None:
        """Smallest `after` above 0 of what lies at or beyond `received` (the end included); None if there is none.

        A mark at 0 asks nothing of a replica: no pair belongs to it.
        """
        # Marks only grow with the offset, so the first one not received is the lowest.
        first = bisect_right(self._chunks, 0, key=lambda chunk: chunk[1].after)
        if received < self.end:
            first = max(first, bisect_right(self._starts, received) - 1)
            if first < len(self._chunks):
                return self._chunks[first][1].after
        return None if self.final_mark is None or not self.final_mark.after else self.final_mark.after

    def chunks_between(self, start: Offset, stop: Offset) -> int:
        """At least as many as there are marks on the bytes between two offsets."""
        return bisect_right(self._starts, stop) - bisect_right(self._starts, start)
