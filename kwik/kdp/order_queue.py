"""Server: the orders of one replica on one path, and which bytes go out next (SPEC §5.6)."""

from __future__ import annotations

from dataclasses import dataclass

from kwik.errors import ErrorCode, LocalProtocolError
from kwik.types import Offset, OrderId

MAX_ORDERS = 256
"""Orders outstanding on a path (SPEC §7)."""
NOTHING_DROPPED = (1 << 62) - 1
"""REVOKED says this of an order that was finished already (SPEC §5.6)."""


@dataclass(slots=True)
class ServerOrder:
    """What is left of one order: byte ranges in ascending offset, each sent once."""

    number: OrderId
    urgent: bool
    ranges: list[list[Offset]]
    busy_told: bool = False

    @property
    def next_offset(self) -> Offset:
        """The first byte still to be sent."""
        return self.ranges[0][0]

    def advance(self, size: int) -> None:
        """`size` bytes were sent."""
        head = self.ranges[0]
        head[0] += size
        if head[0] >= head[1]:
            del self.ranges[0]

    def cut(self, offset: Offset) -> None:
        """Drop everything from `offset` on."""
        while self.ranges and self.ranges[-1][0] >= offset:
            self.ranges.pop()
        if self.ranges and self.ranges[-1][1] > offset:
            self.ranges[-1][1] = offset


class OrderQueue:
    """Ascending offset, urgent ones first. At most 256 orders; more raises LocalProtocolError (LIMIT)."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._orders: dict[OrderId, ServerOrder] = {}

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def owed_ranges(self) -> list[tuple[Offset, Offset]]:
        """All byte ranges still to be sent."""
        return [(start, stop) for order in self._orders.values() for start, stop in order.ranges]

    def add(self, number: OrderId, blocks: tuple[tuple[int, int], ...], *, urgent: bool, credit: Offset) -> None:
        """Take an order. Nothing may reach beyond the credit, rounded up to a whole block."""
        if len(self._orders) >= MAX_ORDERS:
            raise LocalProtocolError(f"more than {MAX_ORDERS} orders on a path", code=ErrorCode.LIMIT, field="order")
        size = self._block_bytes
        ranges = sorted([first * size, (first + count) * size] for first, count in blocks)
        limit = -(-credit // size) * size
        if ranges and ranges[-1][1] > limit:
            raise LocalProtocolError(
                f"an order reaches {ranges[-1][1]}, beyond the credit {credit}", code=ErrorCode.LIMIT, field="blocks"
            )
        if number in self._orders:
            raise LocalProtocolError(f"order {number} was given twice", field="order")
        self._orders[number] = ServerOrder(number, urgent, ranges)

    def revoke(self, number: OrderId, block: int) -> int:
        """Drop what is left of an order from `block` on; returns the first block that will not come."""
        order = self._orders.get(number)
        if order is None:
            return NOTHING_DROPPED
        size = self._block_bytes
        # The block being sent is not torn apart: half a block is of no use to anybody.
        cut = max(block, -(-order.next_offset // size))
        order.cut(cut * size)
        if not order.ranges:
            del self._orders[number]
        return cut

    def end_at(self, final: Offset) -> None:
        """The output ends at `final`: what lies beyond is void."""
        for order in list(self._orders.values()):
            order.cut(final)
            if not order.ranges:
                del self._orders[order.number]

    def next(self, produced: Offset) -> ServerOrder | None:
        """The order whose bytes go out next; None if nothing that is produced is ordered."""
        best: ServerOrder | None = None
        for order in self._orders.values():
            if order.next_offset < produced and (best is None or _rank(order) < _rank(best)):
                best = order
        return best

    def waiting(self, produced: Offset) -> ServerOrder | None:
        """The first order that waits for the application and has not been told so."""
        best: ServerOrder | None = None
        for order in self._orders.values():
            if order.next_offset < produced:
                return None
            if best is None or _rank(order) < _rank(best):
                best = order
        return best if best is not None and not best.busy_told else None

    def has_due(self, produced: Offset) -> bool:
        """Whether `next` or `waiting` has something."""
        if any(order.next_offset < produced for order in self._orders.values()):
            return True
        return self.waiting(produced) is not None

    def advance(self, order: ServerOrder, size: int) -> None:
        """`size` bytes of the order were sent."""
        order.advance(size)
        order.busy_told = False
        if not order.ranges:
            del self._orders[order.number]


def _rank(order: ServerOrder) -> tuple[bool, Offset]:
    return (not order.urgent, order.next_offset)
