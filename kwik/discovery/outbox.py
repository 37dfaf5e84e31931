"""What lies between the callbacks of a source and those who listen: sightings to one reader, a warning to several.

An outbox holds at most one sighting per key, the newest: a slow reader costs memory for the records that exist, never
for the changes that they went through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kwik.kcp.sighting import Sighting


class Outbox:
    """Sightings on their way to one reader, oldest change first. Event loop only, not thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, Sighting] = {}
        self._failure: BaseException | None = None
        self._wake = asyncio.Event()

    def put(self, sighting: Sighting) -> None:
        """Add it, or replace the one of the same key that was not read yet."""
        self._waiting.pop(sighting.key, None)
        self._waiting[sighting.key] = sighting
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Make `get` raise the first such error once everything before it was read."""
        if self._failure is None:
            self._failure = error
        self._wake.set()

    def watch_task(self, task: asyncio.Task[None]) -> None:
        """Fail when the task ends with an exception: a source must not fall silent unnoticed."""
        task.add_done_callback(self._on_task_done)

    async def get(self) -> Sighting:
        """Return the next sighting, waiting for one; raises what `fail` was given. Cancel-safe: nothing is lost."""
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)


class WarningBoard:
    """One standing warning and those who want to know of it: the `Warns` half of a provider. Event loop only."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._listeners: list[Callable[[str | None], None]] = []

    def set(self, text: str | None) -> None:
        """Put up a warning, or take it down with None; listeners hear of changes only."""
        if text == self._text:
            return
        self._text = text
        for listener in tuple(self._listeners):
            listener(text)

    def subscribe(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        """Add a listener, tell it the standing warning, and return what removes it again (once or more)."""
        self._listeners.append(listener)
        if self._text is not None:
            listener(self._text)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe
