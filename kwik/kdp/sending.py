"""Client: what a stream says on its own account: upstream ranges and acknowledgements (SPEC §5.5, §5.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.errors import ErrorCode
from kwik.kdp.replica_view import ReplicaView, ViewState
from kwik.kdp.stream import MIN_UPSTREAM_BUFFER_BYTES
from kwik.wire import frames

if TYPE_CHECKING:
    from kwik.kdp.path import ClientPath
    from kwik.kdp.stream import ClientStream

UPSTREAM_BEFORE_HELLO_BYTES = 65536
"""Upstream sent on a path before its hello was read (SPEC §4.1)."""
MAX_MARKS_AHEAD = 900
"""Marks sent and not yet taken; SPEC §7 allows a server to hold 1024."""
UPSTREAM_HEAD_BYTES = 100
"""Room kept for the head of an UPSTREAM frame with its pair."""
ACK_PARTS = 8
ACK_BLOCKS = 2
"""An ACK is due when floor or credit moved by this part of the window, or by so many blocks where that is more (but by
no more than a quarter of the window): with small windows each block would be acknowledged to every server."""


def upstream_frame(stream: ClientStream, view: ReplicaView, path: ClientPath, limit: int) -> frames.Upstream | None:
    """The next UPSTREAM frame for a replica on a path, at most about `limit` bytes; None if there is none to send."""
    if not _may_send(stream, view, path):
        return None
    budget = min(limit - UPSTREAM_HEAD_BYTES, view.upstream_credit - view.sent, frames.MAX_DATA_PAYLOAD)
    first_credit = stream.context.upstream_credit(path)
    if first_credit is None:
        budget = min(budget, UPSTREAM_BEFORE_HELLO_BYTES - path.upstream_before_hello)
    if budget <= 0 and view.sent < stream.log.end:
        return None
    piece = stream.log.piece(view.sent, max(0, budget))
    if piece is None or (not piece.payload and not piece.fin):
        return None
    view.sent += len(piece.payload)
    view.fin_sent = piece.fin
    if first_credit is None:
        path.upstream_before_hello += len(piece.payload)
    chain, prefix = piece.mark.pair or (b"", b"")
    flags = frames.UPSTREAM_FIN if piece.fin else 0
    return frames.Upstream(view.number, piece.offset, piece.mark.after, flags, chain, prefix, piece.payload)


def has_upstream(stream: ClientStream, view: ReplicaView, path: ClientPath) -> bool:
    """Whether upstream_frame would give something, given room. Asked often: the cheap and likely answers come first."""
    log = stream.log
    if view.fin_sent or (view.sent >= log.end and log.final_mark is None):
        return False
    if view.sent < log.end:
        blocked = view.sent >= view.upstream_credit or (
            stream.context.upstream_credit(path) is None and path.upstream_before_hello >= UPSTREAM_BEFORE_HELLO_BYTES
        )
        if blocked:
            return False
    return _may_send(stream, view, path)


def _may_send(stream: ClientStream, view: ReplicaView, path: ClientPath) -> bool:
    if not view.is_usable or not view.open_sent or view.fin_sent or stream.is_over:
        return False
    if view.control_path() is not path or not (view is stream.anchor or stream.log.is_for_all):
        return False
    return stream.log.chunks_between(view.taken, view.sent) < MAX_MARKS_AHEAD


def drop_laggards(stream: ClientStream) -> None:
    """A helper that lags more than the window is dropped, the anchor never (DESIGN §5)."""
    if stream.log.is_recruitable:
        return
    limit = max(stream.context.config.replay_limit_bytes, MIN_UPSTREAM_BUFFER_BYTES)
    if stream.log.held_bytes <= limit:
        return
    for view in stream.helpers():
        if stream.log.end - view.received > limit and stream.anchor is not None and stream.anchor.is_usable:
            stream.drop_view(view, ViewState.DEAD, ErrorCode.NO_ERROR)


def acknowledge(stream: ClientStream) -> None:
    """Queue ACKs where floor or credit moved enough (both are absolute, repeats are harmless)."""
    credit, down = stream.credit, stream.down
    window, floor = credit - down.delivered, down.floor
    for view in stream.usable_views():
        if not view.open_sent or (credit == view.credit_told and floor == view.floor_told):
            continue
        held = window if view.cap_bytes is None else min(window, view.cap_bytes)
        step = max(1, held // ACK_PARTS, min(ACK_BLOCKS * down.block_bytes, held // 4))
        # What may be told never passes the floor itself, which is known without a search.
        has_moved = floor - view.floor_told >= step and floor_for(stream, view) - view.floor_told >= step
        if has_moved or credit - view.credit_told >= step:
            path = view.control_path()
            if path is not None:
                tell_credit(stream, view, path)


def tell_credit(stream: ClientStream, view: ReplicaView, path: ClientPath) -> None:
    """Queue an ACK with the present floor and credit."""
    view.floor_told = max(floor_for(stream, view), view.floor_told)
    view.note_told(path.id, stream.credit)
    stream.context.send(path, frames.Ack(view.number, view.floor_told, view.credit_told))


def floor_for(stream: ClientStream, view: ReplicaView) -> int:
    """The floor to tell a replica: it never passes a mark that the replica has not received (SPEC §5.5)."""
    floor = stream.down.floor
    if stream.down.running is None:
        return floor
    mark = stream.log.lowest_mark(view.received)
    if mark is None or (view.fin_sent and view.received >= stream.log.end and view.state is ViewState.LIVE):
        return floor
    return min(floor, mark - mark % stream.down.block_bytes)
