"""fallback="tcp": plain TCP to the service itself, only when it was asked for and no Kwik server answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kwik
from kwik import aio
from kwik.quic.certs import issue, make_ca, write_issued
from tests.net.services import Service, echo, receive_all

CONFIG = kwik.Config(discovery_time_s=0.1)


class Plain:
    """A TCP echo, whose address is a service's name as well."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.accepted = 0
        self.errors: list[OSError] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock:
                sock.settimeout(20)
                try:
                    while data := sock.recv(65536):
                        sock.sendall(data)
                except OSError as error:
                    self.errors.append(error)

    def close(self) -> None:
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        self._thread.join()


@pytest.fixture
def plain() -> Iterator[Plain]:
    made = Plain()
    yield made
    made.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that takes datagrams and never answers."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def dial(plain: Plain, nobody: str, **options) -> kwik.Conn:
    return kwik.dial(plain.name, servers=[nobody], **{"timeout": 1, "config": CONFIG, **options})


def test_it_is_a_tcp_connection_under_the_same_names(plain: Plain, nobody: str):
    with dial(plain, nobody, fallback="tcp") as conn:
        conn.settimeout(20)
        assert isinstance(conn, kwik.Conn)
        assert conn.is_fallback
        assert conn.family == socket.AF_INET
        assert f"{conn.remote_addr()[0]}:{conn.remote_addr()[1]}" == plain.name
        assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        assert not conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert conn.write(b"hello\n") == 6
        with conn.makefile("rb") as file:
            assert file.readline() == b"hello\n"
        assert (conn.paths(), conn.stats()) == ([], None)
        conn.flush()
        conn.sendall(b"x" * 100_000)
        conn.shutdown(socket.SHUT_WR)
        assert receive_all(conn) == b"x" * 100_000
    assert plain.errors == []


def test_a_deadline_works_on_it(plain: Plain, nobody: str):
    with dial(plain, nobody, fallback="tcp") as conn:
        conn.set_read_deadline(0.0)
        with pytest.raises(TimeoutError):
            conn.read()


def test_an_abort_is_a_reset(plain: Plain, nobody: str):
    conn = dial(plain, nobody, fallback="tcp")
    conn.sendall(b"x")
    assert conn.recv(1) == b"x"
    conn.abort()
    plain.close()
    assert [type(error) for error in plain.errors] == [ConnectionResetError]


async def test_asyncio_has_it_too(plain: Plain, nobody: str):
    reader, writer = await aio.open_connection(plain.name, fallback="tcp", servers=[nobody], timeout=1, config=CONFIG)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    await writer.wait_closed()


def test_nobody_gets_it_unasked(plain: Plain, nobody: str):
    with pytest.raises((kwik.DialTimeout, kwik.NoServers)):
        dial(plain, nobody)
    assert plain.accepted == 0


def test_a_kwik_server_that_answers_is_used(echo_service: Service):
    echo_service.start(echo)
    with echo_service.dial(fallback="tcp") as conn:
        conn.sendall(b"x")
        assert conn.recv(1) == b"x"
        assert not conn.is_fallback


async def test_a_refusal_is_an_answer(plain: Plain, tmp_path: Path):
    """A Kwik server whose application is down has answered: going round it would go round what it stands for."""

    async def down() -> socket.socket:
        raise ConnectionRefusedError("down")

    ca = make_ca()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem)
    files = {"certfile": tmp_path / "cert.pem", "keyfile": tmp_path / "key.pem"}
    write_issued(issue(ca, ["127.0.0.1"]), files["certfile"], files["keyfile"])
    server = await aio.start_server(
        None,
        "127.0.0.1:0",
        service=plain.name,
        connect=down,
        certfile=files["certfile"],
        keyfile=files["keyfile"],
    )
    async with server:
        servers = [str(server.addresses[0])]
        with pytest.raises(kwik.ConnectRefused) as caught:
            await aio.dial(
                plain.name, servers=servers, cafile=tmp_path / "ca.pem", fallback="tcp", confirm=True, timeout=20
            )
    assert not isinstance(caught.value, kwik.NoServers)
    assert plain.accepted == 0


def test_an_error_tells_of_both(plain: Plain, nobody: str):
    plain.close()
    with pytest.raises((kwik.DialTimeout, kwik.NoServers), match=rf"plain TCP to {plain.name}: .*refused"):
        dial(plain, nobody, fallback="tcp")


def test_anything_else_is_a_mistake(plain: Plain, nobody: str):
    with pytest.raises(kwik.ConfigError, match='write "tcp"'):
        dial(plain, nobody, fallback="udp")
