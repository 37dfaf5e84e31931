"""The control plane of one client session: which paths there should be, which there are, hence what to do.

Joins registry, selection, race, health, admission, recovery, scaling and draining, and has no policy of its own. It
decides which servers get paths; how many, and what runs on them, is the data plane's (they meet in `Want`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.errors import ErrorCode
from kwik.kcp.actions import (
    ClosePath,
    ControlAction,
    InstanceDraining,
    NoCandidates,
    OpenPath,
    PathAdmitted,
    PathGone,
    PingPath,
    SendMessage,
)
from kwik.kcp.admission import ClientAdmission, NewInstance, Refuse
from kwik.kcp.candidates import Candidates, Connected
from kwik.kcp.drain import HELLO_DRAIN_S, MAX_DRAIN_S, DrainingInstances
from kwik.kcp.health import FactsView, Health, PathLost, PathState
from kwik.kcp.paths import MAX_OPEN_PATHS, PathRecord, PathTable, Stage
from kwik.kcp.race import Race
from kwik.kcp.recovery import Recovery, TryInstance
from kwik.kcp.scaling import FollowWant, ScalingPolicy, ScalingTarget, ScalingView
from kwik.kcp.selection import MeasuredFirst, SelectionPolicy
from kwik.kcp.sighting import SightingKind
from kwik.types import Instance, PathId
from kwik.wire.messages import Drain, Joined, ServerHello
from kwik.wire.schema import BY_CLASS

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from kwik.config import Config
    from kwik.kcp.sighting import Sighting
    from kwik.types import Address, Instant

HOLD_S: Final = 1.0
"""How long other hellos wait for the early path's."""
WARM_TURN: Final = 4.0
"""Turns of the race are this many times longer when the session has a path: then nobody waits for the handshake."""
MAX_PATHS_PER_INSTANCE: Final = 4
"""Recovery opens no further one: what is stuck behind four paths is not stuck for want of a path."""


@dataclass(slots=True)
class _Due:
    """The deadline, once it was asked for; nothing but an input that is followed by _settle changes it."""

    is_known: bool = False
    at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """How many distinct server instances the data plane could use now, and why; 0: no streams."""

    paths: int
    reason: str


@dataclass(frozen=True, slots=True)
class Policies:
    """The plug-ins of a session."""

    selection: SelectionPolicy
    scaling: ScalingPolicy


class Control(PathTable):
    """One session. Inputs are on_…; each must be followed by actions() before time passes."""

    def __init__(
        self,
        service: str,
        config: Config,
        *,
        facts: FactsView,
        token_bytes: Callable[[int], bytes],
        rng: Random,
        policies: Policies | None = None,
        trace: Callable[[object], None] | None = None,
    ) -> None:
        """`service` in the spelling of `parse_service`. `token_bytes` must be unpredictable, `rng` need not be."""
        self._health = Health(config.keepalive_s, facts)
        super().__init__(self._health.state_of, ClientAdmission(service, token_bytes))
        self._config = config
        self._facts = facts
        self._scaling = policies.scaling if policies is not None else FollowWant()
        self._candidates = Candidates(service, policies.selection if policies is not None else MeasuredFirst(), rng)
        self._race = Race()
        self._recovery = Recovery(config.recovery_time_s)
        self._draining = DrainingInstances()
        self._want = Want(0, "no stream yet")
        self._target = ScalingTarget(0, False, "no stream yet")
        self._actions: list[ControlAction] = []
        self._last_path = 0
        self._reported = False
        self._wake_at: Instant | None = None
        self._due = _Due()
        self._trace = trace

    # ------------------------------------------------------------------ inputs

    def on_sighting(self, sighting: Sighting, now: Instant) -> None:
        """Discovery has a hint. GONE closes nothing: it makes us ask the path itself."""
        addresses = self._candidates.on_sighting(sighting, now)
        if sighting.kind is SightingKind.GONE:
            for record in self._table.values():
                if record.address in addresses:
                    self._health.on_doubt(record.path, now)
        self._settle(now)

    def on_want(self, want: Want, now: Instant) -> None:
        """The data plane's need. The first one of a cold session starts the race."""
        if want.paths > 0 and self._want.paths == 0:
            self._reported = False
        self._want = want
        self._settle(now)

    def on_path_use(self, path: PathId, in_use: bool, now: Instant) -> None:
        """Whether streams run on the path. Until it is told of a path, control takes it to be in use."""
        record = self._table.get(path)
        if record is not None:
            record.in_use = in_use
            self._settle(now)

    def on_recover(self, instance: Instance, now: Instant) -> None:
        """Streams are stuck on the instance: try new paths to it until one is admitted, or on_recovered.

        Ignored for an instance that is known to be dead (PathGone said so). Repeats are harmless; without one the
        attempts end `recovery_time_s` later, when the streams are reset anyway.
        """
        if self._admission.known(instance) is not None:
            is_news = not self._recovery.is_stuck(instance)
            self._recovery.on_recover(instance, now)
            # It is said in every turn while a stream is stuck.
            if is_news or self._is_due(now):
                self._settle(now)

    def on_recovered(self, instance: Instance, now: Instant) -> None:
        """The instance has spoken again, or nobody waits for it any more. Attempts under way are given up."""
        self._recovery.on_recovered(instance)
        self._settle(now)

    def on_path_writable(self, path: PathId, binding: bytes, now: Instant) -> None:
        """The handshake is complete and the certificate names the service: say hello."""
        record = self._table.get(path)
        if record is None or record.stage is not Stage.HANDSHAKE:
            return
        record.stage = Stage.GREETED
        self._race.on_progress(path, self._config.race_stagger_s, now)
        self._actions.append(SendMessage(path, self._admission.compose(path, binding)))
        self._settle(now)

    def on_message(self, path: PathId, message: object, now: Instant) -> None:
        """A message of the server's control pipe; one that is not allowed now closes the path with PROTOCOL."""
        record = self._table.get(path)
        if record is None:
            return
        self._health.on_packet(path, now)
        if isinstance(message, ServerHello) and record.stage is Stage.GREETED:
            self._on_hello(record, message, now)
        elif isinstance(message, Joined) and record.stage is Stage.JOINING:
            self._on_joined(record, message, now)
        elif isinstance(message, Drain) and record.is_admitted:
            self._on_drain(record, message.deadline_ms / 1000, now)
        elif isinstance(message, Drain) and record.stage is Stage.HELD:
            record.drain_s = message.deadline_ms / 1000
        else:
            spec = BY_CLASS.get(type(message))
            name = type(message).__name__ if spec is None else spec.name
            reason = f"{name}.type: not allowed on a path that is {record.stage.value}"
            self._fail(record, ErrorCode.PROTOCOL, reason, now)
        self._settle(now)

    def on_path_down(self, path: PathId, reason: str, now: Instant) -> None:
        """The path has ended by itself; also told, and ignored, for those that were closed from here."""
        record = self._table.get(path)
        if record is not None:
            self._blame(record, reason, now)
            self._drop(record, reason, now)
            self._settle(now)

    def on_pong(self, path: PathId, ping: int, now: Instant) -> None:
        """A ping was acknowledged."""
        record = self._table.get(path)
        if record is not None:
            self._measure(record, now)
            self._health.on_packet(path, now)
            self._settle(now)

    def on_close(self, now: Instant) -> None:
        """The session is given up: every path is closed. A later on_want would start anew."""
        self._want = Want(0, "closed")
        for known in self._admission.instances():
            self._recovery.on_recovered(known.instance)
        for record in list(self._table.values()):
            self._close(record, ErrorCode.NO_ERROR, "the session is closed", now)
        self._settle(now)

    def on_timeout(self, now: Instant, *, slept: bool = False) -> None:
        """The deadline has passed. Lateness is taken for our own (`Health`); who has slept asks every path at once.

        Called for every timer of the session, most of which are the data plane's: then nothing has changed here.
        """
        for record in self._table.values() if slept else ():
            self._health.on_doubt(record.path, now)
        if not slept and not self._is_due(now):
            return
        self._candidates.registry.on_timeout(now)
        self._health.on_timeout(now)
        self._recovery.on_timeout(now)
        self._settle(now)

    # ------------------------------------------------------------------ questions

    def has_candidates(self) -> bool:
        """Whether anything is connected, being tried, or could be tried some time."""
        return bool(self._table) or bool(self._candidates.registry.addresses())

    def may_find_more(self, now: Instant) -> bool:
        """Whether a server that has no path now is being tried, or may be tried some time."""
        if any(not record.is_admitted for record in self._table.values()):
            return True
        return self._candidates.has_others(self._connected())

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        if not self._due.is_known:
            times = (
                self._wake_at,
                self._health.deadline(),
                self._recovery.deadline(),
                self._scaling.deadline(),
                self._candidates.registry.deadline(),
            )
            self._due.at = min((when for when in times if when is not None), default=None)
            self._due.is_known = True
        return self._due.at

    def _is_due(self, now: Instant) -> bool:
        due = self.deadline()
        return due is not None and now >= due

    def actions(self) -> list[ControlAction]:
        """What is to be done; a second call is empty."""
        actions, self._actions = self._actions, []
        return actions

    # ------------------------------------------------------------------ who answered

    def _on_hello(self, record: PathRecord, hello: ServerHello, now: Instant) -> None:
        record.hello = hello
        early = self.early_path()
        if early is not None and early != record.path:
            record.stage = Stage.HELD
            record.held_until = now + HOLD_S
            self._race.on_progress(record.path, HOLD_S, now)
        else:
            self._judge(record, hello, now)

    def _judge(self, record: PathRecord, hello: ServerHello, now: Instant) -> None:
        verdict = self._admission.on_server_hello(record.path, hello, now)
        if isinstance(verdict, Refuse):
            self._fail(record, verdict.code, verdict.reason, now, hopeless=True)
            return
        self._supersede(record.address, verdict.instance, now)
        if isinstance(verdict, NewInstance):
            if record.early or (self._is_short() and not hello.draining):
                self._admit(record, verdict.instance, hello, joined=False, now=now)
            else:
                if hello.draining:
                    self._candidates.book.on_draining(record.address, now + HELLO_DRAIN_S)
                self._decline(record, verdict.instance, "draining" if hello.draining else "not needed now", now)
        elif record.early:
            # Its OPEN went to a session of its own, and such a path cannot be joined.
            self._decline(record, verdict.instance, "its server was reached by another path first", now)
        elif self._needs_join(verdict.instance, now):
            record.stage = Stage.JOINING
            self._race.on_progress(record.path, HOLD_S, now)
            self._actions.append(SendMessage(record.path, verdict.message))
        else:
            self._decline(record, verdict.instance, "another address of a server that has a path", now)

    def _on_joined(self, record: PathRecord, message: Joined, now: Instant) -> None:
        verdict = self._admission.on_joined(record.path, message)
        assert record.hello is not None, "a path that joins has read its hello"
        if not isinstance(verdict, Refuse):
            self._admit(record, verdict, record.hello, joined=True, now=now)
            return
        hello = record.hello
        claimed = Instance(hello.server_id, hello.incarnation)
        if verdict.forgotten and not self._admitted_at(claimed):
            self._candidates.book.on_answered(record.address, claimed, verdict.reason)
            self._close(record, verdict.code, verdict.reason, now)
            self._bury(claimed, verdict.reason, now)
        else:
            self._fail(record, verdict.code, verdict.reason, now)

    def _admit(self, record: PathRecord, instance: Instance, hello: ServerHello, *, joined: bool, now: Instant) -> None:
        record.stage = Stage.ADMITTED
        record.instance = instance
        record.admitted_at = now
        self._admission.on_admitted(record.path, record.address, hello)
        self._candidates.book.on_admitted(record.address, instance)
        self._race.on_ended(record.path)
        self._recovery.on_attempt_ended(record.path)
        self._recovery.on_recovered(instance)
        self._health.on_admitted(record.path, f"admitted to server {instance}", now)
        self._measure(record, now)
        self._actions.append(PathAdmitted(record.path, instance, hello, joined))
        if record.drain_s is not None:
            self._on_drain(record, record.drain_s, now)
        elif hello.draining:
            self._on_drain(record, HELLO_DRAIN_S, now)

    def _on_drain(self, record: PathRecord, deadline_s: float, now: Instant) -> None:
        assert record.instance is not None, "an admitted path has an instance"
        deadline_s = min(deadline_s, MAX_DRAIN_S)
        self._candidates.book.on_draining(record.address, now + deadline_s)
        if self._draining.on_drain(record.instance, deadline_s, now):
            self._actions.append(InstanceDraining(record.instance, deadline_s))

    def _supersede(self, address: Address, instance: Instance, now: Instant) -> None:
        """Another incarnation of the same server at the same address: the old one is gone if it is silent too."""
        for known in self._admission.instances():
            old = known.instance
            if old.id != instance.id or old == instance:
                continue
            records = self._admitted_at(old)
            if known.home != address and all(record.address != address for record in records):
                continue
            if self._is_served(old):
                known.superseded = True
                for record in records:
                    self._health.on_doubt(record.path, now)
            else:
                self._bury(old, f"server {old.id} was started anew", now)

    def _bury(self, instance: Instance, reason: str, now: Instant) -> None:
        """The instance is dead. Without an open path its last one is named again, so that streams need not wait."""
        known = self._admission.known(instance)
        records = self._admitted_at(instance)
        for record in records:
            self._close(record, ErrorCode.SERVER_GONE, reason, now, dead=True)
        if known is not None and not records:
            self._actions.append(PathGone(known.last_path, instance, reason, instance_dead=True))
        self._admission.forget(instance)
        self._recovery.on_recovered(instance)
        self._draining.forget(instance)

    # ------------------------------------------------------------------ how paths end

    def _decline(self, record: PathRecord, instance: Instance, why: str, now: Instant) -> None:
        self._candidates.book.on_answered(record.address, instance, f"server {instance.id} answered, {why}")
        self._close(record, ErrorCode.NO_ERROR, why, now)

    def _fail(self, record: PathRecord, code: ErrorCode, reason: str, now: Instant, *, hopeless: bool = False) -> None:
        self._candidates.book.on_failed(record.address, reason, now, hopeless=hopeless)
        self._close(record, code, reason, now)

    def _close(self, record: PathRecord, code: ErrorCode, reason: str, now: Instant, *, dead: bool = False) -> None:
        self._actions.append(ClosePath(record.path, code, reason))
        self._drop(record, reason, now, dead=dead)

    def _blame(self, record: PathRecord, reason: str, now: Instant) -> None:
        book = self._candidates.book
        if record.is_admitted:
            book.on_ended(record.address, reason, now - record.admitted_at, now)
        else:
            book.on_failed(record.address, reason, now)

    def _drop(self, record: PathRecord, reason: str, now: Instant, *, dead: bool = False) -> None:
        self._measure(record, now)
        del self._table[record.path]
        self._race.on_ended(record.path)
        self._recovery.on_attempt_ended(record.path)
        self._health.on_closed(record.path, reason)
        self._admission.on_path_down(record.path, record.instance, now)
        if record.instance is not None and not self._admitted_at(record.instance):
            self._draining.forget(record.instance)
        self._actions.append(PathGone(record.path, record.instance, reason, instance_dead=dead))

    # ------------------------------------------------------------------ what should be

    def _settle(self, now: Instant) -> None:
        """After every input: let the parts have their say until none has, then open, release and report."""
        self._wake_at = None
        self._due.is_known = False
        while self._run_health(now) | self._run_recovery(now) | self._run_held(now):
            pass
        self._scale(now)
        self._open_more(now)
        self._run_health(now)
        self._report()

    def _run_health(self, now: Instant) -> bool:
        actions = self._health.actions()
        for action in actions:
            if isinstance(action, PingPath):
                self._actions.append(action)
                continue
            record = self._table.get(action.path)
            if isinstance(action, PathLost):
                if record is not None:
                    self._blame(record, action.reason, now)
                    self._close(record, ErrorCode.SERVER_GONE, action.reason, now)
                continue
            if self._trace is not None:
                self._trace(action)
            if record is not None and action.new is PathState.DEGRADED:
                self._check_superseded(record, now)
        return bool(actions)

    def _check_superseded(self, record: PathRecord, now: Instant) -> None:
        known = self._admission.known(record.instance) if record.instance is not None else None
        if known is not None and known.superseded and not self._is_served(known.instance):
            self._bury(known.instance, f"server {known.instance.id} was started anew", now)

    def _run_recovery(self, now: Instant) -> bool:
        actions = self._recovery.actions()
        for action in actions:
            if isinstance(action, TryInstance):
                self._try_instance(action, now)
                continue
            record = self._table.get(action.path)
            if record is not None and not record.is_admitted:
                self._close(record, ErrorCode.NO_ERROR, "no longer needed", now)
        return bool(actions)

    def _try_instance(self, action: TryInstance, now: Instant) -> None:
        known = self._admission.known(action.instance)
        if known is not None and len(self._table) < MAX_OPEN_PATHS and self._has_room_at(action.instance):
            homes = self._candidates.homes(action.instance, known.home)
            path = self._open(homes[action.turn % len(homes)], now)
            self._recovery.on_attempt(action.instance, path, now)

    def _run_held(self, now: Instant) -> bool:
        """Judge the hellos that need not wait any more, and name the early path."""
        early = self.early_path()
        held = [record for record in self._table.values() if record.stage is Stage.HELD]
        ready = [record for record in held if early is None or record.held_until <= now]
        for record in ready:
            if record.path in self._table and record.hello is not None:
                self._judge(record, record.hello, now)
        if not ready and early is None and not self.knows_any_instance():
            greeted = (record for record in self._table.values() if record.stage is Stage.GREETED)
            first = next(greeted, None)
            if first is not None:
                first.early = True
        waiting = [record.held_until for record in held if record not in ready]
        self._wake(min(waiting, default=None))
        return bool(ready)

    def _usable(self) -> list[PathRecord]:
        """Admitted, not failing, and its server stays."""
        return [
            record
            for record in self._table.values()
            if record.instance is not None
            and self._stays(record.instance)
            and not self._is_state(record, PathState.FAILING)
        ]

    def _stays(self, instance: Instance) -> bool:
        known = self._admission.known(instance)
        return instance not in self._draining and known is not None and not known.superseded

    def _distinct(self) -> int:
        return len({record.instance for record in self._usable()})

    def _is_short(self) -> bool:
        """Whether one more server would be kept."""
        return self._distinct() < max(self._target.servers, self._config.min_paths)

    def _needs_join(self, instance: Instance, now: Instant) -> bool:
        """Whether another path to a known instance is of use (it is not if the instance is well served)."""
        if self._recovery.is_stuck(instance) or not self._is_served(instance):
            return self._has_room_at(instance)
        is_spare = self._is_short() and len(self._usable()) < self._config.max_paths
        return is_spare and len(self._race) <= 1 and not self._candidates.rank(self._connected(), now)

    def _has_room_at(self, instance: Instance) -> bool:
        return len(self._admitted_at(instance)) < MAX_PATHS_PER_INSTANCE

    def _scale(self, now: Instant) -> None:
        self._target = self._scaling.on_view(self._view(), now)
        if self._target.release and self._release_one(self._target.reason, now):
            self._target = self._scaling.on_view(self._view(), now)

    def _view(self) -> ScalingView:
        usable = self._usable()
        return ScalingView(
            wanted=self._want.paths,
            distinct=len({record.instance for record in usable}),
            paths=len(usable),
            min_paths=self._config.min_paths,
            max_paths=self._config.max_paths,
        )

    def _release_one(self, reason: str, now: Instant) -> bool:
        """Close the least useful path that carries nothing: a second one to a server first, then the slowest."""
        idle = [record for record in self._usable() if self._want.paths == 0 or not record.in_use]
        if not idle:
            return False
        record = max(idle, key=self._uselessness)
        self._close(record, ErrorCode.NO_ERROR, reason, now)
        return True

    def _uselessness(self, record: PathRecord) -> tuple[bool, float, int]:
        seen = self._candidates.book.get(record.address)
        rtt_s = seen.smoothed_rtt_s if seen is not None and seen.smoothed_rtt_s is not None else 0.0
        instance = record.instance
        is_second = instance is not None and len(self._admitted_at(instance)) > 1
        return (is_second, rtt_s, record.path)

    def _open_more(self, now: Instant) -> None:
        """Begin the attempts whose turn it is. Without any usable path this is the race: one by one."""
        distinct = self._distinct()
        is_warm = distinct > 0
        need = (self._target.servers if is_warm else min(1, self._target.servers)) - distinct
        if need <= 0:
            return
        connected = self._connected()
        turns = min(self._race.free_turns(need, now), MAX_OPEN_PATHS - len(self._table))
        may_be_tried = not self._candidates.are_all_in(connected)
        if turns > 0 and may_be_tried:
            turn_s = self._config.race_stagger_s * (WARM_TURN if is_warm else 1.0)
            for choice in self._candidates.rank(connected, now)[:turns]:
                self._race.on_begun(self._open(choice.address, now), turn_s, now)
        self._wake(self._race.next_turn(now))
        if may_be_tried:
            self._wake(self._candidates.next_retry(connected, now))

    def _open(self, address: Address, now: Instant) -> PathId:
        self._last_path += 1
        path = PathId(self._last_path)
        self._table[path] = PathRecord(path, address)
        self._health.on_opened(path, now)
        self._candidates.book.on_tried(address)
        self._actions.append(OpenPath(path, address))
        self._reported = False
        return path

    def _connected(self) -> Connected:
        addresses = [record.address for record in self._table.values() if not self._is_state(record, PathState.FAILING)]
        instances = [record.instance for record in self._table.values() if record.instance is not None]
        hints = [self._candidates.registry.hint(address) for address in addresses]
        ids = [hint.server_id for hint in hints if hint is not None and hint.server_id is not None]
        return Connected(
            addresses=frozenset(addresses),
            served=frozenset(instance for instance in instances if self._is_served(instance)),
            server_ids=frozenset([*ids, *(instance.id for instance in instances)]),
        )

    def _report(self) -> None:
        if self._want.paths > 0 and not self._table and not self._reported:
            self._reported = True
            self._actions.append(NoCandidates(self._candidates.describe()))

    def _measure(self, record: PathRecord, now: Instant) -> None:
        vitals = self._facts(record.path, now)
        if vitals is not None:
            self._candidates.book.on_measured(record.address, vitals.smoothed_rtt_s, vitals.congestion_window)

    def _wake(self, when: Instant | None) -> None:
        if when is not None and (self._wake_at is None or when < self._wake_at):
            self._wake_at = when
