"""Everything else that reads what strangers wrote: HTTP heads, TXT records, control lines of links, QUIC headers.

Each catches the errors that its parser documents, and checks what must hold of the verdict.
"""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any, cast

from kwik.apps import files_http
from kwik.apps.link import Link
from kwik.apps.link_control import answer_line
from kwik.apps.link_model import LinkShape, changed
from kwik.discovery import mdns_records
from kwik.discovery.mdns_records import RecordError
from kwik.kcp.sighting import MAX_ADDRESSES
from kwik.quic.demux import Demux, Newcomer, refusal
from tests.fuzz.targets import target

# ---------------------------------------------------------------- HTTP

REQUESTS = [
    b"GET /big.iso HTTP/1.1\r\nHost: files.example\r\nRange: bytes=0-99\r\nConnection: close\r\n\r\n",
    b"HEAD /a/b%20c/?x#y HTTP/1.0\r\n\r\n",
    b'GET http://h/p HTTP/1.1\r\nHost: h\r\nIf-None-Match: W/"a", "b"\r\nIf-Match: *\r\n\r\n',
    b"POST /../.x HTTP/1.1\r\nhost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=-5, 7-\r\nRange:bytes=18446744073709551616-\r\n\r\n",
]


def _head_of(octets: bytes) -> int | str | None:
    """The verdict on these bytes: a length, None, or the status."""
    try:
        return files_http.find_head(octets)
    except files_http.HttpError as error:
        return str(error)


@target("http-head", REQUESTS)
def http_head(octets: bytes) -> None:
    """A request of the file server: any prefix gets the verdict of the whole, or none yet; all parts are read."""
    whole = _head_of(octets)
    for size in range(0, len(octets), 1 + len(octets) // 7):
        assert _head_of(octets[:size]) in (None, whole)
    if not isinstance(whole, int):
        return
    with contextlib.suppress(files_http.HttpError):
        request = files_http.parse_head(octets[:whole])
        assert request.is_last in (True, False)
        length = files_http.body_length(request)
        assert 0 <= length <= files_http.BODY_MAX_BYTES
        for size in (0, 1, 100):
            with contextlib.suppress(files_http.HttpError):
                found = files_http.parse_range(request.values("range"), size)
                assert found is None or 0 <= found[0] < found[1] <= size
        for name in ("if-match", "if-none-match"):
            files_http.names_tag(request.values(name), '"b"', weakly=name != "if-match")
        for segment in files_http.decode_path(request.target) or ():
            assert not segment.startswith(b".")
            assert b"/" not in segment
            assert b"\0" not in segment


# ---------------------------------------------------------------- mDNS


def _strings(*entries: bytes) -> bytes:
    return b"".join(bytes((len(entry),)) + entry for entry in entries)


RECORDS = [
    _strings(b"txtvers=1", b"v=1", b"id=server-1", b"svc=files.example:80", b"al=kwik/1", b"zn=eu", b"st=drain"),
    _strings(b"svc=[2001:db8::1]:443", b"SVC=other:1", b"=x", b"novalue", b"al=h3,kwik/1"),
    _strings(b"svc=\xff\xfe:80", b"id=" + b"x" * 250),
    _strings(b"svc=a:0", b"v=2"),
]


@target("mdns-txt", RECORDS)
def mdns_txt(octets: bytes) -> None:
    """A TXT record, and the same bytes as addresses of a server."""
    with contextlib.suppress(RecordError):
        fields = mdns_records.decode_txt(octets)
        assert sum(len(key) + len(value) for key, value in fields.items()) <= mdns_records.MAX_READ_TXT_BYTES
    with contextlib.suppress(RecordError):
        found = mdns_records.read_txt(octets)
        assert found.region.isprintable()
        assert (found.server_id or "").isprintable()
    text = octets.decode("latin-1")
    hosts = [text[at : at + 12] for at in range(0, min(len(text), 240), 12)]
    port = octets[0] * 300 if octets else 0
    for accept in (True, False):
        believed = mdns_records.believable([*hosts, "192.0.2.1", "fe80::1", "::1"], port, accept_loopback=accept)
        assert len(believed) <= MAX_ADDRESSES
        assert accept or not any(mdns_records.is_loopback(address.host) for address in believed)


# ---------------------------------------------------------------- links


class _Shapes:
    """What a link does with a request, without its sockets."""

    def __init__(self) -> None:
        self.up = self.down = LinkShape()
        self.rebound = 0

    def set(self, /, **changes: object) -> None:
        """As Link.set."""
        self.up, self.down = changed(self.up, self.down, changes)

    def rebind(self, local_host: str | None = None) -> None:
        """As Link.rebind."""
        self.rebound += 1

    def stats(self) -> LinkShape:
        """Something that `asdict` takes."""
        return self.up


LINES = [
    b'{"set": {"rate_bps": 1000000, "down_loss": 0.1}}',
    b'{"set": {"blackhole": "both", "delay_s": 0.02, "up_jitter_s": 1e-3}}',
    b'{"rebind": true}',
    b'{"rebind": "127.0.0.2"}',
    b'{"stats": true}',
    b'{"set": {"rate_bps": null, "queue_bytes": 1e400, "self": [], "": NaN}}',
    b"[" * 2000,
]


@target("link-control", LINES)
def link_control(octets: bytes) -> None:
    """A line of a link's control socket: always an answer that is JSON; refused, it changes nothing."""
    shapes = _Shapes()
    before = (shapes.up, shapes.down)
    answer = answer_line(cast("Link", shapes), octets)
    decoded: dict[str, Any] = json.loads(json.dumps(answer))
    assert decoded["ok"] in (True, False)
    if not decoded["ok"]:
        assert decoded["error"]
        assert (shapes.up, shapes.down, shapes.rebound) == (*before, 0)


# ---------------------------------------------------------------- QUIC


def _initial(version: int, destination: bytes, source: bytes, size: int = 1200) -> bytes:
    head = struct.pack("!BIB", 0xC0, version, len(destination)) + destination + bytes((len(source),)) + source
    return (head + b"\0\x44\xb0").ljust(size, b"\0")


DATAGRAMS = [
    _initial(1, b"d" * 8, b"s" * 8),
    _initial(1, b"d" * 20, b""),
    _initial(1, b"d" * 7, b"s" * 20),
    _initial(0x6B3343CF, b"d" * 8, b"s" * 8),
    _initial(0, b"d" * 8, b"s" * 8),
    b"\x40" + b"d" * 8 + b"short header",
    b"\xf0\0\0\0\1",
]


@target("quic-demux", DATAGRAMS)
def quic_demux(octets: bytes) -> None:
    """A datagram from nowhere: never an answer that is larger, and a newcomer only for a full Initial."""
    found = Demux().find(octets)
    if isinstance(found, Newcomer):
        assert len(octets) >= 1200
        assert 8 <= len(found.destination_id) <= 20
        assert len(found.source_id) <= 20
        found = refusal(found)
    assert found is None or (isinstance(found, bytes) and len(found) <= len(octets))
