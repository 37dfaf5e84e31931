"""Client: all replicas of one stream by number, and which of them may still help."""

from __future__ import annotations

from kwik.kdp.replica_view import ReplicaView, ViewState


class Roster(dict[int, ReplicaView]):
    """A dict that keeps the list of usable replicas, for it is asked for many times in a turn.

    The state of a replica in it changes through `retire` only, once it is no longer usable.
    """

    def __init__(self) -> None:
        super().__init__()
        self._usable: list[ReplicaView] | None = None
        self._others: list[ReplicaView] | None = None
        self._but: ReplicaView | None = None
        """Whom `_others` leaves out."""

    def __setitem__(self, number: int, view: ReplicaView) -> None:
        super().__setitem__(number, view)
        self._usable = self._others = None

    def __delitem__(self, number: int) -> None:
        super().__delitem__(number)
        self._usable = self._others = None

    def usable(self) -> list[ReplicaView]:
        """Replicas that may still help, oldest first; not to be changed, and not changed once it was given."""
        if self._usable is None:
            self._usable = [view for view in self.values() if view.is_usable]
        return self._usable

    def others(self, but: ReplicaView | None) -> list[ReplicaView]:
        """The same without one of them."""
        if self._others is None or self._but is not but:
            self._others, self._but = [view for view in self.usable() if view is not but], but
        return self._others

    def retire(self, view: ReplicaView, state: ViewState) -> None:
        """The replica is of no use any more."""
        view.state = state
        self._usable = self._others = None
