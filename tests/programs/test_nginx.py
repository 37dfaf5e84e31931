"""nginx behind three gateways, declared replicated, over TCP and over a Unix socket: files, and gateways that die.

Take-over rule `exact`. nginx puts the time into the `Date` of its answers, so replicas that were opened in different
seconds differ in block 0 and agree in all others, at equal length: each may help, none may take over, and the anchor's
death is a reset. Answers without a head (HTTP/0.9) are equal: any replica may take over, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

import kwik
from tests.proc.cli.commands import Commands, Process
from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_stage import READ_BYTES, SERVICE, Reading, Stage, stats_of

pytestmark = [pytest.mark.program("nginx"), pytest.mark.proc]

LARGE_BYTES = 100_000_000
MIDDLE_BYTES = 6_000_000
LINK = {"rate_mbps": 20, "delay_ms": 10}
CONFIGURATION = """
{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile off;
  client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
  server {{
    listen unix:{folder}/nginx.sock; listen 127.0.0.1:{port}; root {folder}/www;
    location /sendfile/ {{ alias {folder}/www/; sendfile on; }}
  }}
}}
"""


class Site:
    """nginx, and gateways before it."""

    def __init__(self, stage: Stage, commands: Commands, folder: Path, over: str) -> None:
        self.stage = stage
        self.folder = folder
        self.gateways: list[Process] = []
        self._commands = commands
        www = folder / "www"
        www.mkdir()
        (www / "small.bin").write_bytes(content("small", 10_000))
        (www / "middle.bin").write_bytes(content("middle", MIDDLE_BYTES))
        user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not read a private folder
        # The port is the system's choice and never free in between: nginx takes the socket over, as at an upgrade.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port, fd = listener.getsockname()[1], listener.fileno()
            (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, user=user, port=port))
            commands.start_any(
                *("nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"),
                settings={"NGINX": f"{fd};"},
                pass_fds=[fd],
            )
            until((folder / "nginx.sock").exists, "nginx listens")
        self._upstream = f"127.0.0.1:{port}" if over == "tcp" else f"unix:{folder}/nginx.sock"

    def large(self) -> str:
        """Make the large file; returns its digest."""
        digest = hashlib.sha256()
        with (self.folder / "www" / "large.bin").open("wb") as file:
            for number in range(LARGE_BYTES // 10_000_000):
                data = content(f"large {number}", 10_000_000)
                file.write(data)
                digest.update(data)
        return digest.hexdigest()

    def gateway(self, link: Mapping[str, float] | None = None) -> None:
        """One more, which the listing names."""
        files, number = self.stage.certificates.files("right"), len(self.gateways)
        gateway = self._commands.start(
            *("serve", "--listen", "127.0.0.1:0", "--service", SERVICE, "--id", f"g{number}", "--json", "--replicated"),
            *("--upstream", self._upstream, "--cert", files["certfile"], "--key", files["keyfile"]),
        )
        port = int(gateway.ready()["listen"].rpartition(":")[2])
        address = ("127.0.0.1", port) if link is None else self.stage.link_to(port, link)[1]
        self.gateways.append(gateway)
        self.stage.listing.add(f"g{number}", address)

    def kill(self, number: int) -> None:
        """kill -9 of a gateway."""
        self.gateways[number].popen.kill()
        self.gateways[number].popen.wait()


@pytest.fixture(params=["tcp", "unix"])
def over(request: pytest.FixtureRequest) -> str:
    """How the gateways reach nginx."""
    way: str = request.param
    return way


only_tcp = pytest.mark.parametrize("over", ["tcp"])
"""For what has nothing to do with how the gateways reach it."""


@pytest.fixture
def site(stage: Stage, tmp_path: Path, over: str) -> Iterator[Site]:
    with Commands(tmp_path) as commands:
        yield Site(stage, commands, tmp_path, over)


def get(conn: kwik.Conn, path: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("files.example", 80)
    client.sock = conn
    client.request("GET", path)
    return client.getresponse()


def test_small_files(site: Site) -> None:
    for _ in range(3):
        site.gateway()
    for _ in range(10):
        with get(site.stage.dial(), "/small.bin") as response:
            assert response.status == 200
            assert response.read() == content("small", 10_000)


def test_requests_on_one_stream(site: Site) -> None:
    """Keep-alive: a small answer, one that recruits, an error, a range."""
    for _ in range(3):
        site.gateway(LINK)
    client = http.client.HTTPConnection("files.example", 80)
    client.sock = site.stage.dial(config={"receive_window_bytes": 2**20})
    small, middle, part = content("small", 10_000), content("middle", MIDDLE_BYTES), {"Range": "bytes=1000-1999"}
    wanted: list[tuple[str, dict[str, str], int, bytes]] = [("/small.bin", {}, 200, small)]
    wanted += [("/middle.bin", {}, 200, middle), ("/small.bin", part, 206, small[1000:2000])]
    for path, headers, status, body in wanted:
        client.request("GET", path, headers=headers)
        with client.getresponse() as response:
            assert (response.status, response.read()) == (status, body)
    client.request("GET", "/missing")
    with client.getresponse() as response:
        assert response.status == 404


def test_answers_by_sendfile(site: Site) -> None:
    """nginx, which cannot know what the gateway leaves unread of them, is never kept waiting."""
    site.gateway()
    client = http.client.HTTPConnection("files.example", 80)
    client.sock = site.stage.dial()
    for name, size in (("middle", MIDDLE_BYTES), ("small", 10_000), ("middle", MIDDLE_BYTES)):
        client.request("GET", f"/sendfile/{name}.bin")
        with client.getresponse() as response:
            assert response.read() == content(name, size)


@pytest.mark.slow
@pytest.mark.timeout(180)
@only_tcp
def test_a_large_file(site: Site) -> None:
    digest, seen = hashlib.sha256(), 0
    expected = site.large()
    for _ in range(3):
        site.gateway({"rate_mbps": 80, "delay_ms": 5})
    conn = site.stage.dial(replicas=3)
    with get(conn, "/large.bin") as response:
        while data := response.read(READ_BYTES):
            digest.update(data)
            seen += len(data)
            if seen < LARGE_BYTES * 3 // 4:
                stats = stats_of(conn) if seen % (50 * READ_BYTES) < READ_BYTES else None
                shares = {share.server_id: share.delivered_bytes for share in stats.shares} if stats else None
                if shares:
                    last = shares
    print(last)
    assert (seen, digest.hexdigest()) == (LARGE_BYTES, expected)
    assert len(last) == 3
    assert all(last.values()), "all three contributed"


@only_tcp
def test_the_death_of_a_helper(site: Site) -> None:
    """Expected: the answer is whole."""
    site.gateway(LINK)
    conn = site.stage.dial(replicas=2, config={"receive_window_bytes": 2**20})
    response = get(conn, "/middle.bin")
    site.gateway(LINK)
    data = response.read(MIDDLE_BYTES // 2)
    site.kill(1)
    assert data + response.read() == content("middle", MIDDLE_BYTES)


@only_tcp
def test_the_death_of_the_anchor_with_equal_answers(site: Site) -> None:
    """Expected: a helper takes over, the body is whole. HTTP/0.9, whose answers have no head."""
    site.gateway(LINK)
    conn = site.stage.dial(replicas=2, config={"receive_window_bytes": 2**20})
    conn.sendall(b"GET /middle.bin\r\n")
    reading = Reading(conn, content("middle", MIDDLE_BYTES))
    until(lambda: reading.size > 0, "the first bytes have come")
    site.gateway(LINK)
    until(lambda: len(stats_of(conn).shares) == 2 and reading.size > MIDDLE_BYTES // 4, "a helper is there")
    site.kill(0)
    reading.finish()


@only_tcp
def test_the_death_of_the_anchor_with_unequal_answers(site: Site) -> None:
    """Expected: a reset, after a correct beginning; the helper was opened in a later second, its `Date` differs."""
    site.gateway(LINK)
    conn = site.stage.dial(replicas=2, config={"receive_window_bytes": 2**20, "recovery_time_s": 1.5})
    conn.sendall(b"GET /middle.bin HTTP/1.1\r\nHost: files.example\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += conn.recv(1)
    second = time.time() // 1
    until(lambda: time.time() // 1 > second + 1, "another second has begun")  # nginx's clock is the machine's
    site.gateway(LINK)
    reading = Reading(conn, content("middle", MIDDLE_BYTES))
    until(lambda: reading.size > MIDDLE_BYTES // 4, "the reader is in the middle")
    site.kill(0)
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert not reading.is_wrong
    assert reading.size < MIDDLE_BYTES


# ---------------------------------------------------------------- curl


class Forwarder:
    """A TCP port for programs that cannot dial: each of its connections is carried over a stream."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Of 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                conn = self._stage.dial()
                self._sockets += [accepted, conn]
                for ends in ((accepted, conn), (conn, accepted)):
                    self._threads.append(threading.Thread(target=self._pump, args=ends))
                    self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(READ_BYTES):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        for each in (self._listener, *self._sockets):
            each.close()


@pytest.mark.program("curl")
@pytest.mark.parametrize("over", ["tcp"])
def test_curl(site: Site) -> None:
    for _ in range(3):
        site.gateway(LINK)
    with Forwarder(site.stage) as forwarder:
        url = f"http://127.0.0.1:{forwarder.port}/"
        curl = ["curl", "-sS", "--fail", "--max-time", "40"]
        names = ["small.bin", "middle.bin", "small.bin"]
        done = subprocess.run([*curl, *(url + name for name in names)], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        small, middle = content("small", 10_000), content("middle", MIDDLE_BYTES)
        assert done.stdout == small + middle + small
        part = subprocess.run([*curl, "-r", "5000000-5999999", url + "middle.bin"], capture_output=True, check=False)
        assert part.stdout == middle[5_000_000:]
        missing = subprocess.run([*curl, url + "missing"], capture_output=True, check=False)
        assert missing.returncode == 22
