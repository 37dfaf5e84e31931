"""Downloads by http.client over a socket pair, whose other end speaks HTTP as the test says."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest

from kwik.apps.download import Downloaded, DownloadError, Progress, Target, bytes_by_server, download
from kwik.errors import ConfigError
from kwik.kdp.snapshots import ShareSnapshot

URL = Target.parse("http://files.example/big%20file.iso?x=1")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


class Answers:
    """Dials give it socket pairs, each of which it answers with the next of its texts."""

    def __init__(self, *texts: bytes) -> None:
        self.services: list[str] = []
        self.requests: list[bytes] = []
        self._texts = list(texts)
        self._threads: list[threading.Thread] = []

    def dial(self, service: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.services.append(service)
        self._threads.append(threading.Thread(target=self._answer, args=[ours, self._texts.pop(0)]))
        self._threads[-1].start()
        return theirs

    def _answer(self, ours: socket.socket, text: bytes) -> None:
        with ours:
            request = b""
            while b"\r\n\r\n" not in request:
                request += ours.recv(1000)
            self.requests.append(request)
            with contextlib.suppress(ConnectionError):  # it has read enough
                ours.sendall(text)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def answers(*texts: bytes) -> Iterator[Answers]:
    made = Answers(*texts)
    try:
        yield made
    finally:
        made.join()


def fetch(target: Target, *texts: bytes) -> tuple[Downloaded, bytes, Answers]:
    body: list[bytes] = []

    class Sink:
        def write(self, data: bytes) -> None:
            body.append(data)

    with answers(*texts) as made:
        done = download(target, made.dial, Sink())
    return done, b"".join(body), made


def test_a_file():
    done, body, made = fetch(URL, HEAD + b"0123456789")
    assert body == b"0123456789"
    assert (done.received_bytes, done.sha256) == (10, hashlib.sha256(body).hexdigest())
    assert done.shares == ()
    assert made.services == ["files.example:80"]
    (request,) = made.requests
    assert request.startswith(b"GET /big%20file.iso?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: files.example\r\n" in request
    assert request.count(b"Host:") == 1


def test_chunks_and_an_end_by_closing():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert fetch(URL, chunked)[1] == b"abcde"
    assert fetch(URL, b"HTTP/1.0 200 OK\r\n\r\nabc")[1] == b"abc"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + b"012345678",
        HEAD,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nd",
        b"SSH-2.0-OpenSSH\r\n",
        b"",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_not_the_whole_file(text: bytes):
    with pytest.raises(DownloadError):
        fetch(URL, text)


def test_the_status_line_reaches_the_person():
    with pytest.raises(DownloadError, match=r"files.example/big%20file.iso\?x=1: 404 Not Found"):
        fetch(URL, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("location", ["/other", "other", "http://FILES.example/other", "http://files.example:80/other"])
def test_redirects_within_the_service(location: str):
    _, body, made = fetch(Target.parse("http://files.example/here"), redirect(location), HEAD + b"0123456789")
    assert body == b"0123456789"
    assert made.requests[1].startswith(b"GET /other HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "location",
    ["http://other.example/x", "http://files.example:81/x", "https://files.example/x", "ftp://files.example/x"],
)
def test_redirects_elsewhere_are_not_followed(location: str):
    with pytest.raises(DownloadError, match="redirected"):
        fetch(URL, redirect(location))


def test_redirects_end():
    with pytest.raises(DownloadError, match="more than 5"):
        fetch(URL, *[redirect("/again")] * 6)


def test_progress_is_told_four_times_a_second():
    told: list[int] = []
    seconds = iter(range(1000))

    def on_progress(progress: Progress) -> None:
        assert progress.total_bytes == 10
        told.append(progress.received_bytes)

    with answers(HEAD + b"0123456789") as made:
        download(URL, made.dial, Progressive(), on_progress=on_progress, monotonic=lambda: next(seconds))
    assert told[-1] == 10


class Progressive:
    def write(self, data: bytes) -> None:
        """Take it."""


@pytest.mark.parametrize(
    ("url", "service", "path", "name", "host"),
    [
        ("http://Files.Example/a/b.iso", "files.example:80", "/a/b.iso", "b.iso", "files.example"),
        ("http://files.example:8080", "files.example:8080", "/", "", "files.example:8080"),
        ("http://files.example/a%2Fb?q=x y", "files.example:80", "/a%2Fb?q=x%20y", "b", "files.example"),
        ("http://[::1]:80/x#part", "[::1]:80", "/x", "x", "[::1]"),
        ("http://files.example/caf\u00e9", "files.example:80", "/caf%C3%A9", "caf\u00e9", "files.example"),
        ("http://files.example/..", "files.example:80", "/..", "", "files.example"),
    ],
)
def test_urls(url: str, service: str, path: str, name: str, host: str):
    target = Target.parse(url)
    assert (target.service, target.path, target.name, target.host) == (service, path, name, host)


@pytest.mark.parametrize(
    "url", ["", "files.example/x", "ftp://files.example/x", "http:///x", "http://files.example:99999/x", "http://a:b/x"]
)
def test_what_is_no_url(url: str):
    with pytest.raises(ConfigError):
        Target.parse(url)


def test_https_is_explained():
    with pytest.raises(ConfigError, match="write http://"):
        Target.parse("https://files.example/x")


def test_bytes_by_server():
    def share(server: str, count: int) -> ShareSnapshot:
        return ShareSnapshot(server, "", "helper", count, None, None, "open")

    assert bytes_by_server([share("a", 1), share("b", 2), share("a", 4)]) == {"a": 5, "b": 2}
