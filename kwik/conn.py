"""Conn: the application's end of a stream. A socket.socket in every respect, with net.Conn's names on top.

The reset rule has its second half here: where this object is alive, what the descriptor reports as ECONNRESET (or
would report as an end of file once that was told) is raised as the stored reason of the stream.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from kwik.engine.deadlines import Gate
from kwik.engine.handle import StreamControl
from kwik.engine.tcp_face import TcpFace
from kwik.engine.thread import engine
from kwik.errors import ConfigError
from kwik.kdp.snapshots import PathSnapshot, StreamStats

if TYPE_CHECKING:
    from socket import _SendableFile

    from _typeshed import ReadableBuffer, WriteableBuffer

READ_BYTES = 65536
_BROKEN = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN})


def replica_count(replicas: int | Literal["all"]) -> int:
    """As the cores have it: 0 for all. Raises ConfigError for a number below 1."""
    if replicas == "all":
        return 0
    if not isinstance(replicas, int) or replicas < 1:
        raise ConfigError(f'replicas must be at least 1, or "all", not {replicas!r}')
    return replicas


class _HonestSocket(TcpFace):
    """Raises the reason of a failed stream wherever the descriptor shows that it failed."""

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As on TCP. Raises StreamReset or ConnectRefused with what happened; b"" is a true end of file only."""
        try:
            data = super().recv(bufsize, flags)
        except OSError as error:
            raise self._reason(error) from None
        if not data and bufsize:
            self._check_end()
        return data

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """As `recv`."""
        try:
            size = super().recv_into(buffer, nbytes, flags)
        except OSError as error:
            raise self._reason(error) from None
        if not size and (nbytes or memoryview(buffer).nbytes):
            self._check_end()
        return size

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        """As `recv`; the address is None, as on a connected stream."""
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As `recv_into`; the address is None, as on a connected stream."""
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """As `recv`; there is no ancillary data on TCP."""
        try:
            data, ancillary, flags, _ = super().recvmsg(bufsize, ancbufsize, flags)
        except OSError as error:
            raise self._reason(error) from None
        if not data and bufsize:
            self._check_end()
        return data, ancillary, flags, None

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, list[Any], int, Any]:
        """As `recv_into`; there is no ancillary data on TCP."""
        views = [memoryview(buffer) for buffer in buffers]
        try:
            size, ancillary, flags, _ = super().recvmsg_into(views, ancbufsize, flags)
        except OSError as error:
            raise self._reason(error) from None
        if not size and any(map(len, views)):
            self._check_end()
        return size, ancillary, flags, None

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """As on TCP."""
        try:
            return super().send(data, flags)
        except OSError as error:
            raise self._reason(error) from None

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """As on TCP."""
        try:
            super().sendall(data, flags)
        except OSError as error:
            raise self._reason(error) from None

    def sendmsg(
        self, buffers: Iterable[ReadableBuffer], ancdata: Iterable[Any] = (), flags: int = 0, address: object = None
    ) -> int:
        """As on TCP: neither descriptors nor credentials travel."""
        try:
            return super().sendmsg(buffers, (), flags)
        except OSError as error:
            raise self._reason(error) from None

    def sendfile(self, file: _SendableFile, offset: int = 0, count: int | None = None) -> int:
        """As on TCP."""
        try:
            return super().sendfile(file, offset, count)
        except OSError as error:
            raise self._reason(error) from None

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:  # noqa: ANN401
        """As on TCP; SO_ERROR tells a refused stream from a reset one."""
        value = super().getsockopt(level, option, buflen)
        if value == errno.ECONNRESET and (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            failure = None if self._handle is None else self._handle.reason
            return value if failure is None else failure.errno
        return value

    def _reason(self, error: OSError) -> OSError:
        failure = self._handle.failure() if self._handle is not None and error.errno in _BROKEN else None
        return error if failure is None else failure

    def _check_end(self) -> None:
        """The kernel tells an error once; here it stays an error."""
        failure = None if self._handle is None else self._handle.failure()
        if failure is not None:
            raise failure


class Conn(_HonestSocket):
    """One stream, as a connected TCP socket: recv, send, makefile, settimeout, select, TLS wrapping, asyncio's sock=.

    `recv`, `send` and their kind follow `settimeout`; `read` and `write` follow the deadlines only. Safe to use from
    several threads: one reading, others writing whole `write`s. What was written before `close` is delivered in the
    background, also at a regular exit of the interpreter (up to 5 s), but not after os._exit or a signal that kills.
    """

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        super().__init__(family, type, proto, fileno)
        self._pid = os.getpid()
        self._gate = Gate()
        self._writing = threading.Lock()

    # ------------------------------------------------------------ net.Conn

    def read(self, size: int = READ_BYTES) -> bytes:
        """Some bytes, at most `size`; b"" at the end. Raises StreamReset, and TimeoutError at the read deadline."""
        gate = self._own_gate()
        with gate.enter() as bell:
            while True:
                gate.wait(self.fileno(), "read", bell)
                try:
                    return self.recv(size, socket.MSG_DONTWAIT)
                except (BlockingIOError, TimeoutError):
                    continue  # another thread was faster

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it; returns its length. Several threads' writes never mix.

        Raises TimeoutError at the write deadline, StreamReset; the error's `characters_written` says how much went.
        """
        view = memoryview(data).cast("B")
        gate, sent = self._own_gate(), 0
        with self._writing, gate.enter() as bell:
            try:
                while sent < len(view):
                    gate.wait(self.fileno(), "write", bell)
                    try:
                        sent += self.send(view[sent:], socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        continue
            except OSError as error:
                error.characters_written = sent  # type: ignore[attr-defined]
                raise
        return sent

    def set_deadline(self, instant: float | None) -> None:
        """Both deadlines of `read` and `write`: absolute time.monotonic() seconds, None for none.

        May be changed while an operation waits in another thread, and wakes it. One in the past fails everything.
        """
        self.set_read_deadline(instant)
        self.set_write_deadline(instant)

    def set_read_deadline(self, instant: float | None) -> None:
        """The deadline of `read`; see set_deadline."""
        self._own_gate().set_deadline("read", instant)

    def set_write_deadline(self, instant: float | None) -> None:
        """The deadline of `write`; see set_deadline."""
        self._own_gate().set_deadline("write", instant)

    def local_addr(self) -> Any:  # noqa: ANN401 - as getsockname()
        """As getsockname()."""
        return self.getsockname()

    def remote_addr(self) -> Any:  # noqa: ANN401 - as getpeername()
        """As getpeername()."""
        return self.getpeername()

    def abort(self) -> None:
        """Close by a reset: what is not delivered yet is lost, and the other side is told. In a forked child: close."""
        if self._handle is not None:
            self._handle.aborted = True
        with contextlib.suppress(OSError):  # it may be over already
            self.shutdown(socket.SHUT_RDWR)  # also for copies of the descriptor
        self.close()

    # ------------------------------------------------------------ what is Kwik's own

    @property
    def is_fallback(self) -> bool:
        """True for plain TCP (`fallback="tcp"`): not encrypted, not checked, one server; no paths and no stats."""
        return False

    def paths(self) -> list[PathSnapshot]:
        """The paths of the stream's session now; empty for an accepted stream, a child process, or once it is over."""
        control = self._control()
        return [] if control is None else engine().call(control.paths())

    def stats(self) -> StreamStats | None:
        """The stream's figures, the last ones once it is over; None for an accepted stream or in a child process."""
        control = self._control()
        now = None if control is None else engine().call(control.stats())
        return now if now is not None or self._handle is None else self._handle.final_stats

    def flush(self, replicas: int | Literal["all"] = 1, timeout: float | None = None) -> None:
        """Wait until so many replicas' applications have taken everything written so far.

        `timeout` in seconds, then TimeoutError; nothing is undone by it. Raises StreamReset when the stream fails,
        ConfigError for a number below 1. An accepted stream has no replicas: returns at once.
        """
        count = replica_count(replicas)
        if self._control() is not None:
            engine().call(self._flush(count), timeout)
        self._check_end()

    async def _flush(self, replicas: int) -> None:
        """On the engine's loop."""
        control = self._control()
        if control is not None:
            await control.flush(replicas)
        self._check_end()

    def _control(self) -> StreamControl | None:
        handle = self._handle
        return None if handle is None or not handle.is_here or handle.done.is_set() else handle.control

    def _own_gate(self) -> Gate:
        """In a forked child new locks: a thread that only the parent has may hold the inherited ones for ever."""
        if self._pid != os.getpid():
            self._pid, self._gate, self._writing = os.getpid(), self._gate.inherited(), threading.Lock()
        return self._gate

    # ------------------------------------------------------------ the end

    def _real_close(self, *args: Any) -> None:  # noqa: ANN401 - as socket.socket has it
        """Called by CPython once nothing refers to the socket any more (`makefile` objects do)."""
        self._own_gate().close()
        handle, linger_s = self._handle, self._linger_s
        if handle is not None and linger_s == 0:
            handle.aborted = True
        super()._real_close(*args)  # type: ignore[misc]
        if handle is not None and linger_s and handle.is_here and not engine().is_here:
            handle.done.wait(linger_s)


class PlainConn(Conn):
    """A real TCP connection to the service itself under Conn's names, for `fallback="tcp"`.

    Everything that the kernel can do it does: addresses, options and resets are TCP's own. `flush` returns at once.
    """

    @property
    def is_fallback(self) -> bool:
        """True."""
        return True

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if len(socket.socket.getsockname(self)) == 4 else socket.AF_INET

    def setsockopt(self, *args: Any) -> None:  # noqa: ANN401
        """TCP's own."""
        socket.socket.setsockopt(self, *args)

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:  # noqa: ANN401
        """TCP's own."""
        plain = socket.socket.getsockopt
        return plain(self, level, option, buflen) if buflen else plain(self, level, option)

    def abort(self) -> None:
        """Close by a reset."""
        with contextlib.suppress(OSError):  # it may be over already
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
