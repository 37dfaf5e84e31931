"""Client: credit, orders, copies and revokes of one stream (SPEC §5.6, §6.6; DESIGN §6)."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from kwik.base.ranges import RangeSet, runs_of
from kwik.config import MIN_STREAM_EXTRA_BYTES
from kwik.errors import ErrorCode
from kwik.kdp import sending
from kwik.kdp.orders import Order
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.kdp.scheduler import Lane
from kwik.wire import frames

if TYPE_CHECKING:
    from kwik.config import Config
    from kwik.kdp.path import ClientPath
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instant, PathId

UNMEASURED_RATE = 1.25e6
"""Bytes per second credited to a path when no path at all has been measured (10 Mbit/s)."""
STALLED_S = 1.0
"""A reader that took nothing for this long gets no new credit (SPEC §6.6)."""
MAX_REVOKES = 256
"""Unanswered REVOKEs per replica and path (SPEC §7); what cannot be taken back now simply comes."""
MAX_ORDERS_USED = 240
MAX_PATH_ORDERS_USED = 3800
"""Orders this side keeps outstanding per replica and path, and per path; SPEC §7 allows 256 and 4096."""
MAX_RANGES = 16
"""Ranges in one GRANT."""
MAX_ORDER_BLOCKS = 256
"""Blocks in one order, so that a revoke can be fine."""
CREDIT_PARTS = 32
"""Credit is looked at when the reader has taken this part of the window."""
COPY_SHARE_SMALL = 0.06
COPY_SHARE_LARGE = 0.02
COPY_SMALL_BYTES = 1 << 20
"""Copies may cost 6 % of the first MiB and 2 % of the rest (DESIGN §6)."""
COPY_BURST_BYTES = 16384
"""Copies that are free before the shares count: about what a server sends in its first flight (RFC 9002 §7.2), for
until then nobody can know how slow its path is; at most a quarter of the first window."""
MAX_WITHHELD = 3
"""A helper that has held delivery up so often is used no more (SPEC §6.3)."""
MIN_LATE_S = 0.020
"""A block is late this long after its own prediction, at least."""
MIN_PATIENCE_S = 0.05
PATIENCE_RTTS = 2.0
"""How long the head of the line is left to a helper whose announcement is on its way."""
EXPECT_PATIENCES = 4
"""After so many times that long blocks further on are not left to it either."""
TAIL_BLOCKS = 4
"""The last blocks never go to an unproven path."""


def guarantee_bytes(block_bytes: int) -> int:
    """What every open stream is guaranteed (SPEC §6.6)."""
    return block_bytes + min(MIN_STREAM_EXTRA_BYTES, block_bytes)


def extend_credit(stream: ClientStream, now: Instant) -> None:
    """Authorise more downstream as the reader takes it, within the session's budget."""
    pool, down = stream.context.pool, stream.down
    size = down.block_bytes
    pool.shrink(stream.key, max(stream.credit - down.delivered, guarantee_bytes(size)))
    taken_at = stream.app.last_taken_at
    if stream.app.readable_told and taken_at is not None and now - taken_at > STALLED_S:
        return
    reach = down.delivered + _window(stream)
    stream.credit = max(stream.credit, reach)
    limit, final = stream.credit // size, down.book.final
    down.book.extend(limit if final is None else min(limit, -(-final // size)))


def _window(stream: ClientStream) -> int:
    """A stream whose reader has taken nothing yet has only what newcomers get."""
    pool, config = stream.context.pool, stream.context.config
    if stream.app.last_taken_at is not None:
        return pool.grow(stream.key, config.receive_window_bytes)
    return pool.start_with(stream.key, config.receive_window_bytes)


def is_credit_due(stream: ClientStream) -> bool:
    """Whether the reader has taken so much, or stands at such a place, that decisions are due."""
    down, anchor = stream.down, stream.anchor
    if anchor is None or stream.takeover.is_running or down.delivered == anchor.final:
        return True
    if down.delivered // down.block_bytes in down.book.unassigned:
        return True
    window = stream.context.config.receive_window_bytes
    return stream.credit - down.delivered <= window - max(window // CREDIT_PARTS, down.block_bytes)


def plan(stream: ClientStream, now: Instant) -> None:
    """Give orders for whatever is unassigned and has a lane with room."""
    _note_idle_head(stream, now)
    book, size = stream.down.book, stream.down.block_bytes
    pairs = _pairs(stream)
    if not pairs or (len(pairs) == 1 and not book.unassigned and not stream.takeover.is_stuck):
        # A single lane has nothing to do but to fetch what nobody was asked for yet.
        return
    lanes = _lanes(stream, pairs, now)
    if len(lanes) > 1:
        _rebalance(stream, lanes, now)
    if book.unassigned and any(_is_worthwhile(lane, size) for lane in lanes):
        stream.context.scheduler.plan(list(book.unassigned), lanes, size)
        for lane in lanes:
            for first in range(0, len(lane.assigned), MAX_ORDER_BLOCKS):
                _issue(stream, lane, lane.assigned[first : first + MAX_ORDER_BLOCKS], now)
            lane.assigned = []
    if stream.takeover.is_stuck:
        _give_up_head(stream, lanes, now)
    _force_head(stream, lanes, now)
    if len(lanes) > 1:
        _copy_late_head(stream, lanes, now)
        _end_game(stream, lanes, now)


def paths_with_room(paths: list[ClientPath], config: Config, now: Instant) -> set[tuple[PathId, bool]]:
    """Paths on which orders are worthwhile, for streams that have only that one (True), and for others (False)."""
    size = config.block_bytes
    rates = {path.id: path.rate_bytes_s(now) for path in paths}
    likely = max((rate for rate in rates.values() if rate), default=UNMEASURED_RATE)
    found: set[tuple[PathId, bool]] = set()
    for path in paths:
        for is_sole in (True, False):
            target = _target_bytes(path, rates[path.id] or likely, config, size, sole=is_sole)
            if target - path.outstanding_bytes >= _worthwhile_bytes(size, target):
                found.add((path.id, is_sole))
    return found


def may_go_on(stream: ClientStream, rooms: set[tuple[PathId, bool]]) -> bool:
    """Whether a stream that waits for room should look: with hundreds of them most would look in vain."""
    views = stream.usable_views()
    paths = [path.id for view in views for path in view.live_paths()]
    is_sole = len(paths) == 1 and len(views) == 1
    return any((path, is_sole) in rooms for path in paths)


def late_head_at(stream: ClientStream) -> Instant | None:
    """When the block that the reader waits for becomes late; None if none is on order, or a copy is under way."""
    down = stream.down
    block = down.delivered // down.block_bytes
    orders = down.book.awaited(block)
    if not orders:
        return None
    order = orders[0]
    view = stream.views[order.replica]
    if view.produced <= down.delivered or any(other.is_copy for other in orders):
        return None
    end = min((block + 1) * down.block_bytes, view.produced)
    path = view.paths.get(order.path)
    rtt = path.rtt_s if path is not None else 0.0
    return order.due_of(end) + max(MIN_LATE_S, rtt / 2)


def revoke(stream: ClientStream, order: Order, from_block: int) -> bool:
    """Ask the server to drop what it has not sent of an order; the answer tells what that was. False if not asked."""
    view = stream.views.get(order.replica)
    path = None if view is None else view.paths.get(order.path)
    if view is None or path is None or order.is_revoked or view.revokes.get(path.id, 0) >= MAX_REVOKES:
        return False
    order.is_revoked = True
    view.revokes[path.id] = view.revokes.get(path.id, 0) + 1
    stream.context.send(path, frames.Revoke(view.number, ((order.number, from_block),)))
    return True


def _is_worthwhile(lane: Lane, block_bytes: int) -> bool:
    """Orders are given a few blocks at a time: one frame for each block would cost more than it gains."""
    return lane.target_bytes - lane.queued_bytes >= _worthwhile_bytes(block_bytes, lane.target_bytes)


def _worthwhile_bytes(block_bytes: int, target_bytes: int) -> int:
    return min(4 * block_bytes, max(block_bytes, target_bytes // 4))


def _pairs(stream: ClientStream) -> list[tuple[ReplicaView, ClientPath]]:
    """Who may be given orders now, and on which of its paths."""
    counts, book, anchor = stream.context.order_counts, stream.down.book, stream.anchor
    return [
        (view, path)
        for view in stream.usable_views()
        if view is anchor or (view.state is ViewState.LIVE and view.agreed)
        for path in view.live_paths()
        # What all replicas have on the path is no less than what this one has: most often nothing is to be counted.
        if (count := counts.get(path.id, 0)) < MAX_ORDERS_USED
        or (count < MAX_PATH_ORDERS_USED and book.count_of(path.id, view.number) < MAX_ORDERS_USED)
    ]


def _lanes(stream: ClientStream, pairs: list[tuple[ReplicaView, ClientPath]], now: Instant) -> list[Lane]:
    rates = {path.id: path.rate_bytes_s(now) for _, path in pairs}
    known = [rate for rate in rates.values() if rate]
    fallback = UNMEASURED_RATE if not known else known[0] if len(known) == 1 else median(known)
    sole = len(pairs) == 1 and len(stream.usable_views()) == 1
    return [_lane(stream, view, path, rates[path.id] or fallback, sole=sole, now=now) for view, path in pairs]


def _lane(stream: ClientStream, view: ReplicaView, path: ClientPath, rate: float, *, sole: bool, now: Instant) -> Lane:
    size = stream.down.block_bytes
    return Lane(
        replica=view.number,
        path=path.id,
        is_anchor=view is stream.anchor,
        rate_bytes_s=rate,
        rtt_s=path.rtt_s,
        queued_bytes=path.outstanding_bytes,
        target_bytes=_target_bytes(path, rate, stream.context.config, size, sole=sole),
        eligible=_eligible(stream, view, path),
        is_proven=path.is_proven,
        expected_from=_expected_from(stream, view, now),
        expected_in_s=path.rtt_s,
    )


def _target_bytes(path: ClientPath, rate: float, config: Config, block_bytes: int, *, sole: bool) -> int:
    """How much a path should owe: all that the window allows if there is no other, else what fills its pipe."""
    return max(config.receive_window_bytes if sole else path.target_bytes(rate, block_bytes), block_bytes)


def patience_ends_at(stream: ClientStream) -> Instant | None:
    """Until when the block that the reader waits for may be left to a helper that has not announced it yet."""
    if stream.idle_head is None:
        return None
    return stream.idle_head[1] + max(MIN_PATIENCE_S, PATIENCE_RTTS * stream.longest_rtt_s())


def _note_idle_head(stream: ClientStream, now: Instant) -> None:
    block = stream.down.delivered // stream.down.block_bytes
    if block not in stream.down.book.unassigned:
        stream.idle_head = None
    elif stream.idle_head is None or stream.idle_head[0] != block:
        stream.idle_head = (block, now)


def _force_head(stream: ClientStream, lanes: list[Lane], now: Instant) -> None:
    """What the reader waits for is ordered even where a pipe is full: orders ahead of production must not block it."""
    block, end = stream.down.delivered // stream.down.block_bytes, patience_ends_at(stream)
    if block not in stream.down.book.unassigned or (end is not None and now < end and len(lanes) > 1):
        return
    able = [lane for lane in lanes if lane.may(block)]
    if able:
        _issue(stream, min(able, key=lambda lane: lane.eta_s(stream.down.block_bytes)), [block], now)


def _expected_from(stream: ClientStream, view: ReplicaView, now: Instant) -> int | None:
    """A helper that has agreed all along, and keeps pace with the anchor, will soon agree on the next blocks, too."""
    anchor, book = stream.anchor, stream.down.book
    if anchor is None or view is anchor or view.agreement.differing or not view.agreed or book.final is not None:
        return None
    idle, end = stream.idle_head, patience_ends_at(stream)
    given_up = idle is not None and end is not None and now >= idle[1] + EXPECT_PATIENCES * (end - idle[1])
    if given_up or view.produced + stream.context.config.receive_window_bytes // 2 < anchor.produced:
        return None
    return view.agreed.stop


def _eligible(stream: ClientStream, view: ReplicaView, path: ClientPath) -> RangeSet | None:
    if view is stream.anchor:
        return None
    final = stream.down.book.final
    anchor_serves = stream.anchor is not None and stream.anchor.is_usable and bool(stream.anchor.live_paths())
    if final is None or path.is_proven or not anchor_serves:
        return view.agreed
    blocks = view.agreed.copy()
    last = -(-final // stream.down.block_bytes)
    blocks.subtract(max(0, last - TAIL_BLOCKS), max(last, 1))
    return blocks


def _issue(stream: ClientStream, lane: Lane, blocks: list[int], now: Instant, *, copy: bool = False) -> None:
    view = stream.views[lane.replica]
    path = view.paths[lane.path]
    size = stream.down.block_bytes
    ahead = path.outstanding_bytes
    order = Order(
        number=view.draw_order(),
        replica=view.number,
        path=path.id,
        remaining=RangeSet(),
        issued_at=now,
        first_due=now + path.rtt_s + ahead / lane.rate_bytes_s,
        rate=lane.rate_bytes_s,
        is_copy=copy,
    )
    ranges = _as_ranges(blocks)
    for first in range(0, len(ranges), MAX_RANGES):
        part = ranges[first : first + MAX_RANGES]
        if first:
            order = Order(view.draw_order(), view.number, path.id, RangeSet(), now, order.first_due, order.rate, copy)
        chosen = [block for start, count in part for block in range(start, start + count)]
        stream.down.book.issue(order, chosen, view.final)
        if not order.remaining:
            continue
        path.on_ordered(order.remaining.total, now)
        if (chosen[-1] + 1) * size > view.credit_on.get(path.id, 0):
            # An order may not reach beyond the credit; the ACK goes first on the same pipe.
            sending.tell_credit(stream, view, path)
        # What waits at the head of the line overtakes what was ordered ahead of time.
        urgent = copy or chosen[0] * size <= stream.down.delivered
        stream.context.send(path, frames.Grant(view.number, order.number, urgent, tuple(part)))


def _as_ranges(blocks: list[int]) -> list[tuple[int, int]]:
    runs = runs_of(blocks)
    # One run needs no sorting, and is what there is most often.
    return [(start, stop - start) for start, stop in (runs if len(runs) == 1 else RangeSet(runs))]


def _rebalance(stream: ClientStream, lanes: list[Lane], now: Instant) -> None:
    """Take back what one lane cannot deliver soon when another one would be idle."""
    book, size = stream.down.book, stream.down.block_bytes
    idle = [lane for lane in lanes if lane.has_room(size)]
    if not idle or any(lane.may(start) for start, _ in book.unassigned for lane in idle):
        return
    for lane in lanes:
        keep = max(lane.target_bytes, 2 * size) + size
        if lane.queued_bytes > keep:
            _take_back(stream, lane, keep, idle, now)


def _take_back(stream: ClientStream, lane: Lane, keep: int, idle: list[Lane], now: Instant) -> None:
    """All that the lane owes behind its first `keep` bytes, as far as an idle one may have it."""
    book, size = stream.down.book, stream.down.block_bytes
    path = stream.views[lane.replica].paths[lane.path]
    for order in sorted(book.on_path(lane.path), key=lambda order: order.remaining.start or 0):
        if order.replica != lane.replica or not order.remaining:
            continue
        start, stop = order.remaining.start or 0, order.remaining.stop or 0
        first, last = -(-(start + keep) // size), -(-stop // size)
        keep = max(0, keep - order.owed_bytes(size))
        if order.is_revoked or order.is_copy or first >= last:
            continue
        if any(other.eligible is None or other.eligible.overlaps(first, last) for other in idle):
            # The answer to the revoke may stand in that lane's own queue: its blocks are ordered elsewhere at once.
            if not revoke(stream, order, first):
                continue
            given_up = book.give_up(order, first)
            path.release(given_up, now)
            lane.queued_bytes -= given_up


def _is_slow_head(stream: ClientStream, lanes: list[Lane], left_s: float) -> bool:
    """The window stands at this block; a lane with nothing to do would bring it in half the time until it is late."""
    book, size = stream.down.book, stream.down.block_bytes
    head = stream.down.delivered // size
    idle = [lane for lane in lanes if not lane.queued_bytes and lane.is_proven and lane.may(head)]
    return not book.unassigned and any(2 * lane.eta_s(size) < left_s for lane in idle)


def _copy_late_head(stream: ClientStream, lanes: list[Lane], now: Instant) -> None:
    """Never wait at the head of the line: a late block is ordered again where it comes soonest."""
    due = late_head_at(stream)
    if due is None or stream.down.peek(stream.anchor, None) is not None:
        return
    if now < due and not _is_slow_head(stream, lanes, due - now):
        return
    book, size = stream.down.book, stream.down.block_bytes
    head = stream.down.delivered // size
    late = book.awaited(head)[0]
    if not _copy(stream, head, lanes, now):
        return
    # What stands behind it in the same queue is as late: where the lane is that slow it is copied at once as well.
    rate = next((lane.rate_bytes_s for lane in lanes if (lane.replica, lane.path) == (late.replica, late.path)), None)
    for block in range(head + 1, head + 1 + COPY_BURST_BYTES // size):
        able = [lane for lane in lanes if lane.may(block) and lane.replica != late.replica]
        if rate is None or book.covering(block) != [late] or not able:
            return
        if min(lane.eta_s(size) for lane in able) > (block - head) * size / rate or not _copy(stream, block, able, now):
            return


def _give_up_head(stream: ClientStream, lanes: list[Lane], now: Instant) -> None:
    """Delivery is stuck: whoever withholds the next block is not waited for if another one can supply it."""
    book, size = stream.down.book, stream.down.block_bytes
    head = stream.down.delivered // size
    asked = {order.replica for order in book.covering(head)}
    others = [lane for lane in lanes if lane.may(head) and lane.replica not in asked]
    if not others:
        return
    for order in book.awaited(head):
        view = stream.views[order.replica]
        path = view.paths.get(order.path)
        given_up = book.give_up(order, head)
        if path is not None:
            path.release(given_up, now)
        revoke(stream, order, head)
        view.withheld += 1
        if view.withheld >= MAX_WITHHELD and view is not stream.anchor:
            stream.drop_view(view, ViewState.DIVERGENT, ErrorCode.DIVERGED)
    stream.takeover.tried_at = now
    if head in book.unassigned:
        _issue(stream, min(others, key=lambda lane: lane.eta_s(size)), [head], now, copy=True)


def _end_game(stream: ClientStream, lanes: list[Lane], now: Instant) -> None:
    """Idle lanes duplicate the last blocks, latest first, where they would come sooner."""
    book, size = stream.down.book, stream.down.block_bytes
    if book.final is None or book.unassigned:
        return
    idle = [lane for lane in lanes if not lane.queued_bytes and lane.is_proven]
    if not idle:
        return
    waiting = [
        (order.due_of(stop), (stop - 1) // size)
        for order in book.orders()
        if not order.is_copy
        for _, stop in order.remaining
    ]
    for due, block in sorted(waiting, reverse=True)[: len(idle)]:
        better = [lane for lane in idle if lane.may(block) and now + lane.eta_s(size) < due]
        if better and not book.is_settled(block) and not any(order.is_copy for order in book.covering(block)):
            _copy(stream, block, better, now)


def _copy(stream: ClientStream, block: int, lanes: list[Lane], now: Instant) -> bool:
    """Order a second copy where it comes soonest; False if nobody has it or the budget is spent."""
    size = stream.down.block_bytes
    sources = {(order.replica, order.path) for order in stream.down.book.covering(block)}
    able = [lane for lane in lanes if lane.may(block) and (lane.replica, lane.path) not in sources]
    if not able or not _spend(stream, size):
        return False
    best = min(able, key=lambda lane: lane.eta_s(size))
    best.queued_bytes += size
    _issue(stream, best, [block], now, copy=True)
    return True


def _spend(stream: ClientStream, size: int) -> bool:
    produced = max((view.produced for view in stream.views.values()), default=0)
    small = min(produced, COPY_SMALL_BYTES)
    burst = min(COPY_BURST_BYTES, stream.context.config.first_window_bytes // 2)
    allowed = burst + COPY_SHARE_SMALL * small + COPY_SHARE_LARGE * (produced - small)
    if stream.counters.copied_bytes + size > allowed:
        return False
    stream.counters.copied_bytes += size
    return True
