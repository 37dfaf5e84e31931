"""A dishonest server of the tests: with a good certificate of its own it relays every byte to the true server.

Options: listen, target, certfile, keyfile, cafile, host, forge (answers JOIN by a yes of its own).
It tells what passed: {"event": "relayed", "sender": "client" or "server", "frame": its type, "status": JOINED's}.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from kwik.quic import ClientTls, PathEnd, QuicEndpoint, QuicPath, ServerTls
from kwik.wire import codec
from kwik.wire.frames import Upstream
from kwik.wire.messages import JOIN_OK, Joined
from tests.proc.harness_control import Control


def main(control: socket.socket, options: dict[str, Any]) -> None:
    """Relay until the control socket is closed, or killed."""
    asyncio.run(_Relay(Control(control), options).run())


class _Relay:
    def __init__(self, control: Control, options: dict[str, Any]) -> None:
        self._control = control
        self._options = options
        self._tls = ClientTls(server_name=options["host"], cafile=options["cafile"])
        self._opening: set[asyncio.Task[QuicPath]] = set()

    async def run(self) -> None:
        tls = ServerTls(certfile=self._options["certfile"], keyfile=self._options["keyfile"])
        endpoint = await QuicEndpoint.listen(tuple(self._options["listen"]), tls, self._accept)
        await self._control.run(self._answer, {"address": endpoint.local_address[:2]})

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _accept(self, path: QuicPath) -> _Half:
        near, far = _Half("client", path, self._note), _Half("server", None, self._note)
        near.other, far.other = far, near
        connecting = QuicEndpoint.connect(tuple(self._options["target"]), self._tls, far.adopt)
        task = asyncio.ensure_future(connecting)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return near

    def _note(self, sender: str, frame: codec.Received) -> codec.Received:
        event: dict[str, Any] = {"event": "relayed", "sender": sender, "frame": type(frame).__name__}
        if isinstance(frame, Joined):
            event["status"] = frame.status
            if self._options["forge"]:
                frame = replace(frame, status=JOIN_OK)
        self._control.tell(event)
        return frame


class _Half:
    """One of the two paths. Implements PathEvents."""

    other: _Half

    def __init__(
        self,
        sender: Literal["client", "server"],
        path: QuicPath | None,
        note: Callable[[str, codec.Received], codec.Received],
    ) -> None:
        self._path = path
        self._sender = sender
        self._note = note
        self._decoders: dict[int, codec.Decoder] = {}
        self._can_write = False
        self._waiting: list[tuple[int, bytes]] = []

    def adopt(self, path: QuicPath) -> _Half:
        self._path = path
        return self

    def say(self, pipe: int, data: bytes) -> None:
        self._waiting.append((pipe, data))
        self._flush()

    def _flush(self) -> None:
        if self._path is not None and self._can_write:
            waiting, self._waiting = self._waiting, []
            for pipe, data in waiting:
                self._path.send(pipe, data)

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        self._can_write = True
        self._flush()

    def on_up(self, path: QuicPath, now: float) -> None:
        pass

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        if pipe not in self._decoders:
            self._decoders[pipe] = codec.Decoder(self._sender, "data" if pipe else "control")
        for frame in self._decoders[pipe].feed(data):
            seen = self._note(self._sender, frame)
            self.other.say(pipe, _encoded(seen))

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        pass

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        pass

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        if self.other._path is not None:
            self.other._path.close(reason.code or 0, reason.detail, now)


def _encoded(frame: codec.Received) -> bytes:
    if isinstance(frame, codec.DataPiece):
        return codec.encode_data(frame.replica, frame.order, frame.offset, bytes(frame.payload))
    if isinstance(frame, codec.UpstreamPiece):
        fields = (frame.replica, frame.offset, frame.after, frame.flags, frame.chain, frame.prefix)
        return codec.encode(Upstream(*fields, bytes(frame.payload)))
    return codec.encode(frame)
