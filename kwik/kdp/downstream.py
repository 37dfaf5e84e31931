"""Client: one stream's downstream: what has arrived, what may be delivered, and the client's own hash (SPEC §6.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.kdp.digest import Algorithm, RunningHash
from kwik.kdp.orders import Order, OrderBook
from kwik.kdp.reassembler import Copy, Reassembler
from kwik.kdp.replica_view import ReplicaView
from kwik.types import Offset, PathId

MAX_UNCONFIRMED = 1024
"""Delivered blocks whose announcement is still waited for; of more the oldest are forgotten."""
PRUNE_BLOCKS = 16
"""Announcements of delivered blocks are dropped in steps of this many blocks."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A whole copy whose digest is not the anchor's."""

    block: int
    source: int


class Downstream:
    """The no-splice rule lives here, alone: bytes leave only through peek and consume."""

    def __init__(self, block_bytes: int, algorithm: Algorithm | None, counts: dict[PathId, int]) -> None:
        self.block_bytes = block_bytes
        self.delivered: Offset = 0
        self.algorithm = algorithm
        self.running = RunningHash(algorithm, block_bytes) if algorithm else None
        self.parts = Reassembler(block_bytes)
        self.book = OrderBook(block_bytes, counts=counts)
        self._pruned = 0
        self._unconfirmed: dict[int, bytes] = {}
        """Own digests of delivered blocks that the present anchor has not announced yet."""
        self._source = -1

    @property
    def floor(self) -> Offset:
        """Start of the block that holds the first undelivered byte."""
        return self.delivered - self.delivered % self.block_bytes

    def stop_hashing(self) -> None:
        """The stream cannot have replicas: nothing will ever be compared."""
        self.running = None

    def add(
        self, view: ReplicaView, anchor: ReplicaView | None, offset: Offset, payload: bytes | memoryview
    ) -> list[int]:
        """Bytes of one replica; returns the blocks touched. Delivered bytes are dropped."""
        if offset < self.floor:
            cut = min(len(payload), self.floor - offset)
            payload, offset = payload[cut:], offset + cut
        if not payload:
            return []

        def may_evict(block: int, copy: Copy) -> bool:
            if anchor is not None and copy.source == anchor.number:
                return False
            return view is anchor or (copy.digest is None and not self.book.is_coming(block, copy.source))

        self.parts.add(view.number, offset, payload, may_evict)
        size = self.block_bytes
        return list(range(offset // size, (offset + len(payload) - 1) // size + 1))

    def judge(self, block: int, anchor: ReplicaView | None) -> tuple[bool, list[Rejected]]:
        """Look at the copies of a block: (whether it is held for good, copies that turned out wrong).

        A whole copy of a helper whose digest the anchor has not announced yet counts as held; it is not delivered.
        """
        length = self._length(block, anchor)
        held, rejected = False, []
        for copy in list(self.parts.copies(block)):
            if copy.filled < length:
                continue
            if anchor is not None and copy.source == anchor.number:
                held = True
                continue
            verdict = self._verdict(block, copy, anchor, length)
            if verdict is False:
                rejected.append(Rejected(block, copy.source))
                self.parts.drop_copy(block, copy.source)
            else:
                held = True
        return held, rejected

    def peek(self, anchor: ReplicaView | None, stop_at: Offset | None) -> memoryview | None:
        """The next bytes that may be delivered, never across a block's end nor past `stop_at`; None: there are none."""
        if anchor is None:
            return None
        block, start = divmod(self.delivered, self.block_bytes)
        copies = self.parts.copies(block)
        if not copies:
            return None
        length = self._length(block, anchor)
        if stop_at is not None:
            length = min(length, max(start, stop_at - block * self.block_bytes))
        for copy in copies:
            end = copy.filled if copy.filled < length else length
            if end > start and self._is_deliverable(block, copy, anchor):
                self._source = copy.source
                return memoryview(copy.data)[start:end]
        return None

    def consume(self, size: int, anchor: ReplicaView) -> tuple[int, list[tuple[PathId, int]]]:
        """Bytes of the last peek were handed to the application.

        Returns the number of the replica they came from, and (path, bytes) that need not come any more. Raises
        LocalProtocolError if the anchor sent other bytes than it announced: nothing it says holds the stream together.
        """
        block, start = divmod(self.delivered, self.block_bytes)
        copy = next(copy for copy in self.parts.copies(block) if copy.source == self._source)
        if self.running is not None:
            with memoryview(copy.data) as view:
                digests = self.running.update(view[start : start + size])
            announced = anchor.announced.digests.get(block)
            if digests:
                self._unconfirmed[block] = digests[0]
                self.confirm(block, announced)
        self.delivered += size
        if self.delivered // self.block_bytes == block:
            return self._source, []
        self.parts.drop_below(block + 1)
        return self._source, self.book.forget_below(block + 1)

    def confirm(self, block: int, announced: bytes | None) -> None:
        """The anchor's digest of a block that was delivered, perhaps before it was announced; None: still unknown.

        Raises LocalProtocolError if the anchor sent other bytes than it announces.
        """
        if announced is None:
            if len(self._unconfirmed) > MAX_UNCONFIRMED:
                del self._unconfirmed[next(iter(self._unconfirmed))]
            return
        if self._unconfirmed.pop(block, announced) != announced:
            raise LocalProtocolError(f"block {block} is not what its server announced", code=ErrorCode.DIVERGED)

    def prune(self, views: Iterable[ReplicaView]) -> None:
        """Drop announcements of delivered blocks, now and then."""
        block = self.delivered // self.block_bytes
        if block - self._pruned >= PRUNE_BLOCKS:
            self._pruned = block
            for view in views:
                view.announced.drop_below(block)
                view.agreement.forget_below(block)

    def rejudge(self, anchor: ReplicaView | None, counts: Callable[[Order, int], bool]) -> list[Rejected]:
        """The anchor has changed: all that is not delivered is judged again; `counts` tells which orders still do."""
        rejected = []
        # What was delivered is confirmed by the pair with which the new anchor took over.
        self._unconfirmed.clear()
        first = self.delivered // self.block_bytes
        for start, stop in self.book.settled_from(first):
            for block in range(start, stop):
                self.book.unsettle(block)
        for block in self.parts.blocks():
            for copy in self.parts.copies(block):
                # Another anchor's end may give the last block another length.
                copy.digest = None
            held, wrong = self.judge(block, anchor)
            rejected += wrong
            if held:
                self.book.settle(block)
        self.book.rewant_from(first, counts)
        return rejected

    def _length(self, block: int, anchor: ReplicaView | None) -> int:
        if anchor is None or anchor.final is None:
            return self.block_bytes
        return max(0, min(self.block_bytes, anchor.final - block * self.block_bytes))

    def _is_deliverable(self, block: int, copy: Copy, anchor: ReplicaView) -> bool:
        if copy.source == anchor.number:
            return True
        length = self._length(block, anchor)
        return copy.filled >= length and self._verdict(block, copy, anchor, length) is True

    def _verdict(self, block: int, copy: Copy, anchor: ReplicaView | None, length: int) -> bool | None:
        """True: equals the anchor's digest; False: differs; None: the anchor's digest is not known."""
        if self.algorithm is None:
            return False
        if copy.digest is None:
            with memoryview(copy.data) as view:
                copy.digest = self.algorithm(view[:length]).digest()
        announced = None if anchor is None else anchor.announced.digests.get(block)
        return None if announced is None else announced == copy.digest
