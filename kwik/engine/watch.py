"""Readiness of many applications' descriptors behind one descriptor of the event loop (Linux: epoll).

Edge-triggered, because a half-closed or hung-up socket is "ready" for ever and cannot be masked: level-triggered it
would either spin or have to be taken out, and then nobody would tell of its close. Whoever watches remembers readiness
until a call says EAGAIN.
"""

import asyncio
import logging
import select
from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
ENDED = select.EPOLLRDHUP | select.EPOLLHUP
"""The other end shut its writing side, or closed."""
HUNG_UP = select.EPOLLHUP
FAILED = select.EPOLLERR

_USUAL = READABLE | select.EPOLLRDHUP | select.EPOLLET
_BATCH = 64
"""Descriptors told per turn of the loop."""

_log = logging.getLogger("kwik.engine")


class Watcher:
    """Tells of edges. Event loop's thread only. `on_event(mask)` must not raise; what it raises is logged."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._after: dict[Callable[[], None], None] = {}
        self._in_batch = False
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    def add(self, fd: int, on_event: Callable[[int], None]) -> None:
        """From the next turn on tell every edge but WRITABLE's; what is ready already is told as the first one."""
        self._watches[fd] = _Watch(on_event)
        self._epoll.register(fd, _USUAL)

    def want_writable(self, fd: int, *, wanted: bool) -> None:
        """Tell of WRITABLE too, from now on, or no more: every read of the other end is such an edge."""
        if fd in self._watches:
            self._epoll.modify(fd, _USUAL | WRITABLE if wanted else _USUAL)

    def remove(self, fd: int) -> None:
        """Before `fd` is closed, always: an entry that stays behind would speak for whoever gets the number next."""
        watch = self._watches.pop(fd, None)
        if watch is not None:
            watch.on_event = None
            self._epoll.unregister(fd)

    def after_batch(self, callback: Callable[[], None]) -> None:
        """Call this once, when the batch of events that is being told has been told; at once if none is."""
        if self._in_batch:
            self._after[callback] = None
        else:
            callback()

    def descriptors(self) -> list[int]:
        """Everything that is watched, and the watcher's own descriptor: what a forked child has to give up."""
        return [] if self._epoll.closed else [*self._watches, self._epoll.fileno()]

    def close(self) -> None:
        """Stop; the descriptors that are still watched stay open."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._watches.clear()

    def fileno(self) -> int:
        """Readable when there is something to tell; -1 once it is closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def poll(self) -> None:
        """Tell now what else the loop's next round would tell. Inside a batch: does nothing."""
        if not self._in_batch and not self._epoll.closed:
            self._dispatch()

    def _dispatch(self) -> None:
        # Resolved before the first call: a number that is closed and taken anew in this batch is another watch.
        batch = [(self._watches.get(fd), mask) for fd, mask in self._epoll.poll(0, _BATCH)]
        self._in_batch = True
        for watch, mask in batch:
            if watch is not None and watch.on_event is not None:
                self._guarded(watch.on_event, mask)
        self._in_batch = False
        after, self._after = self._after, {}
        for callback in after:
            self._guarded(callback)

    def _guarded(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except Exception:  # noqa: BLE001 - logged
            _log.exception("an application's socket could not be served")


class _Watch:
    """One descriptor; `on_event` is None once it was removed."""

    __slots__ = ("on_event",)

    def __init__(self, on_event: Callable[[int], None]) -> None:
        self.on_event: Callable[[int], None] | None = on_event
