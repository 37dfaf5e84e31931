"""The server endpoint: all sessions of one server, admission and data plane joined (SPEC §4, §5).

Pure: the engine and the simulator drive the very same object. Paths are numbered by whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kwik.core.actions import ClosePath, Drained, WakePath
from kwik.core.border import PipeReader, frame_name
from kwik.errors import ErrorCode, RemoteProtocolError
from kwik.kcp.admission import Refuse
from kwik.kcp.drain import Announce, ServerDrain
from kwik.kcp.sessions import ServerSessions
from kwik.kdp.server import DataServer
from kwik.kdp.snapshots import ReplicaSnapshot
from kwik.wire.codec import DataPiece, Received, UpstreamPiece, encode
from kwik.wire.messages import JOIN_OK, ClientHello, Join

if TYPE_CHECKING:
    from kwik.config import ServerConfig
    from kwik.core.port import FactsView, PortKey
    from kwik.types import Instant, PathId


MIN_STEP_S = 0.001
"""on_timeout is due at most this often."""


class ServerCore:
    """One server. See `kwik.core.port` for the port calls."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        incarnation: bytes,
        facts: FactsView,
        token_bytes: Callable[[int], bytes],
        trace: Callable[[object], None] | None = None,
    ) -> None:
        self._facts = facts
        self._trace = trace
        self._actions: list[object] = []
        self._sessions = ServerSessions(config, incarnation=incarnation, token_bytes=token_bytes)
        self._drain = ServerDrain(config.drain_s)
        self._data = DataServer(config, self._actions)
        self._readers: dict[PathId, PipeReader] = {}
        self._messages: dict[PathId, list[bytes]] = {}
        self._numbers: dict[PathId, int] = {}
        self._remotes: dict[PathId, tuple[str, int] | None] = {}
        self._counts: dict[bytes, int] = {}
        self._now: Instant = 0.0
        self._timed_out_at: Instant = 0.0
        self._data.client_path = self._numbers.get

    # -- paths -----------------------------------------------------------------------------------------------------

    def on_path_writable(self, path: PathId, binding: bytes, remote: tuple[str, int] | None, now: Instant) -> None:
        """1-RTT send keys exist: the hello goes out with the first flight."""
        self._now = now
        hello = self._sessions.on_path(path, binding, draining=self._drain.is_draining)
        if isinstance(hello, Refuse):
            self._actions.append(ClosePath(path, hello.code, hello.reason))
            return
        self._readers[path] = PipeReader("client")
        self._remotes[path] = remote
        self._messages[path] = [encode(hello)]
        self._actions.append(WakePath(path))

    def on_path_data(self, path: PathId, pipe: int, data: bytes, now: Instant) -> None:
        """Bytes of one of the client's pipes."""
        reader = self._readers.get(path)
        if reader is None:
            return
        self._now = now
        try:
            reader.feed(pipe, data, lambda received: self._on_received(path, received))
        except RemoteProtocolError as error:
            self._close(path, error.code, str(error))
        self._after()

    def on_path_down(self, path: PathId, reason: str, now: Instant) -> None:
        """The path ended."""
        self._now = now
        self._forget(path)
        self._after()

    def on_pong(self, path: PathId, ping: int, now: Instant) -> None:
        """Servers do not ping; kept for symmetry with the client."""

    def on_room(self, path: PathId, size: int, now: Instant) -> list[tuple[int, bytes]]:
        """What goes out on the path now, control first."""
        self._now = now
        messages = self._messages.get(path)
        output: list[tuple[int, bytes]] = []
        if messages:
            output.append((0, b"".join(messages)))
            messages.clear()
        return output + self._data.room(path, max(0, size - sum(len(data) for _, data in output)), now)

    def wants_room(self, path: PathId) -> bool:
        """Whether on_room would give something."""
        return bool(self._messages.get(path)) or self._data.wants_room(path)

    def on_timeout(self, now: Instant) -> None:
        """The deadline has passed."""
        self._now = now
        self._timed_out_at = now
        self._data.on_timeout(now)
        self._sessions.on_timeout(now)
        self._drain.on_timeout(now)
        self._after()

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        times = [self._data.deadline(), self._sessions.deadline(), self._drain.deadline()]
        # Never an instant that on_timeout has seen already; yet a due one must not move away while other inputs come.
        fired = self._timed_out_at
        later = [when if when > fired else fired + MIN_STEP_S for when in times if when is not None]
        return min(later, default=None)

    def readable(self) -> list[PortKey]:
        """As of a client. A server decides nothing that an application would wait for."""
        return []

    def urgent(self) -> list[object]:
        """As of a client. A server decides nothing that would take time."""
        return []

    def actions(self) -> list[object]:
        """What is to be done; a second call is empty."""
        actions = self._actions[:]
        self._actions.clear()
        return actions

    # -- applications ----------------------------------------------------------------------------------------------

    def accepted(self, key: PortKey, now: Instant) -> None:
        """The application has been reached."""
        self._now = now
        self._data.accepted(key)

    def refused(self, key: PortKey, code: int, text: str, now: Instant) -> None:
        """The application cannot be reached; it has not been touched."""
        self._now = now
        self._data.refused(key, code, text)
        self._after()

    def allowance(self, key: PortKey) -> int:
        """See BytePort."""
        replica = self._data.replica_of(key)
        return 0 if replica is None else replica.allowance()

    def on_app_bytes(self, key: PortKey, data: bytes, now: Instant) -> None:
        """See BytePort."""
        self._now = now
        self._data.on_app_bytes(key, data, now)

    def on_app_eof(self, key: PortKey, now: Instant) -> None:
        """See BytePort."""
        self._now = now
        self._data.on_app_eof(key)

    def on_app_closed(self, key: PortKey, now: Instant, *, aborted: bool) -> None:
        """See BytePort."""
        self._now = now
        self._data.on_app_closed(key, aborted=aborted)
        self._after()

    def peek(self, key: PortKey) -> memoryview | None:
        """See BytePort."""
        replica = self._data.replica_of(key)
        return None if replica is None else replica.peek()

    def consume(self, key: PortKey, size: int, now: Instant) -> None:
        """See BytePort."""
        self._now = now
        self._data.consume(key, size)
        self._after()

    def at_end(self, key: PortKey) -> bool:
        """See BytePort."""
        replica = self._data.replica_of(key)
        return replica is not None and replica.at_end()

    # -- leaving ---------------------------------------------------------------------------------------------------

    def drain(self, now: Instant) -> None:
        """Graceful stop: take nothing new, let streams finish, then Drained."""
        self._now = now
        self._data.draining = True
        self._drain.on_drain(now)
        self._after()

    def stop(self, now: Instant) -> None:
        """Stop at once: every stream is reset, every path closed with SERVER_GONE."""
        self._now = now
        self._data.draining = True
        self._data.abort_all()
        for path in list(self._readers):
            self._close(path, ErrorCode.SERVER_GONE, "the server stops now")

    # -- pictures --------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Stream bytes kept in memory: output above the floors and upstream not taken."""
        return sum(replica.held_bytes for key in self._data.ports() if (replica := self._data.replica_of(key)))

    @property
    def stream_count(self) -> int:
        """Replicas alive, lingering ones included."""
        return len(self._data.ports())

    def replica_views(self, now: Instant) -> list[ReplicaSnapshot]:
        """All replicas."""
        views = []
        for key in self._data.ports():
            replica = self._data.replica_of(key)
            if replica is not None:
                views.append(
                    ReplicaSnapshot(
                        replica=replica.number,
                        session=(self._data.session_of(key) or b"").hex()[:8],
                        state=replica.state.name.lower(),
                        produced_bytes=replica.producer.produced,
                        floor=replica.producer.floor,
                        upstream_taken_bytes=replica.sink.taken,
                        paths=tuple(replica.duties),
                    )
                )
        return views

    # -- inside ----------------------------------------------------------------------------------------------------

    def _on_received(self, path: PathId, received: Received) -> None:
        if isinstance(received, ClientHello):
            self._on_hello(path, received)
        elif isinstance(received, Join):
            self._on_join(path, received)
        elif self._sessions.session_of(path) is None:
            raise RemoteProtocolError(
                ErrorCode.ADMISSION, frame_name(received), "type", None, "the path is not admitted"
            )
        elif isinstance(received, UpstreamPiece):
            self._data.on_upstream(path, received)
        elif not isinstance(received, DataPiece):
            self._data.on_frame(path, received, self._now)  # type: ignore[arg-type]

    def _on_hello(self, path: PathId, hello: ClientHello) -> None:
        session = self._sessions.on_client_hello(path, hello, self._now)
        if isinstance(session, Refuse):
            raise RemoteProtocolError(session.code, "CLIENT_HELLO", session.field, None, session.reason)
        self._numbers[path] = hello.path
        self._data.on_path(path, session, self._remotes.get(path))
        if self._drain.is_draining:
            self._send(path, self._drain.message(self._now))

    def _on_join(self, path: PathId, join: Join) -> None:
        own = self._sessions.session_of(path)
        answer = self._sessions.on_join(path, join, self._now)
        if isinstance(answer, Refuse):
            raise RemoteProtocolError(answer.code, "JOIN", answer.field, None, answer.reason)
        self._data.on_path_gone(path, self._now)
        if own is not None:
            self._data.forget_session(own)
        session = self._sessions.session_of(path)
        if answer.status == JOIN_OK and session is not None:
            self._data.on_path(path, session, self._remotes.get(path))
        self._send(path, answer)

    def _send(self, path: PathId, message: object) -> None:
        if path in self._messages:
            self._messages[path].append(encode(message))  # type: ignore[arg-type]
            self._actions.append(WakePath(path))

    def _close(self, path: PathId, code: int, reason: str) -> None:
        self._actions.append(ClosePath(path, code, reason[:200]))
        self._forget(path)

    def _forget(self, path: PathId) -> None:
        self._readers.pop(path, None)
        self._messages.pop(path, None)
        self._remotes.pop(path, None)
        self._data.on_path_gone(path, self._now)
        self._numbers.pop(path, None)
        self._sessions.on_path_down(path, self._now)

    def _after(self) -> None:
        """Tell the control plane how many replicas there are, and do what it asks."""
        if self._data.has_changed:
            self._count()
        for forgotten in self._sessions.actions():
            self._data.forget_session(forgotten.session)
        for action in self._drain.actions():
            if isinstance(action, Announce):
                for path in list(self._readers):
                    if self._sessions.session_of(path) is not None:
                        self._send(path, action.message)
            else:
                self._actions.append(Drained())

    def _count(self) -> None:
        self._data.has_changed = False
        counts = self._data.counts()
        for session in [*self._counts, *counts]:
            if counts.get(session, 0) != self._counts.get(session, 0):
                self._sessions.on_replicas(session, counts.get(session, 0), self._now)
        self._counts = counts
        self._drain.on_replicas(sum(counts.values()), self._now)
