"""Client: trouble with the anchor, change of anchor, recruiting, and giving up (SPEC §6.2 to §6.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.base.ranges import RangeSet
from kwik.errors import ErrorCode
from kwik.kdp import pending, sending
from kwik.kdp.answers import compare, judge
from kwik.kdp.granting import UNMEASURED_RATE
from kwik.kdp.opaque import Head
from kwik.kdp.orders import Order
from kwik.kdp.pending import has_untried, is_tried
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.kdp.stream import Event, Phase
from kwik.kdp.takeover import HOLD_S, UNHURRIED, Trouble, best_candidate, is_leaving, pace_of
from kwik.types import OrderId
from kwik.wire import frames

if TYPE_CHECKING:
    from kwik.kdp.path import ClientPath
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instant, Offset

MIN_BEHIND_S = 0.025
BEHIND_RTTS = 1.5
"""Delivery stands for max(25 ms, 1.5 RTT) before an anchor that does not announce counts as fallen behind; what it has
stood in all counts, less 1/50 of the time that has passed (SPEC §6.4)."""
BEHIND_DECAY = 0.02
SWIFT_DECAY = 0.5
"""The same for an anchor whose path is much faster than those of all who could take over: it has to stand longer than
it moves before it is worth changing."""
MIN_STUCK_S = 1.0
STUCK_RTTS = 4.0
"""Delivery stands for max(1 s, 4 RTT) with more produced: its server withholds it (SPEC §6.3)."""
WITHHELD_PARTS = 3
"""Delivery may stand for this many times `recovery_time_s`: new paths to the server have been tried by then."""
KEEP_UP_BLOCKS = 8
"""A successor of a draining anchor must have produced this far ahead of delivery (or as far as the anchor)."""
MIN_CANDIDACY_S = 0.5
CANDIDACY_RTTS = 4.0
"""A candidate that has not answered for max(500 ms, 4 RTT) gives way to another one, if there is one."""
MAX_PROBES_USED = 12
"""Unanswered probes per replica; SPEC §7 allows 16."""
_MAY_GROW = (Phase.LIVE, Phase.RECOVERING)
"""Phases in which a stream may have more than one replica."""
DRAIN_AHEAD_BLOCKS = 2
"""A living anchor is replaced at a block's start at least this far ahead, so that delivery need not wait."""


def step(stream: ClientStream, now: Instant) -> None:
    """Look at the anchor; seek, probe, change or give up as SPEC §6.4 says."""
    if stream.is_over or stream.anchor is None:
        pending.give_up(stream, now)
        return
    _unmask(stream, now)
    _note_withheld(stream, now)
    if _is_withheld_for_good(stream, now):
        stream.fail(ErrorCode.SERVER_GONE, "the server holds back what it has, and no other can take over; dial again")
        return
    trouble = find_trouble(stream)
    if trouble is Trouble.NONE and _refuters(stream):
        trouble = Trouble.REFUTED
    if trouble is Trouble.NONE and (_is_behind(stream, now) or stream.takeover.is_stuck):
        trouble = Trouble.SLOW
    if trouble is Trouble.NONE and _is_outrun(stream, now):
        trouble = Trouble.OUTRUN
    if trouble is Trouble.NONE:
        _calm(stream)
        return
    if trouble in (Trouble.SLOW, *UNHURRIED) and _changed_lately(stream, now):
        return
    candidate = _candidate(stream, trouble, now)
    if candidate is not None:
        _probe(stream, candidate, trouble)
        _try_change(stream, now)
        _give_up_late(stream, trouble, now)
    elif trouble in (Trouble.SILENT, Trouble.DEAD):
        _recover(stream, now)


def find_trouble(stream: ClientStream) -> Trouble:
    """What is wrong with the anchor, if anything."""
    anchor = stream.anchor
    if anchor is None or _is_complete(stream):
        return Trouble.NONE
    if not anchor.is_usable:
        return Trouble.DEAD
    live = anchor.live_paths()
    if not live:
        return Trouble.SILENT
    if not live[0].is_draining or not stream.helpers():
        return Trouble.NONE
    return Trouble.DRAINING if all(path.is_draining for path in live) else Trouble.NONE


def behind_at(stream: ClientStream) -> Instant | None:
    """When an anchor that holds delivery up counts as fallen behind; None if it does not hold it up."""
    since, anchor = stream.takeover.stuck_since, stream.anchor
    if since is None or anchor is None:
        return None
    # The least RTT: a queue of seconds on the anchor's path is the very slowness that is meant here.
    rtt = min((path.min_rtt_s for path in anchor.live_paths()), default=0.0)
    return since + max(MIN_BEHIND_S, BEHIND_RTTS * rtt) - stream.takeover.waited_s


def _is_behind(stream: ClientStream, now: Instant) -> bool:
    """Delivery stands for want of announcements, and has done so for too long in all."""
    takeover = stream.takeover
    stands = _lacks_announcements(stream)
    if takeover.stuck_since is not None:
        # Many short waits are as bad as a long one.
        takeover.waited_s += now - takeover.stuck_since
    decay = SWIFT_DECAY if takeover.waited_s and _is_swiftest(stream, now) else BEHIND_DECAY
    if takeover.waited_s:
        takeover.waited_s = max(0.0, takeover.waited_s - decay * (now - takeover.looked_at))
    takeover.looked_at = now
    takeover.stuck_since = now if stands else None
    due = behind_at(stream) if stands else None
    return due is not None and now >= due


def _is_swiftest(stream: ClientStream, now: Instant) -> bool:
    """The anchor's path is much faster than that of any agreeing helper."""
    ours = None if stream.anchor is None else pace_of(stream.anchor, now)
    theirs = [pace_of(view, now) for view in stream.helpers() if view.agreement.has_agreed]
    return ours is not None and all(other is not None and ours.is_much_faster(other) for other in theirs)


def _is_outrun(stream: ClientStream, now: Instant) -> bool:
    anchor = stream.anchor
    if anchor is None or stream.phase is not Phase.LIVE or anchor.final is not None:
        return False
    helpers = [view for view in stream.helpers() if view.agreement.has_agreed]
    return bool(helpers) and any(_outruns(stream, view, now) for view in helpers)


def _outruns(stream: ClientStream, view: ReplicaView, now: Instant) -> bool:
    """An agreeing helper whose path is much faster and, queues included, no longer: as anchor it holds nobody up."""
    anchor = stream.anchor
    if anchor is None or stream.phase is not Phase.LIVE or not view.agreement.has_agreed or anchor.final is not None:
        return False
    if not _keeps_up(stream, view) or is_leaving(view):
        return False
    ours, theirs = pace_of(anchor, now), pace_of(view, now)
    return ours is not None and theirs is not None and theirs.outruns(ours)


def _lacks_announcements(stream: ClientStream) -> bool:
    """An agreeing helper has produced the next block, and the anchor has not said enough to take it from there."""
    anchor, down, helpers = stream.anchor, stream.down, stream.helpers()
    if anchor is None or not helpers or stream.phase is not Phase.LIVE:
        return False
    block = down.delivered // down.block_bytes
    if any(copy.source == anchor.number and copy.filled for copy in down.parts.copies(block)):
        return False
    able = [
        view
        for view in helpers
        if view.agreement.has_agreed and view.produced >= (block + 1) * down.block_bytes and view.live_paths()
    ]
    if block not in anchor.announced.digests:
        return bool(able)
    # Its digest is known, but a helper's run can be compared only as a whole.
    return bool(able) and not down.book.awaited(block) and not any(block in view.agreed for view in able)


def _note_withheld(stream: ClientStream, now: Instant) -> None:
    """Note since when delivery stands although somebody has produced more, and whether it is stuck."""
    takeover, down, anchor = stream.takeover, stream.down, stream.anchor
    waits = (
        anchor is not None
        and stream.phase in (Phase.LIVE, Phase.RECOVERING)
        and stream.most_produced() > down.delivered
        and anchor.final != down.delivered
        and down.peek(anchor, None) is None
    )
    gap_s, takeover.stood_looked_at = now - takeover.stood_looked_at, now
    if not waits:
        takeover.stood_since = None
    elif takeover.stood_since is None or takeover.stood_since[0] != down.delivered:
        takeover.stood_since = (down.delivered, now)
    elif gap_s > 2 * MIN_STUCK_S:
        # Nobody looked: it was the client itself that slept.
        takeover.stood_since = (down.delivered, takeover.stood_since[1] + gap_s)
    due = stuck_at(stream)
    takeover.is_stuck = due is not None and now >= due


def _is_withheld_for_good(stream: ClientStream, now: Instant) -> bool:
    """Delivery has stood for too long."""
    stood = stream.takeover.stood_since
    return stood is not None and now >= stood[1] + WITHHELD_PARTS * stream.context.config.recovery_time_s


def stuck_at(stream: ClientStream) -> Instant | None:
    """When delivery, should it go on standing, counts as stuck; None while it does not stand."""
    stood = stream.takeover.stood_since
    if stood is None:
        return None
    return max(stood[1], stream.takeover.tried_at) + max(MIN_STUCK_S, STUCK_RTTS * stream.longest_rtt_s())


def recruit(stream: ClientStream, now: Instant) -> int:
    """Open further replicas on admitted paths if they are wanted; returns how many more servers would be welcome."""
    if stream.log.head is Head.OPAQUE:
        _keep_anchor_alone(stream)
    wanted = replicas_wanted(stream)
    missing = wanted - len(stream.usable_views())
    if missing <= 0 or not stream.is_recruitable:
        return 0
    for path in stream.context.admitted():
        if missing <= 0:
            break
        if path.instance is None or path.is_silent or path.is_draining or is_tried(stream, path.instance):
            continue
        open_on(stream, path, frames.MODE_REPLAY, now)
        missing -= 1
    return max(0, missing)


def _keep_anchor_alone(stream: ClientStream) -> None:
    """No replica can follow an opaque stream: those that were opened before its first bytes go (SPEC §6.2)."""
    if stream.anchor is not None and stream.anchor.is_usable:
        for view in stream.helpers():
            stream.drop_view(view, ViewState.DEAD, ErrorCode.NO_ERROR)


def replicas_wanted(stream: ClientStream) -> int:
    """How many usable replicas the stream would like to have now."""
    config, phase = stream.context.config, stream.machine.state
    if phase not in _MAY_GROW or stream.log.head is Head.OPAQUE:
        return 1
    wanted = min(stream.replicas_wanted, config.max_replicas)
    usable = len(stream.usable_views())
    if _is_network_limited(stream):
        wanted = max(wanted, 2 * usable + 1)
    if phase is Phase.RECOVERING or stream.takeover.is_stuck:
        wanted = max(wanted, usable + 1)
    return min(wanted, config.max_replicas)


def open_on(stream: ClientStream, path: ClientPath, mode: int, now: Instant) -> ReplicaView:
    """Queue OPEN on a path: the anchor if the stream has none, else a helper."""
    context, down = stream.context, stream.down
    is_first = stream.anchor is None
    number = context.draw_replica(stream)
    view = ReplicaView(number, mode, path.instance, path.id, stream.credit)
    view.paths[path.id] = path
    # What a mark of the replayed upstream will be compared with must not be dropped before it arrives.
    view.floor_told = sending.floor_for(stream, view)
    view.note_told(path.id, stream.credit)
    view.address = path.address
    if path.instance is not None:
        stream.attempts.instances.add(path.instance)
    first_credit = context.upstream_credit(path)
    if first_credit is not None:
        view.upstream_credit = first_credit
    stream.views[number] = view
    blocks = 0
    if is_first:
        stream.anchor, view.announces_blocks = view, True
        stream.epoch += 1
        stream.machine.on(Event.OPENED_ON)
        blocks = _first_blocks(stream)
    context.send(
        path,
        frames.Open(
            replica=number,
            stream=stream.key,
            mode=mode,
            role=frames.ROLE_ANCHOR if is_first else frames.ROLE_HELPER,
            service=context.service,
            block_bytes=down.block_bytes,
            digest=frames.DIGEST_BLAKE3 if down.running is not None else frames.DIGEST_NONE,
            floor=view.floor_told,
            credit=stream.credit,
            first_grant_blocks=blocks,
            extensions=(),
        ),
    )
    if blocks:
        _enter_first_order(stream, view, path, blocks, now)
    return view


def reattach(stream: ClientStream, path: ClientPath, replaced: list[int], now: Instant, *, again: bool = False) -> None:
    """Bind this stream's replica to a path of its instance (SPEC §5.3); `again`: restate on one that is bound."""
    for view in stream.usable_views():
        if view.instance != path.instance or not view.open_sent or path.id in view.attaching:
            continue
        if path.id in view.paths and not again:
            continue
        for old in [old for old in view.paths.values() if old.id in replaced]:
            unbind(stream, view, old, now)
        # An answer that is still to come on one of them is older than this: the server drops that path with the others.
        outdated = view.attaching & set(replaced)
        view.attaching -= outdated
        view.dropped_paths |= outdated
        view.attaching.add(path.id)
        role = frames.ROLE_ANCHOR if view.announces_blocks else frames.ROLE_HELPER
        floor = max(view.floor_told, 0)
        view.note_told(path.id, stream.credit)
        stream.context.send(path, frames.Attach(view.number, role, floor, stream.credit, tuple(replaced[-16:])))


def unbind(stream: ClientStream, view: ReplicaView, path: ClientPath, now: Instant) -> None:
    """A path no longer serves a replica: its orders died."""
    view.paths.pop(path.id, None)
    view.dropped_paths.add(path.id)
    # Upstream that was sent on it may be lost: what the server has not confirmed is sent again elsewhere.
    view.rewind()
    view.forget_told(path.id)
    if view.announces_blocks and view.paths:
        # ANCHOR may have been lost with the path; repeats are harmless.
        _tell_anchor(stream, view)
    path.release(stream.down.book.owed_by(path.id, view.number), now)
    stream.counters.regrants += len(stream.down.book.drop(path.id, view.number))
    if stream.takeover.candidate is view:
        stream.takeover.resend()


def _first_blocks(stream: ClientStream) -> int:
    config, down = stream.context.config, stream.down
    first = down.floor // down.block_bytes
    down.book.unassigned.clear()
    down.book.horizon = first
    down.book.extend(stream.credit // down.block_bytes)
    return max(1, min(config.first_window_bytes // down.block_bytes, down.book.horizon - first))


def _enter_first_order(stream: ClientStream, view: ReplicaView, path: ClientPath, blocks: int, now: Instant) -> None:
    rate = path.rate_bytes_s(now) or UNMEASURED_RATE
    due = now + path.rtt_s
    order = Order(OrderId(0), view.number, path.id, RangeSet(), now, due, rate)
    first = stream.down.floor // stream.down.block_bytes
    stream.down.book.issue(order, list(range(first, first + blocks)), None)
    path.on_ordered(order.remaining.total, now)


def _is_complete(stream: ClientStream) -> bool:
    """The application has all of the downstream and the anchor all of the upstream: the anchor owes nothing."""
    anchor = stream.anchor
    if anchor is None or not stream.app.end_shown or not stream.log.is_finished:
        return False
    return anchor.fin_sent and anchor.received >= stream.log.end


def _refuters(stream: ClientStream) -> list[ReplicaView]:
    """Agreeing replicas that say they have produced more than the anchor's final size (SPEC §6.5)."""
    anchor = stream.anchor
    if anchor is None or anchor.final is None or not anchor.is_usable or stream.app.end_shown:
        return []
    final = anchor.final
    return [v for v in stream.helpers() if v.agreement.has_agreed and v.produced > final and v.live_paths()]


def _unmask(stream: ClientStream, now: Instant) -> None:
    """One that refutes the anchor's end and then answers no PROBE cannot take an honest end back."""
    candidate = stream.takeover.candidate
    if candidate is None or stream.takeover.trouble is not Trouble.REFUTED:
        return
    end = candidacy_ends_at(stream)
    if end is None or now < end:
        return
    if not stream.takeover.has_answer(stream.down.delivered):
        stream.drop_view(candidate, ViewState.DIVERGENT, ErrorCode.DIVERGED)


def _calm(stream: ClientStream) -> None:
    if stream.takeover.is_running:
        stream.takeover.end()
    stream.takeover.passed_over.clear()
    if stream.phase is Phase.RECOVERING and stream.anchor is not None and stream.anchor.state is ViewState.LIVE:
        stream.machine.on(Event.RECOVERED)
    stream.recovering_since = None


def _changed_lately(stream: ClientStream, now: Instant) -> bool:
    changed = stream.takeover.changed_at
    return changed is not None and now < changed + HOLD_S


def _candidate(stream: ClientStream, trouble: Trouble, now: Instant) -> ReplicaView | None:
    takeover = stream.takeover
    running = takeover.candidate
    if running is not None and running.is_usable and running.live_paths() and not _is_overdue(stream, running, now):
        takeover.trouble = trouble
        return running
    if running is not None:
        takeover.end()
    if stream.down.running is None:
        return None
    stood = (stream.down.delivered, stream.log.end)
    if trouble is Trouble.REFUTED:
        candidate = next(iter(_refuters(stream)), None)
        if candidate is not None:
            takeover.begin(candidate, trouble, now)
        return candidate
    views = stream.usable_views()
    if trouble in UNHURRIED:
        views = [view for view in views if _keeps_up(stream, view) and not is_leaving(view)]
    if trouble is Trouble.OUTRUN:
        views = [view for view in views if _outruns(stream, view, now)]
    fresh = [view for view in views if view.number not in takeover.passed_over]
    candidate = best_candidate(fresh, stream.anchor, stood, now)
    if candidate is None:
        # Everybody had a turn: begin again with the best, while recovery goes on beside it.
        takeover.passed_over.clear()
        candidate = best_candidate(views, stream.anchor, stood, now)
    if candidate is not None:
        takeover.begin(candidate, trouble, now)
    return candidate


def _keeps_up(stream: ClientStream, view: ReplicaView) -> bool:
    """A living anchor is not given up for a replica whose application does not get on."""
    anchor = stream.anchor
    ahead = stream.down.delivered + KEEP_UP_BLOCKS * stream.down.block_bytes
    return anchor is None or view.produced >= min(anchor.produced, ahead)


def candidacy_ends_at(stream: ClientStream) -> Instant | None:
    """When a candidate that has not answered gives way to another."""
    candidate = stream.takeover.candidate
    if candidate is None:
        return None
    rtt = max((path.rtt_s for path in candidate.live_paths()), default=0.0)
    return stream.takeover.began_at + max(MIN_CANDIDACY_S, CANDIDACY_RTTS * rtt)


def _is_overdue(stream: ClientStream, candidate: ReplicaView, now: Instant) -> bool:
    end = candidacy_ends_at(stream)
    others = any(view is not candidate and view is not stream.anchor for view in stream.usable_views())
    return others and end is not None and now >= end


def _probe(stream: ClientStream, candidate: ReplicaView, trouble: Trouble) -> None:
    path = candidate.control_path()
    if path is None:
        return
    if not candidate.announces_blocks:
        candidate.announces_blocks = True
        _tell_anchor(stream, candidate)
    if trouble in UNHURRIED and stream.takeover.stop_at(stream.down.delivered) is not None:
        return
    offset = _offset_ahead(stream) if trouble in UNHURRIED else _stands_at(stream, candidate)
    if len(candidate.open_probes) >= MAX_PROBES_USED:
        return
    number = stream.takeover.probe_at(offset)
    if number is not None:
        candidate.open_probes.add(number)
        stream.context.send(path, frames.Probe(candidate.number, number, offset))


def _tell_anchor(stream: ClientStream, view: ReplicaView) -> None:
    path = view.control_path()
    if path is not None:
        first = stream.down.floor // stream.down.block_bytes
        stream.context.send(path, frames.Anchor(view.number, stream.epoch + (view is not stream.anchor), first))


def _stands_at(stream: ClientStream, candidate: ReplicaView) -> Offset:
    """Where delivery will stop without the anchor: behind the blocks that its digests let the candidate supply."""
    down, anchor = stream.down, stream.anchor
    size = down.block_bytes
    block = down.delivered // size
    if anchor is None:
        return down.delivered
    known = anchor.announced.digests
    offset = down.delivered
    while True:
        own = next((copy.filled for copy in down.parts.copies(block) if copy.source == anchor.number), 0)
        is_short = candidate.final is not None and (block + 1) * size > candidate.final
        if own < size and (is_short or not (block in known and block in candidate.agreed)):
            return max(offset, block * size + own)
        block += 1
        offset = block * size


def _offset_ahead(stream: ClientStream) -> Offset:
    size = stream.down.block_bytes
    return (stream.down.delivered // size + DRAIN_AHEAD_BLOCKS) * size


def _try_change(stream: ClientStream, now: Instant) -> None:
    candidate, running = stream.takeover.candidate, stream.down.running
    if candidate is None or running is None:
        return
    answer = stream.takeover.answer(stream.down.delivered)
    if answer is None:
        return
    if answer != running.pair:
        stream.drop_view(candidate, ViewState.DIVERGENT, ErrorCode.DIVERGED)
        return
    _change_anchor(stream, candidate, now)


def _change_anchor(stream: ClientStream, candidate: ReplicaView, now: Instant) -> None:
    """The epoch changes: everything not yet delivered is judged again under the new anchor (SPEC §6.4)."""
    stream.anchor = candidate
    stream.epoch += 1
    stream.counters.takeovers += 1
    stream.takeover.end()
    stream.takeover.changed_at = now
    stream.takeover.waited_s, stream.takeover.stuck_since = 0.0, None
    stream.recovering_since = None
    if stream.phase is Phase.RECOVERING:
        stream.machine.on(Event.RECOVERED)
    if candidate.final is not None and candidate.final_at is not None:
        candidate.final_at = now
    for view in stream.views.values():
        view.agreement = type(view.agreement)(view.announced)
    stream.down.book.end_at(candidate.final)
    size = stream.down.block_bytes

    def counts(order: Order, block: int) -> bool:
        # Bytes of another replica than the anchor are of use only as whole blocks: it must have produced them.
        if not order.is_awaited(block):
            return False
        return order.replica == candidate.number or stream.views[order.replica].produced >= (block + 1) * size

    for wrong in stream.down.rejudge(candidate, counts):
        stream.counters.rejected_blocks += 1
        judge(stream, wrong.block)
    for view in stream.helpers():
        compare(stream, view)


def _recover(stream: ClientStream, now: Instant) -> None:
    """Nobody may take over now: recruit by replay, look for the anchor, and give up in bounded time."""
    if stream.recovering_since is None:
        stream.recovering_since = now
    if stream.phase in (Phase.LIVE, Phase.OPENING):
        stream.machine.on(Event.LOST)
    anchor = stream.anchor
    if anchor is not None and anchor.is_usable:
        stream.context.recover(anchor.instance)
        if anchor.instance is None and not anchor.paths:
            stream.fail(ErrorCode.SERVER_GONE, "the server was lost before it said who it is; dial again")
            return
    _give_up(stream, now)


def _give_up_late(stream: ClientStream, trouble: Trouble, now: Instant) -> None:
    """A candidate that never answers must not keep the stream from its end (SPEC §2, bounded time)."""
    if trouble not in (Trouble.SILENT, Trouble.DEAD) or not stream.takeover.is_running or stream.is_over:
        return
    end = candidacy_ends_at(stream)
    if end is None or now < end or stream.takeover.has_answer(stream.down.delivered):
        return
    _recover(stream, now)


def _give_up(stream: ClientStream, now: Instant) -> None:
    since = stream.recovering_since if stream.recovering_since is not None else now
    if now >= since + stream.context.config.recovery_time_s:
        stream.fail(ErrorCode.SERVER_GONE, "no server could carry the stream on in time; dial again")
        return
    anchor = stream.anchor
    if anchor is None or anchor.is_usable or any(view.live_paths() for view in stream.helpers()):
        return
    agreed_reset = anchor.reset_at is not None and any(
        view is not anchor and view.reset_at == anchor.reset_at for view in stream.views.values()
    )
    hopeless = not stream.is_recruitable or (not stream.context.may_find_more() and not has_untried(stream))
    if agreed_reset or (hopeless and not stream.helpers()):
        code = stream.attempts.last_code if anchor.reset_at is not None else ErrorCode.SERVER_GONE
        stream.fail(code, "the service's server is gone and no other can take the stream over; dial again")


def _is_network_limited(stream: ClientStream) -> bool:
    """Bytes wait at the anchor because of the network: produced, not here, and the reader is not the one to blame."""
    anchor, backlog = stream.anchor, stream.context.config.recruit_backlog_bytes
    if anchor is None or stream.phase is not Phase.LIVE or stream.app.closed:
        return False
    missing = anchor.produced - stream.down.delivered
    if missing < backlog or (stream.app.readable_told and stream.down.peek(anchor, None) is not None):
        return False
    return missing - stream.down.parts.held_bytes >= backlog
