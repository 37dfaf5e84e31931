"""Server: reassembles one replica's upstream from pieces in any order and feeds it at its marks (SPEC §5.9).

A mark says at which downstream offset a range was written. A range is fed only when the replica's own output has
reached that offset and, if the mark carries a pair, agrees with it: a replayed dialogue stays a dialogue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from kwik.base.ranges import RangeSet
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.digest import Pair
from kwik.types import Offset

MAX_MARKS = 1024
"""Marks held per replica (SPEC §7); a range that would need one more is not credited."""

MAX_GAPS = 4096
"""Pieces held ahead of a gap."""


class Gate(Enum):
    """What a mark says about feeding the bytes behind it."""

    WAIT = auto()
    OPEN = auto()
    DIVERGED = auto()


@dataclass(frozen=True, slots=True)
class Mark:
    """The downstream offset under which a range was written, and the client's own pair there."""

    after: Offset
    pair: Pair | None


@dataclass(slots=True)
class _Segment:
    mark: Mark
    data: bytearray = field(default_factory=bytearray)
    used: int = 0


class UpstreamSink:
    """Bytes of any order in, bytes in order and at their time out."""

    def __init__(self, credit: Offset, window_bytes: int) -> None:
        self.received: Offset = 0
        self.taken: Offset = 0
        self.credit = credit
        self.final: Offset | None = None
        self._final_mark: Mark | None = None
        self._window_bytes = window_bytes
        self._ahead: dict[Offset, tuple[bytes, Mark]] = {}
        self._ahead_marks: Counter[Mark] = Counter()
        self._ahead_ranges = RangeSet()
        self._queue: deque[_Segment] = deque()
        self._fed: Offset = 0

    @property
    def final_mark(self) -> Mark | None:
        """The mark of the upstream's end, once that is known."""
        return self._final_mark

    @property
    def held_bytes(self) -> int:
        """Upstream kept in memory, gaps not counted."""
        return self.received - self._fed + self._ahead_ranges.total

    @property
    def mark_count(self) -> int:
        """Marks held now."""
        return len(self._queue) + len(self._ahead_marks)

    def on_piece(self, offset: Offset, payload: bytes, mark: Mark, *, fin: bool) -> bool:
        """A piece of the upstream; duplicates are dropped. True if anything of it was new.

        Raises LocalProtocolError beyond the credit, past the end, or for too many marks or gaps.
        """
        end = offset + len(payload)
        if end > self.credit:
            raise LocalProtocolError(
                f"upstream up to {end} exceeds the credit {self.credit}", code=ErrorCode.FLOW_CONTROL, field="offset"
            )
        self._check_final(end, fin=fin)
        is_news = fin and self._final_mark is None
        if is_news:
            self.final, self._final_mark = end, mark
        for start, stop in self._ahead_ranges.gaps(max(offset, self.received), max(end, self.received)):
            known = self._continues(mark, start) or mark in self._ahead_marks
            if (self.mark_count >= MAX_MARKS and not known) or len(self._ahead) >= MAX_GAPS:
                raise LocalProtocolError("too many marks or gaps are waiting", code=ErrorCode.LIMIT, field="after")
            self._take(start, payload[start - offset : stop - offset], mark)
            is_news = True
        self._join_ahead()
        return is_news

    def update_credit(self) -> bool:
        """Extend the credit by what the application took; True if it grew by a quarter of the window or more."""
        if self.mark_count > MAX_MARKS // 2:
            return False
        target = self.taken + self._window_bytes
        if target - self.credit < self._window_bytes // 4:
            return False
        self.credit = target
        return True

    def next_mark(self) -> Mark | None:
        """The mark of the bytes (or of the end) that would be fed next; None if nothing has arrived."""
        if self._queue:
            return self._queue[0].mark
        if self.final is not None and self._fed == self.final:
            return self._final_mark
        return None

    def marks(self) -> list[Mark]:
        """All marks that wait, the end's included."""
        waiting = [segment.mark for segment in self._queue]
        waiting += [mark for _, mark in self._ahead.values()]
        return waiting + ([self._final_mark] if self._final_mark is not None else [])

    def peek(self, gate: Callable[[Mark], Gate]) -> memoryview | None:
        """The next bytes that may be fed now."""
        if not self._queue or gate(self._queue[0].mark) is not Gate.OPEN:
            return None
        segment = self._queue[0]
        return memoryview(segment.data)[segment.used :]

    def consume(self, size: int) -> None:
        """The application took this many bytes of what peek showed."""
        segment = self._queue[0]
        segment.used += size
        self._fed += size
        self.taken = self._fed
        if segment.used == len(segment.data):
            self._queue.popleft()

    def at_end(self, gate: Callable[[Mark], Gate]) -> bool:
        """True when everything was fed and the end itself may be."""
        if self.final is None or self._fed != self.final or self._final_mark is None:
            return False
        return gate(self._final_mark) is Gate.OPEN

    def _check_final(self, end: Offset, *, fin: bool) -> None:
        beyond = self.final is not None and (end > self.final or (fin and end != self.final))
        if beyond or (fin and end < max(self.received, self._ahead_ranges.stop or 0)):
            raise LocalProtocolError(
                "upstream contradicts its own final size", code=ErrorCode.FLOW_CONTROL, field="offset"
            )

    def _continues(self, mark: Mark, start: Offset) -> bool:
        return bool(self._queue) and start == self.received and self._queue[-1].mark == mark

    def _take(self, start: Offset, payload: bytes, mark: Mark) -> None:
        if start == self.received:
            self._push(payload, mark)
        elif payload:
            self._ahead[start] = (payload, mark)
            self._ahead_marks[mark] += 1
            self._ahead_ranges.add(start, start + len(payload))

    def _push(self, payload: bytes, mark: Mark) -> None:
        if not payload:
            return
        if not self._queue or self._queue[-1].mark != mark:
            self._queue.append(_Segment(mark))
        self._queue[-1].data += payload
        self.received += len(payload)

    def _join_ahead(self) -> None:
        while self.received in self._ahead:
            payload, mark = self._ahead.pop(self.received)
            self._ahead_marks[mark] -= 1
            if not self._ahead_marks[mark]:
                del self._ahead_marks[mark]
            self._ahead_ranges.subtract(self.received, self.received + len(payload))
            self._push(payload, mark)
