"""Endpoints on loopback sockets: real packets, one event loop, nothing left behind."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aioquic import tls

from kwik.errors import ErrorCode
from kwik.quic import QuicEndpoint, QuicLimits, QuicPath
from kwik.quic.adapter import Address, EndKind
from kwik.quic.connection import PathConnection
from tests.unit.quic.lab import Recorder, client_tls, server_tls

LOCAL = ("127.0.0.1", 0)


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Let the loop run until the condition holds; it is looked at after every millisecond, for lack of an event."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Place:
    """A server and its clients; everything is closed at the end."""

    def __init__(self) -> None:
        self.events: list[Recorder] = []
        self.paths: list[QuicPath] = []
        self.prepare: Callable[[Recorder], None] = lambda events: None
        self.endpoints: list[QuicEndpoint] = []
        self.expected_failures = 0

    def accept(self, path: QuicPath) -> Recorder:
        events = Recorder()
        self.prepare(events)
        self.events.append(events)
        self.paths.append(path)
        return events

    async def listen(self, limits: QuicLimits | None = None, address: tuple[str, int] = LOCAL) -> QuicEndpoint:
        endpoint = await QuicEndpoint.listen(address, server_tls(), self.accept, limits)
        self.endpoints.append(endpoint)
        return endpoint

    async def connect(self, address: Address, events: Recorder, limits: QuicLimits | None = None) -> QuicPath:
        path = await QuicEndpoint.connect((address[0], address[1]), client_tls(), lambda path: events, limits)
        assert isinstance(path.endpoint, QuicEndpoint)
        self.endpoints.append(path.endpoint)
        return path


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    place = Place()
    yield place
    for endpoint in place.endpoints:
        await endpoint.close()
    assert len(failures) == place.expected_failures, failures


def greet(events: Recorder) -> None:
    events.at_writable = lambda path, now: path.send(0, b"HELLO")


async def test_a_path_comes_up_and_carries_bytes_both_ways(place):
    place.prepare = greet
    server = await place.listen()
    events = Recorder()
    events.at_writable = lambda path, now: path.send(0, b"OPEN")
    path = await place.connect(server.local_address, events)
    assert events.words == []
    await until(lambda: events.got(0) == b"HELLO" and bool(place.events) and place.events[0].got(0) == b"OPEN")
    assert events.words[:2] == ["writable", "up"]
    assert place.events[0].words[:2] == ["writable", "up"]
    assert place.events[0].binding == events.binding
    assert place.paths[0].remote_address == path.local_address
    assert path.remote_address == server.local_address
    path.ping(5)
    await until(lambda: events.pongs == [5])


async def test_bulk_over_several_paths_at_once(place):
    payload = random.Random(1).randbytes(1_500_000)

    def serve(events: Recorder) -> None:
        events.to_send = payload
        events.at_writable = lambda path, now: setattr(path, "wants_room", True)

    place.prepare = serve
    server = await place.listen()
    clients = [Recorder() for _ in range(3)]
    for events in clients:
        events.to_send = payload[:400_000]
        events.at_writable = lambda path, now: setattr(path, "wants_room", True)
        await place.connect(server.local_address, events)
    await until(lambda: all(len(events.pipes.get(1, b"")) == len(payload) for events in clients), 40)
    await until(lambda: all(len(events.pipes.get(1, b"")) == 400_000 for events in place.events))
    assert all(events.pipes[1] == payload for events in clients)
    assert all(events.pipes[1] == payload[:400_000] for events in place.events)
    assert len(server.paths) == 3


async def test_a_closed_port_ends_a_connecting_path_at_once(place):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOCAL)
        address = sock.getsockname()
    events = Recorder()
    await place.connect(address, events)
    await until(lambda: events.end is not None)
    assert events.words == ["down"]
    assert events.end is not None
    assert events.end.kind is EndKind.ERROR
    assert "port unreachable" in events.end.detail


async def test_a_black_hole_ends_by_the_handshake_time_out(place):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(LOCAL)
        events = Recorder()
        await place.connect(sock.getsockname(), events, QuicLimits(handshake_timeout_s=0.2))
        await until(lambda: events.end is not None)
    assert events.end is not None
    assert events.end.kind is EndKind.IDLE


@pytest.mark.slow
@pytest.mark.parametrize("restarted", [False, True])
async def test_an_established_path_believes_nothing_but_silence(place, restarted):
    server = await place.listen()
    events = Recorder()
    path = await place.connect(server.local_address, events, QuicLimits(idle_timeout_s=1.0))
    await until(lambda: "up" in events.words and "up" in place.events[0].words)
    server._shut()  # as a crash does it: no farewell; the port is closed, or somebody else's
    second = Place()
    if restarted:
        host, port = server.local_address[:2]
        place.endpoints.append(await second.listen(address=(host, port)))
    path.send(0, b"anybody?")
    await until(lambda: events.end is not None)
    assert events.end is not None
    assert events.end.kind is EndKind.IDLE
    assert second.paths == []


async def test_a_server_follows_a_client_whose_address_changes(place):
    place.prepare = greet
    server = await place.listen()
    async with Nat(server.local_address) as nat:
        events = Recorder()
        path = await place.connect(nat.address, events)
        await until(lambda: events.got(0) == b"HELLO")
        before = place.paths[0].remote_address
        nat.rebind()
        path.send(0, b"moved")
        await until(lambda: place.events[0].got(0) == b"moved")
        assert place.paths[0].remote_address != before
        place.paths[0].send(1, bytes(50_000))
        await until(lambda: len(events.pipes.get(1, b"")) == 50_000)
        await until(lambda: place.paths[0].connection._network_paths[0].is_validated)
        assert len(place.paths) == 1
        await path.endpoint.close()
        await until(lambda: place.events[0].end is not None)


class Nat:
    """Forwards datagrams between one client and a server, and can change the port that the server sees."""

    def __init__(self, server: Address) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._inside = self._open()
        self._outside = self._open()
        self._client: Address | None = None
        self.address: Address = self._inside.getsockname()

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(LOCAL)
        return sock

    async def __aenter__(self) -> "Nat":
        self._loop.add_reader(self._inside, self._outwards)
        self._loop.add_reader(self._outside, self._inwards)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for sock in (self._inside, self._outside):
            self._loop.remove_reader(sock)
            sock.close()

    def rebind(self) -> None:
        self._loop.remove_reader(self._outside)
        self._outside.close()
        self._outside = self._open()
        self._loop.add_reader(self._outside, self._inwards)

    def _outwards(self) -> None:
        data, self._client = self._inside.recvfrom(65_535)
        self._outside.sendto(data, self._server)

    def _inwards(self) -> None:
        data = self._outside.recv(65_535)
        assert self._client is not None
        with contextlib.suppress(ConnectionRefusedError):
            self._inside.sendto(data, self._client)


class Stranger:
    """A bare socket towards a server."""

    def __init__(self, server: QuicEndpoint) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(LOCAL)
        self.socket.connect(server.local_address)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    async def ask(self, data: bytes) -> bytes:
        self.socket.send(data)
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.socket, 65_535)


def first_flight() -> tuple[PathConnection, bytes]:
    limits = QuicLimits()
    connection = PathConnection(configuration=client_tls().configuration(limits), limits=limits)
    connection.connect(("server", 1), now=1.0)
    [(data, _)] = connection.datagrams_to_send(now=1.0)
    return connection, data


async def test_half_open_paths_are_limited_and_refusals_are_readable(place):
    server = await place.listen(QuicLimits(max_half_open=2))
    for _ in range(2):
        with Stranger(server) as stranger:
            await stranger.ask(first_flight()[1])
    with Stranger(server) as stranger:
        connection, data = first_flight()
        answer = await stranger.ask(data)
        assert len(answer) < len(data)
        connection.receive_datagram(answer, ("server", 1), now=1.01)
    end = connection.end()
    assert end is not None
    assert (end.kind, end.code, end.detail) == (EndKind.ERROR, 2, "too many paths at this server")
    assert len(server.paths) == 2


async def test_paths_are_limited_and_a_place_becomes_free(place):
    server = await place.listen(QuicLimits(max_paths=1))
    first, second, third = Recorder(), Recorder(), Recorder()
    path = await place.connect(server.local_address, first)
    await until(lambda: "up" in first.words)
    await place.connect(server.local_address, second)
    await until(lambda: second.end is not None)
    assert second.end is not None
    assert second.end.code == 2
    path.close(0, "bye", asyncio.get_running_loop().time())
    await until(lambda: server.paths == [])
    await place.connect(server.local_address, third)
    await until(lambda: "up" in third.words)


async def test_grown_up_paths_do_not_count_as_half_open(place):
    server = await place.listen(QuicLimits(max_half_open=1))
    for count in range(1, 4):
        await place.connect(server.local_address, Recorder())
        await until(lambda count=count: [events.words[-1] for events in place.events] == ["up"] * count)  # type: ignore[misc]
    assert len(server.paths) == 3


async def test_unknown_versions_get_the_known_one_and_garbage_gets_nothing(place):
    server = await place.listen()
    rng = random.Random(2)
    with Stranger(server) as stranger:
        for size in (0, 1, 7, 40, 1199):
            stranger.socket.send(bytes([0xC3]) + b"\x1a\x2a\x3a\x4a\x08" + rng.randbytes(size))
        for first in range(0, 256, 5):
            stranger.socket.send(bytes([first]) + b"\x00\x00\x00\x01\x08" + rng.randbytes(1300))
            stranger.socket.send(bytes([first]) + rng.randbytes(60))
        unknown = bytes([0xC3]) + b"\x1a\x2a\x3a\x4a\x08" + b"D" * 8 + b"\x08" + b"S" * 8 + bytes(1200)
        answer = await stranger.ask(unknown)
        assert answer[1:5] == bytes(4)
        assert answer.endswith(b"\x00\x00\x00\x01")
        assert b"S" * 8 in answer[:20]
    assert server.paths == []
    assert place.paths == []


async def test_on_turn_sees_all_paths_of_a_turn_and_its_answers_leave_with_it(place):
    server = await place.listen()
    turns: list[set[QuicPath]] = []

    def on_turn(paths: set[QuicPath], now: float) -> None:
        turns.append(paths)
        for path, events in zip(place.paths, place.events, strict=True):
            if path in paths and events.pipes.pop(0, None):
                path.send(0, b"answer")

    server.on_turn = on_turn
    events = Recorder()
    events.at_writable = lambda path, now: path.send(0, b"question")
    await place.connect(server.local_address, events)
    await until(lambda: events.got(0) == b"answer")
    assert turns[0] == {place.paths[0]}


def no_ack(end):
    return end._spaces[tls.Epoch.ONE_RTT].ack_at is None


async def test_an_ack_that_falls_due_takes_no_turn(place):
    server = await place.listen()
    events = Recorder()
    path = await place.connect(server.local_address, events)
    await until(lambda: len(place.events) == 1 and "up" in place.events[0].words and "up" in events.words)
    ends = [path.connection, place.paths[0].connection]
    await until(lambda: all(end._handshake_confirmed and not end.has_in_flight and no_ack(end) for end in ends))
    turns: list[set[QuicPath]] = []
    path.endpoint.on_turn = lambda paths, now: turns.append(paths)
    loss = place.paths[0].connection._loss
    place.paths[0].send(0, b"x")
    await until(lambda: events.got(0) == b"x" and not loss.bytes_in_flight)
    assert len(turns) == 1


async def test_a_raising_owner_loses_its_path_and_nobody_elses(place):
    place.expected_failures = 1
    server = await place.listen()
    good, bad = Recorder(), Recorder()
    await place.connect(server.local_address, good)
    path = await place.connect(server.local_address, bad)
    await until(lambda: len(place.events) == 2 and all("up" in events.words for events in place.events))
    victim = next(events for events in place.events if events.binding == bad.binding)

    def fail(*args: object) -> None:
        raise KeyError("defect")

    victim.at_data = fail
    path.send(0, b"x")
    await until(lambda: bad.end is not None and victim.end is not None)
    assert bad.end is not None
    assert (bad.end.kind, bad.end.code) == (EndKind.CLOSED_BY_OTHER, ErrorCode.INTERNAL)
    assert good.end is None
    assert len(server.paths) >= 1


async def test_closing_an_endpoint_tells_everybody_and_is_idempotent(place):
    server = await place.listen()
    events = Recorder()
    path = await place.connect(server.local_address, events)
    await until(lambda: "up" in events.words and "up" in place.events[0].words)
    await server.close(ErrorCode.DRAINING, "leaving")
    await server.close()
    assert place.events[0].end is not None
    assert place.events[0].end.kind is EndKind.CLOSED_BY_US
    await until(lambda: events.end is not None)
    assert str(events.end) == "closed_by_other 12: leaving"
    path.send(0, b"too late")
    assert path.is_over


async def test_a_closed_path_frees_its_socket_by_itself(place):
    server = await place.listen()
    events = Recorder()
    path = await place.connect(server.local_address, events)
    await until(lambda: "up" in events.words)
    path.close(0, "", asyncio.get_running_loop().time())
    await until(lambda: events.end is not None)
    endpoint = path.endpoint
    assert isinstance(endpoint, QuicEndpoint)
    await until(lambda: endpoint._closed)
    assert place.endpoints


async def test_unusable_addresses_raise_at_once(place):
    with pytest.raises(OSError, match=r".+"):
        await place.connect(("255.255.255.255", 9), Recorder())
    taken = await place.listen()
    with pytest.raises(OSError, match="in use"):
        await place.listen(address=(taken.local_address[0], taken.local_address[1]))


async def test_an_endpoint_of_a_client_has_one_path(place):
    server = await place.listen()
    with pytest.raises(RuntimeError, match="exactly one path"):
        server.open_path(server.local_address, client_tls(), lambda path: Recorder())
