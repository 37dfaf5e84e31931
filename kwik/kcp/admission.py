"""Who is at the other end of a path, and does the session know that instance? The client's side (SPEC §4.1, §4.2).

A path that ends at an instance with a session here is joined to it by proofs in both directions, never used on its
own. Id, incarnation and certificate prove nothing about that: clones, relays and load balancers show them too.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kwik.errors import ErrorCode
from kwik.types import Instance
from kwik.wire.messages import JOIN_OK, JOIN_UNKNOWN, VERSION, ClientHello, Join, Joined, ServerHello

if TYPE_CHECKING:
    from collections.abc import Callable

    from kwik.types import Address, Instant, PathId

SESSION_BYTES: Final = 16
SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 16
MAX_INSTANCES: Final = 256
"""Instances remembered without a path; the longest pathless is forgotten first."""

_CLIENT_LABEL: Final = b"kwik/1 join client"
_SERVER_LABEL: Final = b"kwik/1 join server"


def client_proof(secret: bytes, client_nonce: bytes, server_nonce: bytes, binding: bytes) -> bytes:
    """The client's proof that it holds the session's secret, for this very path (SPEC §4.2)."""
    return _proof(_CLIENT_LABEL, secret, client_nonce, server_nonce, binding)


def server_proof(secret: bytes, client_nonce: bytes, server_nonce: bytes, binding: bytes) -> bytes:
    """The server's answer under its own label, so that neither proof can be sent back as the other."""
    return _proof(_SERVER_LABEL, secret, client_nonce, server_nonce, binding)


def _proof(label: bytes, secret: bytes, client_nonce: bytes, server_nonce: bytes, binding: bytes) -> bytes:
    # Label and nonces are of fixed lengths, so the concatenation is unambiguous.
    return hmac.new(secret, label + client_nonce + server_nonce + binding, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Refuse:
    """The path must be closed with this code (SPEC §8)."""

    code: ErrorCode
    reason: str
    forgotten: bool = False
    """The instance says that it does not know the session (any more)."""
    field: str = "type"
    """What of the message is to blame; "type": it is not allowed now."""


@dataclass(frozen=True, slots=True)
class NewInstance:
    """The session has nothing at this instance yet: the path may be used on its own once on_admitted was called."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class MustJoin:
    """The session knows this instance: send the message and use the path only after the answer."""

    instance: Instance
    message: Join


@dataclass(slots=True)
class KnownInstance:
    """A session at one server instance, kept for as long as the instance may hold replicas of it."""

    instance: Instance
    session: bytes
    secret: bytes
    linger_s: float
    home: Address
    """The address last used."""
    last_path: PathId
    paths: dict[PathId, None] = field(default_factory=dict)
    pathless_since: Instant | None = None
    superseded: bool = False
    """A newer incarnation answers at its address."""


@dataclass(slots=True)
class _Pending:
    """The secrets of one path's own hello, and the join under way on it."""

    session: bytes
    secret: bytes
    nonce: bytes
    binding: bytes
    joining: tuple[KnownInstance, bytes] | None = None
    """What JOIN named, and the proof that must come back."""
    joined: bool = False


class ClientAdmission:
    """The sessions of one client at all instances of a service. `token_bytes` gives unpredictable bytes."""

    def __init__(self, service: str, token_bytes: Callable[[int], bytes]) -> None:
        self._service = service
        self._token_bytes = token_bytes
        self._pending: dict[PathId, _Pending] = {}
        self._known: dict[Instance, KnownInstance] = {}

    def compose(self, path: PathId, binding: bytes) -> ClientHello:
        """The hello of a new path, with a session name, secret and nonce of its own."""
        pending = _Pending(
            self._token_bytes(SESSION_BYTES), self._token_bytes(SECRET_BYTES), self._token_bytes(NONCE_BYTES), binding
        )
        self._pending[path] = pending
        return ClientHello(
            version=VERSION,
            session=pending.session,
            secret=pending.secret,
            nonce=pending.nonce,
            path=path,
            service=self._service,
            extensions=(),
        )

    def check(self, hello: ServerHello) -> Refuse | None:
        """Whether the hello is of our version and service."""
        if hello.version != VERSION:
            return Refuse(
                ErrorCode.WRONG_VERSION, f"server {hello.server_id} speaks version {hello.version}, not {VERSION}"
            )
        if hello.service != self._service:
            return Refuse(
                ErrorCode.WRONG_SERVICE, f"server {hello.server_id} serves {hello.service}, not {self._service}"
            )
        return None

    def on_server_hello(self, path: PathId, hello: ServerHello, now: Instant) -> NewInstance | MustJoin | Refuse:
        """What the hello means for a path that composed its own. NewInstance takes effect with on_admitted.

        An instance without a path for longer than its linger time has dropped our replicas: it counts as new.
        """
        refusal = self.check(hello)
        if refusal is not None:
            return refusal
        instance = Instance(hello.server_id, hello.incarnation)
        known = self.known(instance, now)
        if known is None:
            return NewInstance(instance)
        pending = self._pending[path]
        proof = client_proof(known.secret, pending.nonce, hello.nonce, pending.binding)
        pending.joining = (known, server_proof(known.secret, pending.nonce, hello.nonce, pending.binding))
        return MustJoin(instance, Join(session=known.session, proof=proof))

    def on_joined(self, path: PathId, message: Joined) -> Instance | Refuse:
        """The answer to Join: the instance that has proved itself, or why the path must go."""
        pending = self._pending.get(path)
        if pending is None or pending.joining is None or pending.joined:
            return Refuse(ErrorCode.PROTOCOL, "JOINED without JOIN")
        known, expected = pending.joining
        if message.status == JOIN_UNKNOWN:
            return Refuse(ErrorCode.ADMISSION, f"server {known.instance} does not know the session", forgotten=True)
        if message.status != JOIN_OK:
            return Refuse(ErrorCode.ADMISSION, f"server {known.instance} refused the join (status {message.status})")
        if not hmac.compare_digest(expected, message.proof):
            return Refuse(ErrorCode.ADMISSION, f"this is not server {known.instance}: its proof is wrong")
        if self._known.get(known.instance, known) is not known:
            return Refuse(ErrorCode.ADMISSION, f"the session at server {known.instance} was replaced meanwhile")
        pending.joined = True
        return known.instance

    def on_admitted(self, path: PathId, address: Address, hello: ServerHello) -> KnownInstance:
        """The path is in use: joined if on_joined said so, else as the first of a new session at its instance."""
        pending = self._pending.pop(path)
        if pending.joined and pending.joining is not None:
            known = pending.joining[0]
        else:
            instance = Instance(hello.server_id, hello.incarnation)
            known = KnownInstance(instance, pending.session, pending.secret, hello.linger_ms / 1000, address, path)
        self._known[known.instance] = known
        known.home = address
        known.last_path = path
        known.paths[path] = None
        known.pathless_since = None
        self._bound()
        return known

    def on_path_down(self, path: PathId, instance: Instance | None, now: Instant) -> None:
        """The path is no more; its instance stays known."""
        self._pending.pop(path, None)
        known = self._known.get(instance) if instance is not None else None
        if known is not None and known.paths.pop(path, 0) is None and not known.paths:
            known.pathless_since = now

    def known(self, instance: Instance, now: Instant | None = None) -> KnownInstance | None:
        """The session there, if any; with `now` only if the server should still hold it."""
        known = self._known.get(instance)
        if known is not None and now is not None and known.pathless_since is not None:
            return known if now - known.pathless_since <= known.linger_s else None
        return known

    def instances(self) -> list[KnownInstance]:
        """All that are known, in the order in which they were met."""
        return list(self._known.values())

    def forget(self, instance: Instance) -> None:
        """The instance is dead, or has forgotten us."""
        self._known.pop(instance, None)

    def _bound(self) -> None:
        pathless = [known for known in self._known.values() if known.pathless_since is not None]
        if len(pathless) > MAX_INSTANCES:
            del self._known[min(pathless, key=lambda known: known.pathless_since or 0.0).instance]
