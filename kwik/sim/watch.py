"""What is observed while a simulation runs: memory, anchors, and for tests every frame that arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from kwik.types import Instant, PathId
from kwik.wire import codec

if TYPE_CHECKING:
    from kwik.sim.endpoints import ServerHost
    from kwik.sim.hosts import Host
    from kwik.sim.world import World

SAMPLE_EVERY: Final = 32
"""Turns of the client between two looks at memory."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame as it arrived at `host`."""

    at: Instant
    host: str
    path: PathId
    frame: codec.Received


@dataclass(slots=True)
class Watch:
    """Costs little by itself; `tap` decodes all traffic once more, `verbose` prints the cores' trace."""

    tap: bool = False
    verbose: bool = False
    print_line: Callable[[str], None] = print
    frames: list[Seen] = field(default_factory=list)
    client_held_bytes: int = 0
    """Most that the client's core held at a sample."""
    server_held_bytes: int = 0
    anchors: dict[int, list[str]] = field(default_factory=dict)
    """Of each stream: its anchors, each as often as it became one. Kept only if not all servers say the same."""
    _turns: int = 0
    _world: World | None = None

    def begin(self, world: World) -> None:
        """The world exists; nothing has happened."""
        self._world = world
        if self.tap:
            self._listen(world.client, "server")

    def on_start(self, host: ServerHost, *, is_suspect: bool) -> None:
        """A server was started; what a suspect is told is always kept."""
        if self.tap or is_suspect:
            self._listen(host, "client")

    def trace_of(self, name: str) -> Callable[[object], None] | None:
        """What a core calls with its events; None if nobody wants to know."""
        return (lambda event: self.say(name, event)) if self.verbose else None

    def say(self, name: str, event: object) -> None:
        """Print one event."""
        now = self._world.clock.now if self._world is not None else 0.0
        self.print_line(f"{now:12.6f}  {name:<8} {event}")

    def after_client_turn(self, world: World) -> None:
        """Look at what changes slowly; at the anchors every time if not all servers say the same."""
        if world.has_liars and world.client.is_fed:
            self._note_anchors(world)
        self._turns += 1
        if self._turns % SAMPLE_EVERY:
            return
        self.client_held_bytes = max(self.client_held_bytes, held_bytes(world.client.side))
        for place in world.places:
            self.server_held_bytes = max(self.server_held_bytes, held_bytes(place.host.side))

    def _note_anchors(self, world: World) -> None:
        for app in world.client.streams:
            place = world.anchor_place(app.number) if app.seen == "open" else None
            anchors = self.anchors.setdefault(app.number, [])
            if place is not None and anchors[-1:] != [place.name]:
                anchors.append(place.name)

    def on_settled(self, world: World) -> None:
        """All streams have ended and the session is idle."""

    def _listen(self, host: Host, sender: Literal["server", "client"]) -> None:
        decoders: dict[tuple[PathId, int], codec.Decoder] = {}
        hash_as_well = host.note

        def note(path: PathId, pipe: int, data: bytes) -> None:
            hash_as_well(path, pipe, data)
            if (path, pipe) not in decoders:
                decoders[path, pipe] = codec.Decoder(sender, "data" if pipe else "control")
            for frame in decoders[path, pipe].feed(data):
                self.frames.append(Seen(host.clock.now, host.name, path, frame))
                if self.verbose:
                    self.say(host.name, f"path {path} got {frame}"[:160])

        host.note = note  # type: ignore[method-assign]


def held_bytes(core: object) -> int:
    """Bytes of streams that a core holds, by its own account; 0 for cores that keep none."""
    probe = getattr(core, "held_bytes", None)
    return int(probe()) if callable(probe) else int(probe or 0)
