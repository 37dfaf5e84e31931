"""The programs that a benchmark starts: `python -m benchmarks.programs ROLE OPTIONS`.

Each reads requests as lines of JSON from its standard input, answers on its standard output and ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

import kwik
from benchmarks.content import is_right, pieces
from benchmarks.face import serve_face
from benchmarks.plain import serve_plain
from kwik import aio
from kwik.apps import exact
from kwik.apps.link import Link
from kwik.apps.link_model import LinkShape
from kwik.config import Config, ServerConfig

READ_BYTES = 65536
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def say(**answer: Any) -> None:
    """One line to whoever started us."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def requests(answer: Answer) -> None:
    """Answer each request in turn, for ever."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(queue.put_nowait, line)
        os._exit(0)  # nobody is left to ask

    threading.Thread(target=read, daemon=True).start()
    while True:
        say(**await answer(json.loads(await queue.get())))


# ---------------------------------------------------------------- servers


async def serve(options: dict[str, Any]) -> None:
    """Kwik: one line of JSON asks for a body of `size` bytes."""
    config = replace(
        ServerConfig(service=options["service"], server_id=options["server_id"]), **options.get("config", {})
    )
    server = await aio.start_server(
        _download,
        "127.0.0.1:0",
        service=options["service"],
        certfile=options["certfile"],
        keyfile=options["keyfile"],
        server_id=options["server_id"],
        replicated=options.get("replicated", True),
        config=config,
    )
    say(address=server.addresses[0])
    await requests(_nothing)


async def _download(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        for piece in pieces(int(await reader.readline())):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        return


async def serve_quic(options: dict[str, Any]) -> None:
    """The baseline without Kwik."""
    endpoint = await serve_plain(options["certfile"], options["keyfile"])
    say(address=endpoint.local_address[:2])
    await requests(_nothing)


async def serve_sockets(options: dict[str, Any]) -> None:
    """The baseline with Kwik's sockets for applications."""
    endpoint = await serve_face(_download, options["certfile"], options["keyfile"])
    say(address=endpoint.local_address[:2])
    await requests(_nothing)


async def _nothing(request: dict[str, Any]) -> dict[str, Any]:
    return {}


# ---------------------------------------------------------------- links


async def hold_links(options: dict[str, Any]) -> None:
    """Requests: start (to, shape, seed), set (link, changes), stats (link)."""
    links: list[Link] = []

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "start":
            shape = LinkShape(**request["shape"])
            links.append(await Link.start(tuple(request["to"]), up=shape, seed=request["seed"]))
            return {"link": len(links) - 1, "address": links[-1].address}
        link = links[request["link"]]
        if request["do"] == "set":
            link.set(**request["changes"])
        return asdict(link.stats())

    say(event="ready")
    await requests(answer)


# ---------------------------------------------------------------- the client


async def be_client(options: dict[str, Any]) -> None:
    """Request: fetch; see `_Fetch`."""

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(_Fetch(options, request).run)

    say(event="ready")
    await requests(answer)


class _Fetch:
    """One download: servers, size, config; `tell_at`: say so when that many bytes were read; pause: [at, seconds]."""

    def __init__(self, options: dict[str, Any], request: dict[str, Any]) -> None:
        self._options = options
        self._request = request
        self._reads: list[tuple[float, int]] = []
        self._size = 0

    def run(self) -> dict[str, Any]:
        request, began_at, cpu = self._request, time.monotonic(), time.process_time()
        conn = kwik.dial(
            self._options["service"],
            servers=[tuple(each) for each in request["servers"]],
            cafile=self._options["cafile"],
            config=Config(**request.get("config", {})),
        )
        with conn:
            conn.sendall(f"{request['size']}\n".encode())
            while self._size < request["size"]:
                self._read(conn)
                self._marks(conn)
            assert not conn.recv(1), "more bytes than were asked for"
            ended_at, cpu = time.monotonic(), time.process_time() - cpu
            stats = conn.stats()
            assert stats is not None
        figures = {"began_at": began_at, "ended_at": ended_at, "cpu_s": cpu, "stats": asdict(stats)}
        return figures | ({"reads": self._reads} if request.get("reads", True) else {})

    def _read(self, conn: kwik.Conn) -> None:
        data = conn.recv(READ_BYTES)
        assert data, f"an early end after {self._size} bytes"
        assert is_right(data, self._size), f"wrong bytes at {self._size}"
        self._size += len(data)
        if self._request.get("reads", True):
            self._reads.append((time.monotonic(), self._size))

    def _marks(self, conn: kwik.Conn) -> None:
        request = self._request
        if self._size >= request.get("tell_at", self._size + 1):
            del request["tell_at"]
            stats = conn.stats()
            assert stats is not None
            say(event="reached", size=self._size, stats=asdict(stats), paths=[asdict(path) for path in conn.paths()])
        if request.get("pauses") and self._size >= request["pauses"][0][0]:
            time.sleep(request["pauses"].pop(0)[1])


ROLES = {"server": serve, "plain": serve_quic, "face": serve_sockets, "links": hold_links, "client": be_client}


if __name__ == "__main__":
    run = exact.run if sys.argv[1] == "links" else asyncio.run
    run(ROLES[sys.argv[1]](json.loads(sys.argv[2])))
