"""Which session a path of a server belongs to: hello, join and linger, the server's side (SPEC §4.1, §4.2, §5.10).

Every client hello opens a session of its own; a join moves its path to another one and drops the first. A session
outlives its paths for as long as it has replicas, and then by the linger time.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kwik.base.timers import TimerTable
from kwik.errors import ErrorCode
from kwik.kcp.admission import NONCE_BYTES, Refuse, client_proof, server_proof
from kwik.wire.messages import JOIN_OK, JOIN_REFUSED, JOIN_UNKNOWN, VERSION, ClientHello, Join, Joined, ServerHello

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwik.config import ServerConfig
    from kwik.types import Instant, PathId

MAX_PATHS: Final = 64
"""Paths per session (SPEC §7)."""
MIN_UPSTREAM_BYTES: Final = 65536
"""What a client may send before it has read the hello (SPEC §4.1); the hello never names less."""
_NO_PROOF: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class SessionForgotten:
    """Nobody can join this session any more; whatever is kept for it may go."""

    session: bytes


@dataclass(slots=True)
class _Session:
    name: bytes
    secret: bytes
    paths: dict[PathId, None] = field(default_factory=dict)
    replicas: int = 0


@dataclass(slots=True)
class _Path:
    """`session` is None before the hello and after a join that failed: the path then carries nothing."""

    binding: bytes
    server_nonce: bytes
    client_nonce: bytes | None = None
    session: _Session | None = None
    join_seen: bool = False


class ServerSessions:
    """All sessions of one server. Path numbers are the server's own and never reused."""

    def __init__(self, config: ServerConfig, *, incarnation: bytes, token_bytes: Callable[[int], bytes]) -> None:
        """`incarnation` are 16 random bytes of this start; `token_bytes` gives unpredictable bytes."""
        self._config = config
        self._incarnation = incarnation
        self._token_bytes = token_bytes
        self._paths: dict[PathId, _Path] = {}
        self._sessions: dict[bytes, _Session] = {}
        self._timers: TimerTable[bytes] = TimerTable()
        self._actions: list[SessionForgotten] = []

    def on_path(self, path: PathId, binding: bytes, *, draining: bool) -> ServerHello | Refuse:
        """A path whose handshake has come far enough to send: the first message on its control pipe."""
        if len(self._paths) >= MAX_PATHS * self._config.max_sessions:
            return Refuse(ErrorCode.OVERLOADED, "too many paths")
        record = _Path(binding, self._token_bytes(NONCE_BYTES))
        self._paths[path] = record
        return ServerHello(
            version=VERSION,
            server_id=self._config.server_id,
            incarnation=self._incarnation,
            nonce=record.server_nonce,
            service=self._config.service,
            replicated=self._config.replicated,
            draining=draining,
            upstream_credit=max(MIN_UPSTREAM_BYTES, self._config.upstream_credit_bytes),
            linger_ms=round(self._config.linger_s * 1000),
            extensions=(),
        )

    def on_client_hello(self, path: PathId, hello: ClientHello, now: Instant) -> bytes | Refuse:
        """The path's own session is open under the returned name, or the path must be closed."""
        record = self._paths.get(path)
        if record is None or record.client_nonce is not None:
            return Refuse(ErrorCode.PROTOCOL, "CLIENT_HELLO twice")
        refusal = self._refusal(hello)
        if refusal is not None:
            return refusal
        session = _Session(hello.session, hello.secret, {path: None})
        self._sessions[session.name] = session
        record.client_nonce = hello.nonce
        record.session = session
        return session.name

    def on_join(self, path: PathId, join: Join, now: Instant) -> Joined | Refuse:
        """Move the path to the named session if the proof is right.

        After an answer with another status than JOIN_OK the path has no session: whatever else comes on it is an
        ADMISSION error.
        """
        record = self._paths.get(path)
        if record is None or record.session is None or record.client_nonce is None or record.join_seen:
            return Refuse(ErrorCode.PROTOCOL, "JOIN before CLIENT_HELLO, or twice")
        own = record.session
        if own.replicas or own.name == join.session:
            return Refuse(ErrorCode.PROTOCOL, "JOIN on a path that is in use on its own", field="session")
        record.join_seen = True
        target = self._sessions.get(join.session)
        if target is not None and len(target.paths) >= MAX_PATHS:
            return Refuse(ErrorCode.LIMIT, f"more than {MAX_PATHS} paths in a session", field="session")
        record.session = None
        self._leave(own, path, now)
        if not own.paths:
            self._forget(own.name)  # nothing ever ran in it, so nobody will come back for it
        if target is None:
            return Joined(status=JOIN_UNKNOWN, proof=_NO_PROOF)
        nonces = record.client_nonce, record.server_nonce
        if not hmac.compare_digest(client_proof(target.secret, *nonces, record.binding), join.proof):
            return Joined(status=JOIN_REFUSED, proof=_NO_PROOF)
        record.session = target
        target.paths[path] = None
        self._timers.cancel(target.name)
        return Joined(status=JOIN_OK, proof=server_proof(target.secret, *nonces, record.binding))

    def on_path_down(self, path: PathId, now: Instant) -> None:
        """The path is no more. Unknown paths are ignored."""
        record = self._paths.pop(path, None)
        if record is not None and record.session is not None:
            self._leave(record.session, path, now)

    def on_replicas(self, session: bytes, count: int, now: Instant) -> None:
        """How many replicas the session has now, lingering ones included; it is kept while there are any."""
        record = self._sessions.get(session)
        if record is not None:
            record.replicas = count
            self._settle(record, now)

    def session_of(self, path: PathId) -> bytes | None:
        """The session that the path may act for; None before its hello and after a failed join."""
        record = self._paths.get(path)
        return record.session.name if record is not None and record.session is not None else None

    def paths_of(self, session: bytes) -> tuple[PathId, ...]:
        """The session's paths in the order in which they came to it."""
        record = self._sessions.get(session)
        return () if record is None else tuple(record.paths)

    def __len__(self) -> int:
        return len(self._sessions)

    def on_timeout(self, now: Instant) -> None:
        """Forget sessions whose time is over."""
        for name in self._timers.expired(now):
            self._forget(name)

    def deadline(self) -> Instant | None:
        """When on_timeout is due next."""
        return self._timers.deadline()

    def actions(self) -> list[SessionForgotten]:
        """What was forgotten; a second call is empty."""
        actions, self._actions = self._actions, []
        return actions

    def _refusal(self, hello: ClientHello) -> Refuse | None:
        if hello.version != VERSION:
            reason = f"version {hello.version} is not spoken here, only {VERSION}"
            return Refuse(ErrorCode.WRONG_VERSION, reason, field="version")
        if hello.service != self._config.service:
            reason = f"{self._config.service} is served here, not {hello.service}"
            return Refuse(ErrorCode.WRONG_SERVICE, reason, field="service")
        if hello.session in self._sessions:
            # A name is 128 random bits: twice the same is somebody who saw the first one.
            return Refuse(ErrorCode.ADMISSION, "the session name is taken; a further path must JOIN", field="session")
        if len(self._sessions) >= self._config.max_sessions and not self._make_room():
            return Refuse(
                ErrorCode.OVERLOADED, f"{self._config.max_sessions} sessions are open already", field="session"
            )
        return None

    def _make_room(self) -> bool:
        """Forget the session that would have gone first anyway."""
        lingering = [(when, name) for name in self._sessions if (when := self._timers.when(name)) is not None]
        if lingering:
            self._forget(min(lingering)[1])
        return bool(lingering)

    def _leave(self, session: _Session, path: PathId, now: Instant) -> None:
        session.paths.pop(path, None)
        self._settle(session, now)

    def _settle(self, session: _Session, now: Instant) -> None:
        if session.paths or session.replicas:
            self._timers.cancel(session.name)
        elif self._timers.when(session.name) is None:
            self._timers.set(session.name, now + self._config.linger_s)

    def _forget(self, name: bytes) -> None:
        self._timers.cancel(name)
        del self._sessions[name]
        self._actions.append(SessionForgotten(name))
