"""The paths of one client session as the control plane keeps them, and what others may ask about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from kwik.kcp.health import PathState

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwik.kcp.admission import ClientAdmission
    from kwik.types import Address, Instance, Instant, PathId
    from kwik.wire.messages import ServerHello

MAX_OPEN_PATHS: Final = 64
"""Open at a time, handshakes included (SPEC §7)."""


class Stage(Enum):
    """How far a path has come on its way into the session; health has the states after that."""

    HANDSHAKE = "handshake"
    GREETED = "greeted"
    """Our hello is sent, the server's has not come."""
    HELD = "held"
    """The server's hello waits for the early path's (see Control.early_path)."""
    JOINING = "joining"
    ADMITTED = "admitted"


@dataclass(slots=True)
class PathRecord:
    """One open path."""

    path: PathId
    address: Address
    stage: Stage = Stage.HANDSHAKE
    hello: ServerHello | None = None
    instance: Instance | None = None
    """Who it is; set with the admission and not before."""
    admitted_at: Instant = 0.0
    early: bool = False
    """An OPEN may have been sent on it before its hello was read."""
    in_use: bool = True
    """The data plane has something on it, or has never said."""
    held_until: Instant = 0.0
    drain_s: float | None = None
    """A DRAIN that came while the hello was held."""

    @property
    def is_admitted(self) -> bool:
        """Whether the data plane may use it."""
        return self.stage is Stage.ADMITTED


class PathTable:
    """All open paths; the questions that may be asked. A path leaves the table the moment it is given up."""

    def __init__(self, state_of: Callable[[PathId], tuple[PathState, str]], admission: ClientAdmission) -> None:
        """`state_of` is health's word on a path; `admission` knows the instances."""
        self._table: dict[PathId, PathRecord] = {}  # in ascending order, as numbers only grow
        self._state_of = state_of
        self._admission = admission

    def is_admitted(self, path: PathId) -> bool:
        """Whether the path may carry streams."""
        record = self._table.get(path)
        return record is not None and record.stage is Stage.ADMITTED

    def instance_of(self, path: PathId) -> Instance | None:
        """The server instance at its end, known only from the admission on."""
        record = self._table.get(path)
        return None if record is None else record.instance

    def hello_of(self, path: PathId) -> ServerHello | None:
        """The server's hello of an admitted path."""
        record = self._table.get(path)
        return record.hello if record is not None and record.is_admitted else None

    def address_of(self, path: PathId) -> Address | None:
        """Where the path leads; None once it is closed."""
        record = self._table.get(path)
        return None if record is None else record.address

    def state_of(self, path: PathId) -> tuple[PathState, str]:
        """Its state and why it came about."""
        return self._state_of(path)

    def paths(self) -> list[PathId]:
        """All open paths, ascending, handshakes included."""
        return list(self._table)

    def admitted_paths(self) -> list[PathId]:
        """Those that may carry streams, ascending."""
        return [record.path for record in self._table.values() if record.is_admitted]

    def knows_any_instance(self) -> bool:
        """Whether a new path may turn out to end at an instance that has a session of ours already."""
        return bool(self._admission.instances())

    def early_path(self) -> PathId | None:
        """The one path that may carry an OPEN before its hello was read (SPEC §4.1), if there is one now.

        Only a session that knows no instance has one: elsewhere the path might have to be joined, and a path that is
        in use on its own cannot be. For the same reason there is but one, and the hellos of others wait for its.
        """
        for record in self._table.values():
            if record.early and record.stage is Stage.GREETED:
                return record.path
        return None

    def _admitted_at(self, instance: Instance) -> list[PathRecord]:
        return [record for record in self._table.values() if record.is_admitted and record.instance == instance]

    def _is_state(self, record: PathRecord, *states: PathState) -> bool:
        return self._state_of(record.path)[0] in states

    def _is_served(self, instance: Instance) -> bool:
        """Whether the instance has a path without any suspicion."""
        return any(self._is_state(record, PathState.ACTIVE) for record in self._admitted_at(instance))
