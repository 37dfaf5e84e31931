"""One function per action of a core, and the table that finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kwik.core import actions as ask
from kwik.errors import ConnectRefused, ErrorCode, KwikError, NoServers, StreamReset

if TYPE_CHECKING:
    from kwik.engine.driver import Driver


def _open_path(driver: Driver, action: ask.OpenPath) -> None:
    driver.owner.open_path(action.path, action.address)


def _close_path(driver: Driver, action: ask.ClosePath) -> None:
    path = driver.paths.find(action.path)
    if path is None:
        driver.owner.cancel_open(action.path)
    else:
        path.close(action.code, action.reason, driver.now)


def _ping_path(driver: Driver, action: ask.PingPath) -> None:
    path = driver.paths.find(action.path)
    if path is not None:
        path.ping(action.ping)


def _wake_path(driver: Driver, action: ask.WakePath) -> None:
    path = driver.paths.find(action.path)
    if path is not None:
        path.wants_room = True
        if path.endpoint is not None:
            path.endpoint.schedule_flush(path)
            driver.woken[path.endpoint] = None


def _pump(driver: Driver, action: ask.PortReadable | ask.PortWritable) -> None:
    bridge = driver.bridges.get(action.key)
    if bridge is not None:
        bridge.pump()


def error_of(action: ask.PortReset) -> KwikError:
    """What the application gets to see."""
    if not action.refused:
        return StreamReset(action.text, code=action.code)
    kind = NoServers if action.code == ErrorCode.SERVER_GONE else ConnectRefused
    return kind(action.text, code=action.code)


PERFORM: Final[dict[type, Callable[[Driver, Any], None]]] = {
    ask.OpenPath: _open_path,
    ask.ClosePath: _close_path,
    ask.PingPath: _ping_path,
    ask.WakePath: _wake_path,
    ask.PortReadable: _pump,
    ask.PortWritable: _pump,
    ask.PortReset: lambda driver, action: driver.end_stream(action.key, error_of(action)),
    ask.PortDone: lambda driver, action: driver.end_stream(action.key, None),
    ask.StreamSent: lambda driver, action: driver.streams.on_stream(action.key, confirmed=False),
    ask.StreamConfirmed: lambda driver, action: driver.streams.on_stream(action.key, confirmed=True),
    ask.Flushed: lambda driver, action: driver.streams.on_flushed(action.token),
    ask.Accept: lambda driver, action: driver.streams.accept(action),
    ask.SessionIdle: lambda driver, _: driver.owner.on_finished(),
    ask.Drained: lambda driver, _: driver.owner.on_finished(),
}
"""By the type of the action; a test compares it with `kwik.core.actions.Action`."""
