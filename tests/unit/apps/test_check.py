"""What a check makes of a server's first words; real handshakes are in tests/proc."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from kwik.apps.check import Checked, _Asking, _judged
from kwik.quic import PathEnd
from kwik.quic.ends import EndKind
from kwik.types import Address, Instance
from kwik.wire.codec import encode
from kwik.wire.messages import Drain, ServerHello

PATH = cast("Any", None)
HELLO = ServerHello(
    version=1,
    server_id="one",
    incarnation=bytes(16),
    nonce=bytes(16),
    service="files.example:80",
    replicated=True,
    draining=False,
    upstream_credit=65536,
    linger_ms=120_000,
    extensions=(),
)
FOUND = Checked(Address("127.0.0.1", 4433), True, "ok", Instance("one", bytes(16)), True, 0.01)


async def test_the_hello_is_the_answer():
    asking = _Asking(asyncio.get_running_loop())
    asking.on_up(PATH, 1000.0)
    data = encode(HELLO)
    asking.on_data(PATH, 1, b"what is on other pipes does not matter", 1000.0)
    for index in range(len(data)):
        assert not asking.hello.done()
        asking.on_data(PATH, 0, data[index : index + 1], 1000.0)
    asking.on_data(PATH, 0, b"nor what comes later", 1000.0)
    asking.on_down(PATH, PathEnd(EndKind.IDLE, None, ""), 1001.0)
    assert asking.hello.result() == HELLO
    assert asking.up_at == 1000.0


@pytest.mark.parametrize(
    ("data", "text"), [(encode(Drain(1)), "did not say who it is"), (b"\x3f" * 8, "speaks another protocol")]
)
async def test_anything_else_is_a_failure(data: bytes, text: str):
    asking = _Asking(asyncio.get_running_loop())
    asking.on_data(PATH, 0, data, 1000.0)
    with pytest.raises(ConnectionError, match=text):
        asking.hello.result()


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (PathEnd(EndKind.REFUSED_TLS, 42, "wrong name"), "refused tls: wrong name"),
        (PathEnd(EndKind.CLOSED_BY_OTHER, 11, ""), "closed by other overloaded"),
        (PathEnd(EndKind.IDLE, None, ""), "idle"),
    ],
)
async def test_a_path_that_ends_says_why(end: PathEnd, text: str):
    asking = _Asking(asyncio.get_running_loop())
    asking.on_down(PATH, end, 1000.0)
    with pytest.raises(ConnectionError, match=f"^{text}$"):
        asking.hello.result()


def test_judging():
    assert _judged(FOUND, HELLO, "files.example:80") == FOUND
    other = _judged(FOUND, HELLO, "other.example:80")
    assert (other.ok, other.detail) == (False, "serves files.example:80, not other.example:80")
    leaving = _judged(FOUND, replace(HELLO, draining=True), "files.example:80")
    assert (leaving.ok, leaving.detail) == (False, "drains: it takes no new streams")
