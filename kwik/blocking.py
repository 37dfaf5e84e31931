"""The blocking face: dial, create_connection, listen. Each is a thin call into `kwik.aio`, which has the logic."""

from __future__ import annotations

import os
import socket
from typing import Any, Final, Unpack

from kwik.aio import DialOptions, DialPlan, Server, ServerOptions, Service, SessionOptions, start_listening
from kwik.conn import Conn
from kwik.engine.backlog import Backlog
from kwik.engine.handle import SocketName
from kwik.engine.thread import Early, engine
from kwik.errors import ConfigError
from kwik.types import Address

__all__ = ["Listener", "create_connection", "dial", "listen"]


class _Unset:
    """The default of a time-out: whatever socket.getdefaulttimeout() says."""


_UNSET: Final = _Unset()


def dial(address: Service, **options: Unpack[DialOptions]) -> Conn:
    """A new stream to the service, "host:port" or (host, port), as a connected socket. See kwik.aio.dial.

    `timeout` limits the dialling only. May be called from every thread but the engine's own (RuntimeError).
    """
    plan = DialPlan(address, options)
    if engine().is_here:
        raise RuntimeError("a blocking call on the engine's own thread would wait for itself: use kwik.aio")
    conn = plan.at_once()
    if conn is not None:
        return conn
    early = Early[Conn]()
    return engine().call(plan.dial(early.give), early=early)


def create_connection(
    address: Service,
    timeout: float | _Unset | None = _UNSET,
    source_address: tuple[str, int] | None = None,  # noqa: ARG001 - see below
    *,
    all_errors: bool = False,  # noqa: ARG001 - see below
    **options: Unpack[SessionOptions],
) -> Conn:
    """Drop-in for socket.create_connection: `timeout` limits the dialling and stays as the socket's time-out.

    `source_address` and `all_errors` are accepted and ignored: a stream has several paths, each of which leaves by
    the address that its route gives it, and one error that tells of them all.
    """
    if isinstance(timeout, _Unset):
        timeout = socket.getdefaulttimeout()
    if timeout is not None and timeout < 0:
        raise ValueError("Timeout value out of range")
    conn = dial(address, timeout=timeout, **options)
    conn.settimeout(timeout)
    return conn


def listen(address: Service, **options: Unpack[ServerOptions]) -> Listener:
    """Serve a service at a UDP address (port 0: chosen by the system); streams come from `accept()`.

    Raises ConfigError, and OSError when the address cannot be had. See kwik.aio.ServerOptions.
    """
    if options.get("connect") is not None:
        raise ConfigError("listen has accept() instead of connect=: leave it out, or use kwik.aio.start_server")
    backlog = Backlog()
    try:
        return Listener(backlog, engine().call(start_listening(backlog, address, **options)))
    except BaseException:
        backlog.listening.close()
        raise


class Listener(socket.socket):
    """A listening socket: accept, select, settimeout, asyncio's sock=, socketserver, pre-forked children.

    Its descriptor is readable when a stream waits. `close` stops taking new streams; accepted ones go on.
    """

    def __init__(self, backlog: Backlog, server: Server) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, backlog.listening.detach())
        self._backlog = backlog
        self._pid = os.getpid()
        self.server = server

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens (UDP)."""
        return self.server.addresses

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET, or AF_INET6."""
        return socket.AF_INET6 if len(self._backlog.local) == 4 else socket.AF_INET

    @property
    def proto(self) -> int:
        """IPPROTO_TCP."""
        return socket.IPPROTO_TCP

    def getsockname(self) -> Any:  # noqa: ANN401 - as socket.socket has it
        """(host, port) of the UDP socket."""
        return super().getsockname() if self.fileno() < 0 else self._backlog.local

    def listen(self, backlog: int = 0) -> None:
        """It listens already: asyncio and socketserver call it again."""

    def setsockopt(self, *args: Any) -> None:  # noqa: ANN401
        """Options of TCP and IP mean nothing here and are taken; others are the kernel's."""
        if args[0] not in (socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6):
            super().setsockopt(*args)

    def accept(self) -> tuple[Conn, SocketName]:
        """The next stream and its client's address. Time-outs as on TCP: the new socket has the default one."""
        while True:
            fd, name = self._accept()  # type: ignore[attr-defined]
            conn = Conn(fileno=fd)
            handle = self._backlog.claim(conn, name)
            if handle is None:
                conn.close()  # some other process of this machine
                continue
            if socket.getdefaulttimeout() is None and self.gettimeout():
                conn.setblocking(True)
            return conn.attach(handle), handle.remote

    def _real_close(self, *args: Any) -> None:  # noqa: ANN401 - as socket.socket has it
        super()._real_close(*args)  # type: ignore[misc]
        if self._pid == os.getpid() and not engine().is_here:
            engine().call(self.server.retire())
