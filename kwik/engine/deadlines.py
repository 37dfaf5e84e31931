"""Waiting that can be changed from outside: deadlines that move while an operation waits, closes that wake it.

As Go's net.Conn has it: a deadline is absolute, one for reading and one for writing; setting it, or closing, wakes
whoever waits in another thread. Each waiting thread polls the descriptor and an eventfd of its own.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Final, Literal

Direction = Literal["read", "write"]
_EVENTS: Final = {"read": select.POLLIN, "write": select.POLLOUT}


class _Bell:
    """An eventfd, closed with the thread that it belongs to."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self.fd)


class _Bells(threading.local):
    """This thread's bell; a forked child makes its own, since an inherited one would ring in the parent."""

    bell: _Bell | None = None

    def get(self) -> _Bell:
        if self.bell is None or self.bell.pid != os.getpid():
            self.bell = _Bell()
        return self.bell


_bells = _Bells()


class Gate:
    """The deadlines of one descriptor and the threads that wait for it. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: list[int] = []
        self._deadlines: dict[Direction, float | None] = {"read": None, "write": None}
        self._closed = False

    def inherited(self) -> Gate:
        """For a forked child: the same deadlines, and no lock or thread of the parent's."""
        copy = Gate()
        copy._deadlines, copy._closed = dict(self._deadlines), self._closed
        return copy

    def set_deadline(self, direction: Direction, instant: float | None) -> None:
        """Absolute `time.monotonic()` seconds; None: none. Wakes whoever waits."""
        with self._changed:
            self._deadlines[direction] = instant
            self._ring()

    @contextlib.contextmanager
    def enter(self) -> Iterator[int]:
        """Around an operation: the descriptor stays open until it is left. Yields the eventfd to give to `wait`."""
        bell = _bells.get().fd
        with self._changed:
            self._check_open()
            self._inside.append(bell)
        try:
            yield bell
        finally:
            with self._changed:
                self._inside.remove(bell)
                self._changed.notify_all()

    def wait(self, fd: int, direction: Direction, bell: int) -> None:
        """Return when the descriptor is ready. Raises TimeoutError at the deadline (also when it is ready), OSError
        (EBADF) once it is closed."""
        poll = select.poll()
        poll.register(fd, _EVENTS[direction])
        poll.register(bell, select.POLLIN)
        while True:
            deadline = self._checked_deadline(direction)
            limit_ms = None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
            ready = poll.poll(limit_ms)
            rung = any(number == bell for number, _ in ready)
            if rung:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(bell)
            elif ready:
                return

    def close(self) -> None:
        """Wake everybody, let nobody in again, return when all have left."""
        with self._changed:
            self._closed = True
            self._ring()
            self._changed.wait_for(lambda: not self._inside)

    def _checked_deadline(self, direction: Direction) -> float | None:
        with self._changed:
            self._check_open()
            deadline = self._deadlines[direction]
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(errno.ETIMEDOUT, f"the {direction} deadline has passed")
        return deadline

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the connection is closed")

    def _ring(self) -> None:
        for bell in self._inside:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(bell, 1)
