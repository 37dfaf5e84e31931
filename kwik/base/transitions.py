"""State machines as tables: (state, input) -> state. One table runs, is tested and draws the figure in SPEC.

After h11's tables: what the table does not name is not allowed, so that no forgotten pair of state and input passes in
silence. The shape of a table is checked when its module is imported.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Generic, TypeVar

from kwik.errors import LocalProtocolError

S = TypeVar("S", bound=Enum)
I = TypeVar("I", bound=Enum)  # noqa: E741  # the two letters of the field: states and inputs


class TransitionTable(Generic[S, I]):
    """The immutable rules of one kind of machine; `name` is used in messages.

    Raises ValueError if a state can never be reached from `initial`.
    """

    __slots__ = ("_next", "initial", "inputs", "name", "states")

    def __init__(self, name: str, initial: S, table: Mapping[tuple[S, I], S]) -> None:
        self.name = name
        self.initial = initial
        self._next = dict(table)
        # Dictionaries keep the order of the table, which sets would not.
        ends = [initial, *(state for (start, _), stop in self._next.items() for state in (start, stop))]
        self.states: tuple[S, ...] = tuple(dict.fromkeys(ends))
        self.inputs: tuple[I, ...] = tuple(dict.fromkeys(cause for _, cause in self._next))
        unreachable = set(self.states) - self._reachable()
        if unreachable:
            names = ", ".join(sorted(_label(state) for state in unreachable))
            raise ValueError(f"{name}: no input leads to {names}: add a transition or remove the state")

    def next(self, state: S, cause: I) -> S:
        """The state after that input. Raises LocalProtocolError if the table does not allow it."""
        try:
            return self._next[state, cause]
        except KeyError:
            allowed = ", ".join(_label(known) for known in self.allowed(state)) or "nothing"
            raise LocalProtocolError(
                f"{self.name}: {_label(cause)} is not possible in state {_label(state)}; allowed there: {allowed}"
            ) from None

    def takes(self, state: S, cause: I) -> bool:
        """Whether the table allows that input in that state."""
        return (state, cause) in self._next

    def allowed(self, state: S) -> tuple[I, ...]:
        """The inputs that the state takes, in the order of the table; empty for a final state."""
        return tuple(cause for (start, cause) in self._next if start is state)

    def is_final(self, state: S) -> bool:
        """Whether the machine can never leave the state."""
        return all(stop is state for (start, _), stop in self._next.items() if start is state)

    def as_text(self) -> str:
        """One line a transition, `state + input -> state`, aligned, in the order of the table."""
        rows = [(_label(start), _label(cause), _label(stop)) for (start, cause), stop in self._next.items()]
        first = max((len(row[0]) for row in rows), default=0)
        second = max((len(row[1]) for row in rows), default=0)
        return "\n".join(f"{start:<{first}} + {cause:<{second}} -> {stop}" for start, cause, stop in rows)

    def as_mermaid(self) -> str:
        """A Mermaid state diagram; inputs with the same two ends share one arrow."""
        arrows: dict[tuple[S, S], list[str]] = {}
        for (start, cause), stop in self._next.items():
            arrows.setdefault((start, stop), []).append(_label(cause))
        lines = ["stateDiagram-v2", f"    [*] --> {_label(self.initial)}"]
        lines += [f"    {_label(a)} --> {_label(b)}: {', '.join(causes)}" for (a, b), causes in arrows.items()]
        lines += [f"    {_label(state)} --> [*]" for state in self.states if self.is_final(state)]
        return "\n".join(lines)

    def _reachable(self) -> set[S]:
        found = {self.initial}
        waiting = [self.initial]
        while waiting:
            state = waiting.pop()
            fresh = {stop for (start, _), stop in self._next.items() if start is state} - found
            found |= fresh
            waiting.extend(fresh)
        return found


class Machine(Generic[S, I]):
    """One machine that follows a table. `state` changes by `on` alone."""

    __slots__ = ("_table", "state")

    def __init__(self, table: TransitionTable[S, I]) -> None:
        self._table = table
        self.state = table.initial
        """The present state, to be read; an attribute, for it is asked for many times in a turn."""

    def on(self, cause: I) -> S:
        """Take an input; the new state. Raises LocalProtocolError, and stays, if the table does not allow it."""
        self.state = self._table.next(self.state, cause)
        return self.state

    def accepts(self, cause: I) -> bool:
        """Whether `on` would take that input now."""
        return self._table.takes(self.state, cause)

    def __repr__(self) -> str:
        return f"<{self._table.name} {_label(self.state)}>"


def _label(member: Enum) -> str:
    return member.name.lower()
