"""What goes wrong, when, and to whom: performs the fault plans of a scenario and keeps a record of what it hit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kwik.sim.endpoints import ClientHost, ServerHost
from kwik.sim.link import Link
from kwik.sim.scenario import FaultPlan, Scenario
from kwik.types import Instant

if TYPE_CHECKING:
    from kwik.sim.client_app import ClientApp
    from kwik.sim.world import Place, World

COLLAPSE: Final = 20
"""By how much a collapsing link becomes slower."""


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """What happened. `owed_bytes`: what the victims had sent or promised and not yet brought to the client."""

    plan: FaultPlan
    at: Instant
    victims: tuple[str, ...]
    was_anchor: bool
    owed_bytes: int
    delivered_bytes: int


class Faults:
    """Watches the first stream for the moment of each fault."""

    def __init__(self, world: World, scenario: Scenario, rng: random.Random) -> None:
        self.records: list[FaultRecord] = []
        self.hit: set[str] = set()
        """Servers that a fault has touched, by name."""
        self.last_until: Instant = world.clock.now
        """When the last fault that happened is over."""
        self._world = world
        self._block_bytes = scenario.block_bytes
        self._rng = rng
        self._waiting = [plan for plan in scenario.faults if plan.trigger != "time"]
        for plan in scenario.faults:
            if plan.trigger == "time":
                world.clock.after(plan.value, self._strike_by_time, plan)

    def watch(self) -> None:
        """Called after every turn of the client."""
        if not self._waiting or not self._world.client.streams:
            return
        app = self._world.client.streams[0]
        for plan in [plan for plan in self._waiting if self._is_due(plan, app)]:
            victims = self._victims(plan)
            owed = sum(owed_bytes(self._world, place) for place in victims)
            if victims and (owed or plan.trigger in ("opened", "before-end")):
                self._waiting.remove(plan)
                # Not from within the client's turn: the victim may be the client.
                self._world.clock.at(self._world.clock.now, self._strike, plan, victims, owed)

    def _is_due(self, plan: FaultPlan, app: ClientApp) -> bool:
        read = len(app.received)
        if app.seen != "open":
            return False
        if plan.trigger == "opened":
            return not read and any(place.host.instances for place in self._world.places)
        if plan.trigger == "before-end":
            return read >= app.plan.total_bytes
        return read >= plan.value and (plan.trigger == "bytes" or bool(read % self._block_bytes))

    # ------------------------------------------------------------ who

    def _victims(self, plan: FaultPlan) -> list[Place]:
        world = self._world
        alive = [place for place in world.places if not place.host.is_dead]
        anchor = world.anchor_place()
        if plan.kind == "client-stop":
            return alive
        if plan.kind == "kill-all":
            return alive
        if plan.kind == "kill-all-but-one":
            survivor = self._rng.choice(alive) if alive else None
            return [place for place in alive if place is not survivor]
        if plan.target == "anchor":
            return [anchor] if anchor is not None and anchor in alive else []
        if plan.target == "helper":
            helpers = [place for place in alive if place is not anchor and place.host.instances]
            return [max(helpers, key=lambda place: owed_bytes(world, place))] if helpers else []
        number = int(plan.target)
        return [place for place in alive if place is world.places[number]]

    # ------------------------------------------------------------ what

    def _strike_by_time(self, plan: FaultPlan) -> None:
        victims = self._victims(plan)
        self._strike(plan, victims, sum(owed_bytes(self._world, place) for place in victims))

    def _strike(self, plan: FaultPlan, victims: list[Place], owed: int) -> None:
        world = self._world
        anchor = world.anchor_place()
        names = tuple(place.name for place in victims)
        delivered = len(world.client.streams[0].received) if world.client.streams else 0
        self.records.append(FaultRecord(plan, world.clock.now, names, anchor in victims, owed, delivered))
        self.last_until = max(self.last_until, world.clock.now + plan.duration_s)
        if plan.kind == "client-stop":
            self._pause(world.client, plan.duration_s)
            return
        self.hit.update(names)
        for place in victims:
            self._hurt(plan, place)

    def _hurt(self, plan: FaultPlan, place: Place) -> None:
        if plan.kind in ("kill", "kill-all", "kill-all-but-one"):
            place.host.kill()
        elif plan.kind in ("kill-told", "restart", "stop", "drain"):
            self._hurt_process(plan, place)
        else:
            self._hurt_links(plan, place)

    def _hurt_process(self, plan: FaultPlan, place: Place) -> None:
        clock = self._world.clock
        match plan.kind:
            case "kill-told":
                self._kill_told(place)
            case "restart":
                place.host.kill()
                clock.after(plan.duration_s, self._world.start_server, place)
            case "stop":
                self._pause(place.host, plan.duration_s)
            case "drain":
                place.host.enter(place.host.side.drain, clock.now)

    def _hurt_links(self, plan: FaultPlan, place: Place) -> None:
        up, down = place.site.up, place.site.down
        match plan.kind:
            case "black-hole":
                self._hole(plan.duration_s, up, down)
            case "black-hole-up":
                self._hole(plan.duration_s, up)
            case "black-hole-down":
                self._hole(plan.duration_s, down)
            case "stall":
                for link in (up, down):
                    link.stall()
                    self._world.clock.after(plan.duration_s, link.resume)
            case "path-break":
                self._break_paths(place)
            case "rate-collapse":
                self._collapse(place, plan.duration_s)

    def _hole(self, duration_s: float, *links: Link) -> None:
        for link in links:
            link.is_hole = True
            self._world.clock.after(duration_s, setattr, link, "is_hole", False)

    def _collapse(self, place: Place, duration_s: float) -> None:
        link = place.site.down
        link.slow_down(COLLAPSE)
        self._world.clock.after(duration_s, link.speed_up)

    def _kill_told(self, place: Place) -> None:
        """The process is gone and the client hears of it, one way later."""
        place.host.kill()
        for end in list(place.host.ends.values()):
            if end.twin is not None:
                place.site.down.send(1, end.twin.host.enter, end.twin.finish, "the server is gone")

    def _break_paths(self, place: Place) -> None:
        for end, site in self._world.network.opened:
            if site is place.site and not end.is_over:
                end.is_broken = True
                if end.twin is not None:
                    end.twin.is_broken = True

    def _pause(self, host: ClientHost | ServerHost, duration_s: float) -> None:
        host.stop()
        timer_first = self._rng.random() < 0.5
        self._world.clock.after(duration_s, _resume, host, timer_first)


def _resume(host: ClientHost | ServerHost, timer_first: bool) -> None:
    host.resume(timer_first=timer_first)


def owed_bytes(world: World, place: Place) -> int:
    """Bytes on their way from this server, or granted to it and not yet here."""
    host = place.host
    under_way = sum(
        len(chunk[2]) for end in host.ends.values() for packet in end.sender.flight.values() for chunk in packet.chunks
    )
    under_way += sum(end.sender.unsent_bytes for end in host.ends.values())
    paths = {int(end.path) for end, site in world.network.opened if site is place.site}
    views = world.client.side.path_views(world.clock.now)
    return max(under_way, sum(view.outstanding_bytes for view in views if view.path in paths))
