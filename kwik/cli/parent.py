"""End with the process that started this one: its end of our standard input closes even when it is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

SECOND_AFTER_S: Final = 1.0
"""A second SIGTERM follows after so long: with nobody left to wait for, nothing is worth finishing."""
GIVE_UP_S: Final = 3.0


def end_with_stdin() -> None:
    """From now on, end as SIGTERM ends this command when standard input ends, and by force if that takes too long.

    Reads standard input on a thread of its own: nobody else may.
    """
    threading.Thread(target=_wait_and_end, name="kwik-parent", daemon=True).start()


def _wait_and_end() -> None:
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # there never was a standard input
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECOND_AFTER_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GIVE_UP_S)
    os._exit(1)
