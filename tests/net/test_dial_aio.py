"""The asyncio face over real QUIC: streams, servers, gateways, discovery, cancelling."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest

import kwik
from kwik.discovery.provider import Offer
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address
from tests.net.services import NAME, SERVICE, Service

LINGER_ABORT = struct.pack("ii", 1, 0)


def options(service: Service, **more):
    return {"service": SERVICE, "certfile": service.certfile, "keyfile": service.keyfile, **more}


def dial_options(service: Service, server, **more):
    return {"servers": [str(server.addresses[0])], "cafile": service.cafile, "timeout": 10, **more}


async def quietly(closing):
    """A stream that was reset says so again when it closes."""
    with contextlib.suppress(ConnectionError):
        await closing


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await quietly(writer.wait_closed())


async def test_streams(echo_service):
    async with await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service)) as server:
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server))
        assert writer.get_extra_info("peername") == (NAME, 7)
        data = os.urandom(2_000_000)

        async def write():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(write(), reader.read())
        assert got == data
        writer.close()
        await writer.wait_closed()


async def test_a_callback_runs_on_the_loop_that_started_the_server(echo_service):
    loops = []

    async def callback(reader, writer):
        loops.append(asyncio.get_running_loop())
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        await quietly(writer.wait_closed())

    async with await kwik.aio.start_server(callback, "127.0.0.1:0", **options(echo_service)) as server:
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server))
        assert await reader.read() == b""
        writer.close()
        await quietly(writer.wait_closed())
    assert loops == [asyncio.get_running_loop()]


async def test_a_reset_is_raised_not_an_end_of_file(echo_service):
    async def callback(reader, writer):
        writer.write(b"half")
        await writer.drain()
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ABORT)
        writer.transport.abort()

    async with await kwik.aio.start_server(callback, "127.0.0.1:0", **options(echo_service)) as server:
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server))
        assert await reader.readexactly(4) == b"half"
        writer.write(b"x")
        writer.write_eof()
        with pytest.raises(ConnectionResetError) as caught:
            await reader.read()
        assert isinstance(caught.value, kwik.StreamReset)
        writer.close()
        await quietly(writer.wait_closed())


async def test_a_callback_that_fails_resets_its_stream(echo_service):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

    async def callback(reader, writer):
        writer.write(b"half")
        await writer.drain()
        await reader.readexactly(1)
        raise ZeroDivisionError

    async with await kwik.aio.start_server(callback, "127.0.0.1:0", **options(echo_service)) as server:
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server))
        await reader.readexactly(4)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await quietly(writer.wait_closed())
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


async def test_a_gateway_s_upstream_is_bridged_directly(echo_service):
    upstream = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = upstream.sockets[0].getsockname()

    async def connect():
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    async with (
        upstream,
        await kwik.aio.start_server(None, "127.0.0.1:0", **options(echo_service, connect=connect)) as server,
    ):
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server, confirm=True))
        data = os.urandom(1_000_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        await quietly(writer.wait_closed())


async def test_an_upstream_that_aborts(echo_service):
    async def abort(reader, writer):
        writer.write(b"half")
        await reader.readexactly(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ABORT)
        writer.transport.abort()

    upstream = await asyncio.start_server(abort, "127.0.0.1", 0)
    address = upstream.sockets[0].getsockname()

    async def connect():
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    async with (
        upstream,
        await kwik.aio.start_server(None, "127.0.0.1:0", **options(echo_service, connect=connect)) as server,
    ):
        reader, writer = await kwik.aio.open_connection(SERVICE, **dial_options(echo_service, server))
        assert await reader.readexactly(4) == b"half"
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await quietly(writer.wait_closed())


async def test_an_upstream_that_is_down_refuses(echo_service):
    async def connect():
        raise ConnectionRefusedError(111, "nobody is at home")

    async with await kwik.aio.start_server(None, "127.0.0.1:0", **options(echo_service, connect=connect)) as server:
        with pytest.raises(kwik.ConnectRefused, match="nobody is at home"):
            await kwik.aio.dial(SERVICE, **dial_options(echo_service, server, confirm=True))
        conn = await kwik.aio.dial(SERVICE, **dial_options(echo_service, server))
        with conn, pytest.raises(ConnectionRefusedError, match="nobody is at home"):
            await asyncio.to_thread(conn.recv, 1)


async def test_a_dial_that_is_cancelled_leaves_nothing(echo_service):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        servers = [f"127.0.0.1:{silent.getsockname()[1]}"]
        task = asyncio.create_task(kwik.aio.dial(SERVICE, servers=servers, cafile=echo_service.cafile))
        async with asyncio.timeout(20):
            await asyncio.get_running_loop().sock_recv(silent, 2000)  # it is under way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_drain_lets_streams_finish(echo_service):
    async with await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service)) as server:
        given = dial_options(echo_service, server)
        reader, writer = await kwik.aio.open_connection(SERVICE, **given)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        (replica,) = await server.replicas()
        assert replica.produced_bytes == 1
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)  # it goes first: the engine takes calls in their order
        with pytest.raises((kwik.ConnectRefused, kwik.DialTimeout)):
            await kwik.aio.dial(SERVICE, **{**given, "timeout": 0.2}, confirm=True)
        assert not draining.done()
        writer.write(b"y")
        writer.write_eof()
        assert await reader.read() == b"y"
        writer.close()
        await quietly(writer.wait_closed())
        async with asyncio.timeout(20):
            await draining


async def test_close_frees_the_address(echo_service):
    server = await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service))
    waiting = asyncio.create_task(server.wait_closed())
    await server.close()
    await server.close()
    await waiting
    again = await kwik.aio.start_server(echo, str(server.addresses[0]), **options(echo_service))
    assert again.addresses == server.addresses
    assert again.instance.incarnation != server.instance.incarnation
    await again.close()


async def test_an_address_that_is_taken(echo_service):
    async with await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service)) as server:
        with pytest.raises(OSError, match="in use"):
            await kwik.aio.start_server(echo, str(server.addresses[0]), **options(echo_service))


async def test_callback_or_connect(echo_service):
    with pytest.raises(kwik.ConfigError, match="either"):
        await kwik.aio.start_server(None, "127.0.0.1:0", **options(echo_service))


class Board:
    """A DiscoveryProvider and an Announcer in one process."""

    name = "board"

    def __init__(self):
        self.offers: dict[int, Offer] = {}
        self.states: list[str] = []
        self._changed = asyncio.Event()

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        for offer in self.offers.values():
            yield Sighting(SightingKind.FOUND, self.name, service, offer.addresses, key=offer.server_id)
        await asyncio.Event().wait()

    async def announce(self, offer: Offer) -> "Board":
        self.offers[0] = offer
        return self

    async def update(self, offer: Offer) -> None:
        self.offers[0] = offer
        self.states.append(offer.state)

    async def close(self) -> None:
        self.offers.clear()


async def test_announced_and_discovered(echo_service):
    board = Board()
    server = await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service, announce=[board], server_id="s"))
    assert board.offers[0] == Offer(SERVICE, "s", server.addresses)
    reader, writer = await kwik.aio.open_connection(SERVICE, discovery=[board], cafile=echo_service.cafile, timeout=10)
    writer.write(b"found")
    assert await reader.readexactly(5) == b"found"
    writer.close()
    await writer.wait_closed()
    await server.drain()
    assert board.states == ["drain"]
    await server.close()
    assert board.offers == {}


async def test_nobody_is_found(echo_service):
    with pytest.raises(kwik.NoServers, match="board"):
        await kwik.aio.dial(SERVICE, servers=[], discovery=[Board()], config=kwik.Config(discovery_time_s=0.1))


async def test_the_dialled_host_itself_is_a_candidate(echo_service, tmp_path):
    from kwik.quic.certs import issue, make_ca, write_issued

    ca = make_ca()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem)
    write_issued(issue(ca, ["127.0.0.1"]), tmp_path / "c.pem", tmp_path / "k.pem")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address(*probe.getsockname())
    server = await kwik.aio.start_server(
        echo, str(address), service=str(address), certfile=tmp_path / "c.pem", keyfile=tmp_path / "k.pem"
    )
    async with server:
        reader, writer = await kwik.aio.open_connection(
            (address.host, address.port), discovery=[], cafile=tmp_path / "ca.pem", timeout=10
        )
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await quietly(writer.wait_closed())


async def test_flush(echo_service):
    async with await kwik.aio.start_server(echo, "127.0.0.1:0", **options(echo_service)) as server:
        with await kwik.aio.dial(SERVICE, **dial_options(echo_service, server)) as conn:
            conn.sendall(b"x" * 100_000)
            async with asyncio.timeout(20):
                await kwik.aio.flush(conn, "all")
