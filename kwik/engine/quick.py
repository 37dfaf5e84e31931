"""asyncio's streams over a socket that is connected already, without the rounds of the loop that asyncio takes for it.

`asyncio.open_connection` hands over a reader and a writer three rounds later, and what waits in the socket is found a
fourth one later: a good part of what a small request takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

STREAM_LIMIT_BYTES = 65536
"""As asyncio's own: the longest line that a StreamReader takes."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def quick_streams(sock: socket.socket, loop: asyncio.AbstractEventLoop) -> Streams | None:
    """A reader, which has what has come by now, and a writer. In a callback of the loop.

    None for loops other than asyncio's own that watch descriptors: use `asyncio.open_connection` there.
    """
    make: Callable[..., asyncio.Transport] | None = getattr(loop, "_make_socket_transport", None)
    if make is None or not isinstance(loop, asyncio.SelectorEventLoop):
        return None
    sock.setblocking(False)
    reader = asyncio.StreamReader(limit=STREAM_LIMIT_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    with contextlib.suppress(OSError):  # nothing yet; what is wrong the transport will find, too
        reader.feed_data(sock.recv(STREAM_LIMIT_BYTES))
    transport = make(sock, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
