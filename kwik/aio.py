"""The one implementation of Kwik's calls: dial, open_connection, start_server, for any asyncio loop.

The work runs on the engine's thread (`kwik.engine.thread`); results come back to the loop that asks. Cancelling a call
gives up what it began. `kwik.blocking` has the same calls for programs without a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from kwik.config import Config, ServerConfig
from kwik.conn import Conn, PlainConn, replica_count
from kwik.discovery.provider import Announcement, Announcer, DiscoveryProvider, Offer
from kwik.engine.backlog import Backlog
from kwik.engine.client import ClientSession
from kwik.engine.early import EarlyDial
from kwik.engine.handle import SocketName, StreamHandle, registry, socket_name
from kwik.engine.local import end_of
from kwik.engine.plain import connect_plain, plain_reason
from kwik.engine.quick import STREAM_LIMIT_BYTES, Streams, quick_streams
from kwik.engine.server import EngineServer, Reached
from kwik.engine.sessions import SessionKey, TrustSpec, sessions_of
from kwik.engine.shelf import Shelf
from kwik.engine.sources import SourceSpec, find_provider
from kwik.engine.streams import Dialled
from kwik.engine.thread import Engine, engine, on_engine
from kwik.errors import ConfigError, DialTimeout, KwikError, NoServers
from kwik.kdp.snapshots import ReplicaSnapshot
from kwik.quic import ServerTls
from kwik.settings import client_config, server_config
from kwik.types import Address, Instance, ServiceName, parse_service

__all__ = [
    "DialOptions",
    "Server",
    "ServerOptions",
    "SessionOptions",
    "dial",
    "flush",
    "open_connection",
    "start_server",
]

Result = TypeVar("Result")
Service = str | tuple[str, int]
"""A service's name, "host:port" or (host, port)."""
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Upstream = Callable[[], Awaitable[socket.socket]]
HANDSHAKE_S = 0.005
"""The first packet of a handshake has left by then, and its answer has not come."""
_NO_LOOP = "the event loop that started the server has ended"


class SessionOptions(TypedDict, total=False):
    """What a dial may say. Dials that agree in servers, discovery, cafile, keylog and config share a session."""

    servers: Sequence[str | tuple[str, int]] | None
    """Addresses or names of servers, "host:port". Nobody else is asked unless `discovery` is given too."""
    discovery: Sequence[str | DiscoveryProvider] | None
    """Sources of servers: "mdns" or DiscoveryProvider objects. Default: mDNS and the dialled host:port itself."""
    cafile: str | os.PathLike[str] | None
    """PEM file of the authorities to trust; default: the system's."""
    config: Config | None
    """Complete as it is: what it does not say has its default. Without it: KWIK_… variables, then the file that
    KWIK_CONFIG names. `replicas` and `timeout` here win over both; kwik.settings.client_config joins all three."""
    confirm: bool
    """Wait until a server's application was reached, instead of until the request is on its way."""
    replicas: int
    """Servers to open the stream on from the start (replicated services)."""
    keylog: str | None
    """File to which TLS secrets are appended, for Wireshark: whoever has it can read the traffic. Never by itself;
    `os.environ.get("SSLKEYLOGFILE")` does as browsers do."""
    fallback: Literal["tcp"] | None
    """"tcp": when no Kwik server of the service answers, plain TCP to host:port, neither encrypted nor checked (see
    Conn.is_fallback). Half of the time is Kwik's."""


class DialOptions(SessionOptions, total=False):
    """What a dial may say, with its time."""

    timeout: float | None
    """Seconds until DialTimeout; default: Config.dial_time_s. The stream itself has no time-out by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dial:
    """DialOptions with their defaults."""

    servers: Sequence[str | tuple[str, int]] | None = None
    discovery: Sequence[str | DiscoveryProvider] | None = None
    cafile: str | os.PathLike[str] | None = None
    timeout: float | None = None
    config: Config | None = None
    confirm: bool = False
    replicas: int | None = None
    keylog: str | None = None
    fallback: Literal["tcp"] | None = None

    def key(self, service: ServiceName) -> SessionKey:
        """What sessions are shared by."""
        if self.fallback not in (None, "tcp"):
            raise ConfigError(f'fallback: write "tcp", or leave it out; not {self.fallback!r}')
        for name in ("servers", "discovery"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name}: give a list: [{getattr(self, name)!r}]")
        servers = None if self.servers is None else tuple(map(_hashable, self.servers))
        discovery = None if self.discovery is None else tuple(self.discovery)
        config = client_config() if self.config is None else self.config
        return SessionKey(service, TrustSpec(self.cafile, self.keylog), SourceSpec(servers, discovery), config)


async def dial(address: Service, **options: Unpack[DialOptions]) -> Conn:
    """A new stream to the service: a blocking socket, see Conn. Cancelled, it is given up.

    Returns once a server has proved its name and the request to open is about to leave (see `confirm`): at once on a
    session that has a path; what goes wrong then is raised by the first call that reads or writes. Raises
    ConnectRefused, NoServers, DialTimeout and StreamReset, which say who was asked and what each answered, and
    ConfigError.
    """
    plan = DialPlan(address, options)
    return plan.at_once() or await plan.dial()


class DialPlan:
    """A dial, checked and ready to be made."""

    def __init__(self, address: Service, options: DialOptions) -> None:
        """Raises ConfigError."""
        self._service = service_of(address)
        self._wanted = _Dial(**options)
        self._key = key = self._wanted.key(self._service)
        self._replicas = key.config.replicas if self._wanted.replicas is None else self._wanted.replicas
        self._limit_s = key.config.dial_time_s if self._wanted.timeout is None else self._wanted.timeout

    def at_once(self) -> Conn | None:
        """The new stream, if its session is ready: nothing is waited for then. From any thread."""
        current = engine()
        session = None if self._wanted.confirm else sessions_of(current).ready(self._key)
        if session is None or not current.is_running:
            return None
        end, conn = _shelf(current).take()
        early = session.early_dial(end, replicas=self._replicas, limit_s=self._limit_s)
        registry.add(conn.attach(early.handle).fileno(), early.handle)
        # Last of all: from here on the engine wants the interpreter, and the caller wants to write.
        current.loop.call_soon_threadsafe(self._adopt, session, early)
        return conn

    def _adopt(self, session: ClientSession, early: EarlyDial) -> None:
        current = engine()
        try:
            if session.is_over:  # meanwhile
                session = sessions_of(current).session(self._key)
            session.adopt(early)
        except KwikError as error:
            early.fail(error)
        current.loop.call_soon(_shelf(current).refill)

    async def dial(self, give: Callable[[Conn], None] | None = None) -> Conn:
        """The new stream. `give` is called with it on the engine's thread, a moment before."""
        if self._wanted.fallback is None:
            return await self._dial_kwik(self._limit_s, give)
        began_at = asyncio.get_running_loop().time()
        try:
            return await self._dial_kwik(self._limit_s / 2, give)
        except (NoServers, DialTimeout) as error:
            left_s = self._limit_s - (asyncio.get_running_loop().time() - began_at)
            return await _dial_plain(self._service, error, left_s)

    async def _dial_kwik(self, limit_s: float, give: Callable[[Conn], None] | None) -> Conn:
        handover = _Handover(give)
        try:
            await on_engine(self._dial(limit_s, handover))
        except BaseException:
            handover.abandon()
            raise
        return handover.taken()

    async def _dial(self, limit_s: float, handover: _Handover) -> None:
        current = engine()
        current.loop.call_later(HANDSHAKE_S, _shelf(current).refill)
        session = sessions_of(current).session(self._key)
        await session.dial(replicas=self._replicas, confirm=self._wanted.confirm, limit_s=limit_s, give=handover.give)


async def _dial_plain(service: ServiceName, before: NoServers | DialTimeout, limit_s: float) -> Conn:
    """Plain TCP, after Kwik has failed so. Raises an error of the same kind that tells of both."""
    try:
        async with asyncio.timeout(limit_s):
            return PlainConn(fileno=(await connect_plain(service)).detach())
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else plain_reason(error)
        raise type(before)(f"{before.message}; plain TCP to {service}: {reason}", code=before.code) from error


def _make_conn(application: socket.socket) -> Conn:
    return Conn(fileno=application.detach())


def _shelf(current: Engine) -> Shelf[Conn]:
    """Pairs made ahead for new streams."""
    if not current.shelves:
        shelf = Shelf(_make_conn)
        current.shelves.append(shelf)
        current.new_pair = shelf.take
    return current.shelves[0]


class _Handover:
    """Carries a dialled socket from the engine's thread to whoever asked, who may be cancelled at the same moment."""

    def __init__(self, tell: Callable[[Conn], None] | None) -> None:
        self._lock = threading.Lock()
        self._conn: Conn | None = None
        self._abandoned = False
        self._tell = tell
        self._is_told = False

    def give(self, dialled: Dialled) -> None:
        """From the engine."""
        application, handle = dialled
        with self._lock:
            conn = application if isinstance(application, Conn) else _make_conn(application)
            self._conn = conn.attach(handle)
            if self._abandoned:
                self._conn.close()
            elif self._tell is not None:
                self._tell(self._conn)
                self._is_told = True

    def abandon(self) -> None:
        """Nobody will come for it."""
        with self._lock:
            self._abandoned = True
            if self._conn is not None and not self._is_told:
                self._conn.close()

    def taken(self) -> Conn:
        """What was given."""
        assert self._conn is not None
        return self._conn


async def open_connection(
    address: Service, *, limit: int = STREAM_LIMIT_BYTES, **options: Unpack[DialOptions]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio.open_connection, to a service. A stream that fails raises StreamReset, never an end of file."""
    conn = await dial(address, **options)
    try:
        return await asyncio.open_connection(sock=conn, limit=limit)
    except BaseException:
        conn.abort()
        raise


async def flush(conn: Conn, replicas: int | Literal["all"] = 1) -> None:
    """As Conn.flush, without blocking the loop. Only for bytes that are in the socket: after writer.drain()."""
    await on_engine(conn._flush(replica_count(replicas)))


# ---------------------------------------------------------------- serving


class ServerOptions(TypedDict, total=False):
    """What a server may say."""

    service: Service
    """The service that is served, host:port, as clients dial it. Required."""
    certfile: str | os.PathLike[str]
    """PEM file with the certificate chain; it must name the service's host. Required."""
    keyfile: str | os.PathLike[str] | None
    """PEM file with the private key, if it is not in certfile."""
    replicated: bool
    """True if streams may run on several servers at once: a request may then be executed by each of them."""
    server_id: str | None
    """Stable name of this server; default: host name and port."""
    config: ServerConfig | None
    """Limits, complete as they are; service, server_id and replicated above win. Without it: KWIK_SERVER_… variables,
    then the file that KWIK_CONFIG names."""
    keylog: str | None
    """File to which TLS secrets are appended; as for a dial."""
    announce: Sequence[str | Announcer]
    """Where to announce the server: "mdns" or Announcer objects."""
    connect: Upstream | None
    """Instead of a callback: reaches the application, returns a connected stream socket, which is then the engine's.
    An OSError refuses the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serve:
    """ServerOptions with their defaults."""

    service: Service
    certfile: str | os.PathLike[str]
    keyfile: str | os.PathLike[str] | None = None
    replicated: bool | None = None
    server_id: str | None = None
    config: ServerConfig | None = None
    keylog: str | None = None
    announce: Sequence[str | Announcer] = ()
    connect: Upstream | None = None

    def full_config(self, port: int) -> ServerConfig:
        """The limits, with what was said beside them."""
        said: dict[str, Any] = {"service": service_of(self.service)}
        if self.replicated is not None:
            said["replicated"] = self.replicated
        if self.server_id is not None:
            said["server_id"] = self.server_id
        if self.config is not None:
            return replace(self.config, **said)
        if self.server_id is None:
            said["server_id"] = f"{socket.gethostname()[:40]}-{port or secrets.token_hex(3)}"
        return server_config(said)


class Server:
    """A running server; `async with` closes it. Every method may be called from any loop."""

    def __init__(self, server: EngineServer, acceptor: _Acceptor | Backlog, offer: Offer) -> None:
        self._server = server
        self._acceptor = acceptor
        self._offer = offer
        self._announcements: list[Announcement] = []

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens (UDP)."""
        return (self._server.address,)

    @property
    def instance(self) -> Instance:
        """Its name: id and incarnation."""
        return self._server.instance

    @property
    def config(self) -> ServerConfig:
        """What it runs with."""
        return self._server.config

    async def replicas(self) -> list[ReplicaSnapshot]:
        """Every stream that it serves now, and those that wait for their client to come back."""
        return await on_engine(self._replicas())

    async def drain(self) -> None:
        """Take no new streams; return when the present ones have ended, or after ServerConfig.drain_s."""
        await on_engine(self._drain())

    async def close(self) -> None:
        """Stop now: streams that are left are reset on both sides. Idempotent; the address is free afterwards."""
        await on_engine(self._close())

    async def retire(self) -> None:
        """Take no new streams, and close once the present ones have ended; returns at once if there are any."""
        await on_engine(self._retire())

    async def wait_closed(self) -> None:
        """Return once the server was closed and, on the loop that started it, every callback has ended."""
        await on_engine(self._server.wait_closed())
        await self._acceptor.wait_idle()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self.wait_closed()

    async def _announce(self, announcer: Announcer) -> None:
        self._announcements.append(await announcer.announce(self._offer))

    async def _replicas(self) -> list[ReplicaSnapshot]:
        return self._server.replica_views()

    async def _drain(self) -> None:
        for announcement in self._announcements:
            with contextlib.suppress(OSError):
                await announcement.update(replace(self._offer, state="drain"))
        await self._server.drain()

    async def _retire(self) -> None:
        await self._server.retire(self._close)

    async def _close(self) -> None:
        announcements, self._announcements = self._announcements, []
        await self._server.close()
        for announcement in announcements:
            with contextlib.suppress(OSError):
                await announcement.close()


async def start_server(callback: ClientConnected | None, listen: Service, **options: Unpack[ServerOptions]) -> Server:
    """Serve a service at the UDP address `listen` (port 0: chosen by the system).

    `callback(reader, writer)` runs on this loop for each stream, as in asyncio.start_server; with `connect=` it must
    be None. Raises ConfigError, and OSError when the address cannot be had.
    """
    wanted = _Serve(**options)
    if (callback is None) == (wanted.connect is None):
        raise ConfigError("start_server: give either a callback or connect=, not both")
    acceptor = _Acceptor(asyncio.get_running_loop(), callback, wanted.connect)
    return await on_engine(_serve(_listen_address(listen), wanted, acceptor))


async def start_listening(backlog: Backlog, listen: Service, **options: Unpack[ServerOptions]) -> Server:
    """As start_server; each stream is put into the backlog. For kwik.blocking.listen."""
    return await on_engine(_serve(_listen_address(listen), _Serve(**options), backlog))


async def _serve(address: Address, wanted: _Serve, acceptor: _Acceptor | Backlog) -> Server:
    tls = ServerTls(certfile=wanted.certfile, keyfile=wanted.keyfile, keylog=wanted.keylog)
    announcers = [_find_announcer(each) for each in wanted.announce]
    config = wanted.full_config(address.port)
    current = engine()
    server = await EngineServer.start(current, address, config=config, tls=tls, reach=acceptor.reach)
    acceptor.local = socket_name(server.address)
    offer = Offer(config.service, config.server_id, (server.address,))
    result = Server(server, acceptor, offer)
    try:
        for announcer in announcers:
            await result._announce(announcer)
    except BaseException:
        await result.close()
        raise
    return result


class _Acceptor:
    """Gives streams to the application: a callback on the loop that started the server, or sockets of its own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback: ClientConnected | None, connect: Upstream | None
    ) -> None:
        self.local: SocketName = ("0.0.0.0", 0)
        self._loop = loop
        self._callback = callback
        self._connect = connect
        self._tasks: set[asyncio.Task[None]] = set()

    def reach(self, remote: SocketName) -> Reached | Awaitable[Reached]:
        """See kwik.engine.server.Reach. On the engine's loop."""
        if self._loop.is_closed():
            raise OSError(_NO_LOOP)
        if self._connect is not None:
            return self._reach_upstream(self._connect, remote)
        current = engine()
        end, conn = _shelf(current).take()
        handle = StreamHandle(self.local, remote)
        registry.add(conn.attach(handle).fileno(), handle)
        current.loop.call_soon(_shelf(current).refill)
        return Reached(end, handle, lambda: self._tell(conn))

    def _tell(self, conn: Conn) -> None:
        try:
            self._loop.call_soon_threadsafe(self._start, conn)
        except RuntimeError:  # the loop was closed this very moment
            conn.abort()

    async def _reach_upstream(self, connect: Upstream, remote: SocketName) -> Reached:
        return Reached(end_of(await self._on_loop(connect)), StreamHandle(self.local, remote))

    async def wait_idle(self) -> None:
        """On the loop of the callbacks: return when all have ended. On another one: at once."""
        if self._tasks and asyncio.get_running_loop() is self._loop:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)  # their transports close in the next turn

    async def _on_loop(self, connect: Upstream) -> socket.socket:
        if self._loop is asyncio.get_running_loop():
            return await connect()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_await(connect), self._loop))

    def _start(self, conn: Conn) -> None:
        task = self._loop.create_task(self._serve(conn, quick_streams(conn, self._loop)), name="kwik stream")
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def _serve(self, conn: Conn, streams: Streams | None) -> None:
        assert self._callback is not None
        reader, writer = streams or await asyncio.open_connection(sock=conn, limit=STREAM_LIMIT_BYTES)
        try:
            await self._callback(reader, writer)
        except BaseException:
            writer.transport.abort()
            conn.abort()
            raise

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a stream's callback failed; the stream was reset", "exception": error, "task": task}
            self._loop.call_exception_handler(context)


async def _await(connect: Upstream) -> socket.socket:
    return await connect()


def service_of(address: Service) -> ServiceName:
    """The service's name in its one spelling. Raises ConfigError."""
    if isinstance(address, str):
        return parse_service(address)
    try:
        host, port = address[0], address[1]
        return parse_service(str(Address(str(host), int(port))))
    except (TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"address {address!r}: write 'host:port' or (host, port)") from error


def _listen_address(address: Service) -> Address:
    if isinstance(address, str):
        return Address.parse(address)
    return Address.parse(str(Address(str(address[0]), int(address[1]))))


def _find_announcer(given: str | Announcer) -> Announcer:
    found: object = find_provider(given) if isinstance(given, str) else given
    if isinstance(found, Announcer):
        return found
    raise ConfigError(f'announce: {given!r} is neither "mdns" nor an Announcer object')


def _hashable(entry: str | tuple[str, int]) -> str | tuple[str, int]:
    return entry if isinstance(entry, str) else (entry[0], entry[1])
