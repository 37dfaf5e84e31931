"""A client of the tests in a process of its own: to be stopped, killed and weighed."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import asdict
from typing import Any

import kwik
from kwik import aio
from kwik.config import Config
from tests.proc.harness_control import Control

READ_BYTES = 65536


def main(control: socket.socket, options: dict[str, Any]) -> None:
    """Serve requests until the control socket is closed, or killed."""
    asyncio.run(_Program(Control(control), options).run())


class _Program:
    def __init__(self, control: Control, options: dict[str, Any]) -> None:
        self._control = control
        self._options = options
        self._config = Config(**options.get("config", {}))
        self._conns: list[kwik.Conn] = []
        self._delivered: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._control.run(self._answer, {})

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "dial":
                for _ in range(request["count"]):
                    conn = await aio.dial(
                        self._options["service"],
                        servers=[tuple(each) for each in request["servers"]],
                        cafile=self._options["cafile"],
                        config=self._config,
                    )
                    self._conns.append(conn)
                    conn.sendall(request["line"].encode())
            case "read":
                task = asyncio.create_task(self._read(request["stream"], request.get("rate"), request.get("slow")))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "report":
                conn = self._conns[request["stream"]]
                stats = await asyncio.to_thread(conn.stats)
                paths = await asyncio.to_thread(conn.paths)
                return {
                    "delivered": self._delivered,
                    "stats": None if stats is None else asdict(stats),
                    "paths": [asdict(path) for path in paths],
                }
        return {"streams": len(self._conns)}

    async def _read(self, stream: int, rate: float | None, slow: int | None) -> None:
        """To the end; with `rate`, so many bytes a second, for the first `slow` bytes."""
        conn, digest, error = self._conns[stream], hashlib.sha256(), ""
        self._delivered[stream] = 0
        conn.shutdown(socket.SHUT_WR)
        try:
            while data := await asyncio.to_thread(conn.recv, READ_BYTES):
                digest.update(data)
                self._delivered[stream] += len(data)
                if rate and slow and self._delivered[stream] < slow:
                    await asyncio.sleep(len(data) / rate)
        except OSError as failure:
            error = f"{type(failure).__name__}: {failure}"
        self._control.tell(
            {
                "event": "read",
                "stream": stream,
                "size": self._delivered[stream],
                "sha256": digest.hexdigest(),
                "error": error,
            }
        )
