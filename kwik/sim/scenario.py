"""What a simulation is about: a frozen description, complete in itself, written by hand or drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from kwik.config import Config, ServerConfig
from kwik.sim.apps import ProgramKind, Twist
from kwik.sim.client_app import ClientPlan
from kwik.sim.link import LinkPlan
from kwik.sim.pace import AT_ONCE, Pace
from kwik.sim.paths import PathRules

SERVICE: Final = "files.example:80"

LieKind = Literal["data", "digests", "final", "withhold", "probe"]
FaultKind = Literal[
    "kill",
    "kill-told",
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
    "kill-all-but-one",
    "kill-all",
]
Trigger = Literal["time", "opened", "bytes", "mid-block", "before-end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """One server: its network, its application, its honesty."""

    up: LinkPlan
    down: LinkPlan
    sighted_s: float = 0.0
    """When discovery names it, after the start."""
    handshake_s: float = 0.001
    connect_s: float = 0.0002
    pace: Pace = AT_ONCE
    taking: Pace = AT_ONCE
    """How fast its application takes upstream."""
    twist: Twist | None = None
    lie: LieKind | None = None
    lie_at: int = 0
    """Offset from which on a lie is told."""
    refuses: bool = False
    """The application behind it is down."""
    answers_when_dead: bool = False
    service: str = SERVICE
    """What it says that it serves."""
    clone_of: int | None = None
    """It shows the id and the incarnation of that server, as a copied machine does, but is another process."""

    @property
    def rtt_s(self) -> float:
        """Both ways, without queues."""
        return self.up.delay_s + self.down.delay_s

    @property
    def is_honest(self) -> bool:
        """It serves what the reference serves, and says the truth about it."""
        return self.twist is None and self.lie is None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Something that happens. `target` is anchor, helper, or a server's number as text; else it is ignored.

    time: `value` seconds after the start. opened: a path is up and nothing was delivered. bytes and mid-block: the
    application read `value` bytes and the victim owes some. before-end: everything was read but not the end.
    """

    kind: FaultKind
    target: str = "anchor"
    trigger: Trigger = "bytes"
    value: float = 0.0
    duration_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that a run depends on, besides the code."""

    servers: tuple[ServerPlan, ...]
    streams: tuple[ClientPlan, ...]
    name: str = "by-hand"
    seed: int = 1
    replicated: bool = True
    faults: tuple[FaultPlan, ...] = ()
    block_bytes: int = 64
    packet_bytes: int = 32
    window_blocks: int = 32
    first_window_blocks: int = 32
    send_window_blocks: int = 64
    memory_blocks: int = 1024
    replay_limit_bytes: int = 1 << 20
    recruit_backlog_bytes: int = 256
    upstream_credit_bytes: int = 4096
    replicas: int = 1
    max_replicas: int = 8
    recovery_time_s: float = 20.0
    linger_s: float = 60.0
    drain_s: float = 10.0
    horizon_s: float = 300.0
    """When the run is given up, in virtual time from the start."""

    @property
    def rules(self) -> PathRules:
        """The paths' rules."""
        return PathRules(packet_bytes=self.packet_bytes)

    @property
    def window_bytes(self) -> int:
        """The receive window."""
        return self.window_blocks * self.block_bytes

    @property
    def program(self) -> ProgramKind:
        """The service's application; the same for all streams."""
        return self.streams[0].program

    @property
    def greeting_bytes(self) -> int:
        """What the service says first."""
        return self.streams[0].greeting_bytes

    @property
    def client_config(self) -> Config:
        """The client's knobs."""
        return Config(
            block_bytes=self.block_bytes,
            receive_window_bytes=self.window_bytes,
            first_window_bytes=self.first_window_blocks * self.block_bytes,
            memory_bytes=self.memory_blocks * self.block_bytes,
            replay_limit_bytes=self.replay_limit_bytes,
            recruit_backlog_bytes=self.recruit_backlog_bytes,
            replicas=self.replicas,
            max_replicas=max(self.max_replicas, self.replicas),
            recovery_time_s=self.recovery_time_s,
            # As in the engine: what is sighted is sighted within the time that discovery has.
            discovery_time_s=max(1.0, *(plan.sighted_s for plan in self.servers)),
        )

    def server_config(self, number: int) -> ServerConfig:
        """The knobs of server `number`."""
        plan = self.servers[number]
        return ServerConfig(
            service=plan.service,
            server_id=f"s{number if plan.clone_of is None else plan.clone_of}",
            replicated=self.replicated,
            send_window_bytes=self.send_window_blocks * self.block_bytes,
            upstream_credit_bytes=self.upstream_credit_bytes,
            upstream_window_bytes=4 * self.upstream_credit_bytes,
            linger_s=self.linger_s,
            drain_s=self.drain_s,
            min_block_bytes=min(self.block_bytes, 16384),
        )

    @property
    def total_bytes(self) -> int:
        """What honest servers send over all streams."""
        return sum(plan.total_bytes for plan in self.streams)

    def alone(self, number: int) -> Scenario:
        """The same with one server only and without faults."""
        return replace(
            self, servers=(self.servers[number],), faults=(), name=f"{self.name}-alone", replicas=1, horizon_s=1e5
        )


def link(rate_bytes_s: float, rtt_s: float, *, packet_bytes: int = 32) -> LinkPlan:
    """Half of a round trip with a queue of two round trips, at least twenty packets."""
    queue = int(max(20 * packet_bytes, 2 * rate_bytes_s * rtt_s))
    return LinkPlan(rate_bytes_s=rate_bytes_s, delay_s=rtt_s / 2, queue_bytes=queue)


def server(
    rate_bytes_s: float = 50_000.0, rtt_s: float = 0.02, *, packet_bytes: int = 32, **more: object
) -> ServerPlan:
    """A server with equal links both ways, for scenarios written by hand; `more` goes into the plan."""
    plan = link(rate_bytes_s, rtt_s, packet_bytes=packet_bytes)
    return ServerPlan(up=plan, down=plan, **more)  # type: ignore[arg-type]
