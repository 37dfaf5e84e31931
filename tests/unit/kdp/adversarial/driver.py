"""Client and servers of the data plane joined by pipes in memory: the order of delivery and every loss are the test's.

No control plane and no clock: paths are admitted by hand and `now` moves only when a test moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kwik.config import Config, ServerConfig
from kwik.core.border import PipeReader
from kwik.errors import RemoteProtocolError
from kwik.kdp.actions import Accept, PortDone, PortReset
from kwik.kdp.facts import PathFacts
from kwik.kdp.server import DataServer
from kwik.kdp.session import DataSession
from kwik.kdp.stream import ClientStream
from kwik.types import Incarnation, Instance, PathId
from kwik.wire.codec import DataPiece, Received, UpstreamPiece

SERVICE = "files.test:80"
BLOCK = 1024
RTT_S = 0.01
SESSION = b"session"


def byte_at(offset: int) -> int:
    """One deterministic, non-repeating-looking sequence for everybody."""
    return (offset * 31 + (offset >> 8) * 7 + (offset >> 16)) & 0xFF


def content(size: int, start: int = 0) -> bytes:
    """That sequence from `start` on."""
    return bytes(byte_at(offset) for offset in range(start, start + size))


@dataclass
class App:
    """A server's application: gives `output` as the port allows, ends if told to, reads unless told not to."""

    output: bytes = field(default=b"", repr=False)
    ends: bool = True
    reads: bool = True
    given: int = 0
    upstream: bytearray = field(default_factory=bytearray)
    saw_end: bool = False
    told_end: bool = False
    gone: str = ""


@dataclass
class Link:
    """One path. `held` are the (direction, pipe) that keep their bytes for now."""

    id: PathId
    server: Server
    alive: bool = True
    held: set[tuple[str, int]] = field(default_factory=set)
    up: dict[int, list[bytes]] = field(default_factory=dict)
    down: dict[int, list[bytes]] = field(default_factory=dict)
    stuck_since: float | None = None
    last_packet_at: float = 0.0
    readers: tuple[PipeReader, PipeReader] = field(default_factory=lambda: (PipeReader("client"), PipeReader("server")))

    def hold_all(self) -> None:
        """Nothing arrives any more in either direction."""
        self.held |= {(way, pipe) for way in ("up", "down") for pipe in range(5)}


class Server:
    """One server with its applications."""

    def __init__(self, name: str, make: Callable[[], App], config: ServerConfig) -> None:
        self.name = name
        self.instance = Instance(name, Incarnation(name.encode().ljust(16, b".")))
        self.actions: list[object] = []
        self.config = config
        self.data = DataServer(config, self.actions)
        self.data.client_path = int
        self.apps: dict[int, App] = {}
        self.accepts = True
        self.opened = 0
        self._make = make

    def perform(self) -> None:
        """Do what the data plane asks for."""
        actions, self.actions[:] = list(self.actions), []
        for action in actions:
            if isinstance(action, Accept):
                self.opened += 1
                self.apps[action.key] = self._make()
            elif isinstance(action, PortReset | PortDone) and action.key in self.apps:
                self.apps[action.key].gone = type(action).__name__
        for key in list(self.apps):
            replica = self.data.replica_of(key)
            if self.accepts and replica is not None and replica.state.name == "CONNECTING":
                self.data.accepted(key)

    def run_apps(self, now: float) -> None:
        """Applications read and write."""
        for key, app in self.apps.items():
            while app.reads and not app.gone and (replica := self.data.replica_of(key)) is not None:
                view = replica.peek()
                if not view:
                    app.saw_end = app.saw_end or replica.at_end()
                    break
                app.upstream += bytes(view)
                self.data.consume(key, len(view))
            self._write(key, app, now)

    def _write(self, key: int, app: App, now: float) -> None:
        while not app.gone and (replica := self.data.replica_of(key)) is not None:
            part = app.output[app.given : app.given + replica.allowance()]
            if part:
                app.given += len(part)
                self.data.on_app_bytes(key, part, now)
                continue
            connected = replica.state.name != "CONNECTING"
            if app.ends and not app.told_end and app.given == len(app.output) and connected:
                app.told_end = True
                self.data.on_app_eof(key)
            return


class Net:
    """One client session, any number of servers and paths."""

    def __init__(self, **config: object) -> None:
        settings: dict[str, object] = {"block_bytes": BLOCK, "receive_window_bytes": 64 * BLOCK}
        settings["first_window_bytes"] = 4 * BLOCK
        settings.update(config)
        self.config = Config(**settings)  # type: ignore[arg-type]
        self.now = 1000.0
        self.actions: list[object] = []
        self.session = DataSession(SERVICE, self.config, self.actions)
        self.links: dict[PathId, Link] = {}
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, str] = {}
        self.done: set[int] = set()
        self.reads = True
        self.faults: list[str] = []
        """Protocol errors that one side found in the other's frames."""
        self.seen: list[object] = []
        self._next_path = 0

    def server(self, name: str, make: Callable[[], App], *, replicated: bool = True, **config: object) -> Server:
        """A server whose streams get an application from `make`."""
        settings: dict[str, object] = {"min_block_bytes": 256, "replicated": replicated}
        settings.update(config)
        return Server(name, make, ServerConfig(service=SERVICE, server_id=name, **settings))  # type: ignore[arg-type]

    def connect(self, server: Server) -> Link:
        """An admitted path."""
        self._next_path += 1
        path = PathId(self._next_path)
        link = Link(path, server)
        link.last_packet_at = self.now
        self.links[path] = link
        server.data.on_path(path, SESSION, None)
        self.session.on_path_writable(path, server.name)
        self._look(link)
        self.session.on_path_admitted(
            path, server.instance, server.config.replicated, server.config.upstream_credit_bytes, self.now
        )
        return link

    def cut(self, link: Link, *, quiet_server: bool = False) -> None:
        """The path dies with all that is on its way; with `quiet_server` the server does not notice."""
        link.alive = False
        self.session.on_path_gone(link.id, self.now)
        if not quiet_server:
            link.server.data.on_path_gone(link.id, self.now)

    def dial(self, request: bytes = b"", *, replicas: int = 1) -> ClientStream:
        """A new stream, with what the application writes first."""
        key = self.session.dial(self.now, replicas)
        self.got[key] = bytearray()
        stream = self.session.streams[key]
        if request:
            stream.on_app_bytes(request)
        return stream

    def say(self, link: Link, frame_bytes: bytes, pipe: int = 0) -> None:
        """Bytes that a dishonest server sends on a path, behind what it sent before."""
        link.down.setdefault(pipe, []).append(frame_bytes)

    def pump(self, rounds: int = 60) -> None:
        """Everything that can move moves."""
        for _ in range(rounds):
            if not self._round():
                return

    def wait(self, seconds: float, steps: int = 10) -> None:
        """Time passes, timers fire, everything moves."""
        for _ in range(steps):
            self.now += seconds / steps
            self.session.on_timeout(self.now)
            for server in self.servers():
                server.data.on_timeout(self.now)
            self.pump()

    def servers(self) -> list[Server]:
        """All servers that have a path."""
        return list({id(link.server): link.server for link in self.links.values()}.values())

    def _round(self) -> bool:
        moved = self._run_client()
        for server in self.servers():
            server.perform()
            server.run_apps(self.now)
            server.perform()
        for link in list(self.links.values()):
            if link.alive:
                moved |= self._exchange(link)
        return moved

    def _run_client(self) -> bool:
        moved = False
        for link in self.links.values():
            self._look(link)
        self.session.settle(self.now)
        for stream in list(self.session.streams.values()):
            moved |= self._read(stream)
        self.session.settle(self.now)
        for action in self.actions:
            self.seen.append(action)
            if isinstance(action, PortReset):
                self.resets[action.key] = action.text
            elif isinstance(action, PortDone):
                self.done.add(action.key)
        self.actions.clear()
        return moved

    def _read(self, stream: ClientStream) -> bool:
        moved = False
        while self.reads and (view := stream.peek()) is not None and len(view):
            self.got[stream.key] += bytes(view)
            size = len(view)
            view.release()
            stream.consume(size, self.now)
            moved = True
        if moved:
            self.session.touch(stream)
        if self.reads and stream.may_end(self.now):
            self.ended.add(stream.key)
            stream.show_end()
            self.session.touch(stream)
            moved = True
        return moved

    def _look(self, link: Link) -> None:
        facts = PathFacts(link.last_packet_at, link.stuck_since, RTT_S, 0.001, RTT_S, RTT_S, 0.0, 0, 1 << 20, 0, 0)
        if (path := self.session.paths.get(link.id)) is not None:
            path.on_facts(facts, self.now)

    def _exchange(self, link: Link) -> bool:
        for pipe, data in self.session.room(link.id, 65536, self.now):
            link.up.setdefault(pipe, []).append(data)
        for pipe, data in link.server.data.room(link.id, 65536, self.now):
            link.down.setdefault(pipe, []).append(data)
        return self._deliver(link, "up") | self._deliver(link, "down")

    def _deliver(self, link: Link, way: str) -> bool:
        moved = False
        queues = link.up if way == "up" else link.down
        for pipe in sorted(queues):
            while queues[pipe] and (way, pipe) not in link.held and link.alive:
                self.deliver_one(link, way, pipe)
                moved = True
        return moved

    def deliver_one(self, link: Link, way: str, pipe: int) -> None:
        """The oldest bytes of a pipe arrive, held or not."""
        data = (link.up if way == "up" else link.down)[pipe].pop(0)
        reader = link.readers[0 if way == "up" else 1]
        take = self._at_server(link) if way == "up" else self._at_client(link)
        if way == "down":
            link.last_packet_at = self.now
        try:
            reader.feed(pipe, data, take)
        except RemoteProtocolError as error:
            self.faults.append(f"{'server' if way == 'up' else 'client'}: {error}")
            self.cut(link)
            if way == "down":
                # As the client's core does: whoever breaks the rules once would break them on the next path, too.
                self.session.on_instance_dead(link.server.instance)

    def _at_server(self, link: Link) -> Callable[[Received], None]:
        def take(received: Received) -> None:
            if isinstance(received, UpstreamPiece):
                link.server.data.on_upstream(link.id, received)
            else:
                link.server.data.on_frame(link.id, received, self.now)  # type: ignore[arg-type]

        return take

    def _at_client(self, link: Link) -> Callable[[Received], None]:
        def take(received: Received) -> None:
            if isinstance(received, DataPiece):
                self.session.on_data(link.id, received, self.now)
            else:
                self.session.on_frame(link.id, received, self.now)  # type: ignore[arg-type]

        return take
