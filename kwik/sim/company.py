"""What else may happen in a drawn scenario: late servers, strangers, clones, slow writers, slow takers of upstream.

Drawn with dice of its own, on top of a scenario that is complete without it.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from kwik.sim.client_app import ClientPlan
from kwik.sim.pace import Pace
from kwik.sim.scenario import Scenario, ServerPlan

OTHER_SERVICE: Final = "other.example:80"
LATE_SHARE: Final = 0.2
STRANGER_SHARE: Final = 0.06
CLONE_SHARE: Final = 0.06
SLOW_SHARE: Final = 0.12
LATEST_S: Final = 2.0
"""When the last server is seen, at the latest."""


def keep_company(scenario: Scenario, dice: random.Random) -> Scenario:
    """The scenario with its extras, if it has drawn any."""
    servers = list(scenario.servers)
    if dice.random() < LATE_SHARE and len(servers) > 1:
        first = dice.randrange(len(servers))
        servers = [
            plan if number == first else replace(plan, sighted_s=dice.uniform(0, LATEST_S))
            for number, plan in enumerate(servers)
        ]
    if dice.random() < SLOW_SHARE:
        pace = _draw_pace(scenario, dice)
        servers = [replace(plan, taking=pace) for plan in servers]
    if dice.random() < STRANGER_SHARE:
        servers.append(replace(_calm(dice.choice(servers)), service=OTHER_SERVICE))
    if dice.random() < CLONE_SHARE:
        servers.append(replace(_calm(servers[0]), clone_of=0, sighted_s=dice.uniform(0, LATEST_S)))
    streams = scenario.streams
    if dice.random() < SLOW_SHARE:
        streams = tuple(_slow_writer(scenario, plan, dice) for plan in streams)
    return replace(scenario, servers=tuple(servers), streams=streams)


def _calm(plan: ServerPlan) -> ServerPlan:
    return replace(plan, twist=None, lie=None, refuses=False)


def _slow_writer(scenario: Scenario, plan: ClientPlan, dice: random.Random) -> ClientPlan:
    return replace(plan, writing=_draw_pace(scenario, dice))


def _draw_pace(scenario: Scenario, dice: random.Random) -> Pace:
    """A rate at which the upstream takes some seconds, or one pause; upstream is long only where it is echoed."""
    upstream = max(_upstream_bytes(plan) for plan in scenario.streams)
    if dice.random() < 0.5:
        return Pace(pauses=((dice.randrange(upstream + 1), dice.uniform(0.05, 3.0)),))
    return Pace(rate_bytes_s=upstream / dice.uniform(0.2, 4.0), chunk_bytes=max(8, upstream // 50))


def _upstream_bytes(plan: ClientPlan) -> int:
    return max(1, sum(plan.answers) if plan.program == "echo" else plan.request_bytes * len(plan.answers))
