"""Client: streams that no server has taken yet: whom they were offered to, and how long others are waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.errors import ErrorCode

if TYPE_CHECKING:
    from kwik.kdp.stream import ClientStream
    from kwik.types import Instance, Instant

REFUSED_PARTS = 2
"""Once refused, a dial waits this many times `discovery_time_s` for servers that have not answered yet: those that are
found at the end of that time need about as long again to be tried."""


def is_tried(stream: ClientStream, instance: Instance) -> bool:
    """Whether that server instance has had its one OPEN for this stream."""
    if instance in stream.attempts.instances:
        return True
    return any(view.instance == instance for view in stream.views.values())


def has_untried(stream: ClientStream) -> bool:
    """Whether some server that stays could still be sent OPEN."""
    return any(
        path.instance is not None and not path.is_draining and not is_tried(stream, path.instance)
        for path in stream.context.admitted()
    )


def give_up(stream: ClientStream, now: Instant) -> None:
    """Let a dial fail that nobody takes (SPEC §4.3, §5.2)."""
    attempts = stream.attempts
    are_leaving = any(path.is_draining for path in stream.context.admitted())
    if stream.is_over or not (attempts.refusals or are_leaving):
        attempts.refused_since = None
        return
    if attempts.refused_since is None:
        attempts.refused_since = now
    if has_untried(stream) or _is_waiting(stream, attempts.refused_since, now):
        return
    code = attempts.last_code if attempts.refusals else ErrorCode.DRAINING
    said = "; ".join(attempts.refusals[-8:]) or "all that there are drain"
    stream.fail(code, f"every server refused the stream ({said})", refused=True)


def _is_waiting(stream: ClientStream, since: Instant, now: Instant) -> bool:
    config = stream.context.config
    if not stream.attempts.refusals:
        # Whoever takes the place of servers that drain may need some time to come.
        return now < since + config.recovery_time_s
    # Servers that cannot be reached, or are others', are tried again and again: not for ever, where one has refused.
    is_waiting = now < since + REFUSED_PARTS * config.discovery_time_s
    return is_waiting and stream.context.may_find_more()
