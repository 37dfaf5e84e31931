"""`kwik link` over real loopback sockets: the shell around the model, the control socket, the command."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from kwik.apps.link import Address, Link
from kwik.apps.link_control import CALLERS_MAX, LINE_MAX_BYTES, LinkControl
from kwik.apps.link_model import LinkShape
from kwik.cli import link as command
from tests.unit.engine.fakes import Clock

pytestmark = pytest.mark.net


class Endpoint(asyncio.DatagramProtocol):
    """A UDP endpoint that keeps what comes; with `echo` it also sends it back."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.received: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.errors: list[Exception] = []
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr[:2]))
        if self.echo:
            self.transport.sendto(data, addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    @property
    def address(self) -> Address:
        host, port = self.transport.get_extra_info("sockname")[:2]
        return host, port

    def send(self, payload: bytes, to: Address) -> None:
        self.transport.sendto(payload, to)

    async def next(self) -> tuple[bytes, Address]:
        return await asyncio.wait_for(self.received.get(), 10)


Open = Callable[..., Awaitable[Endpoint]]


@pytest.fixture
async def endpoint() -> AsyncIterator[Open]:
    opened: list[Endpoint] = []

    async def make(*, echo: bool = False, host: str = "127.0.0.1") -> Endpoint:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_datagram_endpoint(lambda: Endpoint(echo), local_addr=(host, 0))
        opened.append(made)
        return made

    yield make
    for one in opened:
        one.transport.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until `condition` holds; the test's own time limit bounds it."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the conditions are counters, which have no event
            await asyncio.sleep(0.001)


async def test_echo_through_the_link_takes_both_delays(endpoint: Open):
    server, client = await endpoint(echo=True), await endpoint()
    loop = asyncio.get_running_loop()
    async with await Link.start(server.address, up=LinkShape(delay_s=0.03), down=LinkShape(delay_s=0.02)) as link:
        before = loop.time()
        client.send(b"hello", link.address)
        payload, source = await client.next()
        assert loop.time() - before >= 0.05 - 1e-4
        assert (payload, source) == (b"hello", link.address)
        stats = link.stats()
        assert (stats.up.delivered_packets, stats.down.delivered_packets, stats.unsent) == (1, 1, 0)
        assert (stats.up.bytes_in, stats.up.delivered_bytes) == (33, 33)


async def test_the_rate_is_kept_and_no_packet_is_lost_or_early(endpoint: Open):
    server, client = await endpoint(), await endpoint()
    loop = asyncio.get_running_loop()
    shape = LinkShape(rate_bps=9.6e6, queue_bytes=10**7)
    async with await Link.start(server.address, up=shape) as link:
        before = loop.time()
        for number in range(200):
            client.send(number.to_bytes(2, "big") + bytes(1170), link.address)
        got = [await server.next() for _ in range(200)]
        assert loop.time() - before >= 0.199
        assert [int.from_bytes(payload[:2], "big") for payload, _ in got] == list(range(200))


async def test_clients_are_kept_apart(endpoint: Open):
    server, one, two = await endpoint(echo=True), await endpoint(), await endpoint()
    async with await Link.start(server.address) as link:
        one.send(b"one", link.address)
        two.send(b"two", link.address)
        assert (await one.next())[0] == b"one"
        assert (await two.next())[0] == b"two"
        sources = {(await server.next())[1] for _ in range(2)}
        assert len(sources) == 2
        assert link.address not in sources
        assert link.stats().clients == 2


async def test_a_black_hole_is_silent_and_can_be_lifted(endpoint: Open):
    server, client = await endpoint(echo=True), await endpoint()
    async with await Link.start(server.address) as link:
        link.set(blackhole="both")
        client.send(b"lost", link.address)
        await until(lambda: link.stats().up.blackholed == 1)
        link.set(blackhole="down")
        client.send(b"answer lost", link.address)
        assert (await server.next())[0] == b"answer lost"
        await until(lambda: link.stats().down.blackholed == 1)
        link.set(blackhole=None)
        client.send(b"through", link.address)
        assert (await client.next())[0] == b"through"
        assert client.errors == []


async def test_rebinding_changes_the_port_that_the_server_sees(endpoint: Open):
    server, client = await endpoint(), await endpoint()
    async with await Link.start(server.address) as link:
        client.send(b"before", link.address)
        _, old = await server.next()
        link.rebind()
        client.send(b"after", link.address)
        _, new = await server.next()
        assert new != old
        server.send(b"to the old port", old)
        server.send(b"to the new port", new)
        assert (await client.next())[0] == b"to the new port"
        assert client.received.empty()
        assert link.stats().rebinds == 1


async def test_an_old_port_is_silent_and_does_not_refuse(endpoint: Open):
    client = await endpoint()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        async with await Link.start(server.getsockname()) as link:
            client.send(b"x", link.address)
            _, old = await asyncio.wait_for(loop.sock_recvfrom(server, 100), 10)
            link.rebind()
            server.connect(old)
            for _ in range(3):
                server.send(b"y")  # on loopback a refusal would be an error of the very next call


@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8 on the loopback interface")
async def test_rebinding_can_change_the_address_too(endpoint: Open):
    server, client = await endpoint(echo=True), await endpoint()
    async with await Link.start(server.address) as link:
        client.send(b"x", link.address)
        assert (await server.next())[1][0] == "127.0.0.1"
        link.rebind("127.0.0.2")
        client.send(b"y", link.address)
        assert (await server.next())[1][0] == "127.0.0.2"
        with pytest.raises(OSError, match=r".+"):
            link.rebind("192.0.2.1")  # not an address of this machine
        client.send(b"z", link.address)
        assert (await server.next())[1][0] == "127.0.0.2"


async def test_a_dead_server_looks_silent_and_a_new_one_is_reached(endpoint: Open):
    first, client = await endpoint(), await endpoint()
    address = first.address
    async with await Link.start(address) as link:
        client.send(b"a", link.address)
        await first.next()
        first.transport.close()
        await asyncio.sleep(0)  # the transport closes its socket in the next turn
        for _ in range(5):
            client.send(b"b", link.address)
        await until(lambda: link.stats().up.delivered_packets == 6)
        assert link.stats().unsent == 0  # the refusal of one datagram does not swallow the next
        loop = asyncio.get_running_loop()
        _, second = await loop.create_datagram_endpoint(lambda: Endpoint(echo=True), local_addr=address)
        try:
            client.send(b"c", link.address)
            assert (await client.next())[0] == b"c"
        finally:
            second.transport.close()
        assert client.errors == []


async def test_ipv6_counts_its_larger_header(endpoint: Open):
    try:
        server, client = await endpoint(echo=True, host="::1"), await endpoint(host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with await Link.start(server.address, listen=("::1", 0)) as link:
        client.send(b"12", link.address)
        assert (await client.next())[0] == b"12"
        assert link.stats().up.bytes_in == 50


async def test_idle_clients_are_forgotten_and_their_number_is_bounded(endpoint: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kwik.apps.link.CLIENT_IDLE_S", 0.02)
    monkeypatch.setattr("kwik.apps.link.CLIENTS_MAX", 3)
    server = await endpoint()
    async with await Link.start(server.address) as link:
        for _ in range(5):
            client = await endpoint()
            client.send(b"x", link.address)
            await server.next()
            assert link.stats().clients <= 3
        await until(lambda: link.stats().clients == 0)
        client.send(b"back again", link.address)
        assert (await server.next())[0] == b"back again"


async def test_room_is_made_by_whoever_was_silent_for_longest(endpoint: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kwik.apps.link.CLIENTS_MAX", 2)
    server = await endpoint()
    one, two, three = [await endpoint() for _ in range(3)]
    async with await Link.start(server.address) as link:
        ports = []
        for client in (one, two, one, three, one):
            client.send(b"x", link.address)
            ports.append((await server.next())[1])
        assert ports[0] == ports[2] == ports[4]
        assert len(set(ports)) == 3


async def test_a_closed_link_passes_nothing_and_closes_twice(endpoint: Open):
    server, client, clock = await endpoint(), await endpoint(), Clock()
    link = await Link.start(server.address, up=LinkShape(delay_s=9.0))
    client.send(b"x", link.address)
    await until(lambda: link.stats().up.packets_in == 1)
    link.close()
    link.close()
    await clock.elapse(20)
    client.send(b"behind it", server.address)
    assert (await server.next())[0] == b"behind it"


async def test_a_bad_change_changes_nothing(endpoint: Open):
    server = await endpoint()
    async with await Link.start(server.address, up=LinkShape(loss=0.5)) as link:
        before = link.shapes
        with pytest.raises(ValueError, match="delay_s"):
            link.set(loss=0.1, down_delay_s=-1)
        assert link.shapes == before


@asynccontextmanager
async def controlled(server: Address) -> AsyncIterator[tuple[Link, Callable[[bytes], Awaitable[dict[str, Any]]]]]:
    async with await Link.start(server) as link:
        control = LinkControl(link)
        host, port = await control.start()
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)

        async def ask(line: bytes) -> dict[str, Any]:
            writer.write(line + b"\n")
            answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
            assert isinstance(answer, dict)
            return answer

        try:
            yield link, ask
        finally:
            writer.close()
            await control.close()
            await control.close()


async def test_the_control_socket_sets_rebinds_and_counts(endpoint: Open):
    server, client = await endpoint(), await endpoint()
    async with controlled(server.address) as (link, ask):
        changes = {"rate_bps": 5e6, "up_loss": 0.25, "queue_bytes": 9000, "blackhole": "down"}
        assert await ask(json.dumps({"set": changes}).encode()) == {"ok": True}
        up, down = link.shapes
        assert up == LinkShape(rate_bps=5e6, loss=0.25, queue_bytes=9000)
        assert down == LinkShape(rate_bps=5e6, queue_bytes=9000, blackhole=True)
        assert await ask(b'{"set": {"up_loss": 0, "blackhole": null}}') == {"ok": True}
        client.send(b"x" * 72, link.address)
        _, old = await server.next()
        assert await ask(b'{"rebind": true}') == {"ok": True}
        client.send(b"y", link.address)
        assert (await server.next())[1] != old
        stats = await ask(b'{"stats": true}')
        assert stats["ok"] is True
        assert (stats["up"]["packets_in"], stats["up"]["delivered_bytes"], stats["rebinds"]) == (2, 129, 1)
        assert stats["up"]["queue_max_bytes"] == 100
        assert stats["down"]["packets_in"] == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "JSON"),
        (b"[" * 5000, "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[1]", "one object"),
        (b'{"stats": true, "rebind": true}', "one object"),
        (b'{"stats": 1}', "unknown request"),
        (b'{"set": 1}', "unknown request"),
        (b'{"reset": true}', "unknown request"),
        (b'{"set": {"loss": 2}}', "loss"),
        (b'{"set": {"self": 2}}', "self"),
        (b'{"set": {"loss": NaN}}', "loss"),
        (b'{"rebind": "192.0.2.1"}', ""),
    ],
)
async def test_the_control_socket_says_what_is_wrong_and_goes_on(endpoint: Open, line: bytes, reason: str):
    server, client = await endpoint(), await endpoint()
    async with controlled(server.address) as (link, ask):
        client.send(b"x", link.address)  # a client, so that a rebind has something to do
        await server.next()
        before = link.shapes
        answer = await ask(line)
        assert answer["ok"] is False
        assert reason in answer["error"]
        assert link.shapes == before
        assert (await ask(b'{"stats": true}'))["ok"] is True


async def test_the_control_socket_bounds_lines_and_callers(endpoint: Open):
    server = await endpoint()
    async with await Link.start(server.address) as link:
        control = LinkControl(link)
        address = await control.start()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"x" * (LINE_MAX_BYTES + 2))
        with pytest.raises((EOFError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()
        callers = [await asyncio.open_connection(*address) for _ in range(CALLERS_MAX)]
        for each_reader, each_writer in callers:
            each_writer.write(b'{"stats": true}\n')
            assert b'"ok":true' in await each_reader.readline()
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        for _, each_writer in [*callers, (reader, writer)]:
            each_writer.close()
        await control.close()


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kwik")
    command.add_parser(parser.add_subparsers(required=True))
    return parser.parse_args(["link", *words])


def test_the_command_line_names_both_directions():
    args = parsed(
        "--to", "127.0.0.1:4433", "--rate", "20mbit", "--down-rate", "unlimited", "--delay", "20ms", "--loss", "1%"
    )
    up, down = command._shapes(args)
    assert up == LinkShape(rate_bps=20e6, delay_s=0.02, loss=0.01)
    assert down == LinkShape(rate_bps=None, delay_s=0.02, loss=0.01)
    assert args.run is command.run


@pytest.mark.parametrize("words", [("--rate", "20"), ("--loss", "2"), ("--queue", "9"), ("--delay", "20")])
def test_the_command_line_refuses_with_an_example(words: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        parsed("--to", "127.0.0.1:1", *words)
    assert caught.value.code == 2
    assert "write" in capsys.readouterr().err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        parsed("--help")
    assert caught.value.code == 0
    assert "kwik link --to 127.0.0.1:4433" in capsys.readouterr().out


def test_an_address_in_use_is_an_error_message_and_exit_code_1(capsys: pytest.CaptureFixture[str]):
    assert command.run(parsed("--to", "127.0.0.1:1", "--listen", "192.0.2.1:0")) == 1
    assert capsys.readouterr().err.startswith("kwik link: ")


PROGRAM = """
import argparse, sys
from kwik.cli import link
parser = argparse.ArgumentParser()
link.add_parser(parser.add_subparsers(required=True))
args = parser.parse_args(sys.argv[1:])
sys.exit(args.run(args))
"""


@pytest.mark.proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_runs_until_told_to_stop(endpoint: Open, number: signal.Signals):
    server, client = await endpoint(echo=True), await endpoint()
    to = f"127.0.0.1:{server.address[1]}"
    words = ["link", "--to", to, "--control", "127.0.0.1:0", "--json", "-v", "--seed", "3"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        assert (ready["event"], ready["to"]) == ("ready", to)
        host, _, port = ready["listen"].rpartition(":")
        client.send(b"through a process", (host, int(port)))
        assert (await client.next())[0] == b"through a process"
        process.send_signal(number)
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, out) == (0, b"")
        assert json.loads(err)["down"]["delivered_packets"] == 1
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
