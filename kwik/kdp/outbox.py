"""Requests that are not answered yet (SPEC §7), and the client's queue of control frames of a path, which obeys them.

A request too many waits, and with it whatever concerns the same replica: no frame overtakes the OPEN that it needs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kwik.wire import frames
from kwik.wire.codec import ClientFrame, ServerFrame

REQUESTS: Final = (frames.Open, frames.Attach)
_ANSWERS: Final = (frames.Opened, frames.Refused, frames.Attached, frames.Closed)
MAX_OPENS = 256
MAX_ATTACHS = 256
"""Unanswered requests per path (SPEC §7)."""


@dataclass(slots=True)
class Unanswered:
    """The replicas whose OPEN or ATTACH on one path is not answered; both sides keep such a list."""

    opening: set[int] = field(default_factory=set)
    attaching: set[int] = field(default_factory=set)

    def may_take(self, request: frames.Open | frames.Attach) -> bool:
        """Whether one more is allowed."""
        if isinstance(request, frames.Open):
            return len(self.opening) < MAX_OPENS
        return len(self.attaching) < MAX_ATTACHS and request.replica not in self.attaching

    def on_request(self, request: frames.Open | frames.Attach) -> None:
        """It is on its way, or has come."""
        (self.opening if isinstance(request, frames.Open) else self.attaching).add(request.replica)

    def on_answer(self, frame: ServerFrame) -> bool:
        """A frame of the server goes out, or has come; True if it answers a request."""
        if not isinstance(frame, _ANSWERS):
            return False
        number = frame.replica
        was_waiting = self.waits_for(number)
        if not isinstance(frame, frames.Attached):
            self.opening.discard(number)
        if not isinstance(frame, frames.Opened):
            self.attaching.discard(number)
        return was_waiting

    def waits_for(self, replica: int) -> bool:
        """Whether a request of this replica is unanswered."""
        return replica in self.opening or replica in self.attaching

    def forget(self, replica: int) -> None:
        """The replica has left the path, or its request never went out."""
        self.opening.discard(replica)
        self.attaching.discard(replica)


class Outbox:
    """Control frames that wait for room on a path, in order."""

    def __init__(self) -> None:
        self._ready: deque[ClientFrame] = deque()
        self._held: deque[ClientFrame] = deque()
        self._holding: set[int] = set()
        self._unanswered = Unanswered()

    def __len__(self) -> int:
        """How many may go out now."""
        return len(self._ready)

    def append(self, frame: ClientFrame) -> None:
        """Queue a frame."""
        replica: int = frame.replica  # type: ignore[union-attr]
        if isinstance(frame, REQUESTS):
            if replica in self._holding or not self._unanswered.may_take(frame):
                self._holding.add(replica)
            else:
                self._unanswered.on_request(frame)
        (self._held if replica in self._holding else self._ready).append(frame)

    def popleft(self) -> ClientFrame:
        """The next frame; IndexError if none may go out."""
        return self._ready.popleft()

    def on_answer(self, frame: ServerFrame) -> bool:
        """A frame of the server has come; True if frames that were held back may go out now."""
        return self._unanswered.on_answer(frame) and self._release()

    def recall(self, replica: int) -> None:
        """Frames for this replica, whose OPEN has not left, are not wanted any more."""
        for queue in (self._ready, self._held):
            kept = [frame for frame in queue if frame.replica != replica]  # type: ignore[union-attr]
            queue.clear()
            queue.extend(kept)
        self._unanswered.forget(replica)
        self._release()

    def _release(self) -> bool:
        held, self._held = self._held, deque()
        self._holding.clear()
        before = len(self._ready)
        for frame in held:
            self.append(frame)
        return len(self._ready) > before
