"""A data plane of a server under test: frames in, frames out, and the applications' ends by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from kwik.config import ServerConfig
from kwik.errors import LocalProtocolError
from kwik.kdp.actions import Accept
from kwik.kdp.digest import Pair
from kwik.kdp.server import DataServer
from kwik.types import PathId
from kwik.wire import frames
from kwik.wire.codec import Decoder, Frame, UpstreamPiece
from tests.strategies import joined

F = TypeVar("F")
SERVICE = "files.example:80"
SESSION = b"s" * 16
BLOCK = 16
NOW = 1000.0
P1, P2 = PathId(1), PathId(2)
PLENTY = 1 << 20


class ServerRig:
    """One server with small blocks; time stands still unless a test moves `now`."""

    def __init__(self, **settings: Any) -> None:
        values: dict[str, Any] = {
            "service": SERVICE,
            "server_id": "a",
            "replicated": True,
            "min_block_bytes": BLOCK,
            "send_window_bytes": 64 * BLOCK,
            "upstream_credit_bytes": 100,
            "upstream_window_bytes": 200,
        }
        self.said: list[object] = []
        self.server = DataServer(ServerConfig(**(values | settings)), self.said)
        self.now = NOW
        self._decoders: dict[tuple[PathId, int], Decoder] = {}

    def path(self, path: PathId = P1, session: bytes = SESSION) -> None:
        """Admit a path."""
        self.server.on_path(path, session, ("192.0.2.1", 4433))

    def gone(self, path: PathId = P1) -> None:
        """A path ends."""
        self.server.on_path_gone(path, self.now)

    def tell(self, frame: Any, path: PathId = P1) -> None:
        """A frame of the client."""
        self.server.on_frame(path, frame, self.now)

    def fault(self, frame: Any, path: PathId = P1) -> int:
        """Code of the error that a frame raises."""
        try:
            self.tell(frame, path)
        except LocalProtocolError as error:
            return error.code
        raise AssertionError(f"{frame} was taken")

    def open(self, replica: int = 1, path: PathId = P1, **fields: Any) -> None:
        """OPEN."""
        self.tell(open_frame(replica, **fields), path)

    def serve(self, replica: int = 1, path: PathId = P1, **fields: Any) -> int:
        """OPEN, and the application is reached; returns the port's key. What was said so far is forgotten."""
        if path not in self.server._paths:
            self.path(path)
        self.open(replica, path, **fields)
        key = self.find(Accept).key
        self.server.accepted(key)
        self.hear(path)
        self.actions()
        return key

    def upstream(self, payload: bytes, offset: int = 0, *, path: PathId = P1, replica: int = 1, **fields: Any) -> None:
        """A piece of the upstream; `after`, `pair` and `fin` by name."""
        chain, prefix = fields.get("pair") or (b"", b"")
        flags = frames.UPSTREAM_FIN if fields.get("fin") else 0
        piece = UpstreamPiece(replica, offset, fields.get("after", 0), flags, chain, prefix, payload, True)
        self.server.on_upstream(path, piece)

    def write(self, key: int, data: bytes) -> None:
        """The application wrote."""
        self.server.on_app_bytes(key, data, self.now)

    def read(self, key: int) -> bytes:
        """The application reads all of the upstream that it may have."""
        data = b""
        while (replica := self.server.replica_of(key)) is not None and (view := replica.peek()) is not None:
            piece = bytes(view)
            self.server.consume(key, len(piece))
            data += piece
        return data

    def at_end(self, key: int) -> bool:
        """Whether the application sees the end of the upstream."""
        replica = self.server.replica_of(key)
        return replica is not None and replica.at_end()

    def allowance(self, key: int) -> int:
        """Bytes that the application may write."""
        replica = self.server.replica_of(key)
        return 0 if replica is None else replica.allowance()

    def deadline(self) -> float | None:
        """When the server wants to be woken."""
        return self.server.deadline()

    def hear(self, path: PathId = P1, size: int = PLENTY, *, once: bool = False) -> list[Frame]:
        """What goes out on a path now, decoded; adjacent DATA of one order becomes one."""
        received = []
        while output := self.server.room(path, size, self.now):
            for pipe, data in output:
                decoder = self._decoders.setdefault((path, pipe), Decoder("server", "data" if pipe else "control"))
                received += decoder.feed(data)
            if once:
                break
        return joined(received)

    def hear_only(self, kind: type[F], path: PathId = P1) -> list[F]:
        """Frames of one type that go out now; others are forgotten."""
        return [frame for frame in self.hear(path) if isinstance(frame, kind)]

    def actions(self) -> list[object]:
        """What was asked for since the last call."""
        said = self.said[:]
        self.said.clear()
        return said

    def find(self, kind: type[F]) -> F:
        """The newest action of a type."""
        return [action for action in self.said if isinstance(action, kind)][-1]


def open_frame(replica: int = 1, **fields: Any) -> frames.Open:
    """OPEN of a first replica with plenty of credit and no first grant."""
    values: dict[str, Any] = {
        "replica": replica,
        "stream": 1,
        "mode": frames.MODE_FIRST,
        "role": frames.ROLE_ANCHOR,
        "service": SERVICE,
        "block_bytes": BLOCK,
        "digest": frames.DIGEST_BLAKE3,
        "floor": 0,
        "credit": 1000 * BLOCK,
        "first_grant_blocks": 0,
        "extensions": (),
    }
    return frames.Open(**(values | fields))


def grant(order: int, *blocks: tuple[int, int], replica: int = 1, urgent: bool = False) -> frames.Grant:
    """GRANT."""
    return frames.Grant(replica, order, urgent, blocks)


def kinds(heard: Sequence[object]) -> list[str]:
    """Names of frames."""
    return [type(frame).__name__ for frame in heard]


__all__ = ["BLOCK", "NOW", "P1", "P2", "SERVICE", "SESSION", "Pair", "ServerRig", "grant", "kinds", "open_frame"]
