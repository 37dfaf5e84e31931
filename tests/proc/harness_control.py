"""The control socket inside a test's process: JSON lines in, answers and events out."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """Serves the socket until its other end is closed; then this process has no purpose and ends."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop
        self._writer: asyncio.StreamWriter

    async def run(self, answer: Answer, ready: dict[str, Any]) -> None:
        """Say `ready`, then answer requests one by one. Never returns."""
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        self.tell(ready | {"event": "ready"})
        while line := await reader.readline():
            try:
                reply = await answer(json.loads(line))
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            self.tell(reply | {"event": "reply"})
        os._exit(0)

    def tell(self, event: dict[str, Any]) -> None:
        """One event; must be called on the loop's thread."""
        self._writer.write(json.dumps(event).encode() + b"\n")

    def tell_soon(self, event: dict[str, Any]) -> None:
        """As `tell`, from any thread."""
        self._loop.call_soon_threadsafe(self.tell, event)
