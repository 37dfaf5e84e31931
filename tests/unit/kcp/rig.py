"""A client's Control driven in virtual time against servers that answer as SPEC §4 says, made of ServerSessions."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from kwik.config import Config, ServerConfig
from kwik.kcp.actions import ClosePath, OpenPath, PathAdmitted, PathGone, PingPath, SendMessage
from kwik.kcp.admission import Refuse
from kwik.kcp.control import Control, Want
from kwik.kcp.sessions import ServerSessions
from kwik.kcp.sighting import Sighting, SightingKind, SightingState
from kwik.types import Address, PathId
from kwik.wire.messages import ClientHello, Drain, Join

SERVICE = "files.example:80"
START = 1000.0


@dataclass(frozen=True)
class Vitals:
    last_packet_at: float | None = None
    smoothed_rtt_s: float | None = None
    rtt_variance_s: float = 0.0
    congestion_window: int = 100_000


def sighting(
    key: str,
    *addresses: Address,
    kind: SightingKind = SightingKind.FOUND,
    source: str = "test",
    service: str = SERVICE,
    server_id: str | None = None,
    weight: int = 100,
    state: SightingState = "up",
    ttl_s: float | None = None,
) -> Sighting:
    return Sighting(kind, source, service, addresses, key, server_id, weight, "", state, ttl_s)


@dataclass
class Server:
    """One server process. `answers` False: a black hole. `says_hello` False: it stops after the handshake."""

    server_id: str
    addresses: tuple[Address, ...]
    rtt_s: float = 0.02
    incarnation: bytes = bytes(16)
    service: str = SERVICE
    answers: bool = True
    refuses: bool = False
    says_hello: bool = True
    draining: bool = False
    forge: Callable[[object], object] = field(default=lambda message: message)
    sessions: ServerSessions = field(init=False)

    def __post_init__(self) -> None:
        dice = random.Random(self.server_id)
        config = ServerConfig(service=self.service, server_id=self.server_id)
        self.sessions = ServerSessions(config, incarnation=self.incarnation, token_bytes=dice.randbytes)


class Rig:
    """Everything that happens is in `log`: (time, action)."""

    def __init__(self, *servers: Server, config: Config | None = None, seed: int = 1) -> None:
        dice = random.Random(seed)
        self.now = START
        self.servers: dict[Address, Server] = {}
        self.open: dict[PathId, Server] = {}
        self.heard: dict[PathId, float] = {}
        self.log: list[tuple[float, object]] = []
        self.traced: list[object] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self.control = Control(
            SERVICE,
            config or Config(),
            facts=self.facts,
            token_bytes=dice.randbytes,
            rng=dice,
            trace=self.traced.append,
        )
        for server in servers:
            self.add(server)

    def add(self, server: Server, *, sighted: bool = True) -> None:
        for address in server.addresses:
            self.servers[address] = server
        if sighted:
            found = sighting(server.server_id, *server.addresses)
            self.control.on_sighting(found, self.now)
            self._perform()

    def facts(self, path: PathId, now: float) -> Vitals | None:
        server = self.open.get(path)
        return None if server is None else Vitals(self.heard.get(path), server.rtt_s)

    def want(self, paths: int) -> None:
        self.control.on_want(Want(paths, "test"), self.now)
        self._perform()

    def do(self, call: Callable[[float], None]) -> None:
        call(self.now)
        self._perform()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            due = self.control.deadline()
            event_at = self._events[0][0] if self._events else None
            times = [when for when in (due, event_at) if when is not None]
            if not times or min(times) > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, min(times))
            if due is not None and due <= self.now:
                self.control.on_timeout(self.now)
            else:
                heapq.heappop(self._events)[2]()
            self._perform()
        raise AssertionError("busy loop")

    def stop(self, seconds: float) -> None:
        """The client's process stands still; what arrives waits, and its timers run first when it goes on."""
        self.now += seconds
        self.control.on_timeout(self.now)
        self._perform()

    def down(self, path: PathId, reason: str) -> None:
        self.open.pop(path, None)
        self.control.on_path_down(path, reason, self.now)
        self._perform()

    def deliver(self, path: PathId, message: object) -> None:
        self.heard[path] = self.now
        self.control.on_message(path, message, self.now)
        self._perform()

    # what happened

    def of(self, kind: type) -> list[object]:
        return [action for _, action in self.log if isinstance(action, kind)]

    def times(self, kind: type) -> list[float]:
        return [round(when - START, 6) for when, action in self.log if isinstance(action, kind)]

    def admitted(self) -> list[str]:
        return [action.instance.id for action in self.of(PathAdmitted) if isinstance(action, PathAdmitted)]

    def gone(self) -> list[PathGone]:
        return [action for action in self.of(PathGone) if isinstance(action, PathGone)]

    def opened(self) -> list[Address]:
        return [action.address for action in self.of(OpenPath) if isinstance(action, OpenPath)]

    def connected(self) -> list[str]:
        paths = self.control.admitted_paths()
        return [instance.id for path in paths if (instance := self.control.instance_of(path)) is not None]

    # the world

    def _later(self, delay_s: float, event: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (self.now + delay_s, self._serial, event))

    def _perform(self) -> None:
        while actions := self.control.actions():
            for action in actions:
                self.log.append((self.now, action))
                self._perform_one(action)

    def _perform_one(self, action: object) -> None:
        match action:
            case OpenPath(path, address):
                self._connect(path, address)
            case ClosePath(path, _, _):
                self._end(path)
            case PingPath(path, ping) if path in self.open:
                server = self.open[path]
                self._later(server.rtt_s, lambda: self._pong(path, ping))
            case SendMessage(path, message) if path in self.open:
                server = self.open[path]
                self._later(server.rtt_s / 2, lambda: self._arrive(path, message))

    def _connect(self, path: PathId, address: Address) -> None:
        server = self.servers.get(address)
        if server is None:
            return
        self.open[path] = server
        if server.refuses:
            self._later(server.rtt_s, lambda: self.down(path, "refused"))
        elif server.answers:
            self._later(server.rtt_s, lambda: self._handshaken(path))

    def _handshaken(self, path: PathId) -> None:
        server = self.open.get(path)
        if server is None or not server.answers:
            return
        binding = bytes([path % 256]) * 32
        self.heard[path] = self.now
        self.control.on_path_writable(path, binding, self.now)
        hello = server.sessions.on_path(path, binding, draining=server.draining)
        if server.says_hello and path in self.open:
            self.deliver(path, server.forge(hello))

    def _arrive(self, path: PathId, message: object) -> None:
        server = self.open.get(path)
        if server is None or not server.answers:
            return
        answer: object = None
        if isinstance(message, ClientHello):
            answer = server.sessions.on_client_hello(path, message, self.now)
        elif isinstance(message, Join):
            answer = server.sessions.on_join(path, message, self.now)
            if not isinstance(answer, Refuse):
                self._later(server.rtt_s / 2, lambda: self._joined(path, answer))
        if isinstance(answer, Refuse):
            self._later(server.rtt_s / 2, lambda: self.down(path, answer.reason))

    def _joined(self, path: PathId, answer: object) -> None:
        if path in self.open and self.open[path].answers:
            self.deliver(path, self.open[path].forge(answer))

    def _pong(self, path: PathId, ping: int) -> None:
        server = self.open.get(path)
        if server is not None and server.answers and self.servers.get(server.addresses[0]) is server:
            self.heard[path] = self.now
            self.control.on_pong(path, ping, self.now)

    def _end(self, path: PathId) -> None:
        server = self.open.pop(path, None)
        if server is not None:
            server.sessions.on_path_down(path, self.now)
            self._later(0.0, lambda: self.control.on_path_down(path, "closed", self.now))

    def drain(self, path: PathId, deadline_ms: int) -> None:
        self.deliver(path, Drain(deadline_ms=deadline_ms))
