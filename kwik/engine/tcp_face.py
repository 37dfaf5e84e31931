"""What a TCP socket would answer about itself, over an AF_UNIX pair: family, names, options.

Programs ask (asyncio sets TCP_NODELAY on AF_INET sockets, http.client at each connect, ftplib reads the peer's name)
and break on AF_UNIX answers.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Self

from kwik.engine.handle import StreamHandle, registry
from kwik.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_INTERNET_LEVELS: Final = frozenset({socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6})
_DEFAULTS: Final = {
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,  # nothing waits for more to come, ever
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): 1200,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 7200,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 75,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 9,
    (socket.IPPROTO_IP, socket.IP_TTL): 64,
}


class TcpFace(socket.socket):
    """A connected socket over the descriptor of one end of a pair. The C object keeps AF_UNIX.

    The signature is that of socket.socket, because `dup()` calls it; only `fileno` counts.
    """

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        if fileno is None:
            raise ConfigError("a Conn is not made and then connected: it comes from kwik.dial() or accept()")
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        self._handle: StreamHandle | None = registry.find(fileno)
        self._options: dict[tuple[int, int], int | bytes] = {}
        self._linger_s: int | None = None
        """Of SO_LINGER; None: off."""

    def attach(self, handle: StreamHandle) -> Self:
        """For whoever makes a Conn: this is its stream."""
        self._handle = handle
        return self

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET, or AF_INET6 for a service named by an IPv6 address."""
        is_v6 = self._handle is not None and len(self._handle.remote) == 4
        return socket.AF_INET6 if is_v6 else socket.AF_INET

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM."""
        return socket.SOCK_STREAM

    @property
    def proto(self) -> int:
        """IPPROTO_TCP."""
        return socket.IPPROTO_TCP

    def dup(self) -> Self:
        """Another object and descriptor of the same stream, which ends when the last one is closed."""
        copy = super().dup()
        copy._handle, copy._options, copy._linger_s = self._handle, self._options, self._linger_s
        return copy

    def getpeername(self) -> Any:  # noqa: ANN401 - as socket.socket has it
        """(host, port) of the service; of the client for an accepted stream."""
        self._check_open()
        return super().getpeername() if self._handle is None else self._handle.remote

    def getsockname(self) -> Any:  # noqa: ANN401 - as socket.socket has it
        """(host, port) of the path that the stream began on, at this side."""
        self._check_open()
        return super().getsockname() if self._handle is None else self._handle.local

    def setsockopt(self, *args: Any) -> None:  # noqa: ANN401
        """As on TCP. Options of TCP and IP are remembered and answered; SO_LINGER is obeyed when the socket closes."""
        self._check_open()
        level, option, value = args[0], args[1], args[2]
        if level in _INTERNET_LEVELS:
            if value is None:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self._options[level, option] = value if isinstance(value, int) else bytes(value)
            return
        super().setsockopt(*args)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            on, seconds = struct.unpack("ii", bytes(value))
            self._linger_s = seconds if on else None

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:  # noqa: ANN401
        """As on TCP."""
        self._check_open()
        if level not in _INTERNET_LEVELS:
            return super().getsockopt(level, option, buflen) if buflen else super().getsockopt(level, option)
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO):
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        value = self._options.get((level, option), _DEFAULTS.get((level, option), 0))
        if buflen:
            return (struct.pack("i", value) if isinstance(value, int) else value)[:buflen]
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little")

    def connect(self, address: Any) -> None:  # noqa: ANN401 - as socket.socket has it
        """It is connected: EISCONN."""
        raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))

    def connect_ex(self, address: Any) -> int:  # noqa: ANN401 - as socket.socket has it
        """It is connected: EISCONN."""
        return errno.EISCONN

    def bind(self, address: Any) -> None:  # noqa: ANN401 - as socket.socket has it
        """It has its name: EINVAL."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def sendto(self, data: ReadableBuffer, *rest: Any) -> int:  # noqa: ANN401
        """As on a connected stream: the address is ignored."""
        if not rest:
            raise TypeError("sendto() takes 2 or 3 arguments (1 given)")
        return self.send(data, rest[0]) if len(rest) > 1 else self.send(data)

    def _check_open(self) -> None:
        if self.fileno() < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
