"""Client: everything known of one replica of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from kwik.base.ranges import RangeSet
from kwik.kdp.agreement import Agreement, Announced
from kwik.kdp.path import ClientPath
from kwik.types import Instance, Instant, Offset, OrderId, PathId


class ViewState(Enum):
    """What the client thinks of a replica."""

    OPENING = auto()
    """OPEN is not answered yet (or not even sent)."""
    LIVE = auto()
    DEAD = auto()
    """Reset, lost with its instance, unknown there, refuted or given up."""
    DIVERGENT = auto()
    REFUSED = auto()


_USABLE = (ViewState.OPENING, ViewState.LIVE)


@dataclass(slots=True, eq=False)
class ReplicaView:
    """Control values are absolute and monotone: the largest wins, whichever path brought it (SPEC §5.3)."""

    number: int
    mode: int
    instance: Instance | None
    opened_on: PathId
    first_credit: Offset
    state: ViewState = ViewState.OPENING
    open_sent: bool = False
    address: str = ""
    paths: dict[PathId, ClientPath] = field(default_factory=dict)
    attaching: set[PathId] = field(default_factory=set)
    dropped_paths: set[PathId] = field(default_factory=set)
    """Paths whose orders died while data may still be on its way: such data is ignored."""
    produced: Offset = 0
    final: Offset | None = None
    final_at: Instant | None = None
    reset_at: Offset | None = None
    announced: Announced = field(default_factory=Announced)
    agreement: Agreement = field(init=False)
    received: Offset = 0
    taken: Offset = 0
    upstream_credit: Offset = 65536
    sent: Offset = 0
    fin_sent: bool = False
    floor_told: Offset = 0
    credit_told: Offset = 0
    credit_ever: Offset = 0
    """The most that the server may know of; what a lost path carried included."""
    credit_on: dict[PathId, Offset] = field(default_factory=dict)
    """Credit told on each path: an order may not overtake the credit that it needs."""
    cap_bytes: int | None = None
    """What its server holds above the floor (OPENED)."""
    revokes: dict[PathId, int] = field(default_factory=dict)
    """REVOKEs that are not answered, by path."""
    open_probes: set[int] = field(default_factory=set)
    next_order: int = 1
    announces_blocks: bool = False
    withheld: int = 0
    """How often delivery was stuck on a block that it owed."""
    delivered_bytes: int = 0
    first_data_at: Instant | None = None
    last_data_at: Instant | None = None

    def __post_init__(self) -> None:
        self.agreement = Agreement(self.announced)

    @property
    def is_usable(self) -> bool:
        """Its server may still answer for it."""
        return self.state in _USABLE

    @property
    def agreed(self) -> RangeSet:
        """Blocks on which it agrees with the anchor."""
        return self.agreement.agreed

    def draw_order(self) -> OrderId:
        """The next order's number."""
        self.next_order += 1
        return OrderId(self.next_order - 1)

    def note_told(self, path: PathId, credit: Offset) -> None:
        """This credit was told on this path."""
        self.credit_on[path] = max(credit, self.credit_on.get(path, 0))
        self.credit_told = max(self.credit_told, credit)
        self.credit_ever = max(self.credit_ever, credit)

    def forget_told(self, path: PathId) -> None:
        """What was told on the path may be lost with it."""
        self.credit_on.pop(path, None)
        self.revokes.pop(path, None)
        self.open_probes.clear()
        self.credit_told = max(self.credit_on.values(), default=0)

    def rewind(self) -> None:
        """Send again, on another path, what the server has not confirmed of the upstream."""
        self.sent, self.fin_sent = self.received, False

    def live_paths(self) -> list[ClientPath]:
        """Attached paths that are not silent, best first."""
        if len(self.paths) == 1:
            (path,) = self.paths.values()
            return [] if path.is_silent else [path]
        live = [path for path in self.paths.values() if not path.is_silent]
        if len(live) > 1:
            live.sort(key=lambda path: (path.rtt_s, path.id))
        return live

    def control_path(self) -> ClientPath | None:
        """Where control frames and upstream go: the best path that speaks, else any."""
        if len(self.paths) == 1:
            (path,) = self.paths.values()
            return path
        live = self.live_paths()
        return live[0] if live else next(iter(self.paths.values()), None)
