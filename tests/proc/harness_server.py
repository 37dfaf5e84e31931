"""A server of the tests: kwik.aio with one of several applications, steered and watched by its control socket.

Options: listen, service, certfile, keyfile, server_id, replicated, app, salt (another body), rate (bytes a second),
lie ([kind, offset]), incarnation (hex: a clone), forge (answers JOIN without the proof), config (ServerConfig fields).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, TypeAlias

import kwik.engine.server
from kwik import aio
from kwik.config import ServerConfig
from kwik.core.server import ServerCore
from kwik.types import INCARNATION_BYTES
from kwik.wire.messages import JOIN_OK
from tests.proc.harness_content import content
from tests.proc.harness_control import Control
from tests.proc.harness_sockets import mtu_discovery

PIECE_BYTES = 16384
Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter


def main(control: socket.socket, options: dict[str, Any]) -> None:
    """Serve until the control socket is closed, or killed."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(_Program(Control(control), options).run())


class _Program:
    def __init__(self, control: Control, options: dict[str, Any]) -> None:
        self._control = control
        self._options = options
        self._salt = options.get("salt", "")
        self._rate = options.get("rate")
        self._streams = 0
        self._upstream = hashlib.sha256()
        self._upstream_bytes = 0
        self._path_bytes = 0
        self._open_gates = 0
        self._gate = asyncio.Condition()
        self._server: aio.Server
        self._leaving: asyncio.Task[None]
        self._liar = _liar(*options["lie"]) if "lie" in options else None

    async def run(self) -> None:
        options = self._options
        if "incarnation" in options:
            _fix_incarnation(bytes.fromhex(options["incarnation"]))
        config = ServerConfig(service=options["service"], server_id=options["server_id"])
        self._server = await aio.start_server(
            self._serve,
            tuple(options["listen"]),
            service=options["service"],
            certfile=options["certfile"],
            keyfile=options["keyfile"],
            server_id=options["server_id"],
            replicated=options["replicated"],
            config=replace(config, **options.get("config", {})),
        )
        self._bend(self._server._server._core)
        ready = {"address": self._server.addresses[0], "incarnation": self._server.instance.incarnation.hex()}
        await self._control.run(self._answer, ready)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "open":  # let the application go on behind so many holds
                async with self._gate:
                    self._open_gates = request["gates"]
                    self._gate.notify_all()
            case "report":
                return {
                    "streams": self._streams,
                    "upstream_bytes": self._upstream_bytes,
                    "upstream_sha256": self._upstream.hexdigest(),
                    "path_bytes": self._path_bytes,
                    "lies": self._liar.told if self._liar else 0,
                    "replicas": [asdict(view) for view in await self._server.replicas()],
                }
            case "sockets":
                return {"mtu_discovery": mtu_discovery()}
            case "prepare":  # the body is in memory from now on, not only when it is asked for
                content(request["seed"], request["size"], self._salt)
            case "drain":
                await self._server.drain()
            case "leave":  # as a program does that is told to stop: at once for who asks, in good order for streams
                self._leaving = asyncio.create_task(self._leave())
            case "close":
                await self._server.close()
        return {}

    async def _leave(self) -> None:
        await self._server.drain()
        await self._server.close()
        self._control.tell({"event": "left"})

    # ------------------------------------------------------------ what the network sees

    def _bend(self, core: ServerCore) -> None:
        """Count what clients send; and lie, if that is what this server is for. Before the first client comes."""
        take, give, join = core.on_path_data, core.on_room, core._sessions.on_join

        def on_path_data(path: Any, pipe: int, data: bytes, now: float) -> None:
            self._path_bytes += len(data)
            take(path, pipe, data, now)

        def on_room(path: Any, size: int, now: float) -> list[tuple[int, bytes]]:
            output = give(path, size, now)
            if self._liar is None:
                return output
            bent = [(pipe, self._liar.alter(path, pipe, data)) for pipe, data in output]
            return [(pipe, data) for pipe, data in bent if data]

        def on_join(path: Any, message: Any, now: float) -> Any:
            answer: Any = join(path, message, now)
            self._control.tell_soon({"event": "join", "status": getattr(answer, "status", None)})
            return replace(answer, status=JOIN_OK, proof=bytes(32)) if self._options.get("forge") else answer

        core.on_path_data = on_path_data  # type: ignore[method-assign]
        core.on_room = on_room  # type: ignore[method-assign]
        core._sessions.on_join = on_join  # type: ignore[method-assign, assignment]

    # ------------------------------------------------------------ the applications

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        self._streams += 1
        number = self._streams
        self._control.tell({"event": "accept", "stream": number})
        end = "end"
        try:
            await getattr(self, f"_{self._options['app']}")(_Counted(reader, self._count), writer)
        except ConnectionError:
            end = "reset"
        finally:
            self._control.tell({"event": "over", "stream": number, "end": end})
            writer.close()

    def _count(self, data: bytes, is_first: bool) -> None:
        if is_first:
            self._control.tell({"event": "first", "data": data[:100].decode("latin-1")})
        self._upstream_bytes += len(data)
        self._upstream.update(data)

    async def _pass(self, gate: int) -> None:
        async with self._gate:
            await self._gate.wait_for(lambda: self._open_gates > gate)

    async def _echo(self, reader: _Counted, writer: Writer) -> None:
        while data := await reader.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _greet(self, reader: _Counted, writer: Writer) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            writer.write(b"250 " + line.upper())
            await writer.drain()
            if line == b"quit\r\n":
                break
        writer.write_eof()
        await reader.rest()

    async def _download(self, reader: _Counted, writer: Writer) -> None:
        """One body for each line of JSON: seed, size, holds (offsets before which a gate must be opened)."""
        while line := await reader.readline():
            request = json.loads(line)
            self._control.tell({"event": "request", "name": request.get("name"), "stream": self._streams})
            await self._send(writer, request)
        writer.write_eof()

    async def _send(self, writer: Writer, request: dict[str, Any]) -> None:
        body = memoryview(content(request["seed"], request["size"], self._salt))
        holds, rate, sent = list(request.get("holds", [])), request.get("rate", self._rate), 0
        gate = 0
        while sent < len(body) or gate < len(holds):
            if gate < len(holds) and sent == holds[gate]:
                self._control.tell({"event": "hold", "offset": sent})
                await self._pass(gate)
                gate += 1
                continue
            stop = holds[gate] if gate < len(holds) else len(body)
            piece = body[sent : min(stop, sent + PIECE_BYTES)]
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            if rate:
                await asyncio.sleep(len(piece) / rate)

    async def _sink(self, reader: _Counted, writer: Writer) -> None:
        digest, size = hashlib.sha256(), 0
        while data := await reader.read():
            digest.update(data)
            size += len(data)
        writer.write(json.dumps({"size": size, "sha256": digest.hexdigest()}).encode() + b"\n")
        writer.write_eof()

    async def _early(self, reader: _Counted, writer: Writer) -> None:
        """Ends its side first, at the very start, and listens on."""
        writer.write_eof()
        data = await reader.rest()
        self._control.tell({"event": "heard", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    async def _deaf(self, reader: _Counted, writer: Writer) -> None:
        """Reads nothing, says nothing, until a gate is opened; then it ends well."""
        await self._pass(0)
        await reader.rest()
        writer.write_eof()

    async def _abort(self, reader: _Counted, writer: Writer) -> None:
        """Sends the body, then aborts."""
        request = json.loads(await reader.readline())
        await self._send(writer, request)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _close(self, reader: _Counted, writer: Writer) -> None:
        """Takes the stream and closes it at once, with nothing said."""


class _Counted:
    """What the application reads, noted."""

    def __init__(self, reader: Reader, count: Callable[[bytes, bool], None]) -> None:
        self._reader = reader
        self._count = count
        self._is_first = True

    async def read(self) -> bytes:
        return self._noted(await self._reader.read(65536))

    async def readline(self) -> bytes:
        return self._noted(await self._reader.readline())

    async def rest(self) -> bytes:
        return self._noted(await self._reader.read())

    def _noted(self, data: bytes) -> bytes:
        self._count(data, self._is_first)
        self._is_first = False
        return data


def _liar(lie: Any, at: int) -> Any:
    from kwik.sim.lies import Liar  # the simulator is large, and few servers lie

    return Liar(lie, at)


def _fix_incarnation(incarnation: bytes) -> None:
    """A container that was cloned with its memory shows the name of the original; its later tokens are its own."""
    real, given = secrets.token_bytes, [incarnation]

    def token_bytes(size: int) -> bytes:
        return given.pop() if given and size == INCARNATION_BYTES else real(size)

    vars(kwik.engine.server)["secrets"] = SimpleNamespace(token_bytes=token_bytes)
