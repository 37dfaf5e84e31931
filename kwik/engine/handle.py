"""What an application's Conn knows of its stream: its names, why it failed, and whom to ask for more.

Shared by the engine's thread and the application's threads; plain attributes, each written by one side only. The
engine never depends on it: the stream lives on the descriptor alone.
"""

from __future__ import annotations

import copy
import os
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kwik.errors import KwikError
    from kwik.kdp.snapshots import PathSnapshot, StreamStats

SocketName = tuple[str, int] | tuple[str, int, int, int]
"""As getpeername() has it for AF_INET or AF_INET6."""


def socket_name(address: tuple[str, int]) -> SocketName:
    """The address as getpeername() has it."""
    host, port = address
    return (host, port, 0, 0) if ":" in host else (host, port)


class StreamControl(Protocol):
    """The session behind a stream. Coroutines of the engine's loop."""

    async def paths(self) -> list[PathSnapshot]:
        """The session's paths now."""

    async def stats(self) -> StreamStats | None:
        """The stream's figures now, None if the session has forgotten it."""

    async def flush(self, replicas: int) -> None:
        """Return when `replicas` (0: all) have taken everything written so far. Raises the stream's KwikError."""


class StreamHandle:
    """One stream, as seen from its socket's application's end."""

    __slots__ = ("aborted", "control", "done", "final_stats", "held", "inode", "local", "pid", "reason", "remote")

    def __init__(self, local: SocketName, remote: SocketName, control: StreamControl | None = None) -> None:
        self.local = local
        self.remote = remote
        self.control = control
        """None for an accepted stream: its client has the session."""
        self.pid = os.getpid()
        """The process whose engine serves the stream."""
        self.inode: int | None = None
        """Of the application's end, while the registry knows it."""
        self.reason: KwikError | None = None
        """Why the descriptor fails. Set by the engine before it makes the descriptor fail."""
        self.aborted = False
        """Set by the application before it closes the descriptor: an abort, not an orderly close."""
        self.held = False
        """Set by an accepting application before it puts the held byte in (see kwik.engine.local)."""
        self.final_stats: StreamStats | None = None
        """The last figures of a stream that is over."""
        self.done = threading.Event()
        """The stream is over: everything was delivered, or it failed."""

    @property
    def is_here(self) -> bool:
        """False in a forked child, whose parent's engine cannot be asked."""
        return self.pid == os.getpid()

    def failure(self) -> KwikError | None:
        """A fresh copy of `reason`, so that two threads never raise one object."""
        return None if self.reason is None else copy.copy(self.reason)


class Registry:
    """Finds the handle of a descriptor by the inode of its socket, for objects made from a bare descriptor.

    (`dup()`, `ssl` and `socket.fromfd` make new objects of the same socket.) Thread-safe by the GIL.
    """

    def __init__(self) -> None:
        self._handles: dict[int, StreamHandle] = {}

    def add(self, fd: int, handle: StreamHandle) -> None:
        """Remember whose socket is behind `fd`, until `remove`."""
        handle.inode = os.fstat(fd).st_ino
        self._handles[handle.inode] = handle

    def find(self, fd: int) -> StreamHandle | None:
        """The stream of this descriptor, if it is one of ours and not over."""
        try:
            return self._handles.get(os.fstat(fd).st_ino)
        except OSError:
            return None

    def remove(self, handle: StreamHandle) -> None:
        """Forget the stream. Its number may belong to another one by now."""
        if handle.inode is not None and self._handles.get(handle.inode) is handle:
            del self._handles[handle.inode]


registry = Registry()
"""Of this process."""
