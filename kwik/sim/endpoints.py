"""The client's process and a server's process of a simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from kwik.core.actions import (
    Accept,
    Action,
    Drained,
    Flushed,
    SessionIdle,
    StreamConfirmed,
    StreamSent,
)
from kwik.core.port import PortKey
from kwik.errors import ErrorCode, KwikError
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.sim.apps import ProgramKind, Twist, make_program
from kwik.sim.client_app import ClientApp, ClientPlan
from kwik.sim.clock import Clock
from kwik.sim.hosts import Core, Host
from kwik.sim.network import CLIENT_ADDRESS, Network, Site
from kwik.sim.paths import PathEnd
from kwik.sim.scenario import SERVICE, ServerPlan
from kwik.sim.server_port import ServerPort
from kwik.types import Instant, PathId

if TYPE_CHECKING:
    from kwik.kdp.snapshots import PathSnapshot, ReplicaSnapshot

CONNECT_S: Final = 0.0002
"""What it takes a server to reach its application."""


class ClientSide(Core, Protocol):
    """What the client's core has beyond ports and paths."""

    def on_sighting(self, sighting: Sighting, now: Instant) -> None: ...
    def on_discovery_done(self, detail: str, now: Instant) -> None: ...
    def on_path_writable(self, path: PathId, binding: bytes, now: Instant) -> None: ...
    def dial(self, now: Instant, *, replicas: int = 1) -> PortKey: ...
    def close(self, now: Instant) -> None: ...
    def path_views(self, now: Instant) -> Sequence[PathSnapshot]: ...
    def anchor_of(self, key: PortKey) -> str: ...


class ServerSide(Core, Protocol):
    """What a server's core has beyond ports and paths."""

    def on_path_writable(self, path: PathId, binding: bytes, remote: tuple[str, int] | None, now: Instant) -> None: ...
    def accepted(self, key: PortKey, now: Instant) -> None: ...
    def refused(self, key: PortKey, code: int, text: str, now: Instant) -> None: ...
    def drain(self, now: Instant) -> None: ...
    def stop(self, now: Instant) -> None: ...
    def replica_views(self, now: Instant) -> Sequence[ReplicaSnapshot]: ...


class ClientHost(Host):
    """The client's process."""

    def __init__(self, clock: Clock, network: Network) -> None:
        super().__init__(clock, network, "client")
        self.side: ClientSide
        self.streams: list[ClientApp] = []
        self.is_idle = False
        self.flushed: list[int] = []
        self.sent_keys: list[PortKey] = []
        self.confirmed_keys: list[PortKey] = []
        network.client = self

    @property
    def core(self) -> Core:
        return self.side

    def on_writable(self, end: PathEnd, binding: bytes) -> None:
        self.side.on_path_writable(end.path, binding, self.clock.now)

    def dial(self, plan: ClientPlan, number: int, replicas: int = 1) -> None:
        """Open a stream; a failed dial is a refused one."""
        app = ClientApp(self, plan, number)
        self.streams.append(app)
        try:
            key = self.side.dial(self.clock.now, replicas=replicas)
        except KwikError as error:
            app.on_reset(error.code, str(error), refused=True)
            return
        self.apps[key] = app
        app.begin(key)

    def sight(self, site: Site, number: int) -> None:
        """Discovery names a server."""
        sighting = Sighting(
            kind=SightingKind.FOUND,
            source="sim",
            service=SERVICE,
            addresses=(site.address,),
            key=f"server-{number}",
        )
        self.side.on_sighting(sighting, self.clock.now)

    def perform_own(self, action: Action) -> None:
        match action:
            case SessionIdle():
                self.is_idle = True
            case Flushed(token):
                self.flushed.append(token)
            case StreamSent(key):
                self.sent_keys.append(key)
            case StreamConfirmed(key):
                self.confirmed_keys.append(key)
            case _:
                super().perform_own(action)


class ServerHost(Host):
    """A server's process: one incarnation. `instances` are all applications that it ever reached."""

    def __init__(
        self, clock: Clock, network: Network, name: str, *, program: ProgramKind, greeting_bytes: int, plan: ServerPlan
    ) -> None:
        super().__init__(clock, network, name)
        self.side: ServerSide
        self.instances: list[ServerPort] = []
        self.refuses = False
        """True if the application behind this server is down."""
        self.twist: Twist | None = None
        self.connect_s = CONNECT_S
        self.is_drained = False
        self.alter: Callable[[PathId, int, bytes], bytes] | None = None
        self._program = program
        self._greeting_bytes = greeting_bytes
        self._plan = plan
        self._next_path = 0

    @property
    def core(self) -> Core:
        return self.side

    def take_path(self, end: PathEnd, binding: bytes) -> None:
        """A client's handshake has come far enough to send to it."""
        end.path = PathId(self._next_path)
        self._next_path += 1
        self.ends[end.path] = end
        self.enter(self._writable, end, binding)

    def _writable(self, end: PathEnd, binding: bytes) -> None:
        self.side.on_path_writable(end.path, binding, CLIENT_ADDRESS, self.clock.now)

    def altered(self, path: PathId, pipe: int, data: bytes) -> bytes:
        return data if self.alter is None else self.alter(path, pipe, data)

    def perform_own(self, action: Action) -> None:
        match action:
            case Accept(key, _, _):
                self.clock.after(self.connect_s, self.enter, self._reached, key)
            case Drained():
                self.is_drained = True
            case _:
                super().perform_own(action)

    def _reached(self, key: PortKey) -> None:
        now = self.clock.now
        if self.refuses:
            self.side.refused(key, ErrorCode.APPLICATION_DOWN, "nobody listens", now)
            return
        program = make_program(self._program, self._greeting_bytes, self.twist)
        port = ServerPort(self, key, program, self._plan.pace, self._plan.taking)
        self.instances.append(port)
        self.apps[key] = port
        self.side.accepted(key, now)
        port.is_accepted = True
        port.pump()
