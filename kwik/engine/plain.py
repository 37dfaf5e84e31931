"""Plain TCP to a service's own host and port, for those who ask for it when no Kwik server answers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from kwik.types import ServiceName, service_address


async def connect_plain(service: ServiceName) -> socket.socket:
    """A connected, blocking socket. Tries all addresses of the host in turn; raises OSError with the last reason."""
    address, loop = service_address(service), asyncio.get_running_loop()
    failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, kind, proto, _, name in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, proto)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(made, name)
            made.setblocking(True)
            return made
        except OSError as error:
            failure = error
            made.close()
        except BaseException:
            made.close()
            raise
    raise failure


def plain_reason(error: OSError) -> str:
    """The system's words: asyncio puts the address into them."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
