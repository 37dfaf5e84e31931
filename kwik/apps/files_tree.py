"""The files below a root, as the file server sees them: safe opening, listings, content types, entity tags.

Nothing outside the root is ever opened, nor anything hidden. `lookup` may block on the disk: call it in a thread.
All that they say depends on content and names alone, so that equal trees look equal on all servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import html
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote_from_bytes

import blake3

from kwik.apps.files_http import is_servable

TAGS_MAX = 4096
"""Entity tags kept; each is a few hundred bytes."""
LISTED_MAX = 10_000
"""Most entries of a directory that are listed; the listing says how many more there are."""
_HASH_READ_BYTES = 1024 * 1024
_HASH_TURN_BYTES = 64 * 1024 * 1024  # hashed per turn in a thread; between turns the task can be cancelled
_INDEX = b"index.html"
_GONE = (FileNotFoundError, NotADirectoryError, PermissionError)
_NOT_THERE = {
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
}  # the same to a client; OSErrors without a class of their own

CONTENT_TYPES = {
    b"avif": "image/avif",
    b"bin": "application/octet-stream",
    b"bmp": "image/bmp",
    b"bz2": "application/x-bzip2",
    b"c": "text/plain; charset=utf-8",
    b"css": "text/css; charset=utf-8",
    b"csv": "text/csv; charset=utf-8",
    b"flac": "audio/flac",
    b"gif": "image/gif",
    b"gz": "application/gzip",
    b"h": "text/plain; charset=utf-8",
    b"htm": "text/html; charset=utf-8",
    b"html": "text/html; charset=utf-8",
    b"ico": "image/vnd.microsoft.icon",
    b"iso": "application/octet-stream",
    b"jpeg": "image/jpeg",
    b"jpg": "image/jpeg",
    b"js": "text/javascript; charset=utf-8",
    b"json": "application/json",
    b"log": "text/plain; charset=utf-8",
    b"m3u8": "application/vnd.apple.mpegurl",
    b"m4a": "audio/mp4",
    b"m4s": "video/iso.segment",
    b"md": "text/markdown; charset=utf-8",
    b"mjs": "text/javascript; charset=utf-8",
    b"mkv": "video/x-matroska",
    b"mov": "video/quicktime",
    b"mp3": "audio/mpeg",
    b"mp4": "video/mp4",
    b"mpd": "application/dash+xml",
    b"ogg": "audio/ogg",
    b"otf": "font/otf",
    b"pdf": "application/pdf",
    b"png": "image/png",
    b"py": "text/x-python; charset=utf-8",
    b"rst": "text/x-rst; charset=utf-8",
    b"svg": "image/svg+xml",
    b"tar": "application/x-tar",
    b"toml": "application/toml",
    b"ts": "video/mp2t",
    b"ttf": "font/ttf",
    b"txt": "text/plain; charset=utf-8",
    b"wasm": "application/wasm",
    b"wav": "audio/wav",
    b"webm": "video/webm",
    b"webp": "image/webp",
    b"woff": "font/woff",
    b"woff2": "font/woff2",
    b"xml": "application/xml",
    b"xz": "application/x-xz",
    b"yaml": "application/yaml",
    b"yml": "application/yaml",
    b"zip": "application/zip",
    b"zst": "application/zstd",
}
"""By the last extension in lower case. Fixed here: the tables of the machines differ."""
DEFAULT_TYPE = "application/octet-stream"
LISTING_TYPE = "text/html; charset=utf-8"

Identity = tuple[str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file open for reading; whoever gets it closes `fd`. `identity` changes when the content may have."""

    fd: int
    path: str
    content_type: str
    identity: Identity

    @property
    def size(self) -> int:
        return self.identity[1]

    def is_unchanged(self) -> bool:
        """Whether size, time stamp and inode of the open file are still those at opening. Does not block."""
        return _identity(self.path, os.fstat(self.fd)) == self.identity


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory's page."""

    body: bytes


class MissingSlash(Exception):
    """The path names a directory, but its closing slash is missing."""


def lookup(root: Path, segments: tuple[bytes, ...]) -> OpenFile | Listing:
    """What `segments` (from `files_http.decode_path`) names: a file, a directory's index.html, or its listing.

    Raises FileNotFoundError for whatever may not be seen, whyever; MissingSlash; other OSErrors for a failing disk.
    """
    top = os.path.realpath(os.fsencode(root))
    inside, wants_directory = segments[:-1] if not segments[-1] else segments, not segments[-1]
    try:
        parts = _resolved(top, inside)
        if not wants_directory:
            return _open_file(top, parts, inside[-1])
        with contextlib.suppress(MissingSlash, *_GONE):
            return _open_file(top, _resolved(top, (*inside, _INDEX)), _INDEX)
        return Listing(_list(top, parts, inside))
    except OSError as error:
        if isinstance(error, _GONE) or error.errno in _NOT_THERE:
            raise FileNotFoundError(errno.ENOENT, "not found") from error
        raise


def _resolved(top: bytes, segments: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Where `segments` leads, links followed, as segments below `top`; FileNotFoundError if outside or hidden."""
    real = os.path.realpath(os.path.join(top, *segments), strict=True)
    if real == top:
        return ()
    if not real.startswith(top.rstrip(b"/") + b"/"):
        raise FileNotFoundError(errno.ENOENT, "outside the root")
    parts = tuple(real[len(top.rstrip(b"/")) + 1 :].split(b"/"))
    if not all(is_servable(part) for part in parts):
        raise FileNotFoundError(errno.ENOENT, "hidden")
    return parts


def _walk(top: bytes, parts: tuple[bytes, ...], last_flags: int) -> int:
    """Open `parts` below `top` one by one and follow no link, so that none put there since can lead outside."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(top, flags | os.O_DIRECTORY)
    for number, part in enumerate(parts, 1):
        extra = last_flags if number == len(parts) else os.O_DIRECTORY
        try:
            deeper = os.open(part, flags | os.O_NOFOLLOW | extra, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _open_file(top: bytes, parts: tuple[bytes, ...], name: bytes) -> OpenFile:
    fd = _walk(top, parts, 0)
    try:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise MissingSlash
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        path = os.fsdecode(os.path.join(top, *parts))
        return OpenFile(fd, path, content_type(name), _identity(path, status))
    except BaseException:
        os.close(fd)
        raise


def _identity(path: str, status: os.stat_result) -> Identity:
    return path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def content_type(name: bytes) -> str:
    """By the last extension of the name, from the table above."""
    stem, dot, extension = name.rpartition(b".")
    return CONTENT_TYPES.get(extension.lower(), DEFAULT_TYPE) if stem and dot else DEFAULT_TYPE


def _list(top: bytes, parts: tuple[bytes, ...], shown: tuple[bytes, ...]) -> bytes:
    fd = _walk(top, parts, os.O_DIRECTORY)
    try:
        names = sorted(filter(is_servable, map(os.fsencode, os.listdir(fd))))
    finally:
        os.close(fd)
    rows = ['<tr><td><a href="../">../</a></td><td>-</td></tr>\n'] if shown else []
    listed = (_row(top, parts, name) for name in names[:LISTED_MAX])
    rows.extend(row for row in listed if row is not None)
    title = "Index of /" + "".join(_shown(name) + "/" for name in shown)
    more = f"<p>and {len(names) - LISTED_MAX} more</p>\n" if len(names) > LISTED_MAX else ""
    page = (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>\n<body><h1>{title}</h1>\n'
        f"<table>\n<tr><th>name</th><th>bytes</th></tr>\n{''.join(rows)}</table>\n{more}</body></html>\n"
    )
    return page.encode()


def _row(top: bytes, parts: tuple[bytes, ...], name: bytes) -> str | None:
    try:
        status = os.stat(os.path.join(top, *_resolved(top, (*parts, name))))
    except OSError:
        return None  # a dangling link, or one that leads outside: not served, so not listed
    if stat.S_ISDIR(status.st_mode):
        slash, size = "/", "-"
    elif stat.S_ISREG(status.st_mode):
        slash, size = "", str(status.st_size)
    else:
        return None
    return f'<tr><td><a href="{quote_from_bytes(name)}{slash}">{_shown(name)}{slash}</a></td><td>{size}</td></tr>\n'


def _shown(name: bytes) -> str:
    return html.escape(name.decode("utf-8", "replace"))


def tag_of(content: bytes) -> str:
    """The entity tag of `content`: BLAKE3-256, the digest that every Kwik server has."""
    return f'"{blake3.blake3(content).hexdigest()}"'


class TagCache:
    """Entity tags of files by identity. One computation per file at a time; those of a loop belong to that loop."""

    def __init__(self, tags_max: int = TAGS_MAX) -> None:
        self._tags_max = tags_max
        self._tags: OrderedDict[Identity, str] = OrderedDict()
        self._running: dict[tuple[int, Identity], asyncio.Task[str | None]] = {}

    async def tag(self, file: OpenFile) -> str | None:
        """The tag of `file`, hashed in a thread unless known; None when it changed meanwhile.

        Cancelling a caller does not stop the computation, which others may wait for.
        """
        known = self._tags.get(file.identity)
        if known is not None:
            self._tags.move_to_end(file.identity)
            return known
        key = id(asyncio.get_running_loop()), file.identity
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._compute(file, os.dup(file.fd)))
            task.add_done_callback(partial(self._on_done, key))
        return await asyncio.shield(task)

    def _on_done(self, key: tuple[int, Identity], task: asyncio.Task[str | None]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also if whoever waited has been cancelled

    async def _compute(self, file: OpenFile, fd: int) -> str | None:
        try:
            digest, offset = blake3.blake3(), 0
            while offset < file.size:
                offset = await asyncio.to_thread(_hash_turn, digest, fd, offset, file.size)
            if _identity(file.path, os.fstat(fd)) != file.identity:
                return None
        finally:
            os.close(fd)
        tag = self._tags[file.identity] = f'"{digest.hexdigest()}"'
        while len(self._tags) > self._tags_max:
            self._tags.popitem(last=False)
        return tag


def _hash_turn(digest: blake3.blake3, fd: int, offset: int, size: int) -> int:
    end = min(offset + _HASH_TURN_BYTES, size)
    while offset < end:
        piece = os.pread(fd, min(_HASH_READ_BYTES, end - offset), offset)
        if not piece:
            return size  # shorter than it was; the identity shows it
        digest.update(piece)
        offset += len(piece)
    return offset
