"""Which class of connection a path gets: the fast one where aioquic is exactly the version that it was written for.

`KWIK_FAST_PATH=0` in the environment switches it off, for comparison and when in doubt.
"""

import logging
import os

import aioquic

from kwik.quic.connection import PathConnection

KNOWN_AIOQUIC = "1.7.2"
SWITCH = "KWIK_FAST_PATH"

_log = logging.getLogger(__name__)
_warned: set[str] = set()


def connection_class() -> type[PathConnection]:
    """The class for new connections, by the environment and the installed aioquic."""
    if os.environ.get(SWITCH, "1").strip() == "0":
        return PathConnection
    if aioquic.__version__ != KNOWN_AIOQUIC:
        _warn_once(aioquic.__version__)
        return PathConnection
    # Only here: an unknown version may lack what the fast modules import.
    from kwik.quic.fast_connection import FastConnection

    return FastConnection


def _warn_once(version: str) -> None:
    if version not in _warned:
        _warned.add(version)
        _log.warning("aioquic %s is not %s: paths work, at twice the CPU time per packet", version, KNOWN_AIOQUIC)
