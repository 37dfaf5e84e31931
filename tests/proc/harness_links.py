"""The process that holds a test's emulated links, so that they neither slow the client nor are stopped with it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import asdict
from typing import Any

from kwik.apps.link import Link
from kwik.apps.link_model import LinkShape
from tests.proc.harness_control import Control


def main(control: socket.socket, options: dict[str, Any]) -> None:
    """Run until the control socket is closed."""
    asyncio.run(_Links().run(Control(control)))


class _Links:
    def __init__(self) -> None:
        self._links: list[Link] = []
        self._balancers: list[_Balancer] = []

    async def run(self, control: Control) -> None:
        await control.run(self._answer, {})

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "start":
                host, port = request["to"]
                up, down = (LinkShape(**request[side]) for side in ("up", "down"))
                self._links.append(await Link.start((host, port), up=up, down=down, seed=request["seed"]))
                return {"link": len(self._links) - 1, "address": self._links[-1].address}
            case "balance":
                balancer = _Balancer([(host, port) for host, port in request["to"]])
                self._balancers.append(balancer)
                return {"balancer": len(self._balancers) - 1, "address": await balancer.start()}
            case "cut":
                self._balancers[request["balancer"]].cut()
            case "set":
                self._links[request["link"]].set(**request["changes"])
            case "rebind":
                self._links[request["link"]].rebind(request["host"])
            case "close":
                self._links[request["link"]].close()
            case "stats":
                return asdict(self._links[request["link"]].stats())
        return {}


class _Balancer(asyncio.DatagramProtocol):
    """One address before several servers: each client's port is bound to the next server in turn."""

    def __init__(self, servers: list[tuple[str, int]]) -> None:
        self._servers = servers
        self._ways: dict[Any, asyncio.DatagramTransport] = {}
        self._pending: dict[Any, list[bytes]] = {}
        self._opening: set[asyncio.Future[None]] = set()
        self._dead: set[Any] = set()
        self._transport: asyncio.DatagramTransport

    def cut(self) -> None:
        """Nothing passes any more between the clients' ports of now and their servers; new ports are not concerned."""
        self._dead.update(self._pending)
        for client in self._dead & self._ways.keys():
            self._ways.pop(client).close()

    async def start(self) -> tuple[str, int]:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr in self._dead:
            return
        if addr in self._ways:
            self._ways[addr].sendto(data)
        elif addr in self._pending:
            self._pending[addr].append(data)
        else:
            server = self._servers[len(self._pending) % len(self._servers)]
            self._pending[addr] = [data]
            opening = asyncio.ensure_future(self._open(addr, server))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, client: Any, server: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        way = lambda: _Back(self._transport, client)  # noqa: E731
        made, _ = await loop.create_datagram_endpoint(way, remote_addr=server)
        if client in self._dead:
            made.close()
            return
        self._ways[client] = made
        for data in self._pending[client]:
            self._ways[client].sendto(data)


class _Back(asyncio.DatagramProtocol):
    def __init__(self, listener: asyncio.DatagramTransport, client: Any) -> None:
        self._listener = listener
        self._client = client

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._listener.sendto(data, self._client)
