"""Both cores wired together without a network: bytes arrive at once, time goes from deadline to deadline."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kwik.config import Config, ServerConfig
from kwik.core.actions import Accept, ClosePath, OpenPath, PingPath, PortDone, PortReset
from kwik.core.client import ClientCore
from kwik.core.server import ServerCore
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.kdp.facts import PathFacts
from kwik.types import Address, PathId

A = TypeVar("A")
SERVICE = "files.example:80"
BLOCK = 64
START = 1000.0
RTT_S = 0.01


@dataclass
class App:
    """A server's application: writes what it is given, remembers what it reads."""

    key: int
    to_write: bytes = b""
    ends: bool = True
    read: bytes = b""
    saw_end: bool = False
    ended: object = None
    closed: bool = False


@dataclass
class Server:
    """One server; `answer` is what each of its applications writes."""

    name: str
    address: Address
    core: ServerCore
    answer: bytes = b""
    ends: bool = True
    refuses: tuple[int, str] | None = None
    is_up: bool = True
    apps: list[App] = field(default_factory=list)
    said: list[object] = field(default_factory=list)
    next_path: int = 1
    incarnation: bytes = b""


@dataclass
class Link:
    """One path: the client's number and the server's."""

    path: PathId
    server: Server
    number: PathId
    cut_at: float | None = None


class House:
    """A client, its servers, and the wires between them."""

    def __init__(self, **settings: Any) -> None:
        values: dict[str, Any] = {
            "block_bytes": BLOCK,
            "receive_window_bytes": 64 * BLOCK,
            "first_window_bytes": 16 * BLOCK,
            "memory_bytes": 1 << 20,
            "recruit_backlog_bytes": 1 << 30,
        }
        self.now = START
        self.dice = random.Random(1)
        self.servers: dict[Address, Server] = {}
        self.links: dict[PathId, Link] = {}
        self.said: list[object] = []
        self.room = 1 << 16
        self.client = ClientCore(
            SERVICE,
            Config(**(values | settings)),
            facts=self.facts,
            token_bytes=self.dice.randbytes,
            rng=random.Random(2),
        )

    def server(self, name: str, answer: bytes = b"", **settings: Any) -> Server:
        """One more server, and a sighting of it."""
        server = self.build(name, answer, **settings)
        self.sight(server)
        return server

    def build(self, name: str, answer: bytes = b"", **settings: Any) -> Server:
        """One more server that nobody has seen; the same name again is a restart at the same address."""
        ends = settings.pop("ends", True)
        incarnation = settings.pop("incarnation", None) or self.dice.randbytes(16)
        values: dict[str, Any] = {
            "service": SERVICE,
            "server_id": name,
            "replicated": True,
            "min_block_bytes": BLOCK,
            "upstream_credit_bytes": 1000,
            "upstream_window_bytes": 2000,
        }
        known = next((server.address for server in self.servers.values() if server.name == name), None)
        address = known or Address(f"192.0.2.{len(self.servers) + 1}", 4433)
        core = ServerCore(
            ServerConfig(**(values | settings)),
            incarnation=incarnation,
            facts=lambda path, now: None,
            token_bytes=self.dice.randbytes,
        )
        self.servers[address] = Server(name, address, core, answer, ends, incarnation=incarnation)
        return self.servers[address]

    def sight(self, server: Server) -> None:
        """Discovery found it."""
        self.client.on_sighting(Sighting(SightingKind.FOUND, "test", SERVICE, (server.address,), server.name), self.now)

    def dial(self, *, replicas: int = 1) -> int:
        """A new stream."""
        return self.client.dial(self.now, replicas=replicas)

    # ---------------------------------------------------------------- faults

    def cut(self, server: Server) -> None:
        """From now on nothing gets through to that server, and nobody is told."""
        for link in self.links.values():
            if link.server is server:
                link.cut_at = self.now

    def kill(self, server: Server) -> None:
        """The server is gone and refuses new paths; its old ones end."""
        server.is_up = False
        for path in [path for path, link in self.links.items() if link.server is server]:
            del self.links[path]
            self.client.on_path_down(path, "reset", self.now)

    def drop(self, path: PathId) -> None:
        """One path ends on both sides; the server lives on."""
        link = self.links.pop(path)
        self.client.on_path_down(path, "idle time-out", self.now)
        link.server.core.on_path_down(link.number, "idle time-out", self.now)

    # ---------------------------------------------------------------- turns

    def run(self, seconds: float = 0.0) -> None:
        """Let everything happen that is due within so many seconds."""
        until = self.now + seconds
        for _ in range(2000):
            self.settle()
            due = self._next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.client.on_timeout(self.now)
            for server in self.servers.values():
                server.core.on_timeout(self.now)
        self.now = until
        self.settle()

    def settle(self) -> None:
        """Move bytes and perform actions until nobody has anything to say."""
        for _ in range(500):
            moved = self._perform_client()
            for server in list(self.servers.values()):
                moved |= self._perform_server(server)
            for link in list(self.links.values()):
                moved |= self._carry(link)
            if not moved:
                return
        raise AssertionError("the cores never come to rest")

    def _next_deadline(self) -> float | None:
        dues = [self.client.deadline(), *(server.core.deadline() for server in self.servers.values() if server.is_up)]
        return min((due for due in dues if due is not None), default=None)

    def _perform_client(self) -> bool:
        actions = self.client.actions()
        self.said += actions
        for action in actions:
            if isinstance(action, OpenPath):
                self._open(action)
            elif isinstance(action, ClosePath):
                self._close(action)
            elif isinstance(action, PingPath):
                link = self.links.get(action.path)
                if link is not None and link.cut_at is None:
                    self.client.on_pong(action.path, action.ping, self.now)
        return bool(actions)

    def _open(self, action: OpenPath) -> None:
        server = self.servers.get(action.address)
        if server is None or not server.is_up:
            self.client.on_path_down(action.path, "refused", self.now)
            return
        number, server.next_path = PathId(server.next_path), server.next_path + 1
        self.links[action.path] = Link(action.path, server, number)
        binding = self.dice.randbytes(32)
        server.core.on_path_writable(number, binding, ("198.51.100.1", 5000 + action.path), self.now)
        self.client.on_path_writable(action.path, binding, self.now)

    def _close(self, action: ClosePath) -> None:
        link = self.links.pop(action.path, None)
        if link is not None:
            self.client.on_path_down(action.path, "closed", self.now)
            link.server.core.on_path_down(link.number, "closed by the client", self.now)

    def _perform_server(self, server: Server) -> bool:
        actions = server.core.actions()
        server.said += actions
        for action in actions:
            if isinstance(action, Accept):
                self._accept(server, action)
            elif isinstance(action, PortReset | PortDone):
                for app in server.apps:
                    if app.key == action.key:
                        app.ended = action
            elif isinstance(action, ClosePath):
                for link in [li for li in self.links.values() if li.server is server and li.number == action.path]:
                    del self.links[link.path]
                    self.client.on_path_down(link.path, action.reason, self.now)
        moved = [self._work(server, app) for app in server.apps if app.ended is None]
        return bool(actions) or any(moved)

    def _accept(self, server: Server, action: Accept) -> None:
        if server.refuses is not None:
            server.core.refused(action.key, *server.refuses, self.now)
            return
        server.apps.append(App(action.key, server.answer, server.ends))
        server.core.accepted(action.key, self.now)

    def _work(self, server: Server, app: App) -> bool:
        before = (len(app.to_write), len(app.read), app.saw_end, app.closed)
        if size := server.core.allowance(app.key):
            if app.to_write:
                server.core.on_app_bytes(app.key, app.to_write[:size], self.now)
                app.to_write = app.to_write[size:]
            if not app.to_write and app.ends and not app.closed:
                app.closed = True
                server.core.on_app_eof(app.key, self.now)
        while (view := server.core.peek(app.key)) is not None:
            piece = bytes(view)
            view.release()
            server.core.consume(app.key, len(piece), self.now)
            app.read += piece
        app.saw_end |= server.core.at_end(app.key)
        return before != (len(app.to_write), len(app.read), app.saw_end, app.closed)

    def _carry(self, link: Link) -> bool:
        if link.cut_at is not None:
            return False
        up = self._pull(self.client, link.path)
        for pipe, data in up:
            link.server.core.on_path_data(link.number, pipe, data, self.now)
        down = self._pull(link.server.core, link.number)
        for pipe, data in down:
            self.client.on_path_data(link.path, pipe, data, self.now)
        return bool(up or down)

    def _pull(self, core: ClientCore | ServerCore, path: PathId) -> list[tuple[int, bytes]]:
        return core.on_room(path, self.room, self.now) if core.wants_room(path) else []

    def facts(self, path: PathId, now: float) -> PathFacts | None:
        """Measurements of a path: heard all the time unless it is cut."""
        link = self.links.get(path)
        if link is None:
            return None
        return PathFacts(
            last_packet_at=now if link.cut_at is None else link.cut_at,
            oldest_unacked_at=link.cut_at,
            smoothed_rtt_s=RTT_S,
            rtt_variance_s=0.001,
            min_rtt_s=RTT_S,
            latest_rtt_s=RTT_S,
            max_ack_delay_s=0.0,
            unsent_bytes=0,
            congestion_window=1 << 20,
            bytes_in_flight=0,
            lost_packets=0,
        )

    # ---------------------------------------------------------------- the client's application

    def read(self, key: int, most: int = 1 << 30) -> bytes:
        """Everything that may be read now, with what it makes room for."""
        data = b""
        while len(data) < most:
            view = self.client.peek(key)
            if view is None:
                self.settle()
                view = self.client.peek(key)
                if view is None:
                    break
            piece = bytes(view[: most - len(data)])
            view.release()
            self.client.consume(key, len(piece), self.now)
            data += piece
        self.settle()
        return data

    def write(self, key: int, data: bytes) -> None:
        """The application writes, as far as it may."""
        assert len(data) <= self.client.allowance(key)
        self.client.on_app_bytes(key, data, self.now)
        self.settle()

    def heard(self, kind: type[A]) -> list[A]:
        """Actions of the client of one type, from the beginning."""
        return [action for action in self.said if isinstance(action, kind)]

    def reset(self, key: int) -> PortReset | None:
        """How a stream failed, if it did."""
        return next((action for action in self.heard(PortReset) if action.key == key), None)
