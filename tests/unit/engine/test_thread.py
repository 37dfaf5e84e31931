"""The engine's thread: calls from other threads and loops, failures, the end of the process."""

import asyncio
import threading

import pytest

from kwik.engine import thread
from kwik.engine.thread import Engine, engine, on_engine


@pytest.fixture
def own():
    made = Engine()
    yield made
    made.stop(0.1)


async def value(result, *, after=0.0):
    await asyncio.sleep(after)
    return result


def test_a_call_runs_on_the_engine_s_thread(own):
    async def where():
        return threading.current_thread().name, own.is_here

    assert own.call(where()) == ("kwik-engine", True)
    assert not own.is_here


def test_errors_come_back(own):
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        own.call(fail())


def test_a_call_that_takes_too_long_is_cancelled(own):
    ended = threading.Event()

    async def long():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        own.call(long(), 0.01)
    assert ended.wait(10)


def test_a_blocking_call_on_its_own_thread_is_refused(own):
    async def nested():
        own.call(value(1))

    with pytest.raises(RuntimeError, match="own thread"):
        own.call(nested())


def test_one_engine_per_process():
    assert engine() is engine()
    before = threading.active_count()
    engine().call(value(1))
    assert threading.active_count() == before


async def test_on_engine_from_another_loop():
    assert await on_engine(value(5)) == 5

    async def nested():
        return await on_engine(value(6))

    assert await on_engine(nested()) == 6


async def test_cancelling_reaches_the_engine():
    started, ended = threading.Event(), threading.Event()

    async def long():
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(on_engine(long()))
    assert await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 10)


def test_tasks_that_nobody_awaits_are_logged(own, caplog):
    done = threading.Event()

    async def fail():
        done.set()
        raise KeyError("nobody looks")

    async def start():
        own.spawn(fail(), "the failing one")

    own.call(start())
    assert done.wait(10)
    own.call(value(1, after=0.001))
    assert "the failing one failed" in caplog.text


def test_stopping_lets_everybody_leave(own, caplog):
    left = []

    async def leave(limit_s):
        left.append(limit_s)

    async def broken(limit_s):
        raise ZeroDivisionError

    async def gone(limit_s):
        left.append("gone")

    async def prepare():
        for leaver in (leave, broken, gone):
            own.add_leaver(leaver)
        own.remove_leaver(gone)
        own.remove_leaver(gone)

    own.call(prepare())
    own.stop(3)
    own.stop(3)
    assert left == [3]
    assert not own.is_running
    assert "could not be ended in order" in caplog.text
    with pytest.raises(RuntimeError, match="stopped"):
        own.call(value(1))


def test_stopping_does_not_wait_for_ever(own):
    async def leave(limit_s):
        await asyncio.sleep(60)

    async def prepare():
        own.add_leaver(leave)
        own.spawn(asyncio.sleep(60), "long")

    own.call(prepare())
    own._leave = lambda limit_s: value(None)
    own.stop(0.0)
    assert not own.is_running


def test_a_child_forgets_the_engine(monkeypatch):
    """What the fork hook does, without a fork: another process is tried in tests/net/test_dial_exit.py."""
    current = thread._Current()
    monkeypatch.setattr(thread, "_current", current)
    first = engine()
    first.loop.call_soon_threadsafe(first.loop.stop)
    first._thread.join(10)
    current.forget()
    assert current.engine is None
    assert not first.is_running
    second = engine()
    assert second is not first
    assert second.call(value(2)) == 2
    second.stop(0.1)
    assert [current.forgotten[0]] == [first]
