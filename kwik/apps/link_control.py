"""The control socket of a link: one JSON object per line over loopback TCP, one JSON object back for each.

`{"set": {...}}` changes shapes, `{"rebind": true}` (or a local address) moves the link's ports towards the server,
`{"stats": true}` reads the counts. Answers carry "ok"; a refused request says why in "error" and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

from kwik.apps.link import Address, Link

LINE_MAX_BYTES = 64 * 1024
CALLERS_MAX = 64


class LinkControl:
    """One link's control socket, until `close`. Whoever can reach it controls the link: keep it on loopback."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._listener: asyncio.Server | None = None
        self._callers: set[asyncio.StreamWriter] = set()

    async def start(self, listen: Address = ("127.0.0.1", 0)) -> Address:
        """Listen, and return the address in use. Raises OSError when it cannot be bound."""
        self._listener = await asyncio.start_server(self._serve, *listen, limit=LINE_MAX_BYTES)
        host, port = self._listener.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening and end the callers' streams. May be called again."""
        if self._listener is not None:
            self._listener.close()
            for writer in list(self._callers):
                writer.close()
            await self._listener.wait_closed()
            self._listener = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._callers) >= CALLERS_MAX:
            writer.close()
            return
        self._callers.add(writer)
        try:
            while line := await self._line(reader):
                answer = answer_line(self._link, line)
                writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass  # the caller has gone; nothing is owed to it
        finally:
            self._callers.discard(writer)
            writer.close()

    @staticmethod
    async def _line(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readline()
        except ValueError:  # longer than LINE_MAX_BYTES: no request of ours
            return b""


def answer_line(link: Link, line: bytes) -> dict[str, object]:
    """Do what one line asks and return the answer. Never raises for what the line holds."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _refusal("not a line of JSON")
    if not isinstance(request, dict) or len(request) != 1:
        return _refusal('send one object with one key, such as {"stats": true}')
    ((verb, value),) = request.items()
    try:
        return {"ok": True} | _perform(link, verb, value)
    except (ValueError, OSError) as error:
        return _refusal(str(error))


def _perform(link: Link, verb: str, value: object) -> dict[str, object]:
    if verb == "set" and isinstance(value, dict):
        link.set(**value)
        return {}
    if verb == "rebind" and (value is True or isinstance(value, str)):
        link.rebind(value if isinstance(value, str) else None)
        return {}
    if verb == "stats" and value is True:
        return asdict(link.stats())
    raise ValueError('unknown request; known are {"set": {...}}, {"rebind": true}, {"stats": true}')


def _refusal(reason: str) -> dict[str, object]:
    return {"ok": False, "error": reason}
