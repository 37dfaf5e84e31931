"""Streams that wait for accept(): an AF_UNIX listening socket, to which the engine connects once per stream.

So the listener's descriptor is a real one: poll, select, accept in another thread, a pre-forked child all work by the
kernel. Any process of the machine may connect to such a socket; only connections of this process' engine count (by
SO_PEERCRED), and the name of each one's connecting end tells whose stream it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Awaitable
from typing import Final

from kwik.engine.handle import SocketName, StreamHandle, registry, socket_name
from kwik.engine.local import BUFFER_BYTES, READ_AHEAD_BYTES, UnixEnd, put_held_byte
from kwik.engine.server import Reached
from kwik.types import Address

WAITING_STREAMS: Final = 128
_RETRY_S: Final = 0.01
_CREDENTIALS: Final = "3i"
_serial = itertools.count(1)


class Backlog:
    """`reach` is called by the engine, `claim` by whoever accepts."""

    def __init__(self) -> None:
        self.local: SocketName = ("0.0.0.0", 0)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pid = os.getpid()
        self._waiting: dict[bytes, StreamHandle] = {}
        self.listening.bind("")  # the system chooses an abstract name
        self.listening.listen(WAITING_STREAMS)
        self._name = self.listening.getsockname()

    def reach(self, remote: SocketName) -> Reached | Awaitable[Reached]:
        """See kwik.engine.server.Reach. OSError when the listener is closed; waits while too many wait for accept."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Whoever accepts in a forked child has only this to know the client by.
        name = f"\0kwik-{self._pid}-{next(_serial)}-{Address(*remote[:2])}".encode()[:107]
        handle = StreamHandle(self.local, remote)
        try:
            sock.bind(name)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_AHEAD_BYTES)
            self._waiting[name] = handle  # before connecting: accept may return first
            sock.connect(self._name)
        except BlockingIOError:
            return self._reach_later(sock, name, handle)
        except BaseException:
            self._give_up(sock, name)
            raise
        return Reached(UnixEnd(sock, lambda: handle.held), handle)

    async def _reach_later(self, sock: socket.socket, name: bytes, handle: StreamHandle) -> Reached:
        try:
            await self._connect(sock)
        except BaseException:
            self._give_up(sock, name)
            raise
        return Reached(UnixEnd(sock, lambda: handle.held), handle)

    def _give_up(self, sock: socket.socket, name: bytes) -> None:
        self._waiting.pop(name, None)
        sock.close()

    async def wait_idle(self) -> None:
        """Nothing runs here."""

    async def _connect(self, sock: socket.socket) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            with contextlib.suppress(BlockingIOError):
                sock.connect(self._name)
                return

    def claim(self, accepted: socket.socket, name: object) -> StreamHandle | None:
        """Whose stream this accepted connection is; None if it does not come from the engine."""
        size = struct.calcsize(_CREDENTIALS)
        pid = struct.unpack(_CREDENTIALS, accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        if pid != self._pid or not isinstance(name, bytes):
            return None
        if os.getpid() != self._pid:
            return self._stranded(name)
        handle = self._waiting.pop(name, None)
        if handle is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            handle.held = True  # before the byte is sent, so that it is never taken for data
            put_held_byte(accepted)
            registry.add(accepted.fileno(), handle)
            if handle.done.is_set():
                registry.remove(handle)
        return handle

    def _stranded(self, name: bytes) -> StreamHandle | None:
        """In a forked child: the engine cannot be asked, but the client is known by its address."""
        with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
            remote = Address.parse(name.decode().split("-", 3)[3])
            handle = StreamHandle(self.local, socket_name(remote))
            handle.pid = self._pid
            return handle
        return None
