"""One test's scene: servers, each behind an emulated link, what discovery says of them, and streams to them."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kwik
from kwik.config import Config
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.kdp.snapshots import PathSnapshot, ShareSnapshot, StreamStats
from kwik.quic.certs import Issued, issue, make_ca, write_issued
from kwik.types import Address
from tests.proc.harness import LIMIT_S, Child, Spawner
from tests.proc.harness_content import content

SERVICE = "files.example:80"
HOST = "files.example"
READ_BYTES = 65536
MBIT = 1e6

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class Certificates:
    """Made once for a run: the authority that clients trust, and servers' certificates, right and wrong."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Write them all."""
        ca, stranger = make_ca(), make_ca("Somebody else's CA")
        (folder / "ca.pem").write_bytes(ca.cert_pem)
        now = datetime.datetime.now(datetime.UTC)
        past = (now - datetime.timedelta(days=9), now - datetime.timedelta(days=2))
        made: dict[str, Issued] = {
            "right": issue(ca, [HOST, "app.example"]),
            "other-name": issue(ca, ["other.example"]),
            "expired": issue(ca, [HOST], validity=past),
            "other-ca": issue(stranger, [HOST]),
        }
        for name, issued in made.items():
            write_issued(issued, folder / f"{name}.pem", folder / f"{name}.key")
        return cls(folder)

    @property
    def cafile(self) -> Path:
        """Whom clients trust."""
        return self.folder / "ca.pem"

    def files(self, name: str) -> dict[str, str]:
        """The options of a server with that certificate."""
        return {"certfile": str(self.folder / f"{name}.pem"), "keyfile": str(self.folder / f"{name}.key")}


class Listing:
    """A DiscoveryProvider that says what the test tells it, when it does."""

    name = "listing"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: list[Sighting] = []
        self._watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Sighting]]] = []

    def add(self, key: str, address: Endpoint) -> None:
        """A server turned up."""
        sighting = Sighting(SightingKind.FOUND, self.name, SERVICE, (Address(*address),), key=key)
        with self._lock:
            self._said.append(sighting)
            for loop, queue in self._watchers:
                loop.call_soon_threadsafe(queue.put_nowait, sighting)

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        """See DiscoveryProvider."""
        queue: asyncio.Queue[Sighting] = asyncio.Queue()
        with self._lock:
            for sighting in self._said:
                queue.put_nowait(sighting)
            self._watchers.append((asyncio.get_running_loop(), queue))
        while True:
            yield await queue.get()


class Server(Child):
    """A server process, and the link before it."""

    stage: Stage
    options: dict[str, Any]
    port: int
    """Its own UDP port."""
    address: Endpoint
    """Where clients find it: its link, or itself."""
    link: int | None = None

    def open(self, gates: int = 1) -> None:
        """Let its applications go on behind so many holds."""
        self.ask("open", gates=gates)

    def report(self) -> dict[str, Any]:
        """What it saw so far."""
        return self.ask("report")

    def set_link(self, **changes: object) -> None:
        """Change the link; see kwik.apps.link.Link.set."""
        self.stage.links.ask("set", link=self.link, changes=changes)

    def rebind(self, host: str | None = None) -> None:
        """The link's clients get new ports, as behind a NAT that was restarted."""
        self.stage.links.ask("rebind", link=self.link, host=host)

    def close_link(self) -> None:
        """The link's port is closed: the kernel answers in its place, by ICMP."""
        self.stage.links.ask("close", link=self.link)

    def link_stats(self) -> dict[str, Any]:
        """Counts of the link, see LinkStats."""
        return self.stage.links.ask("stats", link=self.link)

    @property
    def id(self) -> str:
        """Its server id."""
        return str(self.options["server_id"])


@dataclass(frozen=True)
class Balancer:
    """A load balancer that knows nothing of Kwik: each client's port goes to the next server in turn."""

    stage: Stage
    number: int
    address: Endpoint

    def cut(self) -> None:
        """The paths of now are dead, without a word; new ones are not concerned."""
        self.stage.links.ask("cut", balancer=self.number)


class Stage:
    """Ends everything that it started when `close` is called."""

    def __init__(self, spawner: Spawner, certificates: Certificates, folder: Path) -> None:
        self.certificates = certificates
        self.listing = Listing()
        self.servers: list[Server] = []
        self._spawner = spawner
        self._folder = folder
        self._children: list[Child] = []
        self._links: Child | None = None
        self._conns: list[kwik.Conn] = []

    # ------------------------------------------------------------ servers

    def server(
        self, app: str = "download", *, link: Mapping[str, Any] | None = None, listed: bool = True, **options: Any
    ) -> Server:
        """A running server; `link` is its shape (rate_mbps, delay_ms, and LinkShape fields), None: none at all."""
        number = len(self.servers)
        given = {
            "app": app,
            "listen": ("127.0.0.1", 0),
            "service": SERVICE,
            "server_id": f"s{number}",
            "replicated": True,
        }
        given |= self.certificates.files(options.pop("certificate", "right")) | options
        server = self._start(given)
        server.address = ("127.0.0.1", server.port)
        if link is not None:
            self._put_link(server, link, seed=number)
        self.servers.append(server)
        if listed:
            self.listing.add(server.id, server.address)
        return server

    def restart(self, server: Server) -> Server:
        """The same server once more, after its death: same id, same address, another incarnation."""
        again = self._start(server.options | {"listen": ("127.0.0.1", server.port)})
        again.address, again.link = server.address, server.link
        self.servers[self.servers.index(server)] = again
        return again

    def _start(self, options: dict[str, Any]) -> Server:
        log = self._folder / f"{options['server_id']}-{len(self._children)}.log"
        child = self._spawner.start("server", log, options)
        child.__class__ = Server
        assert isinstance(child, Server)
        self._children.append(child)
        child.stage, child.options = self, options
        child.port = child.wait("ready")["address"][1]
        return child

    @property
    def links(self) -> Child:
        """The process that holds the links."""
        if self._links is None:
            self._links = self._spawner.start("links", self._folder / "links.log", {})
            self._children.append(self._links)
            self._links.wait("ready")
        return self._links

    def _put_link(self, server: Server, shape: Mapping[str, Any], seed: int) -> None:
        server.link, server.address = self.link_to(server.port, shape, seed)

    def link_to(self, port: int, shape: Mapping[str, Any], seed: int = 0) -> tuple[int, Endpoint]:
        """A link before that UDP port: its number, and where clients find it. See `server` for the shape."""
        full = dict(shape)
        rate, delay = full.pop("rate_mbps", None), full.pop("delay_ms", 0)
        full |= {"rate_bps": rate and rate * MBIT, "delay_s": delay / 1000}
        if rate:  # room for 50 ms at least: Python's servers send in bursts
            full.setdefault("queue_bytes", round(max(2 * delay / 1000, 0.05) * rate * MBIT / 8))
        answer = self.links.ask("start", to=("127.0.0.1", port), up=full, down=full, seed=seed)
        return answer["link"], tuple(answer["address"])

    def balancer(self, *servers: Server) -> Balancer:
        """One address before several servers."""
        answer = self.links.ask("balance", to=[each.address for each in servers])
        return Balancer(self, answer["balancer"], tuple(answer["address"]))

    def relay(self, target: Server, *, forge: bool) -> Child:
        """A dishonest server that relays to that one, see harness_relay; its address is in its first event."""
        options = {
            "listen": ("127.0.0.1", 0),
            "target": ("127.0.0.1", target.port),
            "cafile": str(self.certificates.cafile),
            "host": HOST,
            "forge": forge,
        }
        options |= self.certificates.files("right")
        child = self._spawner.start("relay", self._folder / f"relay-{len(self._children)}.log", options)
        self._children.append(child)
        child.wait("ready")
        return child

    # ------------------------------------------------------------ clients

    def dial(self, service: str = SERVICE, **options: Any) -> kwik.Conn:
        """A stream to whomever the listing names, unless `servers` says otherwise."""
        if "servers" not in options:
            options |= {"servers": (), "discovery": [self.listing]}
        if isinstance(config := options.get("config"), dict):
            options["config"] = Config(**config)
        conn = kwik.dial(service, cafile=self.certificates.cafile, **options)
        conn.settimeout(LIMIT_S)
        self._conns.append(conn)
        return conn

    def client(self, **config: Any) -> Child:
        """A client in a process of its own."""
        options = {"service": SERVICE, "cafile": str(self.certificates.cafile), "config": config}
        child = self._spawner.start("client", self._folder / f"client-{len(self._children)}.log", options)
        self._children.append(child)
        child.wait("ready")
        return child

    def clear(self) -> None:
        """Once more from the start: no stream, no server, nobody listed."""
        for conn in self._conns:
            if conn.fileno() >= 0:
                conn.abort()
        for server in self.servers:
            server.kill()
        self.servers.clear()
        self.listing = Listing()

    def close(self) -> str:
        """End it all; returns what the processes complained about. Prints what streams that were left looked like."""
        for conn in self._conns:
            if conn.fileno() >= 0:
                print(*filter(None, [conn.stats(), *conn.paths()]), sep="\n  ")
                conn.abort()
        for child in self._children:
            child.kill()
        return "".join(child.errors() for child in self._children)


def request_line(seed: str, size: int, **more: Any) -> bytes:
    """What the download application reads."""
    return json.dumps({"seed": seed, "size": size} | more).encode() + b"\n"


@dataclass
class Reading:
    """A thread that reads a stream to its end and compares every byte with the one body that is right."""

    conn: kwik.Conn
    expected: bytes
    marks: list[tuple[float, int]] = field(default_factory=list)
    """(time.monotonic(), bytes read so far) after each read."""
    size: int = 0
    error: OSError | None = None
    wrong_at: int | None = None
    """Offset of the first byte that is not the right one."""
    over_at: float | None = None
    """When the end, or an error, was read (time.monotonic())."""

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, conn: kwik.Conn, seed: str, size: int, salt: str = "", **more: Any) -> Reading:
        """Ask for a body, end the upstream, and read."""
        conn.sendall(request_line(seed, size, **more))
        conn.shutdown(1)
        return cls(conn, content(seed, size, salt))

    def _run(self) -> None:
        buffer, expected = memoryview(bytearray(READ_BYTES)), memoryview(self.expected)
        try:
            while count := self.conn.recv_into(buffer):
                if self.wrong_at is None and buffer[:count] != expected[self.size : self.size + count]:
                    self.wrong_at = self.size + _first_difference(buffer[:count], expected[self.size :])
                self.size += count
                self.marks.append((time.monotonic(), self.size))
        except OSError as error:
            self.error = error
        self.over_at = time.monotonic()

    @property
    def is_wrong(self) -> bool:
        """Some byte was not the right one."""
        return self.wrong_at is not None

    @property
    def is_over(self) -> bool:
        """The end, or an error, was read."""
        return not self._thread.is_alive()

    def finish(self, limit_s: float = LIMIT_S) -> None:
        """Wait for the end; it must be a true end of exactly the right bytes."""
        self.wait_over(limit_s)
        assert self.error is None, f"after {self.size} of {len(self.expected)} bytes: {self.error!r}"
        assert self.wrong_at is None, f"bytes differ from {self.wrong_at} on"
        assert self.size == len(self.expected), "a silent early end"

    def wait_over(self, limit_s: float = LIMIT_S) -> None:
        """Wait until the end, or an error, was read."""
        self._thread.join(limit_s)
        assert self.is_over, (
            f"no end after {limit_s:g} s; {self.size} of {len(self.expected)} bytes; {self.conn.stats()}"
        )


def _first_difference(read: memoryview, expected: memoryview) -> int:
    return next(
        (at for at, (one, other) in enumerate(zip(read, expected, strict=False)) if one != other), len(expected)
    )


def stats_of(conn: kwik.Conn) -> StreamStats:
    """The stream's figures; it must be under way."""
    stats = conn.stats()
    assert stats is not None, "the stream is over"
    return stats


def path_to(conn: kwik.Conn, server: Server) -> PathSnapshot | None:
    """The path to that server."""
    return next((path for path in conn.paths() if path.address == "{}:{}".format(*server.address)), None)


def share_of(conn: kwik.Conn, server: Server) -> ShareSnapshot | None:
    """What that server contributed."""
    return next((share for share in stats_of(conn).shares if share.server_id == server.id), None)
