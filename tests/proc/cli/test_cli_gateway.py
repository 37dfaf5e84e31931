"""`kwik serve --upstream`: an application that knows nothing of Kwik, behind a real gateway process."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kwik
from tests.proc.cli.commands import Commands

SERVICE = "app.example:80"
Behaviour = Callable[[socket.socket], None]


class Application:
    """A TCP server that runs a function for each of its connections."""

    def __init__(self, listener: socket.socket, behave: Behaviour) -> None:
        self.listener = listener
        self.errors: list[BaseException] = []
        self._behave = behave
        self._threads: list[threading.Thread] = []
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        while True:
            try:
                accepted, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=[accepted])
            self._threads.append(thread)
            thread.start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(20)
        try:
            with accepted:
                self._behave(accepted)
        except BaseException as error:
            self.errors.append(error)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in [self._listening, *self._threads]:
            thread.join()


@contextlib.contextmanager
def application(behave: Behaviour, path: Path | None = None) -> Iterator[Application]:
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    running = Application(listener, behave)
    try:
        yield running
    finally:
        running.close()


def gateway(commands: Commands, upstream: str, *options: str) -> str:
    commands.certificate("app.example")
    return commands.serve(SERVICE, "--upstream", upstream, *options)[1]


def dial(commands: Commands, address: str, *, confirm: bool = False) -> kwik.Conn:
    conn = kwik.dial(
        SERVICE, servers=[address], cafile=commands.folder / "certs" / "ca.pem", timeout=20, confirm=confirm
    )
    conn.settimeout(20)
    return conn


def reached(running: Application) -> str:
    host, port = running.listener.getsockname()
    return f"{host}:{port}"


def read_all(conn: socket.socket) -> bytes:
    received = b""
    while data := conn.recv(65536):
        received += data
    return received


def count_and_answer(accepted: socket.socket) -> None:
    accepted.sendall(b"%d bytes" % len(read_all(accepted)))


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_half_closes_go_both_ways(commands: Commands, over: str):
    path = commands.folder / "app.sock" if over == "unix" else None
    with application(count_and_answer, path) as running:
        address = gateway(commands, f"unix:{path}" if path else reached(running))
        with dial(commands, address) as conn:
            conn.sendall(b"x" * 300_000)
            conn.shutdown(socket.SHUT_WR)
            assert read_all(conn) == b"300000 bytes"


def test_the_application_may_speak_first(commands: Commands):
    def greet(accepted: socket.socket) -> None:
        accepted.sendall(b"220 ready\r\n")
        assert accepted.recv(100) == b"QUIT\r\n"

    with application(greet) as running, dial(commands, gateway(commands, reached(running))) as conn:
        assert conn.recv(100) == b"220 ready\r\n"
        conn.sendall(b"QUIT\r\n")
        assert conn.recv(100) == b""
        assert running.errors == []


def test_a_reset_by_the_application_is_a_reset(commands: Commands):
    def reset(accepted: socket.socket) -> None:
        accepted.recv(100)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with application(reset) as running, dial(commands, gateway(commands, reached(running))) as conn:
        conn.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            conn.recv(100)


def test_an_abort_by_the_client_resets_the_application(commands: Commands):
    with application(count_and_answer) as running:
        conn = dial(commands, gateway(commands, reached(running)), confirm=True)
        conn.sendall(b"hello")
        conn.flush(timeout=20)
        conn.abort()
    assert [type(error) for error in running.errors] == [ConnectionResetError]


def test_an_application_that_is_down_refuses(commands: Commands):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        address = gateway(commands, f"127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(kwik.ConnectRefused, match="refused"):
            dial(commands, address, confirm=True)
        code, _, err = commands.run("get", f"http://{SERVICE}/x", "--server", address, "--cafile", "certs/ca.pem")
    assert code == 4
    assert "the application cannot be reached" in err


def test_a_client_tries_the_next_server_when_one_applications_is_down(commands: Commands):
    commands.certificate("app.example")
    with application(count_and_answer) as running, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        _, down = commands.serve(SERVICE, "--upstream", f"127.0.0.1:{closed.getsockname()[1]}", "--id", "down")
        _, up = commands.serve(SERVICE, "--upstream", reached(running), "--id", "up")
        for _ in range(4):
            cafile = commands.folder / "certs" / "ca.pem"
            with kwik.dial(SERVICE, servers=[down, up], cafile=cafile, timeout=20) as conn:
                conn.settimeout(20)
                conn.sendall(b"hello")
                conn.shutdown(socket.SHUT_WR)
                assert read_all(conn) == b"5 bytes"


def test_replicated_warns(commands: Commands):
    commands.certificate("app.example")
    options = ["--cert", "certs/app.example.pem", "--key", "certs/app.example.key", "--upstream", "127.0.0.1:1"]
    process = commands.start("serve", "--listen", "127.0.0.1:0", "--service", SERVICE, *options, "--replicated")
    process.line()
    process.popen.terminate()
    code, _, err = process.finish()
    assert code == 0
    assert "twice" in err
