"""The two processes of a simulation: each drives one core exactly as the engine does, over simulated paths.

A turn: feed one input, perform what the core asks, give room to whoever wants it, flush, arm one timer. A process can
be stopped and continued (what came meanwhile is taken in its order), and killed (nobody is told).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol
from zlib import crc32

from kwik.core.actions import Action, PortDone, PortReadable, PortReset, PortWritable, WakePath
from kwik.core.port import BytePort, PathPort, PortKey
from kwik.kcp.actions import ClosePath, OpenPath, PingPath
from kwik.kdp.facts import PathFacts
from kwik.sim.clock import Clock, MachineFault
from kwik.sim.paths import PathEnd
from kwik.types import Instant, PathId

if TYPE_CHECKING:
    from kwik.sim.network import Network

MOST_ROUNDS: Final = 10_000
"""Rounds of one turn. A core that still has something to say then talks to itself."""
MOST_INSTANT_TIMERS: Final = 50
"""Timers due at once, one after another, at one instant."""
STOPPED_BACKLOG: Final = 1000
"""Packets that the kernel keeps for a stopped process; more are lost."""


class Core(BytePort, PathPort, Protocol):
    """What both cores are to their driver."""

    def readable(self) -> list[PortKey]:
        """Ports for which PortReadable is due, to be served before decisions are made."""


class App(Protocol):
    """An application at a port. Each method may use the core; none is called from within a call of the core."""

    def on_readable(self) -> None:
        """There are bytes to peek at, or the end."""

    def on_writable(self) -> None:
        """The port takes bytes again."""

    def on_reset(self, code: int, text: str, *, refused: bool) -> None:
        """The stream failed."""

    def on_done(self) -> None:
        """All is settled."""


class Host:
    """One process: a core, its ends of paths, its applications. Subclasses perform the actions that differ."""

    def __init__(self, clock: Clock, network: Network, name: str) -> None:
        self.clock = clock
        self.network = network
        self.name = name
        self.ends: dict[PathId, PathEnd] = {}
        self.apps: dict[PortKey, App] = {}
        self.is_dead = False
        self.trace_hash = 0
        self.after_turn: Callable[[], None] = _nothing
        self.most_rounds = 0
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] | None = None
        self._armed_at: Instant | None = None
        self._instant_timers = 0
        self._last_timer_at: Instant = 0.0
        self._in_turn = False
        self._touched: dict[PathEnd, None] = {}
        """Ends that may send: something came, a timer fired, or the core has woken them."""
        self._starved: list[PathEnd] = []
        """Ends that wanted more room than there was, when they were last looked at in this turn."""
        self._unserved: set[PathEnd] = set()
        """Ends whose core has not got all the room that it wants; only for membership."""
        self.is_fed = False
        """Whether the core was told anything in this turn."""

    @property
    def core(self) -> Core:
        """The core that is driven."""
        raise NotImplementedError

    @property
    def is_stopped(self) -> bool:
        """True between stop() and resume()."""
        return self._held is not None

    # ------------------------------------------------------------ what may happen to a process

    def enter(self, action: Callable[..., object], *arguments: object) -> None:
        """Everything that happens comes through here: not at all if dead, later if stopped, else now, then a turn."""
        if self.is_dead:
            return
        if self._held is not None:
            self._held.append((action, arguments))
            return
        if self._in_turn:
            raise MachineFault(f"{self.name}: an input in the middle of a turn")
        action(*arguments)
        self.turn()

    def enter_end(self, end: PathEnd, action: Callable[..., object], *arguments: object) -> None:
        """The same for what concerns an end, and the core only if `note` says so."""
        if self.is_dead or self._held is not None or self._in_turn:
            self.enter(self._on_end, end, action, *arguments)
            return
        self._touched[end] = None
        action(*arguments)
        self._take_turn()

    def _on_end(self, end: PathEnd, action: Callable[..., object], *arguments: object) -> None:
        self._touched[end] = None
        action(*arguments)

    def touch(self, end: PathEnd) -> None:
        """This end may have something to send in the turn that follows."""
        self._touched[end] = None

    @property
    def takes_packets(self) -> bool:
        """False when the socket of a stopped process is full."""
        return self._held is None or len(self._held) < STOPPED_BACKLOG

    def stop(self) -> None:
        """As SIGSTOP."""
        if self._held is None:
            self._held = []

    def resume(self, *, timer_first: bool = False) -> None:
        """As SIGCONT: what waited is taken in; a timer that is overdue before or behind it."""
        held, self._held = self._held or [], None
        if self.is_dead:
            return
        for end in self.ends.values():
            end.on_gap()
        if timer_first:
            self._on_timer()
            self.turn()
        for action, arguments in held:
            if self._held is None:
                self.enter(action, *arguments)
        self.enter(_nothing)

    def kill(self) -> None:
        """As SIGKILL: silence from now on."""
        self.is_dead = True

    def on_path_over(self, path: PathId, reason: str) -> None:
        """An end of ours is over."""
        if self.ends.pop(path, None) is not None:
            self.core.on_path_down(path, reason, self.clock.now)

    def on_writable(self, end: PathEnd, binding: bytes) -> None:
        """An end of ours has its keys."""
        raise NotImplementedError

    def facts(self, path: PathId, now: Instant) -> PathFacts | None:
        """The FactsView of the core."""
        end = self.ends.get(path)
        return end.facts() if end is not None else None

    def note(self, path: PathId, pipe: int, data: bytes) -> None:
        """Bytes are about to be handed to the core: they go into the hash of this run."""
        self.is_fed = True
        self.trace_hash = crc32(data, hash((path, pipe, self.clock.now, self.trace_hash)) & 0xFFFFFFFF)

    # ------------------------------------------------------------ a turn

    def turn(self) -> None:
        """A turn in which the core has something to say."""
        self.is_fed = True
        self._take_turn()

    def _take_turn(self) -> None:
        """Perform, give room, flush, arm the timer. As in the engine, only ends that were touched or woken get room."""
        self._in_turn = True
        has_news = True
        for rounds in range(MOST_ROUNDS):
            has_acted = self.is_fed and self._perform_all()
            # Whoever wants room anew says so by an action.
            has_given = (has_acted or has_news) and self._give_room()
            self.is_fed |= has_given
            has_news = not has_acted and not has_given and self._flush()
            if not has_acted and not has_given and not has_news:
                self.most_rounds = max(self.most_rounds, rounds)
                break
        else:
            raise MachineFault(f"{self.name}: no end of actions in one turn, at {self.clock.now:.6f} s")
        if self.is_fed:
            self._arm()
        self._in_turn = False
        self.after_turn()
        self.is_fed = False

    def _flush(self) -> bool:
        """Let the ends send what they have; True if that has made room where some was missing."""
        for end in self._touched:
            end.flush()
        if not self._starved:
            self._touched.clear()
            return False
        self._touched = {end: None for end in self._starved if end.has_room()}
        return bool(self._touched)

    def _perform_all(self) -> bool:
        readable = self.core.readable()
        for key in readable:
            if (app := self.apps.get(key)) is not None:
                app.on_readable()
        actions = self.core.actions()
        for action in actions:
            self.perform(action)  # type: ignore[arg-type]
        return bool(actions) or bool(readable)

    def perform(self, action: Action) -> None:
        """Do what the core asked for."""
        # Nearly all are one of the first two; isinstance and not match, whose patterns take three times as long.
        if isinstance(action, WakePath):
            if (end := self.ends.get(action.path)) is not None:
                self._touched[end] = None
        elif isinstance(action, PortReadable):
            if (app := self.apps.get(action.key)) is not None:
                app.on_readable()
        elif isinstance(action, PortWritable):
            if (app := self.apps.get(action.key)) is not None:
                app.on_writable()
        elif isinstance(action, PortReset | PortDone):
            self._forget(action)
        elif isinstance(action, OpenPath | ClosePath | PingPath):
            self._perform_on_path(action)
        else:
            self.perform_own(action)

    def _forget(self, action: PortReset | PortDone) -> None:
        app = self.apps.pop(action.key, None)
        if app is None:
            return
        if isinstance(action, PortReset):
            app.on_reset(action.code, action.text, refused=action.refused)
        else:
            app.on_done()

    def _perform_on_path(self, action: OpenPath | ClosePath | PingPath) -> None:
        if isinstance(action, OpenPath):
            self.network.open_path(action.path, action.address)
        elif (end := self.ends.get(action.path)) is None:
            return
        elif isinstance(action, PingPath):
            end.ping(action.ping)
            self._touched[end] = None
        else:
            end.flush()
            end.close(action.code, action.reason)

    def perform_own(self, action: Action) -> None:
        """The actions that only one side has."""
        raise MachineFault(f"{self.name}: {action} is not an action of this side")

    def _give_room(self) -> bool:
        """Ask each path that wants room until it is full or has said all; says whether any gave something."""
        self._starved.clear()
        if not self._touched:
            return False
        has_given = False
        for end in self._in_order(self._touched):
            # A core that was told nothing wants what it wanted before, no more.
            if self.is_fed or end in self._unserved:
                has_given |= self._serve(end)
        return has_given

    def _serve(self, end: PathEnd) -> bool:
        core, path, now = self.core, end.path, self.clock.now
        has_given = False
        self._unserved.discard(end)
        while core.wants_room(path):
            if not end.has_room():
                self._starved.append(end)
                self._unserved.add(end)
                break
            pieces = core.on_room(path, end.room(), now)
            if not pieces:
                self._unserved.add(end)
                break
            has_given = True
            for pipe, data in pieces:
                end.write(pipe, self.altered(path, pipe, data))
        return has_given

    def _in_order(self, touched: dict[PathEnd, None]) -> list[PathEnd]:
        return list(touched) if len(touched) < 2 else [end for end in self.ends.values() if end in touched]

    def altered(self, path: PathId, pipe: int, data: bytes) -> bytes:
        """What is really sent instead of this: a liar's process changes it."""
        return data

    # ------------------------------------------------------------ the one timer

    def _arm(self) -> None:
        due = self.core.deadline()
        if due is None or (self._armed_at is not None and self._armed_at <= due):
            return
        self._armed_at = due = max(due, self.clock.now)
        self.clock.at(due, self._timer_event, due)

    def _timer_event(self, due: Instant) -> None:
        if self._armed_at == due:
            self._armed_at = None
            self.enter(self._on_timer)

    def _on_timer(self) -> None:
        """Even if the deadline has moved meanwhile: early calls are harmless."""
        core, now = self.core, self.clock.now
        if core.deadline() is None:
            return
        core.on_timeout(now)
        after = core.deadline()
        if after is not None and after <= now:
            raise MachineFault(f"{self.name}: deadline {after:.9f} s after on_timeout({now:.9f})")
        self._instant_timers = self._instant_timers + 1 if now == self._last_timer_at else 0
        self._last_timer_at = now
        if self._instant_timers > MOST_INSTANT_TIMERS:
            raise MachineFault(f"{self.name}: an endless chain of deadlines without delay at {now:.6f} s")


def _nothing() -> None:
    pass
