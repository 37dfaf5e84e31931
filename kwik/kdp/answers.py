"""Client: what a stream makes of each frame from a server (SPEC §5), judged by the replica's present role."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kwik.errors import ErrorCode, LocalProtocolError, error_code_name
from kwik.kdp.actions import StreamConfirmed
from kwik.kdp.digest import Pair
from kwik.kdp.granting import revoke
from kwik.kdp.replica_view import ViewState
from kwik.kdp.stream import Event
from kwik.types import OrderId
from kwik.wire import frames

if TYPE_CHECKING:
    from kwik.kdp.path import ClientPath
    from kwik.kdp.replica_view import ReplicaView
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instant, Offset
    from kwik.wire.codec import DataPiece, ServerFrame


def on_frame(stream: ClientStream, view: ReplicaView, path: ClientPath, frame: ServerFrame, now: Instant) -> None:
    """A control frame of one replica. Raises LocalProtocolError if it breaks SPEC."""
    _DISPATCH[type(frame)](stream, view, path, frame, now)


def on_data(stream: ClientStream, view: ReplicaView, path: ClientPath, piece: DataPiece, now: Instant) -> bool:
    """Downstream bytes; True if more than bytes has changed (an order is done, a block is held).

    Raises LocalProtocolError (UNAUTHORISED_DATA) if no order covers them.
    """
    size, floor, book = len(piece.payload), stream.down.floor, stream.down.book
    offset, payload = piece.offset, piece.payload
    path.on_data(size, now)
    view.first_data_at = now if view.first_data_at is None else view.first_data_at
    view.last_data_at = now
    if offset < floor:
        # What is delivered is owed no longer, yet may still be on its way.
        late = min(size, floor - offset)
        stream.counters.duplicate_bytes += late
        if late == size:
            return False
        offset, payload = offset + late, payload[late:]
    if path.id in view.dropped_paths and not book.remaining_of(path.id, view.number, piece.order):
        stream.counters.duplicate_bytes += len(payload)
        return False
    owed = book.owed_of(path.id, view.number, piece.order)
    done = book.on_data(path.id, view.number, OrderId(piece.order), offset, len(payload))
    path.release(owed - book.owed_of(path.id, view.number, piece.order), now)
    # The first bytes behind what is delivered start the clocks of the head of the line.
    is_first = view.produced <= stream.down.delivered
    view.produced = max(view.produced, piece.offset + size)
    has_settled = False
    for block in stream.down.add(view, stream.anchor, offset, payload):
        has_settled |= judge(stream, block)
    return has_settled or done or is_first


def judge(stream: ClientStream, block: int) -> bool:
    """See whether a block is held for good now; blame those whose copy is wrong. True if something has changed."""
    held, rejected = stream.down.judge(block, stream.anchor)
    is_news = held and not stream.down.book.is_settled(block)
    if is_news:
        for order in stream.down.book.settle(block):
            if order.is_copy and not order.is_revoked:
                revoke(stream, order, 0)
    for wrong in rejected:
        stream.counters.rejected_blocks += 1
        stream.down.book.unsettle(wrong.block)
        liar = stream.views.get(wrong.source)
        if liar is not None and liar.is_usable and wrong.block in liar.agreed:
            # It sent bytes other than those that it had announced: nothing it says counts any more.
            stream.drop_view(liar, ViewState.DIVERGENT, ErrorCode.DIVERGED)
    return is_news or bool(rejected)


def compare(stream: ClientStream, view: ReplicaView) -> None:
    """Compare a helper's announcements with the anchor's, as far as both are known (SPEC §6.2)."""
    anchor, algorithm = stream.anchor, stream.down.algorithm
    if anchor is None or view is anchor or not view.is_usable or algorithm is None:
        return
    path = view.control_path()
    blocks = None if anchor.final is None else -(-anchor.final // stream.down.block_bytes)
    view.agreement.compare(anchor.announced, algorithm, blocks)
    ask_digests(stream, view, path)
    if view.agreement.is_divergent or _ends_elsewhere(stream, view, anchor):
        stream.drop_view(view, ViewState.DIVERGENT, ErrorCode.DIVERGED)


def ask_digests(stream: ClientStream, view: ReplicaView, path: ClientPath | None) -> None:
    """Ask for single digests, a run at a time and never more than may be unanswered (SPEC §7)."""
    if path is None:
        return
    for first, count in view.agreement.next_questions():
        stream.context.send(path, frames.AskDigests(view.number, first, count))


def _ends_elsewhere(stream: ClientStream, view: ReplicaView, anchor: ReplicaView) -> bool:
    """Final sizes differ, and it is not the anchor's that is refuted, or may still be (SPEC §6.5)."""
    if view.final is not None and view.final < stream.down.delivered:
        return True
    if view.final is None or anchor.final is None or view.final == anchor.final:
        return False
    return view.final < anchor.final or not (view.agreement.has_agreed or view.agreement.is_open)


def _check_announced(stream: ClientStream, view: ReplicaView, first: int, count: int) -> None:
    size = stream.down.block_bytes
    if (first + count - 1) * size >= max(view.credit_ever, view.first_credit):
        raise LocalProtocolError(f"blocks {first} to {first + count} were announced beyond the credit", field="first")


def _on_opened(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Opened, now: Instant) -> None:
    if view.state is not ViewState.OPENING:
        return
    view.state = ViewState.LIVE
    view.cap_bytes = frame.cap_bytes
    stream.attempts.any_answered = True
    if not frame.hashed and stream.down.running is not None and view is stream.anchor:
        stream.down.stop_hashing()
    if view is stream.anchor:
        stream.machine.on(Event.CONFIRMED)
        stream.recovering_since = None
        stream.context.actions.append(StreamConfirmed(stream.key))


def _on_refused(
    stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Refused, now: Instant
) -> None:
    if view.state is not ViewState.OPENING:
        return
    if view.first_data_at is not None:
        raise LocalProtocolError("REFUSED after data: an application has been reached", field="replica")
    stream.attempts.last_code = frame.code
    stream.attempts.refusals.append(f"{view.address}: {frame.reason or error_code_name(frame.code)}")
    if view.instance is not None:
        stream.attempts.instances.add(view.instance)
    stream.drop_view(view, ViewState.REFUSED, ErrorCode.NO_ERROR)
    if view is stream.anchor:
        unanchor(stream)


def unanchor(stream: ClientStream) -> None:
    """The stream's only server never touched its application: it may be placed anew."""
    stream.anchor = None
    stream.recovering_since = None
    stream.down.book.unassigned.clear()
    stream.down.book.horizon = 0
    stream.machine.on(Event.REFUSED)


def _on_attached(
    stream: ClientStream, view: ReplicaView, path: ClientPath, frame: frames.Attached, now: Instant
) -> None:
    if path.id not in view.attaching:
        raise LocalProtocolError("ATTACHED without ATTACH", field="replica")
    view.attaching.discard(path.id)
    if not frame.known:
        _on_unknown(stream, view)
        return
    _check_upstream(stream, frame.received, frame.taken)
    view.paths[path.id] = path
    _advance_upstream(stream, view, frame.received, frame.taken, frame.credit)
    view.rewind()
    view.produced = max(view.produced, frame.produced)
    if view is stream.takeover.candidate:
        stream.takeover.resend()


def _on_unknown(stream: ClientStream, view: ReplicaView) -> None:
    """The server does not know the replica, and never will (tombstone)."""
    never_ran = view.state is ViewState.OPENING and view.first_data_at is None
    view.open_sent = False
    stream.drop_view(view, ViewState.REFUSED if never_ran else ViewState.DEAD, ErrorCode.NO_ERROR)
    if never_ran and view is stream.anchor:
        # This number is dead there for ever; under another one the same server may be asked again.
        stream.attempts.instances.discard(view.instance)
        del stream.views[view.number]
        stream.context.forget_replica(view.number)
        unanchor(stream)


def _on_upstream_state(
    stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.UpstreamState, now: Instant
) -> None:
    _check_upstream(stream, frame.received, frame.taken)
    _advance_upstream(stream, view, frame.received, frame.taken, frame.credit)


def _check_upstream(stream: ClientStream, received: Offset, taken: Offset) -> None:
    if received > stream.log.end or taken > received:
        raise LocalProtocolError(
            f"upstream received {received}, taken {taken}, written {stream.log.end}", field="received"
        )


def _advance_upstream(stream: ClientStream, view: ReplicaView, received: int, taken: int, credit: int) -> None:
    view.received = max(view.received, received)
    view.taken = max(view.taken, taken)
    view.upstream_credit = max(view.upstream_credit, credit)
    view.sent = max(view.sent, view.received)
    usable = stream.usable_views()
    if usable:
        stream.log.free(min(other.received for other in usable))


def _on_produced(
    stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Produced, now: Instant
) -> None:
    view.produced = max(view.produced, frame.produced)


def _on_digests(
    stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Digests, now: Instant
) -> None:
    _check_announced(stream, view, frame.first, len(frame.digests))
    if view is stream.anchor and not _is_confirmed(stream, frame):
        return
    if frame.first + len(frame.digests) <= stream.down.delivered // stream.down.block_bytes:
        return
    view.announced.add_digests(frame.first, frame.digests)
    if view is stream.anchor:
        for helper in stream.helpers():
            compare(stream, helper)
        for block in range(frame.first, frame.first + len(frame.digests)):
            if stream.down.parts.copies(block):
                judge(stream, block)
    else:
        view.agreement.on_digests(frame.first, len(frame.digests))
        compare(stream, view)


def _is_confirmed(stream: ClientStream, frame: frames.Digests) -> bool:
    """Compare with what was delivered before it was announced; on a difference the stream is reset."""
    try:
        for block, digest in enumerate(frame.digests, frame.first):
            stream.down.confirm(block, digest)
    except LocalProtocolError as error:
        stream.fail(ErrorCode.DIVERGED, f"the server contradicts itself ({error}); do not trust what was read")
        return False
    return True


def _on_run(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Run, now: Instant) -> None:
    _check_announced(stream, view, frame.first, frame.count)
    if frame.first + frame.count <= stream.down.delivered // stream.down.block_bytes:
        return
    if view.announced.add_run(frame.first, frame.count, frame.digest):
        view.agreement.on_run(frame.first)
        compare(stream, view)


def _on_probed(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Probed, now: Instant) -> None:
    view.open_probes.discard(frame.probe)
    pair = Pair(frame.chain, frame.prefix) if frame.status == frames.PROBE_REACHED else None
    # "Ended before" may also mean that delivery, and with it the floor, has passed the offset by now, or that the
    # offset ahead lies beyond the end of the stream. The candidate's own final size tells (see compare).
    stream.takeover.on_answer(view, frame.probe, frame.offset, pair)
    if pair is None and view is stream.takeover.candidate:
        stream.takeover.end()


def _on_revoked(stream: ClientStream, view: ReplicaView, path: ClientPath, frame: frames.Revoked, now: Instant) -> None:
    view.revokes[path.id] = max(0, view.revokes.get(path.id, 0) - 1)
    for number, block in frame.orders:
        before = stream.down.book.owed_of(path.id, view.number, number)
        stream.down.book.on_revoked(path.id, view.number, OrderId(number), block)
        after = stream.down.book.owed_of(path.id, view.number, number)
        # What was given up and comes all the same is owed again.
        path.outstanding_bytes += max(0, after - before)
        path.release(max(0, before - after), now)


def _on_busy(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Busy, now: Instant) -> None:
    view.produced = max(view.produced, frame.produced)


def _on_fin(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Fin, now: Instant) -> None:
    if (view.final is not None and view.final != frame.final) or frame.final < view.produced:
        raise LocalProtocolError(
            f"final size {frame.final} contradicts {view.final} or produced {view.produced}", field="final"
        )
    if view.final is not None:
        return
    view.final, view.final_at = frame.final, now
    view.produced = frame.final
    _trim(stream, view, frame.final, now)
    if view is stream.anchor:
        stream.down.book.end_at(frame.final)
        for block in stream.down.parts.blocks():
            judge(stream, block)
        for helper in stream.helpers():
            compare(stream, helper)
    else:
        compare(stream, view)


def _trim(stream: ClientStream, view: ReplicaView, final: Offset, now: Instant) -> None:
    for path in view.paths.values():
        before = stream.down.book.owed_by(path.id, view.number)
        stream.down.book.trim(view.number, final, path.id)
        path.release(before - stream.down.book.owed_by(path.id, view.number), now)


def _on_reset(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Reset, now: Instant) -> None:
    view.produced = max(view.produced, frame.offset)
    if view.final is not None and frame.offset == view.final:
        # Its output is complete; only writing to it has failed, as a TCP reset behind a FIN.
        stream.app.write_failed = True
        if stream.app.end_shown:
            stream.fail(frame.code, f"the service aborted the stream ({error_code_name(frame.code)})")
        return
    view.reset_at = frame.offset
    stream.attempts.last_code = frame.code
    stream.drop_view(view, ViewState.DEAD, ErrorCode.STREAM_ABORTED)


def _on_closed(stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Closed, now: Instant) -> None:
    if view.is_usable:
        view.open_sent = False
        stream.drop_view(view, ViewState.DEAD, ErrorCode.NO_ERROR)


def _on_diverged(
    stream: ClientStream, view: ReplicaView, _path: ClientPath, frame: frames.Diverged, now: Instant
) -> None:
    stream.drop_view(view, ViewState.DIVERGENT, ErrorCode.DIVERGED)


_DISPATCH: dict[type, Callable[..., None]] = {
    frames.Opened: _on_opened,
    frames.Refused: _on_refused,
    frames.Attached: _on_attached,
    frames.UpstreamState: _on_upstream_state,
    frames.Produced: _on_produced,
    frames.Digests: _on_digests,
    frames.Run: _on_run,
    frames.Probed: _on_probed,
    frames.Revoked: _on_revoked,
    frames.Busy: _on_busy,
    frames.Fin: _on_fin,
    frames.Reset: _on_reset,
    frames.Closed: _on_closed,
    frames.Diverged: _on_diverged,
}
