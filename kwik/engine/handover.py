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
ACCEPT_PAUSE_S: Final = 400e-6
"""A new stream: its application starts a task, and is woken and put off several times before it can answer."""
_LARGEST_FD: Final = 1024
"""select(), the only call with microseconds, knows no numbers from here on."""


class HandOver:
    """Event loop's thread only."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._limit_s = 0.0

    def note(self, limit_s: float = PAUSE_S) -> None:
        """An application that has waited was given something; its answer may take so long."""
        self._limit_s = max(self._limit_s, limit_s)

    def settle(self) -> None:
        """If somebody was given something: let them run, and take what they answer at once."""
        limit_s, self._limit_s = self._limit_s, 0.0
        if not limit_s:
            return
        self._watcher.poll()  # the first event of a new pair, which tells nothing, must not end the sleep
        descriptor = self._watcher.fileno()
        if 0 <= descriptor < _LARGEST_FD:
            select.select([descriptor], [], [], limit_s)
        else:
            time.sleep(limit_s)
        self._watcher.poll()
