"""A scenario come alive: builds network, servers and client, lets time pass, and hands back what there is to judge."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from kwik.sim.clock import Clock, MachineFault
from kwik.sim.endpoints import ClientHost, ServerHost
from kwik.sim.factories import Cores, RealCores
from kwik.sim.faults import FaultRecord, Faults
from kwik.sim.lies import Liar
from kwik.sim.network import Network, Site
from kwik.sim.paths import PathEnd
from kwik.sim.scenario import SERVICE, Scenario, ServerPlan
from kwik.sim.watch import Watch
from kwik.types import Address, Instant

MOST_EVENTS: Final = 3_000_000
SETTLE_S: Final = 30.0
"""How long the cores have to settle what is left when the last stream has ended, besides the servers' linger time."""


@dataclass(slots=True)
class Place:
    """One server of the scenario: where it is, and its process (the newest one after restarts)."""

    number: int
    plan: ServerPlan
    site: Site
    host: ServerHost = field(init=False)
    former: list[ServerHost] = field(default_factory=list)
    liar: Liar | None = None

    @property
    def name(self) -> str:
        """As the server calls itself."""
        return f"s{self.number}"

    @property
    def hosts(self) -> list[ServerHost]:
        """All incarnations."""
        return [*self.former, self.host]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a run."""

    world: World
    faults: tuple[FaultRecord, ...]
    ended: bool
    """Every stream came to an end before the horizon."""
    took_s: float
    events: int
    trace_hash: int


class World:
    """One run. Build it, `run` it once."""

    def __init__(self, scenario: Scenario, cores: Cores | None = None, *, watch: Watch | None = None) -> None:
        self.scenario = scenario
        self.clock = Clock(max_events=MOST_EVENTS)
        self.cores: Cores = cores or RealCores()
        self.network = Network(self.clock, scenario.rules, self._fork("network"))
        self.network.on_server_path = _take_path
        self.watch = watch or Watch()
        self.client = ClientHost(self.clock, self.network)
        self.client.side = self.cores.client(
            SERVICE, scenario.client_config, self.client.facts, self._fork("client"), self.watch.trace_of("client")
        )
        self.places = [self._place(number, plan) for number, plan in enumerate(scenario.servers)]
        self.faults = Faults(self, scenario, self._fork("faults"))
        self.began_at: Instant = self.clock.now
        self.has_liars = not all(plan.is_honest for plan in scenario.servers)
        self._ended = 0
        """So many of the first streams are known to have ended: asked after every event, nobody opens again."""
        self.client.after_turn = self._after_client_turn
        self.watch.begin(self)

    def _fork(self, label: str) -> random.Random:
        """Dice of their own for each part: one more draw here never changes a run there."""
        return random.Random(f"{self.scenario.seed} {label}")

    # ------------------------------------------------------------ servers

    def _place(self, number: int, plan: ServerPlan) -> Place:
        address = Address(f"192.0.2.{number + 1}", 4433)
        site = Site(self.clock, address, plan.up, plan.down, self._fork(f"site {number}"))
        site.handshake_s = plan.handshake_s
        site.answers_when_dead = plan.answers_when_dead
        self.network.sites[address] = site
        place = Place(number, plan, site)
        self._start(place, 0)
        return place

    def start_server(self, place: Place) -> None:
        """Start the server again, as another incarnation, where it was."""
        place.former.append(place.host)
        self._start(place, len(place.former))

    def _start(self, place: Place, generation: int) -> None:
        scenario, plan = self.scenario, place.plan
        name = place.name if not generation else f"{place.name}-{generation}"
        host = ServerHost(
            self.clock,
            self.network,
            name,
            program=scenario.program,
            greeting_bytes=scenario.greeting_bytes,
            plan=plan,
        )
        host.twist, host.refuses, host.connect_s = plan.twist, plan.refuses, plan.connect_s
        if plan.lie is not None:
            place.liar = Liar(plan.lie, plan.lie_at)
            host.alter = place.liar.alter
        likeness = name if plan.clone_of is None else f"s{plan.clone_of}"
        incarnation = self._fork(f"incarnation of {likeness}").randbytes(16)
        host.side = self.cores.server(
            scenario.server_config(place.number), incarnation, host.facts, self._fork(name), self.watch.trace_of(name)
        )
        place.host = place.site.host = host
        self.watch.on_start(host, is_suspect=plan.clone_of is not None)

    # ------------------------------------------------------------ time

    def run(self) -> Outcome:
        """Let it happen. Raises MachineFault if a core misbehaves; everything else is for the guarantees to judge."""
        clock, scenario = self.clock, self.scenario
        for place in self.places:
            clock.after(place.plan.sighted_s, self.client.enter, self.client.sight, place.site, place.number)
        clock.after(max(place.plan.sighted_s for place in self.places), self.client.enter, self._discovered)
        for number, plan in enumerate(scenario.streams):
            clock.after(plan.start_s, self.client.enter, self.client.dial, plan, number, scenario.replicas)
        until = clock.now + scenario.horizon_s
        ended = clock.run(until, done=self._all_ended)
        took_s = clock.now - self.began_at
        if ended:
            self._settle()
        hosts = [self.client, *(host for place in self.places for host in place.hosts)]
        trace_hash = crc32(" ".join(f"{host.trace_hash:x}" for host in hosts).encode())
        return Outcome(self, tuple(self.faults.records), ended, took_s, clock.events, trace_hash)

    def _discovered(self) -> None:
        self.client.side.on_discovery_done("the simulation has told all", self.clock.now)

    def _all_ended(self) -> bool:
        streams, most = self.client.streams, len(self.scenario.streams)
        if len(streams) < most:
            return False
        while self._ended < most and streams[self._ended].seen != "open":
            self._ended += 1
        return self._ended == most

    def _settle(self) -> None:
        """Let both sides forget: first with the session, then without."""
        clock = self.clock
        clock.run(max(clock.now, self.faults.last_until) + SETTLE_S, done=lambda: self.client.is_idle)
        self.watch.on_settled(self)
        self.client.enter(self._close_session)
        clock.run(clock.now + self.scenario.linger_s + SETTLE_S + 2 * self.scenario.rules.idle_timeout_s)

    def _close_session(self) -> None:
        self.client.side.close(self.clock.now)

    def _after_client_turn(self) -> None:
        self.faults.watch()
        self.watch.after_client_turn(self)

    # ------------------------------------------------------------ questions

    def anchor_place(self, number: int = 0) -> Place | None:
        """Where a stream's anchor is, by what the client says; while it says nothing, where an application runs."""
        # Streams are kept in the order in which they were dialled, which their numbers need not follow.
        app = next((app for app in self.client.streams if app.number == number), None)
        if app is None:
            return None
        if name := self.client.side.anchor_of(app.key):
            return next((place for place in self.places if place.name == name), None)
        return next((place for place in self.places if place.host.instances), None)


def _take_path(host: object, end: PathEnd, binding: bytes) -> None:
    if isinstance(host, ServerHost):
        host.take_path(end, binding)
    else:
        raise MachineFault("a path ends at something that is not a server")
