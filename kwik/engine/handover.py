"""Lets an application's thread run when the engine has given it what it waits for.

Applications and engine share one interpreter. Writing to a socket wakes its reader, but by the time the reader's thread
runs, the engine has taken the interpreter again and keeps it until it next sleeps: milliseconds that the reader loses,
and that its answer loses after it. So the engine sleeps a moment, and takes along what is answered meanwhile.
(`sys.setswitchinterval` would do as well, for everything in the process; that is the application's business.)
"""

from __future__ import annotations

import select
import time
from typing import Final

from kwik.engine.watch import Watcher

PAUSE_S: Final = 100e-6
"""What it takes to wake a thread on another processor and let it read; half of it was over too soon."""
ACCEPT_PAUSE_S: Final = 2e-3
"""A new stream: its application starts a task, and is woken and put off several times before it can answer."""
MIN_ACCEPT_PAUSE_S: Final = 100e-6
ACCEPT_FACTOR: Final = 3
"""The next answer may take so many times as long as the last one."""
RETRY_ACCEPTS: Final = 16
"""Applications that do not answer at once are not waited for; this often they may show that they do by now."""
_LARGEST_FD: Final = 1024
"""select(), the only call with microseconds, knows no numbers from here on."""


class HandOver:
    """Event loop's thread only. `loop_fd` is readable when the loop has something else to do: it ends short pauses,
    but for those in which somebody gets what it has asked for."""

    def __init__(self, watcher: Watcher, loop_fd: int = -1) -> None:
        self._watcher = watcher
        self._loop_fd = loop_fd
        self._limit_s = 0.0
        self._accept_s = ACCEPT_PAUSE_S
        self._accepts = 0
        self._is_accept = self._is_answer = False

    def note(self, limit_s: float = PAUSE_S, *, is_answer: bool = False) -> None:
        """An application that has waited was given something; what it says to that may take so long."""
        self._limit_s = max(self._limit_s, limit_s)
        self._is_answer |= is_answer

    def note_accept(self) -> None:
        """An application was given a new stream; how long its answer may take is learned."""
        self._is_accept = True
        self._accepts += 1
        self.note(self._accept_s if self._accepts % RETRY_ACCEPTS else ACCEPT_PAUSE_S)

    def settle(self) -> None:
        """If somebody was given something: let them run, and take what they answer at once."""
        limit_s, self._limit_s = self._limit_s, 0.0
        is_accept, is_answer = self._is_accept, self._is_answer
        self._is_accept = self._is_answer = False
        if not limit_s:
            return
        self._watcher.poll()  # the first event of a new pair, which tells nothing, must not end the sleep
        if is_accept:
            began_at = time.perf_counter()
            answered = self._pause([self._watcher.fileno()], limit_s)
            self._learn(answered, time.perf_counter() - began_at)
        else:
            self._pause([self._watcher.fileno(), -1 if is_answer else self._loop_fd], limit_s)
        self._watcher.poll()

    def _learn(self, answered: bool, took_s: float) -> None:
        wanted_s = max(ACCEPT_FACTOR * took_s, 0.9 * self._accept_s) if answered else 0.7 * self._accept_s
        self._accept_s = min(ACCEPT_PAUSE_S, max(MIN_ACCEPT_PAUSE_S, wanted_s))

    def _pause(self, descriptors: list[int], limit_s: float) -> bool:
        """True if one of them became readable."""
        known = [descriptor for descriptor in descriptors if 0 <= descriptor < _LARGEST_FD]
        if known:
            return bool(select.select(known, [], [], limit_s)[0])
        time.sleep(limit_s)
        return False
