"""Conns over a core without a network, on the process' real engine: for the tests of the socket face."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kwik.conn import Conn
from kwik.engine.bridge import Bridge
from kwik.engine.handle import StreamHandle
from kwik.engine.local import make_pair
from kwik.engine.thread import engine
from kwik.errors import KwikError
from tests.unit.engine.fakes import EchoPort, start_bridge

REMOTE = ("files.example", 80)
LOCAL = ("127.0.0.1", 4433)


class Stream:
    """The far side of a Conn."""

    def __init__(self, port: EchoPort, bridge: Bridge) -> None:
        self.port = port
        self.bridge = bridge

    def run(self, call: Callable[[], object]) -> None:
        """On the engine's thread."""

        async def inner() -> None:
            call()

        engine().call(inner(), 10)

    def reset(self, error: KwikError) -> None:
        self.run(lambda: self.bridge.reset(error))

    def say(self, data: bytes, *, end: bool = False) -> None:
        self.run(lambda: self.port.say(data, end=end))

    def until(self, condition: Callable[[], bool]) -> None:
        engine().call(self.port.until(condition), 10)

    def until_closed(self) -> bool:
        """Wait for the application's close; returns whether it was an abort."""
        self.until(lambda: self.port.closed is not None)
        assert self.port.closed is not None
        return self.port.closed


def open_stream(*, remote=REMOTE, **options) -> tuple[Conn, Stream]:
    async def make() -> tuple[Conn, Stream]:
        end, application = make_pair()
        handle = StreamHandle(LOCAL, remote)
        port = EchoPort(**options)
        conn = Conn(fileno=application.detach()).attach(handle)
        return conn, Stream(port, start_bridge(engine().watcher, port, end, conn, handle=handle))

    return engine().call(make(), 10)


@contextmanager
def stream(**options) -> Iterator[tuple[Conn, Stream]]:
    conn, far = open_stream(**options)
    try:
        yield conn, far
    finally:
        conn.close()
        far.run(far.bridge.finish)


@contextmanager
def in_background(call: Callable[[], object]) -> Iterator[list[object]]:
    """Run it in a thread meanwhile; the list gets its result or its exception when it ends."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        thread.join(20)
        assert not thread.is_alive()


def settle() -> None:
    """Let the engine's loop turn a few times."""

    async def turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    engine().call(turn(), 10)
