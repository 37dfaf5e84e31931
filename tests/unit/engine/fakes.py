"""A core of one stream without any network: what the application writes comes back to it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from kwik.engine.bridge import Bridge
from kwik.engine.handle import StreamHandle, registry
from kwik.engine.local import LocalEnd, make_pair
from kwik.engine.watch import Watcher

KEY = 7


class EchoPort:
    """A BytePort and a BridgeOwner. `window` bounds what is taken from the application and not yet given back."""

    def __init__(self, *, window: int = 1 << 20, echo: bool = True) -> None:
        self.window = window
        self.echo = echo
        self.received = bytearray()
        self.output = bytearray()
        self.ended_output = False
        self.eof = False
        self.closed: bool | None = None
        """None: not told; else `aborted`."""
        self.largest = 0
        self.handed_over: list[bool] = []
        self.defects: list[Exception] = []
        self.bridge: Bridge | None = None
        self._changed: list[asyncio.Future[None]] = []

    def say(self, data: bytes, *, end: bool = False) -> None:
        """Downstream bytes have come."""
        self.output += data
        self.ended_output = self.ended_output or end
        assert self.bridge is not None
        self.bridge.pump()

    def open_window(self, window: int) -> None:
        self.window = window
        assert self.bridge is not None
        self.bridge.pump()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it; looked at after every input."""
        async with asyncio.timeout(10):
            while not condition():
                future = asyncio.get_running_loop().create_future()
                self._changed.append(future)
                await future

    # BytePort

    def allowance(self, key: int) -> int:
        return max(0, self.window - len(self.output)) if self.echo else self.window - len(self.received)

    def on_app_bytes(self, key: int, data: bytes, now: float) -> None:
        assert 0 < len(data) <= self.allowance(key)
        self.largest = max(self.largest, len(data))
        self.received += data
        if self.echo:
            self.output += data
        self._tell()

    def on_app_eof(self, key: int, now: float) -> None:
        self.eof = True
        if self.echo:
            self.ended_output = True
        self._tell()

    def on_app_closed(self, key: int, now: float, *, aborted: bool) -> None:
        assert self.closed is None
        self.closed = aborted
        self._tell()

    def peek(self, key: int) -> memoryview | None:
        return memoryview(self.output) if self.output else None

    def consume(self, key: int, size: int, now: float) -> None:
        del self.output[:size]  # fails while somebody looks at it
        self._tell()

    def at_end(self, key: int) -> bool:
        return self.ended_output and not self.output

    # BridgeOwner

    def on_input(self) -> None:
        """As the driver does on PortReadable and PortWritable: pump as long as that changes anything."""
        before = None
        while self.echo and self.bridge is not None and before != (before := (len(self.received), len(self.output))):
            self.bridge.pump()
        self._tell()

    def on_handed_over(self, *, answered: bool) -> None:
        self.handed_over.append(answered)

    def on_port_defect(self, key: int, error: Exception) -> None:
        self.defects.append(error)
        self._tell()

    def _tell(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Clock:
    """The loop's time, which also goes on when a test says so: timers become due without anybody waiting."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._real, self._ahead_s = self._loop.time, 0.0
        self._loop.time = lambda: self._real() + self._ahead_s  # type: ignore[method-assign]

    async def elapse(self, seconds: float) -> None:
        """So much later, with everything done that was due by then."""
        self._ahead_s += seconds
        for _ in range(3):
            await asyncio.sleep(0)


def wait_until_asleep(thread_id: int) -> None:
    """Return once a thread of this process sleeps in a system call, as a reader without data does."""
    stat = Path(f"/proc/self/task/{thread_id}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()


def start_bridge(
    watcher: Watcher,
    port: EchoPort,
    end: LocalEnd,
    application: socket.socket | None,
    *,
    handle: StreamHandle | None = None,
) -> Bridge:
    """A started bridge between the port and this end."""
    chosen = handle or StreamHandle(("127.0.0.1", 1000), ("files.example", 80))
    port.bridge = Bridge(end, port, KEY, watcher=watcher, handle=chosen, owner=port)
    if application is not None:
        registry.add(application.fileno(), chosen)
    port.bridge.start()
    return port.bridge


def bridged_pair(watcher: Watcher, port: EchoPort) -> tuple[Bridge, socket.socket]:
    """A bridge over a pair, and the application's end, in blocking mode."""
    end, application = make_pair()
    return start_bridge(watcher, port, end, application), application
