"""The engine: one event loop on one daemon thread per process, started by the first call that needs it.

Everything of Kwik runs there, whatever loop or thread the application uses; only values and descriptors cross. At a
regular exit of the interpreter the engine first hands over what the applications have written (`EXIT_LIMIT_S`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Generic, TypeVar

from kwik.engine.handover import HandOver
from kwik.engine.local import UnixEnd, make_pair
from kwik.engine.shelf import Shelf
from kwik.engine.watch import Watcher

Result = TypeVar("Result")
Leaver = Callable[[float], Awaitable[None]]
"""What one driver does when the process ends: hand over within so many seconds, then close. On the engine's loop."""

EXIT_LIMIT_S: Final = 5.0
"""How long the end of the process waits for streams to be handed over."""
_STOP_LIMIT_S: Final = 1.0
_STOPPED: Final = "the engine has stopped: the interpreter is ending"

_log = logging.getLogger("kwik.engine")


class Engine:
    """The loop, its thread and what lives on them. `call` and `submit` may be used by every other thread."""

    def __init__(self) -> None:
        # Not the policy's choice: other loops have no selector to give up in a forked child.
        self.loop = asyncio.SelectorEventLoop()
        self.watcher = Watcher(self.loop)
        self.handover = HandOver(self.watcher, self._loop_fd())
        self.shelves: list[Shelf[Any]] = []
        self.new_pair: Callable[[], tuple[UnixEnd, socket.socket]] = make_pair
        """From a shelf, once there is one."""
        self._leavers: dict[Leaver, None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="kwik-engine", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """False once the engine was stopped; it is not started again."""
        return not self._stopped and self._thread.is_alive()

    @property
    def is_here(self) -> bool:
        """True on the engine's own thread."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run it on the engine's loop. Cancelling the future cancels it. Raises RuntimeError once it was stopped."""
        if not self.is_running:
            coroutine.close()
            raise RuntimeError(_STOPPED)
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(
        self,
        coroutine: Coroutine[Any, Any, Result],
        timeout: float | None = None,
        *,
        early: Early[Result] | None = None,
    ) -> Result:
        """Run it on the engine's loop and wait for the result, at most `timeout` seconds (then TimeoutError).

        When the wait ends early (time-out, KeyboardInterrupt) the coroutine is cancelled. Raises RuntimeError on the
        engine's own thread, which would wait for itself. With `early` the coroutine may answer before it ends.
        """
        if self.is_here:
            coroutine.close()
            raise RuntimeError("a blocking call on the engine's own thread would wait for itself: use kwik.aio")
        if not self.is_running:
            coroutine.close()
            raise RuntimeError(_STOPPED)
        call = _Call(coroutine, self.loop)
        if early is not None:
            early.call = call
        self.loop.call_soon_threadsafe(call.start)
        try:
            return call.result(timeout)
        except BaseException:
            call.cancel()
            raise

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that nobody awaits: kept alive, its failure logged. On the engine's thread only."""
        task = self.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def add_leaver(self, leaver: Leaver) -> None:
        """Have this called when the process ends. On the engine's thread only."""
        self._leavers[leaver] = None

    def remove_leaver(self, leaver: Leaver) -> None:
        """Undo `add_leaver`; harmless when it was not added."""
        self._leavers.pop(leaver, None)

    def stop(self, limit_s: float = EXIT_LIMIT_S) -> None:
        """Hand over what is written, at most `limit_s` seconds, close everything and end the thread. Idempotent."""
        if self._stopped or self.is_here:
            return
        with contextlib.suppress(TimeoutError, RuntimeError):
            self.call(self._leave(limit_s), limit_s + 2 * _STOP_LIMIT_S)
        self._stopped = True
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_LIMIT_S)

    def forget(self) -> None:
        """In a forked child: give up every descriptor that the parent's engine holds, and nothing else.

        The thread does not exist here, and its locks may be held for ever. The numbers are pointed at /dev/null
        instead of being closed, so that no object that still believes in one can close somebody else's later.
        """
        self._stopped = True
        numbers = set(self.watcher.descriptors())
        for shelf in self.shelves:
            numbers.update(shelf.descriptors())
        selector = getattr(self.loop, "_selector", None)
        if selector is not None:
            numbers.update(selector.get_map() or ())
            with contextlib.suppress(AttributeError, OSError):
                numbers.add(selector.fileno())
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in numbers:
            with contextlib.suppress(OSError):
                os.dup2(nowhere, number, inheritable=False)
        os.close(nowhere)

    def _loop_fd(self) -> int:
        """Readable when the loop has something to do; -1 if that cannot be known."""
        selector = getattr(self.loop, "_selector", None)
        with contextlib.suppress(AttributeError):
            return int(selector.fileno())  # type: ignore[union-attr]
        return -1

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self.watcher.close()
            for shelf in self.shelves:
                shelf.close()
            self._cancel_everything()
        finally:
            self.loop.close()

    def _cancel_everything(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_LIMIT_S))

    async def _leave(self, limit_s: float) -> None:
        leavers = [asyncio.ensure_future(leaver(limit_s)) for leaver in self._leavers]
        if leavers:
            done, _ = await asyncio.wait(leavers, timeout=limit_s + _STOP_LIMIT_S)
            for task in done:
                if (error := task.exception()) is not None:
                    _log.error("a session could not be ended in order", exc_info=error)

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)


class Early(Generic[Result]):
    """Lets a coroutine of `Engine.call` answer from inside a callback of the loop, a round or two before it ends."""

    def __init__(self) -> None:
        self.call: _Call[Result] | None = None

    def give(self, result: Result) -> None:
        """On the loop. What the coroutine returns or raises afterwards is not heard."""
        assert self.call is not None
        self.call.give(result)


class _Call(Generic[Result]):
    """A coroutine of the engine for which another thread waits.

    What asyncio has for this takes two rounds of the loop and three futures more, a tenth of a millisecond; a dial on a
    path that exists is not much longer.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Result], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Lock()
        self._over.acquire()
        self._error: BaseException | None = None
        self._result: list[Result] = []

    def start(self) -> None:
        """On the loop."""
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            self.give(await self._coroutine)
        except BaseException as error:
            if not self._result:
                self._error = error
                self._over.release()
            if not isinstance(error, Exception):
                raise  # a cancellation, or the end of the process: the loop must know of it, too

    def give(self, result: Result) -> None:
        """On the loop: this is the result, unless there was one before."""
        if not self._result:
            self._result.append(result)
            self._over.release()

    def result(self, timeout: float | None) -> Result:
        """In the thread that waits. Raises what the coroutine raised; TimeoutError."""
        if not self._over.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        if isinstance(self._error, asyncio.CancelledError):
            raise CancelledError
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._result[0]

    def cancel(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the coroutine with it
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Current:
    """The engine of this process."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.lock = threading.Lock()
        self.forgotten: list[Engine] = []
        """Of parent processes. Kept: their destructors would act on what is not theirs any more."""

    def get(self) -> Engine:
        with self.lock:
            if self.engine is None:
                self.engine = Engine()
                # Runs after every other thread has ended and while daemon threads still live.
                atexit.register(self.engine.stop)
                # A child process of multiprocessing does not get so far: it has finalizers of its own.
                if (processes := sys.modules.get("multiprocessing.util")) is not None:
                    processes.Finalize(None, self.engine.stop, exitpriority=0)
            return self.engine

    def forget(self) -> None:
        """In a forked child."""
        self.lock = threading.Lock()
        if self.engine is not None:
            self.forgotten.append(self.engine)
            atexit.unregister(self.engine.stop)
            self.engine.forget()
            self.engine = None


_current = _Current()
os.register_at_fork(after_in_child=_current.forget)


def engine() -> Engine:
    """The engine of this process; started now if there is none. Thread-safe."""
    return _current.get()


async def on_engine(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Await it on the engine's loop, from whatever loop this is. Cancelling this cancels it there."""
    current = engine()
    if current.is_here:
        return await coroutine
    return await asyncio.wrap_future(current.submit(coroutine))
