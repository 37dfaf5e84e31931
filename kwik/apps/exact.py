"""An event loop whose timers fire when they are due.

asyncio hands epoll its time-outs in whole milliseconds, rounded up, some of them twice: a timer fires 0 to 2 ms late,
depending on what else has woken the loop. An emulated link must not treat one packet differently from the next.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
SELECT_LIMIT = 1024
"""FD_SETSIZE: `select` takes no descriptor from here on."""

if sys.platform == "linux":

    class ExactSelector(selectors.EpollSelector):
        """epoll, waited for by `select`, which counts microseconds; it watches one descriptor, whatever epoll does."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """See BaseSelector."""
            own = self.fileno()
            if timeout is not None and timeout > 0 and own < SELECT_LIMIT:
                select.select((own,), (), (), timeout)
                timeout = 0
            return super().select(timeout)

else:  # kqueue counts nanoseconds
    ExactSelector = selectors.DefaultSelector


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(ExactSelector())) as runner:
        return runner.run(main)
