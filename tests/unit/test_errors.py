import copy
import errno
import pickle
from itertools import starmap

import pytest

from kwik import errors
from kwik.errors import (
    ConfigError,
    ConnectRefused,
    DialTimeout,
    ErrorCode,
    KwikError,
    LocalProtocolError,
    NoServers,
    ProtocolError,
    RemoteProtocolError,
    StreamReset,
    as_error_code,
    error_code_name,
)

FACES = [
    (KwikError, OSError, errno.EIO, ErrorCode.INTERNAL),
    (ConnectRefused, ConnectionRefusedError, errno.ECONNREFUSED, ErrorCode.APPLICATION_DOWN),
    (NoServers, ConnectionRefusedError, errno.ECONNREFUSED, ErrorCode.SERVER_GONE),
    (StreamReset, ConnectionResetError, errno.ECONNRESET, ErrorCode.STREAM_ABORTED),
    (DialTimeout, TimeoutError, errno.ETIMEDOUT, ErrorCode.SERVER_GONE),
    (ConfigError, ValueError, errno.EINVAL, ErrorCode.INTERNAL),
    (ProtocolError, OSError, errno.EPROTO, ErrorCode.PROTOCOL),
    (LocalProtocolError, ProtocolError, errno.EPROTO, ErrorCode.PROTOCOL),
]
EXAMPLES = [
    *(kind("all gone: start a server") for kind, *_ in FACES),
    StreamReset("odd", code=ErrorCode.DIVERGED),
    StreamReset("from the future", code=4242),
    RemoteProtocolError(ErrorCode.LIMIT, "GRANT", "ranges", 17, "more than 256 orders"),
]


@pytest.mark.parametrize(("kind", "face", "number", "code"), FACES)
def test_faces(kind: type[KwikError], face: type[Exception], number: int, code: ErrorCode):
    error = kind("all gone: start a server")
    assert isinstance(error, KwikError)
    assert isinstance(error, face)
    assert (error.errno, error.code) == (number, code)
    assert str(error) == error.message == error.strerror == "all gone: start a server"


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
@pytest.mark.parametrize(
    "clone", [copy.copy, *starmap(lambda p: lambda e: pickle.loads(pickle.dumps(e, p)), [(0,), (5,)])]
)
def test_errors_travel(error: KwikError, clone):
    error.add_note("seen by the engine")
    twin = clone(error)
    assert type(twin) is type(error)
    assert (twin.errno, twin.code, str(twin), vars(twin)) == (error.errno, error.code, str(error), vars(error))
    assert twin.__notes__[-1] == "seen by the engine"


def test_codes_that_are_known_are_enum_members_others_stay_numbers():
    assert StreamReset("x", code=15).code is ErrorCode.DIVERGED
    assert StreamReset("x", code=4242).code == 4242
    assert as_error_code(12) is ErrorCode.DRAINING
    assert [error_code_name(code) for code in (12, 4242)] == ["draining", "error 4242"]


def test_wire_codes_are_append_only():
    names = (
        "NO_ERROR PROTOCOL FRAME_FORMAT UNKNOWN_FRAME LIMIT UNAUTHORISED_DATA FLOW_CONTROL ADMISSION WRONG_SERVICE "
        "NOT_REPLICATED APPLICATION_DOWN OVERLOADED DRAINING TOMBSTONE STREAM_ABORTED DIVERGED LINGER_EXPIRED INTERNAL "
        "SERVER_GONE WRONG_VERSION UNSUPPORTED"
    )
    assert [ErrorCode(value).name for value in range(21)] == names.split()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "GRANT", "ranges", 17, "too many"), "GRANT.ranges at byte 17: too many"),
        ((1, "GRANT", "", 0, "too short"), "GRANT at byte 0: too short"),
        ((1, "", "", 17, "no frame starts here"), "at byte 17: no frame starts here"),
        ((1, "OPEN", "service", None, "empty"), "OPEN.service: empty"),
        ((1,), "malformed"),
    ],
)
def test_remote_errors_name_the_place(arguments, text: str):
    error = RemoteProtocolError(*arguments)
    assert str(error) == text
    assert error.errno == errno.EPROTO


def test_a_decoder_adds_the_frame_later():
    inner = RemoteProtocolError(ErrorCode.FRAME_FORMAT, field="ranges", offset=3, message="a: b")
    outer = inner.with_frame("GRANT", 20)
    assert str(outer) == "GRANT.ranges at byte 20: a: b"
    assert str(outer.with_frame("REVOKE")) == "REVOKE.ranges at byte 20: a: b"
    assert outer.code is ErrorCode.FRAME_FORMAT


def test_local_becomes_remote_at_the_border():
    remote = LocalProtocolError("closed already", code=ErrorCode.FLOW_CONTROL).as_remote("DATA", offset=5)
    assert type(remote) is RemoteProtocolError
    assert (remote.code, str(remote)) == (ErrorCode.FLOW_CONTROL, "DATA.type at byte 5: closed already")
    assert str(LocalProtocolError("too far", field="offset").as_remote("DATA")) == "DATA.offset: too far"


def test_the_drawing_shows_every_class():
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, KwikError)]
    assert [kind.__name__ for kind in kinds if kind.__name__ not in (errors.__doc__ or "")] == []
