"""A gateway: carries streams to an application that knows nothing of Kwik, over TCP or a Unix socket.

The application is reached before a stream is accepted, so that a stream to an application that is down is refused and
the client may try another server. Everything after that (bytes, half-closes and resets in both directions) is the
engine's, which works on the socket itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass
from typing import Final

from kwik.errors import ConfigError
from kwik.types import Address

UNIX_PREFIX: Final = "unix:"
CONNECT_LIMIT_S: Final = 5.0
"""How long the application has to take a stream before the client is told that it is down."""
_UNIX_PATH_MAX_BYTES: Final = 107


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where the application is. `str()` is what `parse` reads."""

    address: Address | None
    path: str = ""
    """Of a Unix socket, when there is no address."""

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """Read `HOST:PORT` or `unix:PATH`. Raises ConfigError that says what would be right."""
        if text.startswith(UNIX_PREFIX):
            path = text.removeprefix(UNIX_PREFIX)
            if not path or len(os.fsencode(path)) > _UNIX_PATH_MAX_BYTES:
                raise ConfigError(f"{text!r}: write unix:PATH, with at most {_UNIX_PATH_MAX_BYTES} bytes of path")
            return cls(None, path)
        address = Address.parse(text)
        if address.port == 0:
            raise ConfigError(f"upstream {text!r} has port 0: write the port on which the application listens")
        return cls(address)

    def __str__(self) -> str:
        return f"{UNIX_PREFIX}{self.path}" if self.address is None else str(self.address)

    async def connect(self, limit_s: float = CONNECT_LIMIT_S) -> socket.socket:
        """A non-blocking socket that is connected to the application; the caller's from then on.

        Tries all addresses of a host name in turn. Raises OSError that names the application, TimeoutError after
        `limit_s` seconds.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self._connect()
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, f"{self} did not answer within {limit_s:g} s") from None
        except OSError as error:
            raise OSError(error.errno, f"{self}: {_reason(error)}") from None

    async def _connect(self) -> socket.socket:
        if self.address is None:
            return await _connected(socket.AF_UNIX, self.path)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*self.address, type=socket.SOCK_STREAM)
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
        for family, _, _, _, address in found:
            try:
                return await _connected(family, address)
            except OSError as error:
                failure = error
        raise failure


async def _connected(family: int, address: str | tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if family != socket.AF_UNIX:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _reason(error: OSError) -> str:
    """The system's words: asyncio puts the address into them, which is said already."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
