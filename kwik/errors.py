"""Every error that Kwik raises, in one tree; each has a wire code and an OSError face.

KwikError(OSError)
├── ConnectRefused(ConnectionRefusedError)   no server took the stream
│   └── NoServers                            nobody offers the service
├── StreamReset(ConnectionResetError)        the stream broke, or the other side aborted it
├── DialTimeout(TimeoutError)                no server was ready in time
├── ConfigError(ValueError)                  a setting, an address or a name cannot be right
└── ProtocolError                            LocalProtocolError: we broke the rules; RemoteProtocolError: they did
"""

import errno
from enum import IntEnum, unique
from typing import ClassVar, Self


@unique
class ErrorCode(IntEnum):
    """Why a path, a session or a stream ended, as it stands on the wire. Append only: a number never changes."""

    NO_ERROR = 0  # an orderly end
    PROTOCOL = 1  # a frame that is not allowed now
    FRAME_FORMAT = 2  # a frame whose bytes do not decode
    UNKNOWN_FRAME = 3  # a frame type that is neither known nor skippable
    LIMIT = 4  # a stated limit was exceeded (questions outstanding, length of a field)
    UNAUTHORISED_DATA = 5  # data that no credit and no grant covers
    FLOW_CONTROL = 6  # credit, grant or final size that contradicts an earlier one
    ADMISSION = 7  # the proof that a path belongs to its session failed
    WRONG_SERVICE = 8  # this server does not offer the service that was asked for
    NOT_REPLICATED = 9  # a replay was asked of a service whose streams run on one server only
    APPLICATION_DOWN = 10  # the application behind the server does not answer
    OVERLOADED = 11  # the server has no room for one more
    DRAINING = 12  # the server is leaving and takes nothing new
    TOMBSTONE = 13  # this stream was declared unknown before; it is refused for ever
    STREAM_ABORTED = 14  # an application aborted the stream
    DIVERGED = 15  # the replica's output is not the anchor's
    LINGER_EXPIRED = 16  # the replica waited for a path in vain
    INTERNAL = 17  # a defect on the side that says so
    SERVER_GONE = 18  # the server died or cannot be reached any more
    WRONG_VERSION = 19  # no common version of the protocol
    UNSUPPORTED = 20  # an optional part that this side does not have


class KwikError(OSError):
    """Base of all. `code` is the wire code (a plain int if unknown here), `errno` what socket users expect.

    `str(error)` is the message alone; it says what to do. Errors survive pickling and copying, notes included.
    """

    default_errno: ClassVar[int] = errno.EIO
    default_code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(self.default_errno, message)
        self.code: int = self.default_code if code is None else as_error_code(code)

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return self.strerror or ""

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        # OSError would call the class with (errno, message), which is not the signature of any class here.
        return _restore, (type(self), self.errno, self.message, self.__dict__.copy())


def _restore(kind: type[KwikError], number: int, message: str, state: dict[str, object]) -> KwikError:
    error = kind.__new__(kind)
    OSError.__init__(error, number, message)
    error.__dict__.update(state)
    return error


def as_error_code(value: int) -> int:
    """The `ErrorCode` of that value, or the value itself if this version does not know it."""
    try:
        return ErrorCode(value)
    except ValueError:
        return value


def error_code_name(code: int) -> str:
    """`"draining"` for 12, `"error 99"` for a code that this version does not know: for logs and messages."""
    known = as_error_code(code)
    return known.name.lower() if isinstance(known, ErrorCode) else f"error {code}"


class ConnectRefused(KwikError, ConnectionRefusedError):
    """Every server that was asked refused the stream; `code` is the reason that the last of them gave."""

    default_errno = errno.ECONNREFUSED
    default_code = ErrorCode.APPLICATION_DOWN


class NoServers(ConnectRefused):
    """Nobody offers the service: no discovery provider named a server, and none was given."""

    default_code = ErrorCode.SERVER_GONE


class StreamReset(KwikError, ConnectionResetError):
    """The stream broke: an application aborted it, or no server could carry it on. Never raised for a clean end."""

    default_errno = errno.ECONNRESET
    default_code = ErrorCode.STREAM_ABORTED


class DialTimeout(KwikError, TimeoutError):
    """No server was ready before the time was up."""

    default_errno = errno.ETIMEDOUT
    default_code = ErrorCode.SERVER_GONE


class ConfigError(KwikError, ValueError):
    """A setting, an address or a name cannot be right; the message says which and what would be."""

    default_errno = errno.EINVAL


class ProtocolError(KwikError):
    """Somebody broke the rules of the protocol. Raised only as one of the two kinds below."""

    default_errno = errno.EPROTO
    default_code = ErrorCode.PROTOCOL


class LocalProtocolError(ProtocolError):
    """An input that is not allowed in the present state. Inside the cores always this kind (see `as_remote`).

    `field` names what is wrong of the frame that it came from; without one the frame itself is not allowed now.
    """

    def __init__(self, message: str, *, code: int | None = None, field: str = "") -> None:
        super().__init__(message, code=code)
        self.field = field

    def as_remote(self, frame: str, offset: int | None = None) -> "RemoteProtocolError":
        """The same fault, blamed on the frame that caused it: for the border where frames come in, nowhere else."""
        return RemoteProtocolError(self.code, frame, self.field or "type", offset, self.message)


class RemoteProtocolError(ProtocolError):
    """The other side sent what it must not. Closes the path, never the process.

    `frame` and `field` name the place, empty if unknown; `offset` is the byte's position in the pipe or message;
    `detail` is what is wrong there. `str(error)` is all of it: `FRAME.field at byte N: detail`.
    """

    def __init__(
        self, code: int, frame: str = "", field: str = "", offset: int | None = None, message: str = "malformed"
    ) -> None:
        place = ".".join(part for part in (frame, field) if part)
        if offset is not None:
            place = f"{place} at byte {offset}".lstrip()
        super().__init__(f"{place}: {message}" if place else message, code=code)
        self.frame = frame
        self.field = field
        self.offset = offset
        self.detail = message

    def with_frame(self, frame: str, offset: int | None = None) -> Self:
        """The same fault with its frame named: for decoders of fields, which do not know where they are used."""
        return type(self)(self.code, frame, self.field, self.offset if offset is None else offset, self.detail)
