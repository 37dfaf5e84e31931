"""One HTTP download over Kwik, with Python's own http.client on a Kwik stream: what `kwik get` does."""

from __future__ import annotations

import hashlib
import http.client
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit

from kwik.errors import ConfigError, KwikError
from kwik.types import Address, ServiceName, parse_service

if TYPE_CHECKING:
    from kwik.kdp.snapshots import ShareSnapshot

PIECE_BYTES: Final = 64 * 1024
REDIRECTS_MAX: Final = 5
TELL_EVERY_S: Final = 0.25
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SAFE: Final = "/%:=&?~#+!$,;'@()*[]"
"""Characters of a path that are legal as they are; everything else is escaped."""


class DownloadError(KwikError):
    """The answer is not the file that was asked for: an HTTP error, a wrong length, a wrong hash."""


class Sink(Protocol):
    """Takes the bytes of the file."""

    def write(self, data: bytes) -> object:
        """Take all of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart."""

    service: ServiceName
    path: str
    """With its query, as it goes into the request line."""

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read `http://HOST[:PORT]/PATH`; the port is 80 when left out. Raises ConfigError."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            hint = "; Kwik itself encrypts and verifies: write http://" if parts.scheme == "https" else ""
            raise ConfigError(f"{url!r} is not a URL that can be fetched: write http://SERVICE[:PORT]/PATH{hint}")
        try:
            port = parts.port or 80
        except ValueError as error:
            raise ConfigError(f"{url!r}: {error}") from None
        query = f"?{parts.query}" if parts.query else ""
        service = parse_service(str(Address(parts.hostname, port)))
        return cls(service, quote((parts.path or "/") + query, safe=_SAFE))

    @property
    def name(self) -> str:
        """The last part of the path, as a file name; empty if there is none."""
        name = unquote(self.path.partition("?")[0]).rpartition("/")[2]
        return "" if name in (".", "..") or "\0" in name else name

    @property
    def host(self) -> str:
        """For the Host header."""
        return self.service.removesuffix(":80")

    def redirected(self, location: str) -> Target:
        """Where the answer says that the file is. Raises DownloadError for another service: nobody dialled that."""
        url = urljoin(f"http://{self.service}{self.path}", location)
        try:
            there = Target.parse(url)
        except ConfigError as error:
            raise DownloadError(f"redirected to {location!r}: {error}") from None
        if there.service != self.service:
            raise DownloadError(f"redirected to another service, {there.service}: fetch {url} if that is what you want")
        return there


@dataclass(slots=True)
class Progress:
    """How far a download is; the same object grows all the time."""

    total_bytes: int | None = None
    received_bytes: int = 0
    shares: tuple[ShareSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A download that is complete. `duration_s` counts from before the dial."""

    received_bytes: int
    duration_s: float
    sha256: str
    shares: tuple[ShareSnapshot, ...] = field(default=())


def download(
    target: Target,
    dial: Callable[[str], socket.socket],
    sink: Sink,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Downloaded:
    """Fetch `target` into `sink`; what `dial` returns may have `stats()`, and then the shares of the servers are known.

    `on_progress` is called about four times a second. Raises DownloadError, and whatever `dial` and the stream raise;
    then the sink holds a part of the file or nothing.
    """
    started_at = monotonic()
    for _ in range(REDIRECTS_MAX + 1):
        stream = dial(target.service)
        try:
            response = request(stream, target)
            location = response.getheader("Location")
            if response.status in _REDIRECTS and location:
                target = target.redirected(location)
                continue
            if response.status != 200:
                raise DownloadError(f"{target.host}{target.path}: {response.status} {response.reason}")
            progress, digest = Progress(response.length), hashlib.sha256()
            _receive(response, stream, progress, [digest.update, sink.write], on_progress=on_progress, clock=monotonic)
            shares = shares_of(stream) or progress.shares
            return Downloaded(progress.received_bytes, monotonic() - started_at, digest.hexdigest(), shares)
        finally:
            stream.close()
    raise DownloadError(f"{target.host}{target.path}: redirected more than {REDIRECTS_MAX} times")


def request(stream: socket.socket, target: Target, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Send a GET on a stream that is open already, by http.client as it is, and return the answer's head.

    The answer's body is read from the stream; close the stream when done. Raises DownloadError for what is no HTTP.
    """
    client = http.client.HTTPConnection(target.host)
    client.sock = stream
    try:
        client.request("GET", target.path, headers={"Host": target.host} | (headers or {}))
        return client.getresponse()
    except http.client.HTTPException as error:
        raise DownloadError(f"{target.service} does not answer as an HTTP server: {error!r}") from error


def _receive(
    response: http.client.HTTPResponse,
    stream: socket.socket,
    progress: Progress,
    takers: list[Callable[[bytes], object]],
    *,
    on_progress: Callable[[Progress], None],
    clock: Callable[[], float],
) -> None:
    tell_at = clock() + TELL_EVERY_S
    try:
        while data := response.read1(PIECE_BYTES):
            for take in takers:
                take(data)
            progress.received_bytes += len(data)
            if clock() >= tell_at:
                progress.shares = shares_of(stream)
                on_progress(progress)
                tell_at = clock() + TELL_EVERY_S
    except http.client.HTTPException as error:
        raise DownloadError(f"the answer ended early: {error!r}") from error
    if progress.total_bytes is not None and progress.received_bytes != progress.total_bytes:
        raise DownloadError(f"the answer ended after {progress.received_bytes} of {progress.total_bytes} bytes")


def shares_of(stream: object) -> tuple[ShareSnapshot, ...]:
    """What each server contributed so far; nothing for a stream that cannot say."""
    ask = getattr(stream, "stats", None)
    stats = ask() if ask is not None else None
    return () if stats is None else tuple(stats.shares)


def bytes_by_server(shares: Iterable[ShareSnapshot]) -> dict[str, int]:
    """What each server delivered, by its id; one that came back after a restart counts once."""
    found: dict[str, int] = {}
    for share in shares:
        found[share.server_id] = found.get(share.server_id, 0) + share.delivered_bytes
    return found
