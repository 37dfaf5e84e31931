"""The engine's ends of the applications' sockets: AF_UNIX pairs and TCP, behind one face.

How a reset is made visible (the rule itself is in `bridge`): on Linux, an AF_UNIX end that is closed while it has
unread bytes gives its other end ECONNRESET; closed without, a clean end of file, which for an abort would be a lie. So
the engine keeps one byte unread at all times, the *held* byte: a pair is made with one byte in the engine's queue, and
whatever is read after it is read but for the last byte, which is only peeked at. A clean close takes the held byte
first. This needs nothing from the application's side at reset time: neither its object (TLS wrapping empties it) nor
its number (dup, dup2) nor its permission to write (it may have half-closed).

A held byte keeps the whole buffer charged that it came in, and the kernel calls a socket writable only while at most a
quarter of its send buffer is. Our pairs have room for that. An application's own socket may not (64 KiB by sendfile()
against the usual 208 KiB: it would wait for ever): there a byte is held only of little ones, and an abort behind much
output that was all read is an end of file to a reader, and EPIPE to a writer.
"""

import contextlib
import errno
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Callable
from typing import Protocol

from kwik.engine import watch

BUFFER_BYTES = 256 * 1024
"""Send buffer of the application's end: how far a writer runs ahead of the engine. Not less: the kernel calls a socket
writable when three quarters are free, and the buffer that holds the held byte may be 64 KiB large."""
READ_AHEAD_BYTES = 64 * 1024
"""Send buffer of the engine's end: how far it runs ahead of a reader. The kernel doubles it; it is no part of any
budget, so that a reader who stalls should hold little there."""
PIECE_BYTES = 64 * 1024
HELD_OF_BYTES = 512
"""On an application's own socket the last byte is held if no more than this came since nothing was unread."""
_NO_WORD = b"\0\0\0\0"
_HOLD = b"\0"


class LocalEnd(Protocol):
    """One connected stream socket whose other end belongs to an application. Nothing here blocks."""

    sock: socket.socket
    hung_up: bool
    """The application's end is closed altogether (or shut in both directions)."""
    emptied: bool
    """The last receive took all there was, and an event will tell of what comes next."""

    def on_event(self, mask: int) -> None:
        """Remember what the watcher said."""

    def receive(self, limit: int) -> bytes:
        """At most `limit` (> 0) bytes; b"" at the end of file. BlockingIOError: nothing now. OSError: it was reset."""

    def is_drained(self) -> bool:
        """True if nothing unread waits now."""

    def is_ended(self) -> bool:
        """True if the end of file is next: nothing unread waits and nothing can come."""

    def was_reset(self) -> bool:
        """True if the application's end was closed by a reset or with unread bytes. Asked after the end of file."""

    def send(self, data: memoryview) -> int:
        """How many bytes the kernel took. BlockingIOError: none now. OSError: nobody will read them."""

    def waits(self) -> bool:
        """True if the application is one of this process and has read everything."""

    def end_output(self) -> None:
        """Show the end of file to the application."""

    def close(self, *, reset: bool) -> None:
        """Give the descriptor up; the application sees ECONNRESET if `reset`, else an end of file."""


def end_of(sock: socket.socket, held: Callable[[], bool] = lambda: False) -> LocalEnd:
    """The face for this socket, which is made non-blocking. `held` tells whether a held byte was put in (AF_UNIX)."""
    sock.setblocking(False)
    if sock.family == getattr(socket, "AF_UNIX", None):
        return UnixEnd(sock, held)
    return TcpEnd(sock)


def make_pair() -> tuple["UnixEnd", socket.socket]:
    """The engine's end of a new pair, and the application's (plain, in whatever mode new sockets are)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_AHEAD_BYTES)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        theirs.send(_HOLD, socket.MSG_DONTWAIT)
        ours.setblocking(False)
        return UnixEnd(ours, lambda: True), theirs
    except BaseException:
        ours.close()
        theirs.close()
        raise


def put_held_byte(application_end: socket.socket) -> None:
    """Put the held byte into the engine's queue, from the application's end, before the application has written."""
    with contextlib.suppress(OSError):  # the engine has closed already
        application_end.send(_HOLD, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class UnixEnd:
    """An AF_UNIX stream socket with the held byte; see LocalEnd.

    Without a held byte at the start (a foreign application's socket) one is kept as soon as the application has
    written a little.
    """

    def __init__(self, sock: socket.socket, held: Callable[[], bool]) -> None:
        self.sock = sock
        self.hung_up = False
        self.emptied = False
        self._held = 0
        self._held_later = held
        self._burst = 0
        """Bytes read since nothing was unread; only whole buffers begin one."""
        self._ended = False
        self._failed = False
        # Urgent bytes exist on AF_UNIX too; in line they are ordinary ones (an ABOR of ftplib would hang otherwise).
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def on_event(self, mask: int) -> None:
        """See LocalEnd."""
        self._ended = self._ended or bool(mask & watch.ENDED)
        self.hung_up = self.hung_up or bool(mask & watch.HUNG_UP)

    def receive(self, limit: int) -> bytes:
        """See LocalEnd."""
        ended = self._ended  # before counting: after the end no byte can come
        fresh = self._fresh()
        if fresh <= 0:
            if ended:
                return b""
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        data = self._take(fresh, limit)
        # Whatever comes from now on, its event does too: to ask again would cost as much as to read.
        self.emptied = len(data) == fresh and not ended
        return data

    def _take(self, fresh: int, limit: int) -> bytes:
        """Some of the `fresh` bytes that wait, the last of which is only looked at."""
        held = self._held
        size = held + min(fresh, limit, PIECE_BYTES) - 1
        if self._must_let_go(size + 1 - held, fresh):
            self._held = 0
            data = self.sock.recv(size + 1)
            # It may come back short, as below; only what is behind the held byte is news.
            return data[held:] if len(data) > held else self.sock.recv(size)
        buffer = memoryview(bytearray(size + 1))
        # A read may come back short (at an urgent byte): all that was taken counts, and one more by a peek.
        taken = self.sock.recv_into(buffer, size) if size else 0
        self.sock.recv_into(buffer[taken:], 1, socket.MSG_PEEK)
        self._held = 1
        return bytes(buffer[held : taken + 1])

    def _must_let_go(self, size: int, fresh: int) -> bool:
        """Whether a byte held behind this read would keep too much charged."""
        self._burst += size
        is_last = size == fresh
        lets_go = is_last and self._burst > HELD_OF_BYTES and not self._held_later()
        if is_last:
            self._burst = 0
        return lets_go

    def is_drained(self) -> bool:
        """See LocalEnd."""
        return self._fresh() <= 0

    def is_ended(self) -> bool:
        """See LocalEnd."""
        return self._ended and self.is_drained()

    def was_reset(self) -> bool:
        """See LocalEnd."""
        if not self._failed:
            self._failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
        return self._failed

    def send(self, data: memoryview) -> int:
        """See LocalEnd."""
        try:
            return self.sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise
        except OSError as error:
            # A socket's error is told once, to whoever asks first.
            self._failed = self._failed or error.errno == errno.ECONNRESET
            self._look()
            raise

    def waits(self) -> bool:
        """See LocalEnd. A foreign application's socket was never given a held byte."""
        with contextlib.suppress(OSError):
            return self._held_later() and fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, _NO_WORD) == _NO_WORD
        return False

    def end_output(self) -> None:
        """See LocalEnd."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool) -> None:
        """See LocalEnd."""
        if not reset:
            with contextlib.suppress(OSError):
                while self.sock.recv(PIECE_BYTES):
                    pass
        self.sock.close()

    def _fresh(self) -> int:
        """Unread bytes that were not handed up yet."""
        answer = fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, _NO_WORD)
        # Asked after counting: the byte is put in only after its mark was set, so it is never taken for data.
        if not self._held and self._held_later():
            self._held = 1
        waiting: int = struct.unpack("i", answer)[0]
        return waiting - self._held

    def _look(self) -> None:
        """Take in what no event has told yet."""
        poll = select.poll()
        poll.register(self.sock.fileno(), 0)
        for _, mask in poll.poll(0):
            self.on_event(mask)


class TcpEnd:
    """A TCP socket, such as the one to a gateway's application; see LocalEnd."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.hung_up = False
        self.emptied = False
        self._failed = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_event(self, mask: int) -> None:
        """See LocalEnd."""
        self.hung_up = self.hung_up or bool(mask & watch.HUNG_UP)

    def receive(self, limit: int) -> bytes:
        """See LocalEnd."""
        try:
            return self.sock.recv(min(limit, PIECE_BYTES))
        except BlockingIOError:
            raise
        except OSError:
            self._failed = True
            raise

    def is_drained(self) -> bool:
        """See LocalEnd."""
        answer = fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, _NO_WORD)
        return answer == _NO_WORD

    def is_ended(self) -> bool:
        """See LocalEnd."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            self._failed = True
            return True

    def was_reset(self) -> bool:
        """See LocalEnd."""
        if not self._failed:
            self._failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        return self._failed

    def send(self, data: memoryview) -> int:
        """See LocalEnd."""
        try:
            return self.sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise
        except OSError:
            # TCP has no other way to learn of a close than a reset: there is nobody any more.
            self._failed = self.hung_up = True
            raise

    def waits(self) -> bool:
        """See LocalEnd."""
        return False

    def end_output(self) -> None:
        """See LocalEnd."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool) -> None:
        """See LocalEnd."""
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
