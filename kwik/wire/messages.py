"""KCP messages, one dataclass each: hello, admission and draining (SPEC §4).

Same rules as :mod:`kwik.wire.frames`; both travel on the control pipe and share one number space.
"""

from typing import Final

from kwik.wire.schema import Bytes16, Digest, Extensions, Flag, ServerIdText, ServiceText, Uint, Uint8, frame

VERSION: Final = 1
"""Protocol version carried in both hellos; ALPN ``kwik/1`` (SPEC §3)."""

ALPN: Final = "kwik/1"

JOIN_OK: Final = 0
JOIN_UNKNOWN: Final = 1
JOIN_REFUSED: Final = 2


@frame(0x01, sender="client", spec="§4.1")
class ClientHello:
    """First message on the client's control pipe."""

    version: Uint
    session: Bytes16
    secret: Digest
    nonce: Bytes16
    path: Uint
    service: ServiceText
    extensions: Extensions


@frame(0x02, sender="server", spec="§4.1")
class ServerHello:
    """First message on the server's control pipe; sent with its first flight."""

    version: Uint
    server_id: ServerIdText
    incarnation: Bytes16
    nonce: Bytes16
    service: ServiceText
    replicated: Flag
    draining: Flag
    upstream_credit: Uint
    linger_ms: Uint
    extensions: Extensions


@frame(0x03, sender="client", spec="§4.2")
class Join:
    """Ask that this path joins a session that the server instance already knows."""

    session: Bytes16
    proof: Digest


@frame(0x04, sender="server", spec="§4.2")
class Joined:
    """Answer to JOIN, with the server's own proof when the status is 0."""

    status: Uint8
    proof: Digest


@frame(0x05, sender="server", spec="§4.3")
class Drain:
    """The server takes no new streams and leaves after ``deadline_ms``."""

    deadline_ms: Uint
