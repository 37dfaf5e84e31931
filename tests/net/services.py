"""Real servers on loopback for the tests of dialling: certificates, listeners, applications in threads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import kwik
from kwik.quic.certs import Issued, issue, make_ca, write_issued

NAME = "echo.example"
SERVICE = f"{NAME}:7"

Application = Callable[[kwik.Conn], None]


@cache
def _authority() -> tuple[Issued, Issued]:
    ca = make_ca()
    return ca, issue(ca, [NAME])


class Service:
    """One service with any number of servers, each an application in threads behind a Listener."""

    def __init__(self, folder: Path) -> None:
        ca, issued = _authority()
        self.cafile = folder / "ca.pem"
        self.certfile = folder / "cert.pem"
        self.keyfile = folder / "key.pem"
        self.cafile.write_bytes(ca.cert_pem)
        write_issued(issued, self.certfile, self.keyfile)
        self.addresses: list[str] = []
        self.errors: list[BaseException] = []
        self._listeners: list[kwik.Listener] = []
        self._threads: list[threading.Thread] = []
        self._accepted: list[kwik.Conn] = []

    def listener(self, **options: object) -> kwik.Listener:
        """A server whose streams the caller accepts."""
        server_id = f"server-{len(self._listeners)}"
        listener = kwik.listen(
            ("127.0.0.1", 0),
            **{
                "service": SERVICE, "certfile": self.certfile, "keyfile": self.keyfile, "server_id": server_id,
                **options,
            },  # type: ignore[arg-type]
        )  # fmt: skip
        self._listeners.append(listener)
        self.addresses.append(str(listener.addresses[0]))
        return listener

    def start(self, application: Application, **options: object) -> kwik.Listener:
        """A server that runs the application for each stream, in a thread of its own."""
        listener = self.listener(**options)
        self._run(self._accept, listener, application)
        return listener

    def dial(self, **options: object) -> kwik.Conn:
        """A stream with a time-out that no test reaches."""
        given: dict[str, object] = {"servers": self.addresses, "cafile": self.cafile, "timeout": 10, **options}
        conn = kwik.dial(SERVICE, **given)  # type: ignore[arg-type]
        conn.settimeout(20)
        return conn

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        for conn in self._accepted:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        for conn in self._accepted:
            conn.close()

    def _accept(self, listener: kwik.Listener, application: Application) -> None:
        listener.settimeout(0.1)
        while listener.fileno() >= 0:
            try:
                conn, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self._accepted.append(conn)
            self._run(self._serve, conn, application)

    def _serve(self, conn: kwik.Conn, application: Application) -> None:
        try:
            application(conn)
        except BaseException as error:
            self.errors.append(error)

    def _run(self, call: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=call, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder)
    try:
        yield made
    finally:
        made.close()


def echo(conn: kwik.Conn) -> None:
    """Everything back, to the end."""
    with conn:
        while data := conn.recv(65536):
            conn.sendall(data)


def receive_all(conn: socket.socket) -> bytes:
    data = bytearray()
    while piece := conn.recv(65536):
        data += piece
    return bytes(data)
