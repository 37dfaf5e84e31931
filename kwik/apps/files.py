"""A static HTTP/1.1 file server for one stream, whatever carries it.

Its answers are byte-identical on all servers with the same files: no clock, no name, entity tags from content, a fixed
order of headers. So it sets no idle timeout either; whoever carries the stream does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kwik.apps.files_http import (
    BODY_MAX_BYTES,
    REASONS,
    HttpError,
    Request,
    answer_head,
    body_length,
    decode_path,
    find_head,
    names_tag,
    parse_head,
    parse_range,
)
from kwik.apps.files_tree import LISTING_TYPE, Listing, MissingSlash, OpenFile, TagCache, lookup, tag_of

PIECE_BYTES = 64 * 1024
"""Most bytes read and written at a time, and so held per stream beside the transport's buffer."""
_READ_BYTES = 16 * 1024
_TRIES = 3

Headers = list[tuple[str, str]]

_tags = TagCache()  # of the process: streams are many and short, and the files the same for all


class _FileChanged(Exception):
    """What was promised in the head can no longer be sent."""


async def serve_files(root: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one stream from the files below `root`, in order, and close it.

    Returns when the client has ended its side, asked to close, sent what cannot be parsed, or gone; never raises for
    what a client does. A fault of this machine (a disk error, a file that changes while it is sent) is no answer: it
    aborts the transport, so that another server may be asked and no answer is wrong or silently short.
    Cancellation closes the stream.
    """
    stream = _Stream(root, reader, writer)
    try:
        await stream.run()
    except ConnectionError:
        pass  # the client has gone; nothing is owed to it
    except (_FileChanged, OSError):
        _reset(writer)
    finally:
        writer.close()


@dataclass(frozen=True, slots=True)
class _Content:
    """What a URL stands for: a file, or a page in memory."""

    source: OpenFile | bytes
    content_type: str
    etag: str

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.size


class _Stream:
    def __init__(self, root: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._root = root
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()  # bytes received and not used yet

    async def run(self) -> None:
        is_last = False
        while not is_last:
            try:
                request = await self._next_request()
                if request is None:
                    return
            except HttpError as error:
                await self._answer_error(error.status, close=True)
                is_last = True
            else:
                is_last = request.is_last
                await self._answer(request)
        await self._linger()

    async def _next_request(self) -> Request | None:
        """The next request, its body dropped; None at the end of input. Raises HttpError."""
        while self._buffer.startswith(b"\r\n") or (length := find_head(self._buffer)) is None:
            if self._buffer.startswith(b"\r\n"):  # an empty line before a request is ignored, RFC 9112 §2.2
                del self._buffer[:2]
            elif not await self._fill():
                if self._buffer:
                    raise HttpError(400)
                return None
        request = parse_head(bytes(self._buffer[:length]))
        del self._buffer[:length]
        body_bytes = body_length(request)
        if body_bytes and "100-continue" in request.tokens("expect") and request.minor > 0:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._drop(body_bytes)
        return request

    async def _fill(self) -> bool:
        data = await self._reader.read(_READ_BYTES)
        self._buffer += data
        return bool(data)

    async def _drop(self, count: int) -> None:
        while count > len(self._buffer):
            count -= len(self._buffer)
            self._buffer.clear()
            if not await self._fill():
                raise HttpError(400)
        del self._buffer[:count]

    async def _linger(self) -> None:
        """End our side and read on for a while: to close on unread input would reset the stream and lose the answer."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
            left = BODY_MAX_BYTES
            while left > 0 and (data := await self._reader.read(_READ_BYTES)):
                left -= len(data)

    async def _answer(self, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            await self._answer_error(405, [("Allow", "GET, HEAD")], close=request.is_last)
            return
        answer_error = partial(self._answer_error, close=request.is_last, is_head=request.method == "HEAD")
        try:
            segments = decode_path(request.target)
            if segments is None:
                raise FileNotFoundError
            async with self._content(segments) as content:
                await self._answer_content(request, content)
        except HttpError as error:
            await answer_error(error.status)
        except FileNotFoundError:
            await answer_error(404)
        except MissingSlash:
            path, mark, query = request.target.partition("?")
            # Two slashes at the start would name a host; decode_path lets no empty segment through.
            await answer_error(301, [("Location", f"{path}/{mark}{query}")])

    @contextlib.asynccontextmanager
    async def _content(self, segments: tuple[bytes, ...]) -> AsyncIterator[_Content]:
        """What is there now, with the tag of exactly that. Raises as `lookup`, or _FileChanged at the last try."""
        for _ in range(_TRIES):
            found = await _lookup_in_thread(self._root, segments)
            if isinstance(found, Listing):
                yield _Content(found.body, LISTING_TYPE, tag_of(found.body))
                return
            try:
                etag = await _tags.tag(found)
                if etag is not None:
                    yield _Content(found, found.content_type, etag)
                    return
            finally:
                os.close(found.fd)
        raise _FileChanged

    async def _answer_content(self, request: Request, content: _Content) -> None:
        close, is_head = request.is_last, request.method == "HEAD"
        tag = ("ETag", content.etag)
        if (wanted := request.values("if-match")) and not names_tag(wanted, content.etag, weakly=False):
            await self._answer_error(412, close=close, is_head=is_head)
            return
        if (known := request.values("if-none-match")) and names_tag(known, content.etag, weakly=True):
            await self._write(answer_head(304, [tag], close=close))
            return
        ranges = [] if is_head else request.values("range")  # RFC 9110 §14.2: ranges are defined for GET only
        if (condition := request.values("if-range")) and condition != [content.etag]:
            ranges = []
        try:
            asked = parse_range(ranges, content.size)
        except HttpError:
            await self._answer_error(416, [("Content-Range", f"bytes */{content.size}")], close=close)
            return
        start, end = asked if asked is not None else (0, content.size)
        headers: Headers = [("Content-Type", content.content_type), ("Content-Length", str(end - start))]
        if asked is not None:
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{content.size}"))
        headers += [tag, ("Accept-Ranges", "bytes")]
        self._writer.write(answer_head(200 if asked is None else 206, headers, close=close))
        if not is_head:
            await self._send(content.source, start, end)
        await self._writer.drain()

    async def _send(self, source: OpenFile | bytes, start: int, end: int) -> None:
        for offset in range(start, end, PIECE_BYTES):
            size = min(PIECE_BYTES, end - offset)
            if isinstance(source, bytes):
                await self._write(source[offset : offset + size])
            else:
                await self._write(await _read_piece(source, offset, size))

    async def _answer_error(
        self, status: int, headers: Headers | None = None, *, close: bool, is_head: bool = False
    ) -> None:
        body = f"{status} {REASONS[status]}\n".encode()
        plain: Headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        await self._write(answer_head(status, plain + (headers or []), close=close) + (b"" if is_head else body))

    async def _write(self, data: bytes | bytearray) -> None:
        self._writer.write(data)
        await self._writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Abort so that the client sees a reset. On a TCP socket `abort` alone would look like an orderly end."""
    carrier = writer.get_extra_info("socket")
    if carrier is not None:
        with contextlib.suppress(OSError):
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _lookup_in_thread(root: Path, segments: tuple[bytes, ...]) -> OpenFile | Listing:
    """`lookup` in a thread. If the caller is cancelled meanwhile, a file that the thread opens is closed again."""
    opening = asyncio.ensure_future(asyncio.to_thread(lookup, root, segments))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: asyncio.Future[OpenFile | Listing]) -> None:
    if not opening.cancelled() and opening.exception() is None and isinstance(found := opening.result(), OpenFile):
        os.close(found.fd)


async def _read_piece(file: OpenFile, offset: int, size: int) -> bytes | bytearray:
    """Exactly `size` bytes of the file as it was opened; raises _FileChanged when it is no longer that.

    From the page cache at once, which is cheaper than the way through a thread; but from a disk in a thread, since a
    seek would hold up every stream of the loop.
    """
    piece: bytes | bytearray | None = _cached_piece(file.fd, offset, size)
    if piece is None:
        piece = await asyncio.to_thread(_read_fully, file.fd, offset, size)
    if len(piece) != size or not file.is_unchanged():
        raise _FileChanged
    return piece


def _cached_piece(fd: int, offset: int, size: int) -> bytearray | None:
    """`size` bytes without waiting for a disk; None when they are not all in memory, or the system cannot tell."""
    no_wait = getattr(os, "RWF_NOWAIT", None)
    if no_wait is None:
        return None
    buffer = bytearray(size)
    try:
        count = os.preadv(fd, [buffer], offset, no_wait)
    except OSError:  # BlockingIOError: not in memory; EOPNOTSUPP: this file system cannot tell
        return None
    return buffer if count == size else None


def _read_fully(fd: int, offset: int, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)
