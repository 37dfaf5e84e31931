"""The baseline: the same QUIC adapter and endpoint as Kwik's, with nothing on top.

The client writes the size it wants as a line on its first pipe; the server answers with so many bytes on a pipe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from benchmarks.content import pieces
from kwik.quic import ClientTls, PathEnd, QuicEndpoint, QuicPath, ServerTls
from kwik.types import Address

ANSWER_PIPE = 1


class PlainServer:
    """Answers on one path."""

    def __init__(self) -> None:
        self._line = b""
        self._body: Iterator[memoryview] = iter(())
        self._rest = memoryview(b"")

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        """Nothing to say before the request."""

    def on_up(self, path: QuicPath, now: float) -> None:
        """Nothing to say before the request."""

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        """A request: one line."""
        self._line += data
        if self._line.endswith(b"\n"):
            self._body, self._rest, self._line = pieces(int(self._line)), memoryview(b""), b""
            path.wants_room = True

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        """Fill the room."""
        while n_bytes > 0:
            if not self._rest:
                following = next(self._body, None)
                if following is None:
                    path.wants_room = False
                    return
                self._rest = following
            piece, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
            path.send(ANSWER_PIPE, bytes(piece))
            n_bytes -= len(piece)

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        """Never asked for."""

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        """The client is done."""


async def serve_plain(certfile: str, keyfile: str) -> QuicEndpoint:
    """A plain server on a port of the system's choice."""
    tls = ServerTls(certfile=certfile, keyfile=keyfile)
    return await QuicEndpoint.listen(("127.0.0.1", 0), tls, lambda path: PlainServer())


class PlainClient:
    """One path, and one transfer at a time on it. On one event loop."""

    def __init__(self) -> None:
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done: asyncio.Future[tuple[float, float]] | None = None
        self._missing = 0
        self._first_at: float | None = None
        self._path: QuicPath

    @classmethod
    async def connect(cls, address: Address, tls: ClientTls) -> PlainClient:
        """Handshake included."""
        client = cls()
        client._path = await QuicEndpoint.connect(address, tls, lambda path: client)
        await client._up
        return client

    async def fetch(self, size: int) -> tuple[float, float]:
        """Instants (time.perf_counter) of the first and of the last byte of an answer of so many bytes."""
        self._done = asyncio.get_running_loop().create_future()
        self._missing, self._first_at = size, None
        self._path.send(0, f"{size}\n".encode())
        return await self._done

    async def close(self) -> None:
        """Say good-bye."""
        if self._path.endpoint is not None:
            await self._path.endpoint.close()

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        """The handshake is complete."""

    def on_up(self, path: QuicPath, now: float) -> None:
        """The handshake is complete."""
        self._up.set_result(None)

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        """A part of the answer."""
        if self._first_at is None:
            self._first_at = time.perf_counter()
        self._missing -= len(data)
        if self._missing <= 0 and self._done is not None and not self._done.done():
            self._done.set_result((self._first_at, time.perf_counter()))

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        """Never asked for."""

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        """Never asked for."""

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        """Whoever waits is told."""
        for waiting in (self._up, self._done):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionResetError(str(reason)))
