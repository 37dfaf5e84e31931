"""Dials on a session that is ready: the application gets its socket at once, the engine hears of both together.

Nothing is waited for there, so that the way to the engine's thread and back would only delay the request: made in the
application's thread, the socket may hold it already when the engine comes to look, and OPEN takes it along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kwik.engine.handle import SocketName, StreamHandle, registry
from kwik.engine.local import LocalEnd

if TYPE_CHECKING:
    from kwik.engine.handle import StreamControl
    from kwik.errors import KwikError
    from kwik.kdp.snapshots import PathSnapshot, StreamStats


class EarlyControl:
    """Implements StreamControl for a stream that the engine is about to hear of. Its calls run after that."""

    def __init__(self) -> None:
        self.control: StreamControl | None = None

    async def paths(self) -> list[PathSnapshot]:
        """See StreamControl."""
        return [] if self.control is None else await self.control.paths()

    async def stats(self) -> StreamStats | None:
        """See StreamControl."""
        return None if self.control is None else await self.control.stats()

    async def flush(self, replicas: int) -> None:
        """See StreamControl."""
        if self.control is not None:
            await self.control.flush(replicas)


class EarlyDial:
    """Made in the application's thread; from then on the engine's."""

    def __init__(self, end: LocalEnd, *, local: SocketName, remote: SocketName, replicas: int, limit_s: float) -> None:
        self.end = end
        self.replicas = replicas
        self.limit_s = limit_s
        """How long OPEN may take to leave: as long as the dial might have taken."""
        self.control = EarlyControl()
        self.handle = StreamHandle(local, remote, self.control)

    def fail(self, error: KwikError) -> None:
        """There is no stream: the application sees that in its socket."""
        self.handle.reason = error
        registry.remove(self.handle)
        self.end.close(reset=True)
        self.handle.done.set()
