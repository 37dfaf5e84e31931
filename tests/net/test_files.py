"""The file server over real loopback streams: http.client for what is right, raw bytes for what is not."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import blake3
import pytest

from kwik.apps import files
from kwik.apps.files import PIECE_BYTES, serve_files
from kwik.apps.files_http import BODY_MAX_BYTES
from kwik.apps.files_tree import Listing, OpenFile, TagCache, lookup

pytestmark = pytest.mark.net

BIG = random.Random(1).randbytes(5 * PIECE_BYTES + 123)
SMALL = b"hello, stream\n"


def fill(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "big.bin").write_bytes(BIG)
    (root / "small.txt").write_bytes(SMALL)
    (root / "empty").write_bytes(b"")
    (root / "sub" / "index.html").write_bytes(b"<p>index")
    return root


def tag(content: bytes) -> str:
    return f'"{blake3.blake3(content).hexdigest()}"'


@dataclass
class Served:
    """A running server of one root."""

    port: int
    streams: list[asyncio.Task[None]] = field(default_factory=list)


Serve = Callable[[Path], Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[asyncio.Server] = []
    all_served: list[Served] = []

    async def start(root: Path) -> Served:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            served.streams.append(task)
            await serve_files(root, reader, writer)

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        served = Served(server.sockets[0].getsockname()[1])
        servers.append(server)
        all_served.append(served)
        return served

    yield start
    for server in servers:
        server.close()
    for served in all_served:
        async with asyncio.timeout(10):
            await asyncio.gather(*served.streams, return_exceptions=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "root")


async def talk(port: int, sent: bytes, *, cut: int | None = None) -> bytes:
    """Send bytes (in pieces of `cut`), end our side, and return everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for start in range(0, len(sent), cut or len(sent) or 1):
            writer.write(sent[start : start + (cut or len(sent))])
            await writer.drain()
            if cut:
                await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: files", *headers, "", ""]).encode("latin-1")


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def ask(served: Served, target: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    return split(await talk(served.port, get(target, *headers, method=method)))


async def test_the_whole_answer_to_the_byte(serve: Serve, root: Path):
    served = await serve(root)
    expected = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n"
        f"ETag: {tag(SMALL)}\r\nAccept-Ranges: bytes\r\n\r\nhello, stream\n"
    )
    assert await talk(served.port, get("/small.txt")) == expected.encode()


async def test_http_client_reads_several_files_on_one_stream(serve: Serve, root: Path):
    served = await serve(root)

    def session() -> list[bytes]:
        client = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
        try:
            bodies = []
            for method, target in [("GET", "/big.bin"), ("HEAD", "/big.bin"), ("GET", "/empty"), ("GET", "/sub/")]:
                client.request(method, target)
                response = client.getresponse()
                assert response.status == 200
                bodies.append(response.read())
            return bodies
        finally:
            client.close()

    assert await asyncio.to_thread(session) == [BIG, b"", b"", b"<p>index"]
    assert len(served.streams) == 1


async def test_equal_files_give_equal_bytes_on_other_servers(serve: Serve, tmp_path: Path):
    """Other directory, other times of change, other cuts of the input: the same bytes."""
    requests = b"".join(
        [
            get("/big.bin"),
            get("/"),
            get("/none"),
            get("/sub"),
            get("/small.txt", "Range: bytes=2-5"),
            get("/small.txt", "Range: bytes=99-"),
            get("/small.txt", method="POST"),
            get("/big.bin", method="HEAD"),
            b"nonsense\r\n\r\n",
        ]
    )
    answers = set()
    for number, cut in enumerate((None, 7, 61)):
        root = fill(tmp_path / f"root{number}")
        for path in root.rglob("*"):
            os.utime(path, (number * 1000, number * 1000))
        served = await serve(root)
        answers.add(await talk(served.port, requests, cut=cut))
    (answer,) = answers
    assert answer.count(b"HTTP/1.1 ") == 9
    for name in (b"Date:", b"Server:", b"Last-Modified:"):
        assert name not in answer


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [("0-0", 0, 1), ("65530-65550", 65530, 65551), ("-5", len(BIG) - 5, len(BIG)), ("7-", 7, len(BIG))],
)
async def test_a_range(serve: Serve, root: Path, value: str, start: int, end: int):
    status, headers, body = await ask(await serve(root), "/big.bin", f"Range: bytes={value}")
    assert (status, body) == (206, BIG[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(BIG)}"
    assert headers["Content-Length"] == str(end - start)
    assert headers["ETag"] == tag(BIG)


async def test_ranges_that_are_not_served_as_such(serve: Serve, root: Path):
    served = await serve(root)
    for value in ("0-1,4-5", "x", "5-2"):
        status, headers, body = await ask(served, "/small.txt", f"Range: bytes={value}")
        assert (status, body, "Content-Range" in headers) == (200, SMALL, False)
    status, headers, _ = await ask(served, "/small.txt", "Range: bytes=14-")
    assert (status, headers["Content-Range"]) == (416, "bytes */14")
    status, headers, body = await ask(served, "/small.txt", "Range: bytes=0-1", method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "14", b"")


async def test_conditions(serve: Serve, root: Path):
    served = await serve(root)
    known = tag(SMALL)
    for value in (known, "*", f'"x", W/{known}'):
        status, headers, body = await ask(served, "/small.txt", f"If-None-Match: {value}", "Range: bytes=0-1")
        assert (status, headers, body) == (304, {"ETag": known}, b"")
    assert (await ask(served, "/small.txt", 'If-None-Match: "x"'))[0] == 200
    assert (await ask(served, "/small.txt", f"If-Match: {known}"))[0] == 200
    assert (await ask(served, "/small.txt", 'If-Match: "x"'))[0] == 412
    assert (await ask(served, "/small.txt", f"If-Range: {known}", "Range: bytes=0-1"))[2] == SMALL[:2]
    for other in ('"x"', f"W/{known}", "Sat, 29 Oct 1994 19:43:31 GMT"):
        assert (await ask(served, "/small.txt", f"If-Range: {other}", "Range: bytes=0-1"))[2] == SMALL


async def test_a_listing_has_a_tag_and_ranges_too(serve: Serve, root: Path):
    served = await serve(root)
    status, headers, body = await ask(served, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'<a href="big.bin">big.bin</a></td><td>%d</td>' % len(BIG) in body
    assert (await ask(served, "/", f"If-None-Match: {headers['ETag']}"))[0] == 304
    assert (await ask(served, "/", "Range: bytes=0-8"))[2] == b"<!DOCTYPE"


async def test_a_directory_without_its_slash_is_redirected(serve: Serve, root: Path):
    status, headers, _ = await ask(await serve(root), "/sub?x=1/2")
    assert (status, headers["Location"]) == (301, "/sub/?x=1/2")


@pytest.mark.parametrize(
    "target",
    ["/none", "/../root/small.txt", "/%2e%2e/x", "/.x", "/sub/..%2fsmall.txt", "/small.txt/", "//sub/", "/out"],
)
async def test_what_may_not_be_seen(serve: Serve, root: Path, target: str):
    (root / ".x").write_bytes(b"hidden")
    (root.parent / "outside").write_bytes(b"outside")
    (root / "out").symlink_to("../outside")
    served = await serve(root)
    answer = await talk(served.port, get(target) + get("/small.txt"))
    assert split(answer)[0] == 404
    assert answer.endswith(SMALL)  # the stream goes on


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", 400),
        (b"\0\1\2\3", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (get("/small.txt", "Content-Length: 5") + b"abc", 400),
        (get("/small.txt", "Content-Length: 5, 5"), 400),
        (get("/" + "a" * 9000), 414),
        (get("/small.txt", *["a: b"] * 100), 431),
        (get("/small.txt", "a: " + "b" * 17000), 431),
        (get("/small.txt", f"Content-Length: {BODY_MAX_BYTES + 1}"), 413),
        (get("/small.txt", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 501),
        (get("/small.txt", version="2.0"), 505),
        (get("/small.txt", version="0.9"), 505),
    ],
)
async def test_what_ends_the_stream(serve: Serve, root: Path, sent: bytes, status: int):
    served = await serve(root)
    found, headers, body = split(
        await talk(served.port, sent + get("/small.txt") * (sent[-3:] != b"abc" and status > 400))
    )
    assert found == status
    assert headers["Connection"] == "close"
    assert len(body) == int(headers["Content-Length"])


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/", method="POST"), 405),
        (get("/", method="BREW"), 405),
        (get("*", method="OPTIONS"), 405),
        (get("/%zz"), 400),
    ],
)
async def test_what_is_refused_and_the_stream_goes_on(serve: Serve, root: Path, request_bytes: bytes, status: int):
    served = await serve(root)
    answer = await talk(served.port, request_bytes + get("/small.txt"))
    found, headers, _ = split(answer)
    assert found == status
    assert answer.endswith(SMALL)
    assert ("Allow" in headers) == (status == 405)


async def test_bodies_are_dropped_and_empty_lines_before_requests_too(serve: Serve, root: Path):
    served = await serve(root)
    body = b"GET /none HTTP/1.1\r\n\r\n" * 4000
    sent = b"\r\n\r\n" + get("/small.txt", f"Content-Length: {len(body)}") + body + b"\r\n" + get("/empty")
    for cut in (None, 4099):
        answer = await talk(served.port, sent, cut=cut)
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b"HTTP/1.1 404" not in answer


async def test_a_client_that_asks_to_continue_is_told_so(serve: Serve, root: Path):
    served = await serve(root)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(get("/small.txt", "Expect: 100-continue", "Content-Length: 3"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    writer.write_eof()
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(SMALL)
    writer.close()


@pytest.mark.parametrize("request_bytes", [b"GET /small.txt HTTP/1.0\r\n\r\n", get("/small.txt", "Connection: close")])
async def test_the_server_closes_when_asked(serve: Serve, root: Path, request_bytes: bytes):
    served = await serve(root)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(request_bytes + get("/big.bin"))  # what follows is not answered, and does not destroy the answer
    status, headers, body = split(await asyncio.wait_for(reader.read(), 10))
    assert (status, headers["Connection"], body) == (200, "close", SMALL)
    writer.close()


async def test_an_answer_survives_a_client_that_goes_on_sending(serve: Serve, root: Path):
    served = await serve(root)
    too_much = bytes(BODY_MAX_BYTES // 2)
    answer = await talk(served.port, get("/", f"Content-Length: {BODY_MAX_BYTES + 1}") + too_much)
    assert split(answer)[0] == 413


def throttled(port: int) -> socket.socket:
    """A client with a small receive buffer, so that the server is held up in mid-answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(("127.0.0.1", port))
    return client


def open_paths() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


@pytest.fixture
def huge(root: Path) -> Iterator[Path]:
    """A sparse file of 64 MiB: more than all socket buffers together."""
    path = root / "huge"
    with path.open("wb") as out:
        out.truncate(64 * 2**20)
    yield path
    path.unlink(missing_ok=True)


def read_all(client: socket.socket) -> int:
    count = 0
    while data := client.recv(2**20):
        count += len(data)
    return count


@pytest.mark.parametrize("change", ["truncate", "touch"])
async def test_a_file_changed_while_it_is_sent_resets_the_stream(serve: Serve, root: Path, huge: Path, change: str):
    served = await serve(root)
    client = throttled(served.port)
    try:
        client.sendall(get("/huge"))
        assert await asyncio.to_thread(client.recv, 1000)
        if change == "truncate":
            os.truncate(huge, 32 * 2**20)
        else:
            os.utime(huge, (1, 1))
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(read_all, client)
    finally:
        client.close()


async def test_a_file_replaced_while_it_is_sent_is_sent_to_its_end(serve: Serve, root: Path, huge: Path):
    served = await serve(root)
    client = throttled(served.port)
    try:
        client.sendall(get("/huge", "Connection: close"))
        first = await asyncio.to_thread(client.recv, 1000)
        (root / "new").write_bytes(b"new")
        (root / "new").rename(huge)
        length = len(first) + await asyncio.to_thread(read_all, client)
        assert length == first.index(b"\r\n\r\n") + 4 + 64 * 2**20
    finally:
        client.close()
    assert (await ask(served, "/huge"))[2] == b"new"


async def test_a_client_that_goes_away_leaves_nothing_open(serve: Serve, root: Path, huge: Path):
    served = await serve(root)
    client = throttled(served.port)
    client.sendall(get("/huge"))
    assert await asyncio.to_thread(client.recv, 1000)
    client.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*served.streams)
    assert str(huge) not in open_paths()


async def test_a_cancelled_stream_is_closed(serve: Serve, root: Path, huge: Path):
    served = await serve(root)
    client = throttled(served.port)
    try:
        client.sendall(get("/huge"))
        assert await asyncio.to_thread(client.recv, 1000)
        served.streams[0].cancel()
        await asyncio.gather(*served.streams, return_exceptions=True)
        assert served.streams[0].cancelled()
        assert str(huge) not in open_paths()
    finally:
        client.close()


async def test_a_file_that_is_being_opened_for_a_cancelled_stream_is_closed(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, go_on = threading.Event(), threading.Event()
    path = str(root / "small.txt")

    def slow(root: Path, segments: tuple[bytes, ...]) -> OpenFile | Listing:
        found = lookup(root, segments)
        opened.set()
        go_on.wait(10)
        return found

    monkeypatch.setattr(files, "lookup", slow)
    served = await serve(root)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(get("/small.txt"))
    assert await asyncio.to_thread(opened.wait, 10)
    served.streams[0].cancel()
    await asyncio.gather(*served.streams, return_exceptions=True)
    assert path in open_paths()
    go_on.set()
    async with asyncio.timeout(10):
        while path in open_paths():  # noqa: ASYNC110 - the kernel's table has no event
            await asyncio.sleep(0.001)
    writer.close()


@pytest.mark.parametrize("is_cached", [True, False])
async def test_pages_come_from_memory_or_through_a_thread(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
):
    reads: list[int] = []
    if not is_cached:
        monkeypatch.setattr(files, "_cached_piece", lambda fd, offset, size: None)
    monkeypatch.setattr(files, "_read_fully", _counting(reads))
    served = await serve(root)
    assert (await ask(served, "/big.bin"))[2] == BIG
    assert is_cached or len(reads) == 6


def _counting(reads: list[int]) -> Callable[[int, int, int], bytes]:
    original = files._read_fully

    def read(fd: int, offset: int, size: int) -> bytes:
        reads.append(size)
        return original(fd, offset, size)

    return read


async def test_a_tag_is_computed_once_and_the_cache_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch):
    cache = TagCache(tags_max=2)
    for name, body in ((b"big.bin", BIG), (b"small.txt", SMALL), (b"empty", b"")):
        found = lookup(root, (name,))
        assert isinstance(found, OpenFile)
        try:
            tags = await asyncio.gather(*(cache.tag(found) for _ in range(5)))
            assert set(tags) == {tag(body)}
            monkeypatch.setattr("kwik.apps.files_tree._hash_turn", None)  # a second computation would fail
            assert await cache.tag(found) == tag(body)
            monkeypatch.undo()
        finally:
            os.close(found.fd)
    assert len(cache._tags) == 2
    assert not cache._running


async def test_a_file_that_changes_while_it_is_hashed_has_no_tag(root: Path):
    cache = TagCache()
    found = lookup(root, (b"big.bin",))
    assert isinstance(found, OpenFile)
    try:
        os.truncate(root / "big.bin", 10)
        assert await cache.tag(found) is None
        assert not cache._tags
    finally:
        os.close(found.fd)


async def test_a_fault_of_the_machine_is_no_answer(serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(root: Path, segments: tuple[bytes, ...]) -> None:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(files, "lookup", broken)
    served = await serve(root)
    with pytest.raises(ConnectionResetError):
        await talk(served.port, get("/small.txt"))
