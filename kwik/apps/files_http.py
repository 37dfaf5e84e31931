"""HTTP/1.1 as the file server needs it (RFC 9110, RFC 9112): heads in, heads out, ranges, conditions. Pure.

Every verdict depends on the bytes alone, never on how they were cut into pieces: `find_head` says for any prefix what
it says for all longer ones, or that it needs more. Servers with equal files must answer with equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

HEAD_MAX_BYTES = 16 * 1024
LINE_MAX_BYTES = 8 * 1024
"""Longest request line; RFC 9112 §3 recommends at least 8000."""
HEADERS_MAX = 100
BODY_MAX_BYTES = 1024 * 1024
"""Longest request body that is read and dropped."""

REASONS = {
    200: "OK",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}

_BARE_LF = re.compile(rb"(?<!\r)\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_RANGE = re.compile(r"(?i:bytes)=[ \t]*([0-9]*)-([0-9]*)[ \t]*")
_TAG = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"')
_ESCAPED = re.compile("%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_HUGE = 10**18


class HttpError(Exception):
    """A request that is answered with `status` and no content."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {REASONS[status]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request head. Names of headers are in lower case; `target` is as it was sent."""

    method: str
    target: str
    minor: int
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """The values of all headers called `name` (in lower case), in order."""
        return [value for known, value in self.headers if known == name]

    def tokens(self, name: str) -> set[str]:
        """The comma-separated members of a header, in lower case."""
        return {token.strip().lower() for value in self.values(name) for token in value.split(",")}

    @property
    def is_last(self) -> bool:
        """Whether the client wants the stream closed after the answer: always in HTTP/1.0, on request in 1.1."""
        return self.minor == 0 or "close" in self.tokens("connection")


def find_head(data: bytes | bytearray) -> int | None:
    """Length of the request head at the start of `data`, its empty line included; None: more bytes are needed.

    Raises HttpError: 400 for a line end that is not CR LF, 414, 431.
    """
    line = bytes(data[: LINE_MAX_BYTES + 2])
    line_end, bare = line.find(b"\r\n"), _BARE_LF.search(line)
    if bare is not None and (line_end < 0 or bare.start() < line_end):
        raise HttpError(400)
    if line_end < 0:
        if len(line) == LINE_MAX_BYTES + 2:
            raise HttpError(414)
        return None
    head = bytes(data[:HEAD_MAX_BYTES])
    end, bare = head.find(b"\r\n\r\n"), _BARE_LF.search(head)
    if bare is not None and (end < 0 or bare.start() < end):
        raise HttpError(400)
    if end < 0:
        if len(head) == HEAD_MAX_BYTES:
            raise HttpError(431)
        return None
    return end + 4


def parse_head(head: bytes) -> Request:
    """The request whose head `find_head` delimited. Raises HttpError: 400, 431, 505."""
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise HttpError(400)
    method, target, major, minor = match.groups()
    if major != "1":
        raise HttpError(505)
    if len(lines) > HEADERS_MAX:
        raise HttpError(431)
    request = Request(method, target, int(minor), tuple(_parse_header(line) for line in lines))
    hosts = len(request.values("host"))
    if hosts > 1 or (hosts == 0 and request.minor > 0):
        raise HttpError(400)
    return request


def _parse_header(line: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise HttpError(400)
    return match[1].lower(), match[2].strip(" \t")


def body_length(request: Request) -> int:
    """Bytes of the request's body, which are read and dropped. Raises HttpError: 400, 413, 501 for a coded body."""
    if request.values("transfer-encoding"):
        raise HttpError(501)
    lengths = request.values("content-length")
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch("[0-9]+", lengths[0]):
        raise HttpError(400)
    length = _bounded_int(lengths[0])
    if length > BODY_MAX_BYTES:
        raise HttpError(413)
    return length


def decode_path(target: str) -> tuple[bytes, ...] | None:
    """The segments of a request target: `/a/b` is (a, b), a last empty one stands for a closing slash.

    None: no file can have that name (dot-files and dot segments, empty segments, an encoded slash).
    Raises HttpError 400 for what is no path: a bad percent escape, NUL, another form of target.
    """
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            raise HttpError(400)
        host, _, path = rest.partition("?")[0].partition("/")
        if not host:
            raise HttpError(400)
        target = "/" + path
    path = target.partition("?")[0]
    if "#" in path or _BAD_ESCAPE.search(path):
        raise HttpError(400)
    segments = tuple(_unescape(segment) for segment in path[1:].split("/"))
    if any(b"\0" in segment for segment in segments):
        raise HttpError(400)
    if any(not is_servable(segment) for segment in segments[:-1]) or (segments[-1] and not is_servable(segments[-1])):
        return None
    return segments


def is_servable(name: bytes) -> bool:
    """Whether a file or directory of this name may be seen: not hidden, not `.` or `..`, one segment."""
    return bool(name) and not name.startswith(b".") and b"/" not in name


def _unescape(segment: str) -> bytes:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), segment).encode("latin-1")


def parse_range(values: list[str], size: int) -> tuple[int, int] | None:
    """First byte and end of the one range asked for; None: answer whole (none, several, or nonsense; RFC 9110 §14.2).

    Raises HttpError 416 when the range lies outside `size` bytes.
    """
    match = _RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        suffix = _bounded_int(match[2])
        if suffix == 0:
            raise HttpError(416)
        return (max(0, size - suffix), size) if size else None
    first, last = _bounded_int(match[1]), _bounded_int(match[2]) if match[2] else _HUGE
    if last < first:
        return None
    if first >= size:
        raise HttpError(416)
    return first, min(last + 1, size)


def _bounded_int(digits: str) -> int:
    """int(digits), but cheap and without error for thousands of digits: all huge numbers are one."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 19 else _HUGE


def names_tag(values: list[str], etag: str, *, weakly: bool) -> bool:
    """Whether If-None-Match (`weakly`) or If-Match names `etag`, or is `*` (RFC 9110 §13.1)."""
    text = ",".join(values)
    if text.strip() == "*":
        return True
    return any(tag == etag or (weakly and tag == "W/" + etag) for tag in _TAG.findall(text))


def answer_head(status: int, headers: Iterable[tuple[str, str]], *, close: bool) -> bytes:
    """The head of an answer; headers in the given order, `Connection: close` last."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers)]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
