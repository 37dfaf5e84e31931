"""The guarantees that need a second run: 4 against each server alone, 6 against a plain connection."""

from __future__ import annotations

from typing import Final

from kwik.sim.factories import PlainCores
from kwik.sim.framing import FramingWatch
from kwik.sim.scenario import Scenario
from kwik.sim.world import Outcome, World

OVER_BEST: Final = 1.02
OVER_BEST_ASSERTED: Final = 1.25
"""What is asserted until the scheduler has its full strength; the bound of SPEC is counted and told beside it."""
ROUND_TRIPS: Final = 4
LEAST_WINDOWS: Final = 20
FRAMING_BYTES: Final = 700
"""Hellos, OPEN, announcements: what Kwik says each way besides the stream."""
FRAMING_SHARE: Final = 0.02
"""What headers and digests add to each block of usual size."""
LATE_S: Final = 0.0005
"""What is allowed besides one packet, for framing does not lie in the packets byte by byte as Kwik's does."""


def is_race(scenario: Scenario) -> bool:
    """Whether guarantee 4 says anything about this scenario."""
    plan = scenario.streams[0]
    return (
        scenario.replicated
        and len(scenario.streams) == 1
        and len(scenario.servers) > 1
        and not scenario.faults
        and all(server.is_honest and not server.refuses for server in scenario.servers)
        and plan.reading.rate_bytes_s is None
        and not plan.reading.pauses
        and plan.finish not in ("abort", "close")
        and plan.total_bytes >= LEAST_WINDOWS * scenario.window_bytes
    )


def _fastest(scenario: Scenario) -> list[int]:
    """Servers that may be the best one alone: the two with the highest rates, and the nearest."""
    rates = [min(plan.down.rate_bytes_s, plan.pace.rate_bytes_s or plan.down.rate_bytes_s) for plan in scenario.servers]
    by_rate = sorted(range(len(rates)), key=lambda number: -rates[number])
    nearest = min(range(len(rates)), key=lambda number: scenario.servers[number].rtt_s)
    return sorted({*by_rate[:2], nearest})


def _least_s(scenario: Scenario, number: int) -> float:
    """What no transfer from this server alone can beat: a handshake, a request, and every byte at the link's rate."""
    plan = scenario.servers[number]
    rate = min(plan.down.rate_bytes_s, plan.pace.rate_bytes_s or plan.down.rate_bytes_s)
    return plan.sighted_s + 2 * plan.rtt_s + scenario.total_bytes / rate


def check_race(outcome: Outcome) -> tuple[list[str], list[str]]:
    """(breaches, misses of the strict bound): 1.02 x best alone + 4 RTT + the application's time to say it again."""
    scenario = outcome.world.scenario
    # A round trip with one full packet in it: on a thin link that is longer than the bare delay.
    rtt_s = max(server.rtt_s + scenario.packet_bytes / server.down.rate_bytes_s for server in scenario.servers)
    rates = [server.pace.rate_bytes_s for server in scenario.servers if server.pace.rate_bytes_s]
    rest_s = ROUND_TRIPS * rtt_s + (scenario.total_bytes / min(rates) if rates else 0.0)
    if (
        outcome.took_s
        <= OVER_BEST * min(_least_s(scenario, number) for number in range(len(scenario.servers))) + rest_s
    ):
        return [], []
    alone = []
    for number in _fastest(scenario):
        other = World(scenario.alone(number)).run()
        if not other.ended or other.world.client.streams[0].seen != "end":
            return [f"3: server {number} alone does not finish"], []
        alone.append(other.took_s)
    bound_s = OVER_BEST * min(alone) + rest_s
    if outcome.took_s <= bound_s:
        return [], []
    times = ", ".join(f"{time_s:.3f}" for time_s in alone)
    text = f"4: took {outcome.took_s:.3f} s; {bound_s:.3f} s are allowed; alone: {times}; largest RTT {rtt_s:.3f}"
    return ([text], []) if outcome.took_s > OVER_BEST_ASSERTED * min(alone) + rest_s else ([], [text])


def is_single(scenario: Scenario) -> bool:
    """Whether guarantee 6 can be measured: one server, one stream, nothing else that costs time."""
    return scenario.name == "single"


def check_single(outcome: Outcome) -> list[str]:
    """6: framing is small, and first byte and end come when a plain connection that carries as much would bring them.

    The same bytes at the same places, for a few more may need one more window of slow start, or shift which packet's
    acknowledgement is delayed: that is a whole round trip, and no fault. Whatever else is late has waited needlessly.
    """
    scenario, watch = outcome.world.scenario, outcome.world.watch
    if not isinstance(watch, FramingWatch):
        watch = FramingWatch()
        World(scenario, watch=watch).run()
    plain = World(scenario, PlainCores(watch.client.all, watch.server.all)).run()
    rate, rtt_s = scenario.servers[0].down.rate_bytes_s, scenario.servers[0].rtt_s
    found = []
    most_bytes = FRAMING_BYTES + FRAMING_SHARE * scenario.total_bytes
    if max(watch.sizes) > most_bytes:
        found.append(f"6: framing of {watch.sizes} bytes up and down; {most_bytes:.0f} are allowed")
    ours, theirs = outcome.world.client.streams[0], plain.world.client.streams[0]
    if ours.first_byte_at is None or theirs.first_byte_at is None:
        return found
    allowed_s = scenario.packet_bytes / rate + LATE_S
    times = ("first byte", ours.first_byte_at - theirs.first_byte_at), ("end", outcome.took_s - plain.took_s)
    for what, late_s in times:
        if late_s > allowed_s:
            text = f"6: {what} {late_s:.6f} s after a plain connection's with the same framing"
            found.append(f"{text}, RTT {rtt_s:.6f} s, {allowed_s:.6f} s are allowed")
    return found
