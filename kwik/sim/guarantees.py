"""The guarantees of SPEC §2, judged after a run. Each breach is a text that begins with the number of the guarantee.

0 stands for what is not a guarantee to users but holds for every run: an end, and nothing left behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from kwik.kdp.failover import WITHHELD_PARTS
from kwik.sim.apps import FLIP, Output, reference
from kwik.sim.client_app import ClientApp
from kwik.sim.endpoints import ServerHost
from kwik.sim.scenario import SERVICE, FaultKind, Scenario
from kwik.sim.server_port import ServerPort
from kwik.sim.watch import held_bytes
from kwik.sim.world import Outcome, Place, World
from kwik.types import PathId
from kwik.wire import codec
from kwik.wire.messages import ClientHello, Join

RECOVERY_SLACK_S: Final = 45.0
"""An idle time-out and some turns: until a client can know that nobody is left."""
DEADLY: Final[frozenset[FaultKind]] = frozenset(("kill", "kill-told", "kill-all", "kill-all-but-one", "restart"))
HELLO_BYTES: Final = 400
"""What a server says until a new path is joined."""
MARK_BYTES: Final = 64
BOOKKEEPING_BLOCKS: Final = 8
"""Blocks per stream that a core may hold beyond its budget: the ones that are being put together."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the application would read if this server's replica were the anchor all the time."""

    place: Place
    output: Output

    def __contains__(self, data: bytes) -> bool:
        return self.output.data.startswith(data)


def breaches(outcome: Outcome) -> list[str]:
    """Everything that is wrong with this run."""
    found: list[str] = []
    if not outcome.ended:
        found.append(_unended(outcome))
    for app in outcome.world.client.streams:
        lineages = _lineages(outcome.world, app)
        found += check_exact(outcome, app, lineages)
        found += check_survival(outcome, app, lineages)
    found += check_memory(outcome)
    found += check_strangers(outcome.world)
    found += check_instances(outcome)
    if outcome.ended:
        found += check_forgotten(outcome)
    return found


def _unended(outcome: Outcome) -> str:
    scenario = outcome.world.scenario
    open_streams = [app for app in outcome.world.client.streams if app.seen == "open"]
    state = ", ".join(f"stream {app.number} at {len(app.received)} of {app.plan.total_bytes}" for app in open_streams)
    return f"3: neither an end nor a reset within {scenario.horizon_s:.0f} s: {state or 'no stream was dialled'}"


# ---------------------------------------------------------------- 1 and 2: what was read


def _lineages(world: World, app: ClientApp) -> list[Lineage]:
    return [Lineage(place, _output(world, app, place)) for place in world.places]


def _output(world: World, app: ClientApp, place: Place) -> Output:
    scenario = world.scenario
    upstream, eof = bytes(app.written), app.wrote_eof
    output = reference(scenario.program, scenario.greeting_bytes, place.plan.twist, upstream, eof=eof)
    if place.plan.lie == "data":
        at = place.plan.lie_at
        return Output(output.data[:at] + bend(output.data[at:]), output.ended, output.aborted)
    if place.plan.lie == "final" and output.data:
        return Output(output.data[:-1], output.ended, output.aborted)
    return output


def bend(data: bytes) -> bytes:
    """As a lying or twisted server changes bytes: none stays what it was."""
    return bytes(byte ^ FLIP for byte in data)


def check_exact(outcome: Outcome, app: ClientApp, lineages: list[Lineage]) -> list[str]:
    """1: a prefix of one server's output, all of it after a clean end; 2: no byte of a server that was not anchor."""
    received = bytes(app.received)
    possible = [lineage for lineage in lineages if received in lineage]
    if not possible:
        if _is_late_lie(outcome, app.number, received, lineages):
            return []
        return [f"1: stream {app.number} read what no server says: {_difference(received, lineages)}"]
    found = []
    if app.seen == "end" and not any(one.output.ended and one.output.data == received for one in possible):
        found.append(f"3: stream {app.number} ended cleanly after {len(received)} of {app.plan.total_bytes} bytes")
    anchors = outcome.world.watch.anchors.get(app.number, [])
    honest = [lineage for lineage in possible if lineage.place.plan.is_honest]
    if anchors and not honest and not any(one.place.name in anchors for one in possible):
        names = ", ".join(one.place.name for one in possible)
        found.append(f"2: stream {app.number} read bytes of {names}; its anchors were {', '.join(anchors)}")
    return found


def _is_late_lie(outcome: Outcome, number: int, received: bytes, lineages: list[Lineage]) -> bool:
    """True if the truth is followed by what a lying server sent that had become the anchor: nobody can know better."""
    anchors = outcome.world.watch.anchors.get(number, [])
    for lineage in lineages:
        if lineage.place.plan.lie != "data" or lineage.place.name not in anchors:
            continue
        data, at = lineage.output.data, lineage.place.plan.lie_at
        truth = data[:at] + bend(data[at:])
        same = common_prefix(received, truth)
        if same >= at and received[same:] == bend(truth[same : len(received)]):
            return True
    return False


def common_prefix(one: bytes, other: bytes) -> int:
    """Length of what both begin with."""
    if other.startswith(one):
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _difference(received: bytes, lineages: list[Lineage]) -> str:
    best = max(common_prefix(received, one.output.data) for one in lineages)
    names = [one.place.name for one in lineages if common_prefix(received, one.output.data) == best]
    return f"{len(received)} bytes, of which {best} agree with {', '.join(names)}"


# ---------------------------------------------------------------- 3: survival


def check_survival(outcome: Outcome, app: ClientApp, lineages: list[Lineage]) -> list[str]:
    """3: while an honest agreeing server lives the stream completes; a reset comes in time."""
    if app.seen not in ("reset", "refused"):
        return []
    scenario, faults = outcome.world.scenario, outcome.world.faults
    if must_complete(outcome, app, lineages):
        text = f"{app.seen} {app.failure} at {len(app.received)} of {app.plan.total_bytes} bytes"
        return [f"3: stream {app.number} could have gone on: {text}"]
    since = max(
        [outcome.world.began_at + app.plan.start_s, *(record.at + record.plan.duration_s for record in outcome.faults)]
    )
    since, allowed_s = max(since, faults.last_until), scenario.recovery_time_s
    if _is_withheld(outcome.world, app):
        # It does so from where delivery stands on; SPEC §6.3 waits for three times as long then.
        since, allowed_s = max(since, app.read_at), WITHHELD_PARTS * scenario.recovery_time_s
    late_s = (app.ended_at or 0.0) - since
    if late_s > allowed_s + RECOVERY_SLACK_S:
        return [f"3: stream {app.number} was reset only {late_s:.1f} s after the last fault"]
    return []


def _is_withheld(world: World, app: ClientApp) -> bool:
    """The stream had an anchor that speaks and withholds what it has."""
    anchors = world.watch.anchors.get(app.number, [])
    return any(place.name in anchors and place.plan.lie == "withhold" for place in world.places)


def must_complete(outcome: Outcome, app: ClientApp, lineages: list[Lineage]) -> bool:
    """Whether no rule allows this stream to fail. Says no when in doubt."""
    world = outcome.world
    scenario = world.scenario
    if app.plan.finish in ("abort", "close") or any(one.output.aborted for one in lineages):
        return False
    if len(scenario.streams) > math.log2(max(scenario.memory_blocks, 2)):
        return False  # each stream may hold what is left: so many find room for certain
    if not scenario.replicated:
        first = _first_place(world, app.number)
        return first is not None and _stays(outcome, first)
    if not app.received and _is_unknown(outcome, _first_place(world, app.number)):
        return False
    truth = reference(scenario.program, scenario.greeting_bytes, None, bytes(app.written), eof=app.wrote_eof)
    agreeing = [one for one in lineages if one.output == truth and one.place.plan.lie is None]
    others = [one for one in lineages if one not in agreeing]
    if any(one.place.name in world.watch.anchors.get(app.number, []) for one in others):
        return False
    return _is_recruitable(scenario, app) and any(_stays(outcome, one.place) for one in agreeing)


def _is_unknown(outcome: Outcome, first: Place | None) -> bool:
    """OPEN may have gone out before a hello was read: without one nobody else may be sent it (SPEC §5.2)."""
    return first is not None and any(
        first.name in record.victims and not record.delivered_bytes for record in outcome.faults
    )


def _is_recruitable(scenario: Scenario, app: ClientApp) -> bool:
    marks = MARK_BYTES * (len(app.plan.answers) + 2)
    return len(app.written) + marks * 2 <= scenario.replay_limit_bytes


def _first_place(world: World, number: int) -> Place | None:
    for place in world.places:
        if any(stream_of(world, port) == number for host in place.hosts for port in host.instances):
            return place
    return None


def _stays(outcome: Outcome, place: Place) -> bool:
    """This server was never hurt for longer than a client must be able to wait."""
    scenario = outcome.world.scenario
    if place.plan.refuses or place.plan.service != SERVICE or _is_doubled(scenario, place):
        return False
    for record in outcome.faults:
        plan = record.plan
        if plan.kind == "client-stop" and plan.duration_s > scenario.linger_s / 2:
            return False
        if place.name in record.victims and plan.kind != "client-stop":
            if plan.kind in DEADLY or plan.kind == "drain" or plan.duration_s > scenario.recovery_time_s / 2:
                return False
            if scenario.replicated:
                return False
            # Hellos and proofs are not scaled down: on the thinnest links a new path takes too long.
            if HELLO_BYTES / place.plan.down.rate_bytes_s > scenario.recovery_time_s / 10:
                return False
    return True


def _is_doubled(scenario: Scenario, place: Place) -> bool:
    """Clone and original look the same: whoever is met second cannot prove itself, and is not used."""
    return place.plan.clone_of is not None or any(plan.clone_of == place.number for plan in scenario.servers)


# ---------------------------------------------------------------- 5: memory


def check_memory(outcome: Outcome) -> list[str]:
    """5: what the cores hold is within their budgets, by their own account (`held_bytes`)."""
    world, scenario = outcome.world, outcome.world.scenario
    extra = BOOKKEEPING_BLOCKS * scenario.block_bytes * len(scenario.streams)
    written = sum(len(app.written) for app in world.client.streams)
    client_bound = scenario.memory_blocks * scenario.block_bytes + written + extra
    per_replica = scenario.server_config(0).send_window_bytes + max(
        65536, scenario.server_config(0).upstream_window_bytes
    )
    server_bound = len(scenario.streams) * per_replica + extra
    found = []
    if world.watch.client_held_bytes > client_bound:
        found.append(f"5: the client held {world.watch.client_held_bytes} bytes; {client_bound} are allowed")
    if world.watch.server_held_bytes > server_bound:
        found.append(f"5: a server held {world.watch.server_held_bytes} bytes; {server_bound} are allowed")
    return found


# ---------------------------------------------------------------- 7: strangers


def check_strangers(world: World) -> list[str]:
    """7: no application of another service ran; a clone without proof heard nothing but hello and JOIN."""
    found = []
    for place in world.places:
        if place.plan.service != SERVICE and any(host.instances for host in place.hosts):
            found.append(f"7: {place.name} serves {place.plan.service} and was given a stream")
        if place.plan.clone_of is not None:
            found += _check_clone(world, place)
    return found


def _check_clone(world: World, place: Place) -> list[str]:
    found = []
    for host in place.hosts:
        told: dict[PathId, list[codec.Received]] = {}
        for item in world.watch.frames:
            if item.host == host.name:
                told.setdefault(item.path, []).append(item.frame)
        wrong = _told_unproved(list(told.values()))
        found += [f"7: {host.name} could not prove itself and was told {type(frame).__name__}" for frame in wrong[:1]]
    return found


def _told_unproved(paths: list[list[codec.Received]]) -> list[codec.Received]:
    """What this process heard on paths that had to join a session of another process.

    If the client met it before the original, the session is its own, and the original is the one that has no proof.
    """
    own = {frame.session for frames in paths for frame in frames if isinstance(frame, ClientHello)}
    unproved = [frames for frames in paths if any(isinstance(one, Join) and one.session not in own for one in frames)]
    return [frame for frames in unproved for frame in frames if not isinstance(frame, ClientHello | Join)]


# ---------------------------------------------------------------- 8: who saw a stream


def stream_of(world: World, port: ServerPort) -> int | None:
    """The number of the stream that this instance served, by what it was told."""
    if world.scenario.program == "echo":
        return 0 if len(world.scenario.streams) == 1 else None
    words = bytes(port.upstream.split(b"\n", 1)[0]).split()
    return int(words[2]) if len(words) > 3 else None


def check_instances(outcome: Outcome) -> list[str]:
    """8: one instance altogether if anchored, one per server instance if replicated; and 1, for the upstream."""
    world = outcome.world
    found = []
    hosts = [host for place in world.places for host in place.hosts]
    for group in [hosts] if not world.scenario.replicated else [[host] for host in hosts]:
        found += _check_group(world, group)
    written = [bytes(app.written) for app in world.client.streams]
    for host in hosts:
        for port in host.instances:
            if not any(whole.startswith(port.upstream) for whole in written):
                found.append(f"1: {host.name} was given upstream that nobody wrote ({len(port.upstream)} bytes)")
    return found


def _check_group(world: World, hosts: list[ServerHost]) -> list[str]:
    ports = [port for host in hosts for port in host.instances]
    names = ", ".join(host.name for host in hosts)
    if len(ports) > len(world.client.streams):
        return [f"8: {len(ports)} instances for {len(world.client.streams)} streams on {names}"]
    numbers = [number for port in ports if (number := stream_of(world, port)) is not None]
    return [f"8: stream {number} ran twice on {names}" for number in set(numbers) if numbers.count(number) > 1]


# ---------------------------------------------------------------- 0: nothing is left


def check_forgotten(outcome: Outcome) -> list[str]:
    """Both sides have forgotten everything, and every port was told its end."""
    world = outcome.world
    found = [f"0: stream {app.number} ({app.seen}) never settled" for app in world.client.streams if not app.is_settled]
    if not world.client.is_idle and not any(app.seen == "refused" for app in world.client.streams):
        found.append("0: the session never became idle")
    if world.client.ends:
        found.append(f"0: the client kept paths {sorted(world.client.ends)}")
    if left := held_bytes(world.client.side):
        found.append(f"0: the client still holds {left} bytes")
    for place in world.places:
        host = place.host
        if host.is_dead or host.is_stopped:
            continue
        if views := host.side.replica_views(world.clock.now):
            found.append(f"0: {host.name} still knows {[(view.replica, view.state) for view in views]}")
        if left := held_bytes(host.side):
            found.append(f"0: {host.name} still holds {left} bytes")
    return found
