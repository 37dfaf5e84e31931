"""A scenario from a seed. Seeds ending in 0 are races (guarantee 4), those ending in 5 single servers (guarantee 6).

What is drawn comes in three scales. BRISK is the usual one: blocks of about the size of packets, so that thousands of
scenarios pass in minutes. COARSE and FINE have more packets a block; seeds that failed once at a scale are kept at it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Final, get_args

from kwik.sim.apps import Twist, TwistKind
from kwik.sim.client_app import ClientPlan, EndKind
from kwik.sim.company import keep_company
from kwik.sim.link import LinkPlan
from kwik.sim.pace import Pace
from kwik.sim.scenario import FaultKind, FaultPlan, LieKind, Scenario, ServerPlan, Trigger

BLOCK_BYTES: Final = 64
RACE_BLOCK_BYTES: Final = 2048
"""Races need blocks next to which a digest is small: a slow anchor must be able to announce for fast helpers."""
MEDIAN_WINDOWS: Final = 20


@dataclass(frozen=True, slots=True)
class Scale:
    """How finely a scenario is cut; every tuple has one entry for each face of the dice."""

    name: str
    windows: tuple[int, ...]
    """Receive windows, in blocks."""
    packets: tuple[int, ...]
    """Sizes of packets, in bytes."""
    most_bytes: int
    """Longest stream: more costs time and shows nothing new."""
    race_windows: tuple[int, ...]
    race_packet_bytes: int
    servers: tuple[int, ...]
    """Weights of one, two, three … servers."""
    has_company: bool
    """Whether late servers, strangers, clones, and slow writers and takers are drawn as well."""


COARSE: Final = Scale(
    name="coarse",
    windows=(8, 8, 8, 8, 8, 8, 16, 32),
    packets=(64, 64, 100, 150, 200),
    most_bytes=14_000,
    race_windows=(24, 24, 24),
    race_packet_bytes=1600,
    servers=(18, 30, 22, 12, 7, 4, 4, 3),
    has_company=True,
)
BRISK: Final = replace(
    COARSE, name="brisk", packets=(64, 100, 150, 200, 300), most_bytes=12_000, race_packet_bytes=2200
)
FINE: Final = Scale(
    name="fine",
    windows=(8, 8, 16, 16, 16, 32, 32, 64),
    packets=(24, 32, 32, 48, 100),
    most_bytes=60_000,
    race_windows=(24, 32, 48),
    race_packet_bytes=600,
    servers=(15, 25, 22, 14, 8, 6, 5, 5),
    has_company=False,
)
SCALES: Final = {scale.name: scale for scale in (BRISK, COARSE, FINE)}

_FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
_SINGLE_FAULTS: Final[tuple[FaultKind, ...]] = (
    "kill",
    "stop",
    "black-hole",
    "black-hole-up",
    "black-hole-down",
    "stall",
    "path-break",
    "restart",
    "rate-collapse",
    "drain",
    "client-stop",
)


@dataclass(frozen=True, slots=True)
class _Size:
    """What the parts of a drawn scenario are measured against."""

    total_bytes: int
    rate_bytes_s: float
    """Of the best server."""
    window_blocks: int


def draw(seed: int, scale: Scale = BRISK) -> Scenario:
    """The scenario of this seed at this scale, always the same."""
    dice = random.Random(f"scenario {seed}")
    if seed % 10 == 0:
        return _draw_race(seed, dice, scale)
    if seed % 10 == 5:
        return _draw_single(seed, dice)
    scenario = _draw_any(seed, dice, scale)
    return keep_company(scenario, random.Random(f"company {seed}")) if scale.has_company else scenario


def _log_uniform(dice: random.Random, low: float, high: float) -> float:
    return math.exp(dice.uniform(math.log(low), math.log(high)))


def _draw_size(dice: random.Random, scale: Scale) -> _Size:
    window_blocks = dice.choice(scale.windows)
    windows = min(max(MEDIAN_WINDOWS * math.exp(dice.gauss(0, 0.8)), 0.05), 4 * MEDIAN_WINDOWS)
    total = int(min(windows * window_blocks * BLOCK_BYTES, scale.most_bytes)) + dice.randrange(2 * BLOCK_BYTES)
    if dice.random() < 0.03:
        total = dice.randrange(3 * BLOCK_BYTES)
    return _Size(total, max(total, 2000) / _log_uniform(dice, 0.3, 4.0), window_blocks)


def _draw_link(dice: random.Random, rate: float, rtt_s: float, packet_bytes: int) -> LinkPlan:
    queue = int(max(12 * packet_bytes, rate * max(rtt_s, 0.05) * dice.uniform(0.7, 2.0)))
    jitter_s = dice.uniform(0, 0.2) * rtt_s if dice.random() < 0.4 else 0.0
    loss = dice.uniform(0, 0.03) if dice.random() < 0.25 else 0.0
    return LinkPlan(rate_bytes_s=rate, delay_s=rtt_s / 2, jitter_s=jitter_s, queue_bytes=queue, loss=loss)


def _draw_server(dice: random.Random, size: _Size, packet_bytes: int, ratio: float) -> ServerPlan:
    rtt_s = _log_uniform(dice, 0.002, 0.3)
    rate = size.rate_bytes_s / ratio
    return ServerPlan(
        up=_draw_link(dice, max(rate * dice.uniform(0.3, 2.0), 4000.0), rtt_s, packet_bytes),
        down=_draw_link(dice, rate, rtt_s, packet_bytes),
        handshake_s=dice.uniform(0.0005, 0.005),
        answers_when_dead=dice.random() < 0.3,
    )


def _draw_servers(dice: random.Random, count: int, size: _Size, packet_bytes: int) -> tuple[ServerPlan, ...]:
    ratios = [1.0, *(_log_uniform(dice, 1.0, 20.0) for _ in range(count - 1))]
    dice.shuffle(ratios)
    return tuple(_draw_server(dice, size, packet_bytes, ratio) for ratio in ratios)


def _split(dice: random.Random, total: int, parts: int) -> tuple[int, ...]:
    """Answers that grow: each about twice the one before."""
    weights = [2.0**number * dice.uniform(0.5, 1.5) for number in range(parts)]
    return tuple(int(total * weight / sum(weights)) for weight in weights)


def _draw_pace(dice: random.Random, size: _Size) -> Pace:
    rate = size.rate_bytes_s * dice.uniform(0.2, 1.5) if dice.random() < 0.6 else None
    count = dice.choice((0, 1, 1, 2)) if rate else 1
    pauses = sorted((dice.randrange(size.total_bytes + 1), _log_uniform(dice, 0.05, 5.0)) for _ in range(count))
    return Pace(rate_bytes_s=rate, chunk_bytes=max(16, size.total_bytes // 200), pauses=tuple(pauses))


def _draw_stream(dice: random.Random, size: _Size, number: int, first: ClientPlan | None) -> ClientPlan:
    program = first.program if first else dice.choice(("answer", "answer", "answer", "echo"))
    greeting = first.greeting_bytes if first else (dice.randrange(1, 400) if dice.random() < 0.25 else 0)
    total = size.total_bytes if program == "answer" else min(size.total_bytes, 20_000)
    finish: EndKind = dice.choices(get_args(EndKind), weights=(45, 20, 15, 8, 8))[0]
    return ClientPlan(
        start_s=0.0 if not number else dice.uniform(0, 0.5),
        program=program,
        greeting_bytes=0 if program == "echo" else greeting,
        answers=_split(dice, total, dice.choice((1, 1, 1, 2, 3, 5))),
        is_pipelined=dice.random() < 0.3,
        request_bytes=dice.choice((40, 40, 100, 700)),
        reading=_draw_pace(dice, size) if dice.random() < 0.2 else Pace(),
        finish=finish,
        leave_at=dice.randrange(total + 1),
    )


def _draw_streams(dice: random.Random, size: _Size) -> tuple[ClientPlan, ...]:
    count = dice.choice((1, 1, 1, 1, 1, 2, 3))
    share = replace(size, total_bytes=max(1, size.total_bytes // count))
    streams: list[ClientPlan] = []
    for number in range(count):
        streams.append(_draw_stream(dice, share, number, streams[0] if streams else None))
    return tuple(streams)


def _draw_twists(dice: random.Random, servers: tuple[ServerPlan, ...], total: int) -> tuple[ServerPlan, ...]:
    """Sometimes one server, rarely two, is not like the others."""
    bent = list(servers)
    for number in dice.sample(range(len(bent)), 2 if dice.random() < 0.2 and len(bent) > 2 else 1):
        if dice.random() < 0.6:
            kind: TwistKind = dice.choice(get_args(TwistKind))
            at = dice.randrange(total + 1)
            at = at // BLOCK_BYTES * BLOCK_BYTES if kind == "one-block" else at
            bent[number] = replace(bent[number], twist=Twist(kind=kind, at=at, size=BLOCK_BYTES))
        else:
            lie: LieKind = dice.choice(get_args(LieKind))
            bent[number] = replace(bent[number], lie=lie, lie_at=dice.randrange(total + 1))
    return tuple(bent)


def _draw_faults(dice: random.Random, servers: int, total: int) -> tuple[FaultPlan, ...]:
    kinds = _FAULT_KINDS if servers > 1 else _SINGLE_FAULTS
    return tuple(_draw_fault(dice, dice.choice(kinds), total) for _ in range(dice.choice((1, 1, 1, 2, 3))))


def _draw_fault(dice: random.Random, kind: FaultKind, total: int) -> FaultPlan:
    triggers: tuple[Trigger, ...] = get_args(Trigger)
    trigger = dice.choices(triggers, weights=(5, 8, 35, 35, 17))[0]
    value = dice.uniform(0, 2.0) if trigger == "time" else dice.uniform(0.02, 0.95) * total
    longest = 45.0 if kind in ("client-stop", "stop") and dice.random() < 0.3 else 5.0
    return FaultPlan(
        kind=kind,
        target=dice.choice(("anchor", "anchor", "helper")),
        trigger=trigger,
        value=round(value, 3),
        duration_s=round(_log_uniform(dice, 0.05, longest), 3),
    )


def _draw_any(seed: int, dice: random.Random, scale: Scale) -> Scenario:
    size = _draw_size(dice, scale)
    packet_bytes = dice.choice(scale.packets)
    count = dice.choices(range(1, 9), weights=scale.servers)[0]
    servers = _draw_servers(dice, count, size, packet_bytes)
    streams = _draw_streams(dice, size)
    replicated = dice.random() < (0.8 if count > 1 else 0.5)
    longest = max(plan.total_bytes for plan in streams)
    if dice.random() < 0.25:
        pace = _draw_pace(dice, size)
        servers = tuple(replace(plan, pace=pace) for plan in servers)
    if replicated and count > 1 and dice.random() < 0.25:
        servers = _draw_twists(dice, servers, longest)
    if dice.random() < 0.1:
        refusing = dice.randrange(count)
        servers = tuple(replace(plan, refuses=number == refusing) for number, plan in enumerate(servers))
    upstream = max(_upstream_bytes(plan) for plan in streams)
    return Scenario(
        name="any",
        seed=seed,
        servers=servers,
        streams=streams,
        replicated=replicated,
        faults=_draw_faults(dice, count, longest) if dice.random() < 0.65 else (),
        packet_bytes=packet_bytes,
        window_blocks=size.window_blocks,
        first_window_blocks=dice.choice((2, size.window_blocks // 2, size.window_blocks)),
        send_window_blocks=size.window_blocks * dice.choice((1, 2, 4)),
        memory_blocks=max(4 * len(streams), size.window_blocks * dice.choice((1, 2, 16))),
        replay_limit_bytes=dice.choice((1 << 20, 1 << 20, 1 << 20, upstream // 2 + 64)),
        recruit_backlog_bytes=dice.choice((BLOCK_BYTES, 4 * BLOCK_BYTES, 8 * BLOCK_BYTES)),
        upstream_credit_bytes=dice.choice((256, 1024, 4096)),
        replicas=min(count, 2) if replicated and dice.random() < 0.15 else 1,
        recovery_time_s=dice.choice((10.0, 20.0, 60.0)),
        linger_s=dice.choice((70.0, 120.0)),
    )


def _upstream_bytes(plan: ClientPlan) -> int:
    return sum(plan.answers) if plan.program == "echo" else plan.request_bytes * len(plan.answers)


def _draw_race(seed: int, dice: random.Random, scale: Scale) -> Scenario:
    window_blocks, packet_bytes = dice.choice(scale.race_windows), scale.race_packet_bytes
    total = MEDIAN_WINDOWS * window_blocks * RACE_BLOCK_BYTES + dice.randrange(4096)
    size = _Size(total, 1.0, window_blocks)
    servers = _draw_servers(dice, dice.choice((2, 2, 3, 3, 4, 6)), size, packet_bytes)
    # The window is what the rates need, or up to three times as much: twice the sum of rates x largest RTT.
    need = 2 * sum(plan.down.rate_bytes_s for plan in servers) * max(plan.rtt_s for plan in servers)
    factor = window_blocks * RACE_BLOCK_BYTES / (need * dice.uniform(1.0, 3.0))
    calm = tuple(
        replace(plan, up=_calm(plan.up, factor, packet_bytes), down=_calm(plan.down, factor, packet_bytes))
        for plan in servers
    )
    stream = ClientPlan(answers=(size.total_bytes,), finish=dice.choice(("bye", "half-close", "half-close-first")))
    return Scenario(
        name="race",
        seed=seed,
        servers=calm,
        streams=(stream,),
        block_bytes=RACE_BLOCK_BYTES,
        packet_bytes=packet_bytes,
        window_blocks=window_blocks,
        first_window_blocks=window_blocks,
        send_window_blocks=window_blocks * 2,
        recruit_backlog_bytes=4 * RACE_BLOCK_BYTES,
    )


def _calm(plan: LinkPlan, factor: float, packet_bytes: int) -> LinkPlan:
    """Without loss, for the times of two runs are to be compared; with a queue of 50 to 100 ms."""
    rate = plan.rate_bytes_s * factor
    return replace(plan, loss=0.0, jitter_s=0.0, rate_bytes_s=rate, queue_bytes=int(max(12 * packet_bytes, rate * 0.1)))


def _draw_single(seed: int, dice: random.Random) -> Scenario:
    """One server, unscaled blocks and packets, so that what framing costs has its real proportion."""
    rate, rtt_s = _log_uniform(dice, 2e5, 2e7), _log_uniform(dice, 0.002, 0.3)
    plan = LinkPlan(rate_bytes_s=rate, delay_s=rtt_s / 2, queue_bytes=1 << 22)
    total = int(_log_uniform(dice, 1, 300_000))
    stream = ClientPlan(
        answers=_split(dice, total, dice.choice((1, 1, 3))),
        greeting_bytes=dice.choice((0, 0, 80)),
        finish=dice.choice(("bye", "half-close", "half-close-first")),
    )
    return Scenario(
        name="single",
        seed=seed,
        servers=(ServerPlan(up=plan, down=plan),),
        streams=(stream,),
        replicated=dice.random() < 0.5,
        block_bytes=16384,
        packet_bytes=1150,
        window_blocks=256,
        first_window_blocks=64,
        send_window_blocks=256,
        upstream_credit_bytes=65536,
    )
