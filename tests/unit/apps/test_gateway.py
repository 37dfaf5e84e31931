"""Where a gateway's application is, and what is said when it cannot be reached."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from kwik.apps.gateway import Upstream
from kwik.errors import ConfigError


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:80", "app.internal:80", "unix:/run/app.sock", "unix:app"])
def test_what_is_read_is_what_is_written(text: str):
    assert str(Upstream.parse(text)) == text


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:0", "unix:", "unix:" + "x" * 108, "::1:80"])
def test_what_is_no_upstream(text: str):
    with pytest.raises(ConfigError):
        Upstream.parse(text)


async def test_a_unix_socket_is_reached(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "app"))
        listener.listen()
        with await Upstream.parse(f"unix:{tmp_path / 'app'}").connect() as conn:
            accepted, _ = listener.accept()
            with accepted:
                conn.send(b"hello")
                assert accepted.recv(100) == b"hello"
        assert conn.gettimeout() == 0


async def test_a_unix_socket_that_is_not_there(tmp_path: Path):
    with pytest.raises(OSError, match=f"^.Errno 2. unix:{tmp_path}/app: No such file or directory$") as caught:
        await Upstream.parse(f"unix:{tmp_path}/app").connect()
    assert caught.value.errno == errno.ENOENT
