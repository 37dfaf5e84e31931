"""The built-in schedulers by their names in Config."""

from __future__ import annotations

from kwik.errors import ConfigError
from kwik.kdp.scheduler import Scheduler
from kwik.kdp.scheduler.earliest import Earliest
from kwik.kdp.scheduler.roundrobin import RoundRobin

_KNOWN: dict[str, type[Scheduler]] = {"earliest": Earliest, "roundrobin": RoundRobin}


def by_name(name: str) -> Scheduler:
    """A built-in scheduler. Raises ConfigError for an unknown name."""
    if name not in _KNOWN:
        raise ConfigError(f"scheduler {name!r} is not known; use one of {', '.join(sorted(_KNOWN))}")
    return _KNOWN[name]()
