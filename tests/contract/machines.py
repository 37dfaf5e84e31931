"""What a machine must offer to be put to the contract: how to build it and what may happen to it.

A file `machines_<package>.py` beside this one lists its machines in `CASES`; test_machine.py finds it by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis.strategies import SearchStrategy

START = 1000.0
"""Simulated time does not begin at zero, so that nobody takes zero for unset."""


class Machine(Protocol):
    """The shape of every machine (HOUSE §5.4), besides its own inputs."""

    def on_timeout(self, now: float) -> None: ...
    def deadline(self) -> float | None: ...
    def actions(self) -> Sequence[object]: ...


@dataclass(frozen=True)
class Call:
    """One input: the method and its arguments, to which `now` is added if it is timed."""

    method: str
    args: tuple[object, ...] = ()
    timed: bool = True

    def apply(self, machine: Machine, now: float) -> None:
        getattr(machine, self.method)(*self.args, *((now,) if self.timed else ()))


@dataclass(frozen=True)
class Case:
    """One kind of machine. `build` makes equal machines each time; `calls` draws any input, sensible or not."""

    name: str
    build: Callable[[], Machine] = field(repr=False)
    calls: SearchStrategy[Call] = field(repr=False)
