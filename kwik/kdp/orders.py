"""Client: which blocks are on order where, and which still have to be ordered (SPEC §5.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kwik.base.ranges import RangeSet, runs_of
from kwik.errors import ErrorCode, LocalProtocolError
from kwik.types import Instant, Offset, OrderId, PathId


@dataclass(slots=True, eq=False)
class Order:
    """A grant under way. `remaining` are the bytes that may still come; data outside it is unauthorised."""

    number: OrderId
    replica: int
    path: PathId
    remaining: RangeSet
    issued_at: Instant
    first_due: Instant
    """When the first byte is predicted to arrive."""
    rate: float
    """Predicted bytes per second once it arrives."""
    is_copy: bool = False
    is_suspended: bool = False
    """The path is silent: the blocks are wanted elsewhere, yet the data may still come."""
    is_revoked: bool = False
    given_up_from: int | None = None
    """From this block on nobody waits for it: those blocks are wanted elsewhere, yet the data may still come."""

    def is_awaited(self, block: int) -> bool:
        """Whether the block is left to this order."""
        return not self.is_suspended and (self.given_up_from is None or block < self.given_up_from)

    def owed_bytes(self, block_bytes: int) -> int:
        """What is still to come and not given up."""
        if self.given_up_from is None:
            return self.remaining.total
        return sum(stop - start for start, stop in self.remaining.within(0, self.given_up_from * block_bytes))

    def due_of(self, offset: Offset) -> Instant:
        """When the byte at `offset` is predicted to arrive."""
        return self.first_due + self.remaining.count_below(offset) / self.rate


@dataclass(slots=True)
class OrderBook:
    """All orders of one stream, and the blocks that nobody has been asked for yet."""

    block_bytes: int
    unassigned: RangeSet = field(default_factory=RangeSet)
    horizon: int = 0
    """Blocks below it have entered the book."""
    final: Offset | None = None
    counts: dict[PathId, int] = field(default_factory=dict)
    """Orders outstanding per path, shared by all streams of the session."""
    _orders: dict[tuple[PathId, int, OrderId], Order] = field(default_factory=dict)
    _by_path: dict[PathId, dict[Order, None]] = field(default_factory=dict)
    _by_block: dict[int, list[Order]] = field(default_factory=dict)
    _settled: RangeSet = field(default_factory=RangeSet)

    def orders(self) -> list[Order]:
        """All orders, oldest first."""
        return list(self._orders.values())

    def covering(self, block: int) -> list[Order]:
        """The orders that may still bring bytes of this block."""
        return self._by_block.get(block, [])

    def awaited(self, block: int) -> list[Order]:
        """The orders to which this block is left."""
        covering = self._by_block.get(block)
        return [order for order in covering if order.is_awaited(block)] if covering else []

    def is_coming(self, block: int, replica: int) -> bool:
        """Whether that replica still owes bytes of that block."""
        return any(order.replica == replica for order in self.covering(block))

    def extend(self, to_block: int) -> None:
        """More blocks have become authorised."""
        if to_block > self.horizon:
            self.unassigned.add(self.horizon, to_block)
            self.horizon = to_block

    def issue(self, order: Order, blocks: list[int], own_final: Offset | None) -> None:
        """Enter an order for whole blocks, cut at the replica's own final size if known; they count as assigned."""
        size = self.block_bytes
        for first, last in runs_of(blocks):
            self.unassigned.subtract(first, last)
            stop = last * size if own_final is None else min(last * size, own_final)
            if first * size < stop:
                order.remaining.add(first * size, stop)
                for block in range(first, -(-stop // size)):
                    self._by_block.setdefault(block, []).append(order)
        if order.remaining:
            self._orders[order.path, order.replica, order.number] = order
            self._by_path.setdefault(order.path, {})[order] = None
            self.counts[order.path] = self.counts.get(order.path, 0) + 1

    def on_data(self, path: PathId, replica: int, number: OrderId, offset: Offset, size: int) -> bool:
        """Bytes arrived; True if the order is done. Raises LocalProtocolError if the order does not cover them."""
        order = self._orders.get((path, replica, number))
        if order is None or not order.remaining.covers(offset, offset + size):
            raise LocalProtocolError(
                f"bytes {offset} to {offset + size} are not on order {number}",
                code=ErrorCode.UNAUTHORISED_DATA,
                field="order",
            )
        order.remaining.subtract(offset, offset + size)
        for block in range(offset // self.block_bytes, (offset + size - 1) // self.block_bytes + 1):
            self._unlink_if_done(order, block)
        if order.remaining:
            return False
        self._forget(order)
        return True

    def settle(self, block: int) -> list[Order]:
        """The block is held or delivered; returns the orders that still bring copies of it."""
        self._settled.add(block, block + 1)
        self.unassigned.subtract(block, block + 1)
        return list(self.covering(block))

    def unsettle(self, block: int) -> None:
        """A copy turned out to be of no use: the block is wanted again."""
        self._settled.subtract(block, block + 1)
        self._want(block)

    def is_settled(self, block: int) -> bool:
        """Whether the block is held or delivered."""
        return block in self._settled

    def settled_from(self, block: int) -> list[tuple[int, int]]:
        """Ranges of settled blocks from this one on."""
        return self._settled.within(block, max(block, self.horizon))

    def rewant_from(self, block: int, counts: Callable[[Order, int], bool]) -> None:
        """The anchor has changed: enter every authorised block that is neither held nor on an order that counts now."""
        for index in range(block, self.horizon):
            if index not in self._settled and not any(counts(order, index) for order in self.covering(index)):
                self.unassigned.add(index, index + 1)

    def suspend(self, path: PathId) -> list[int]:
        """The path is silent: what it owes is wanted from others; returns those blocks."""
        wanted = []
        for order in self.on_path(path):
            if not order.is_suspended:
                order.is_suspended = True
                wanted += self._rewant(order)
        return wanted

    def resume(self, path: PathId) -> None:
        """The path speaks again: what nobody else was asked for stays with it."""
        for order in self.on_path(path):
            order.is_suspended = False
            self._keep(order)

    def give_up(self, order: Order, block: int) -> int:
        """The order is not waited for any longer from this block on; returns how many bytes that were."""
        before = order.owed_bytes(self.block_bytes)
        order.given_up_from = block if order.given_up_from is None else min(block, order.given_up_from)
        for index in self._blocks_of(order):
            if index >= block:
                self._want(index)
        return before - order.owed_bytes(self.block_bytes)

    def drop(self, path: PathId, replica: int | None = None) -> list[int]:
        """The path is gone (for one replica, or at all): its orders died; returns the blocks wanted again."""
        wanted = []
        for order in self.on_path(path):
            if replica is None or order.replica == replica:
                wanted += self._remove(order)
        return wanted

    def drop_replica(self, replica: int) -> None:
        """The replica is no longer used."""
        for order in [order for order in self._orders.values() if order.replica == replica]:
            self._remove(order)

    def on_revoked(self, path: PathId, replica: int, number: OrderId, block: int) -> None:
        """The server confirmed: nothing from `block` on will come."""
        order = self._orders.get((path, replica, number))
        if order is None:
            return
        order.is_revoked, order.given_up_from = False, None
        for index in [index for index in self._blocks_of(order) if index >= block]:
            order.remaining.subtract(index * self.block_bytes, (index + 1) * self.block_bytes)
            self._unlink_if_done(order, index)
            self._want(index)
        # What is still to come of it was sent before the revoke arrived.
        if not order.is_suspended:
            self._keep(order)
        self._drop_if_done(order)

    def end_at(self, final: Offset | None) -> None:
        """The anchor's output ends here (None: a new anchor, end unknown): nothing beyond is wanted."""
        self.final = final
        if final is None:
            return
        last = -(-final // self.block_bytes)
        self.unassigned.subtract(last, max(last, self.horizon))
        self.horizon = min(self.horizon, last)

    def trim(self, replica: int, final: Offset, path: PathId) -> None:
        """That replica's output ends here: what it owes beyond is void. Its server trims in the same way."""
        size = self.block_bytes
        for order in [order for order in self.on_path(path) if order.replica == replica]:
            stop = order.remaining.stop
            if stop is None or stop <= final:
                continue
            order.remaining.subtract(final, stop)
            self._unlink_if_done(order, final // size)
            for block in range(-(-final // size), -(-stop // size)):
                self._unlink(order, block)
            self._drop_if_done(order)

    def count_of(self, path: PathId, replica: int) -> int:
        """Orders of this replica under way on this path."""
        count = 0
        for order in self._by_path.get(path, ()):
            count += order.replica == replica
        return count

    def owed_by(self, path: PathId, replica: int) -> int:
        """Bytes that this replica still owes on this path."""
        orders = self._by_path.get(path, {})
        return sum(order.owed_bytes(self.block_bytes) for order in orders if order.replica == replica)

    def remaining_of(self, path: PathId, replica: int, number: int) -> int:
        """Bytes that one order may still bring, given up or not."""
        order = self._orders.get((path, replica, OrderId(number)))
        return 0 if order is None else order.remaining.total

    def owed_of(self, path: PathId, replica: int, number: int) -> int:
        """Bytes for which one order is waited."""
        order = self._orders.get((path, replica, OrderId(number)))
        return 0 if order is None else order.owed_bytes(self.block_bytes)

    def forget_below(self, block: int) -> list[tuple[PathId, int]]:
        """Everything below is delivered: servers skip it, so nobody owes it; returns (path, bytes) that were owed."""
        self.unassigned.subtract(0, block)
        self._settled.add(0, block)
        released = []
        for index in [index for index in self._by_block if index < block]:
            for order in list(self._by_block[index]):
                before = order.owed_bytes(self.block_bytes)
                order.remaining.subtract(0, block * self.block_bytes)
                released.append((order.path, before - order.owed_bytes(self.block_bytes)))
                self._unlink_if_done(order, index)
                self._drop_if_done(order)
        return released

    def under_way(self, path: PathId) -> Iterable[Order]:
        """The orders under way on a path, oldest first; only to be looked at."""
        return self._by_path.get(path, ())

    def on_path(self, path: PathId) -> list[Order]:
        """The same, to be kept while they change."""
        return list(self.under_way(path))

    def _blocks_of(self, order: Order) -> list[int]:
        size = self.block_bytes
        return sorted({b for start, stop in order.remaining for b in range(start // size, (stop - 1) // size + 1)})

    def _want(self, block: int) -> bool:
        """Enter a block as unassigned unless it is held, or an order that counts still covers it."""
        if block in self._settled or block >= self.horizon or block in self.unassigned:
            return False
        if any(order.is_awaited(block) for order in self.covering(block)):
            return False
        self.unassigned.add(block, block + 1)
        return True

    def _keep(self, order: Order) -> None:
        """Its blocks are left to this order after all."""
        for block in self._blocks_of(order):
            if order.is_awaited(block):
                self.unassigned.subtract(block, block + 1)

    def _rewant(self, order: Order) -> list[int]:
        return [block for block in self._blocks_of(order) if self._want(block)]

    def _remove(self, order: Order) -> list[int]:
        blocks = self._blocks_of(order)
        self._forget(order)
        for block in blocks:
            self._unlink(order, block)
        return [block for block in blocks if self._want(block)]

    def _unlink(self, order: Order, block: int) -> None:
        holders = self._by_block.get(block)
        if holders is None or order not in holders:
            return
        if len(holders) == 1:
            del self._by_block[block]
        else:
            holders.remove(order)

    def _unlink_if_done(self, order: Order, block: int) -> None:
        size = self.block_bytes
        if not order.remaining.overlaps(block * size, (block + 1) * size):
            self._unlink(order, block)

    def _drop_if_done(self, order: Order) -> None:
        if not order.remaining:
            self._forget(order)

    def _forget(self, order: Order) -> None:
        if self._orders.pop((order.path, order.replica, order.number), None) is not None:
            self.counts[order.path] -= 1
            self._by_path[order.path].pop(order, None)
