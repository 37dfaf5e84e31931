"""The driver over a scripted core and scripted paths: the order of a turn, and what happens when a core raises."""

import asyncio
import logging
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest

from kwik.core import actions as ask
from kwik.engine.driver import Driver
from kwik.engine.paths import PathTable, describe_end
from kwik.engine.perform import PERFORM, error_of
from kwik.engine.watch import Watcher
from kwik.errors import ConnectRefused, ErrorCode, NoServers, StreamReset
from kwik.quic.ends import EndKind, PathEnd
from kwik.types import Address, PathId
from tests.unit.engine.fakes import Clock, EchoPort, bridged_pair

ADDRESS = Address("127.0.0.1", 1)
ONE, TWO = PathId(1), PathId(2)


class ScriptedCore(EchoPort):
    """Says what the test put into its lists; writes down what it hears."""

    def __init__(self) -> None:
        super().__init__(echo=False)
        self.todo: list[object] = []
        self.heard: list[object] = []
        self.output_for: dict[PathId, list[tuple[int, bytes]]] = {}
        self.due: float | None = None
        self.raising: str = ""
        self.shown: list[int] = []

    def _hear(self, *what: object) -> None:
        self.heard.append(what)
        if self.raising == what[0]:
            raise ZeroDivisionError(self.raising)

    def actions(self) -> list[object]:
        if self.raising == "actions":
            raise ZeroDivisionError
        done, self.todo = self.todo, []
        return done

    def urgent(self):
        return []

    def readable(self):
        if self.raising == "readable":
            raise ZeroDivisionError
        shown, self.shown = self.shown, []
        return shown

    def on_path_data(self, path, pipe, data, now):
        self._hear("data", path, pipe, data)

    def on_path_down(self, path, reason, now):
        self._hear("down", path, reason)

    def on_pong(self, path, ping, now):
        self._hear("pong", path, ping)

    def on_room(self, path, size, now):
        self._hear("room", path, size)
        return self.output_for.pop(path, [])

    def wants_room(self, path):
        return path in self.output_for

    def on_timeout(self, now):
        self._hear("timeout")
        self.due = None

    def deadline(self):
        return self.due


class ScriptedPath:
    """What the driver uses of a QuicPath."""

    def __init__(self) -> None:
        self.wants_room = False
        self.sent: list[tuple[int, bytes]] = []
        self.pings: list[int] = []
        self.closed: tuple[int, str] | None = None
        self.flushes = self.turns = 0
        self.after: list[Callable[[], None]] = []
        self.endpoint = self
        self.description = "a scripted path"

    def send(self, pipe, data):
        self.sent.append((pipe, data))

    def ping(self, ping_id):
        self.pings.append(ping_id)

    def close(self, code, reason, now):
        self.closed = (code, reason)

    def schedule_flush(self, path):
        self.flushes += 1

    def flush(self, path=None):
        self.turns += 1

    def after_turn(self, callback):
        self.after.append(callback)


class Owner:
    """Both owners of a driver."""

    def __init__(self, driver: Driver) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._driver = driver

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args, *kwargs.values()))


@pytest.fixture
async def driver():
    core = ScriptedCore()
    made = Driver(core, PathTable())
    owner = Owner(made)
    made.attach(owner, owner)
    yield made
    made.close(StreamReset("over"))


@pytest.fixture
async def clock(driver):
    return Clock()


def add_path(driver: Driver, number: int = 1) -> ScriptedPath:
    path = ScriptedPath()
    stand_in: Any = path
    driver.paths.add(PathId(number), stand_in)
    return path


def test_every_action_has_a_performer():
    assert set(PERFORM) == set(typing.get_args(ask.Action))


async def test_actions_reach_paths_and_owners(driver):
    path = add_path(driver)
    driver.core.todo = [
        ask.PingPath(ONE, 5), ask.WakePath(ONE), ask.ClosePath(ONE, 18, "bye"), ask.ClosePath(TWO, 0, "never opened"),
        ask.PingPath(TWO, 1), ask.WakePath(TWO), ask.OpenPath(PathId(3), ADDRESS), ask.StreamSent(7),
        ask.StreamConfirmed(7), ask.Flushed(9), ask.Accept(8, "a:1", None), ask.SessionIdle(), ask.Drained(),
        ask.PortReadable(99), ask.PortDone(99),
    ]  # fmt: skip
    driver.step()
    assert path.pings == [5]
    assert path.wants_room
    assert path.flushes == 1
    assert path.closed == (18, "bye")
    assert driver.owner.calls == [
        ("cancel_open", 2), ("open_path", 3, ADDRESS), ("on_stream", 7, False), ("on_stream", 7, True),
        ("on_flushed", 9), ("accept", ask.Accept(8, "a:1", None)), ("on_finished",), ("on_finished",),
        ("on_port_over", 99, None),
    ]  # fmt: skip


async def test_the_order_of_a_turn(driver):
    path, core = add_path(driver), driver.core
    core.output_for[1] = [(0, b"control"), (1, b"data")]
    driver.inputs.on_data(path, 2, b"bytes", driver.now)
    assert not path.wants_room
    driver.on_turn({path}, driver.now)
    assert path.wants_room
    driver.inputs.on_room(path, 1200, driver.now)
    assert path.sent == [(0, b"control"), (1, b"data")]
    assert not path.wants_room
    core.todo = [ask.StreamSent(7)]
    for callback in path.after:
        callback()
    assert driver.owner.calls == [("on_stream", 7, False)]
    assert [what[0] for what in core.heard] == ["data", "room"]


async def test_what_an_application_writes_is_sent_in_the_same_round(driver):
    path = add_path(driver)
    driver.core.todo = [ask.WakePath(ONE)]
    driver.on_input()
    assert (path.flushes, path.turns) == (1, 1)
    driver.on_input()
    assert path.turns == 1
    driver.core.todo = [ask.WakePath(ONE)]
    driver.on_turn({path}, driver.now)
    driver.on_input()
    assert path.turns == 1, "its own turn sends"


async def test_bytes_are_shown_before_what_came_with_them_is_read(driver):
    """The next pipe's frames, and all decisions, come after the application has its bytes."""
    path, watcher = add_path(driver), Watcher(asyncio.get_running_loop())
    bridge, app = bridged_pair(watcher, driver.core)
    driver.bridges[7] = bridge
    bridge._owner = driver
    driver.core.output += b"answer"
    driver.core.shown = [7, 99]
    driver.core.todo = [ask.StreamSent(7)]
    with app:
        driver.inputs.on_data(path, 1, b"bytes", driver.now)
        assert app.recv(100) == b"answer"
        assert driver.owner.calls == [], "nothing was decided yet"
        driver.core.raising = "readable"
        driver.inputs.on_data(path, 1, b"bytes", driver.now)
        assert driver.owner.calls == [("on_defect", path)]
        driver.end_all_streams(StreamReset("over"))
    watcher.close()


async def test_an_application_that_has_said_nothing_new_causes_no_step(driver):
    watcher = Watcher(asyncio.get_running_loop())
    bridge, app = bridged_pair(watcher, driver.core)
    driver.bridges[7] = bridge
    bridge._owner = driver
    with app:
        app.sendall(b"request")
        bridge._ready.readable = True
        bridge.pump()  # as a dial does, before the socket's first event
        assert bytes(driver.core.received) == b"request"
        driver.core.todo = [ask.StreamSent(7)]
        watcher.poll()
        assert driver.owner.calls == [], "the event told of what was read already"
        app.sendall(b"more")
        watcher.poll()
        assert driver.owner.calls == [("on_stream", 7, False)]
        assert bytes(driver.core.received) == b"requestmore"
        driver.end_all_streams(StreamReset("over"))
    watcher.close()


async def test_a_path_that_is_down_is_unknown(driver):
    path = add_path(driver)
    driver.inputs.on_down(path, PathEnd(EndKind.IDLE, None, "nothing came"), driver.now)
    assert driver.core.heard == [("down", 1, "nothing came")]
    driver.inputs.on_down(path, PathEnd(EndKind.IDLE, None, ""), driver.now)
    driver.inputs.on_data(path, 0, b"late", driver.now)
    driver.inputs.on_pong(path, 1, driver.now)
    path.wants_room = True
    driver.inputs.on_room(path, 1200, driver.now)
    assert not path.wants_room
    assert len(driver.core.heard) == 1
    assert driver.paths.facts(PathId(1), driver.now) is None


async def test_one_timer(driver, clock):
    core = driver.core
    core.due = driver.now + 10
    driver.step()
    core.due = driver.now + 60
    driver.step()
    core.due = driver.now + 5
    driver.step()
    await clock.elapse(4)
    assert core.heard == []
    await clock.elapse(2)
    assert core.heard == [("timeout",)]
    await clock.elapse(100)
    assert core.heard == [("timeout",)], "the earlier deadlines left no timer behind"


async def test_a_core_that_raises_in_a_timer_is_asked_again_later(driver, clock, caplog):
    core = driver.core
    core.raising = "timeout"
    core.due = driver.now
    driver.step()
    await clock.elapse(0.01)
    assert len(core.heard) == 1
    assert driver.owner.calls == [("on_defect", None)]
    assert "ZeroDivisionError" in caplog.text
    core.raising = ""
    await clock.elapse(0.15)
    assert len(core.heard) >= 2


@pytest.mark.parametrize("where", ["data", "pong", "room"])
async def test_a_core_that_raises_on_a_path(driver, caplog, where):
    path = add_path(driver)
    driver.core.raising = where
    if where == "data":
        driver.inputs.on_data(path, 0, b"x", driver.now)
    elif where == "pong":
        driver.inputs.on_pong(path, 1, driver.now)
    else:
        path.wants_room = True
        driver.inputs.on_room(path, 1200, driver.now)
        assert not path.wants_room
    assert driver.owner.calls == [("on_defect", path)]
    assert any(record.name == "kwik.engine" and record.levelno == logging.ERROR for record in caplog.records)


async def test_a_core_that_raises_in_a_step(driver):
    driver.core.raising = "actions"
    driver.step()
    assert driver.owner.calls == [("on_defect", None)]


async def test_a_core_that_never_stops_asking_leaves_the_loop_alive(driver):
    class Restless(ScriptedCore):
        def actions(self):
            self.heard.append("asked")
            return [ask.Flushed(1)]

    core = Restless()
    driver.core = core
    driver.step()
    rounds = len(core.heard)
    await asyncio.sleep(0)
    assert 0 < rounds < len(core.heard) < 10_000


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (ask.PortReset(1, 14, "aborted", False), StreamReset),
        (ask.PortReset(1, 10, "application down", True), ConnectRefused),
        (ask.PortReset(1, 18, "nobody", True), NoServers),
    ],
)
def test_what_a_reset_looks_like(action, kind):
    error = error_of(action)
    assert type(error) is kind
    assert (error.code, error.message) == (action.code, action.text)


async def test_streams_end_by_actions(driver):
    watcher = Watcher(asyncio.get_running_loop())
    bridge, app = bridged_pair(watcher, driver.core)
    driver.bridges[7] = bridge
    with app:
        driver.core.todo = [ask.PortReset(7, 14, "aborted", False)]
        driver.step()
        with pytest.raises(ConnectionResetError):
            app.recv(1)
    assert driver.bridges == {}
    assert str(bridge.handle.reason) == "aborted"
    other, app = bridged_pair(watcher, driver.core)
    driver.bridges[8] = other
    waiting = asyncio.create_task(driver.wait_empty())
    await asyncio.sleep(0)
    with app:
        driver.core.output += b"rest"
        driver.core.ended_output = True
        driver.core.todo = [ask.PortDone(8)]
        driver.step()
        assert app.recv(100) == b"rest"
        assert app.recv(100) == b""
    await waiting
    await driver.leave(0)
    watcher.close()


async def test_a_defect_of_a_port_resets_its_stream(driver, caplog):
    class Broken(ScriptedCore):
        def on_app_bytes(self, key, data, now):
            raise ZeroDivisionError

    watcher = Watcher(asyncio.get_running_loop())
    core = Broken()
    bridge, app = bridged_pair(watcher, core)
    bridge._owner = driver
    driver.bridges[7] = bridge
    with app:
        app.sendall(b"x")
        await driver.wait_empty()
        with pytest.raises(ConnectionResetError):
            app.recv(1)
    assert bridge.handle.reason is not None
    assert bridge.handle.reason.code == ErrorCode.INTERNAL
    assert driver.owner.calls == [("on_port_over", 7, bridge.handle.reason), ("on_defect", None)]
    watcher.close()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (PathEnd(EndKind.CLOSED_BY_OTHER, 12, "leaving"), r"closed the path \(draining: leaving\)"),
        (PathEnd(EndKind.CLOSED_BY_OTHER, None, ""), "without a reason"),
        (PathEnd(EndKind.REFUSED_TLS, 42, "unknown authority"), "unknown authority.*check cafile"),
        (PathEnd(EndKind.IDLE, None, "no handshake within 10 s"), "^no handshake within 10 s$"),
        (PathEnd(EndKind.ERROR, 1, ""), "^error$"),
    ],
)
def test_ends_in_words(end, text):
    assert re.search(text, describe_end(end))
