"""How a path ended."""

from dataclasses import dataclass
from enum import StrEnum, unique

LONGEST_DETAIL = 200


@unique
class EndKind(StrEnum):
    """Who or what ended a path."""

    CLOSED_BY_US = "closed_by_us"
    CLOSED_BY_OTHER = "closed_by_other"
    """The other side said so; `code` is its error code (None: it said so before it could name one)."""
    REFUSED_TLS = "refused_tls"
    """Certificate, name or ALPN did not pass, on either side; `code` is the TLS alert (RFC 8446 §6)."""
    IDLE = "idle"
    """Nothing was received for the idle time-out, or the handshake took too long."""
    ERROR = "error"
    """Anything else: a broken rule of QUIC, a full server, a network that refuses."""
    PIPE_RESET = "pipe_reset"
    """The other side finished, reset or refused a pipe; pipes live as long as their path."""


@dataclass(frozen=True, slots=True)
class PathEnd:
    """The end of a path: its kind, an error code (whose meaning depends on the kind) and words for a log."""

    kind: EndKind
    code: int | None
    detail: str

    def __post_init__(self) -> None:
        # The words may come from a stranger: keep them short and on one line.
        clean = "".join(char if char.isprintable() else "?" for char in self.detail[:LONGEST_DETAIL])
        object.__setattr__(self, "detail", clean)

    def __str__(self) -> str:
        code = "" if self.code is None else f" {self.code}"
        return f"{self.kind.value}{code}: {self.detail}" if self.detail else f"{self.kind.value}{code}"
