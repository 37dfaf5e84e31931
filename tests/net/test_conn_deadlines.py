"""The net.Conn half of a Conn: whole writes, and deadlines that move while an operation waits."""

import errno
import os
import time

import pytest

from kwik.errors import StreamReset
from tests.net.engine_streams import in_background, open_stream, settle, stream

SOON_S = 0.02


def written(error):
    """How many bytes went before it."""
    return error.characters_written


def test_read_and_write():
    with stream() as (conn, _):
        assert conn.write(b"hello") == 5
        assert conn.read() == b"hello"
        conn.write(b"hello")
        assert conn.read(2) == b"he"
        conn.shutdown(1)
        assert conn.read() == b"llo"
        assert conn.read() == b""


def test_a_past_deadline_fails_even_when_data_is_ready():
    with stream() as (conn, far):
        conn.write(b"x")
        far.until(lambda: bytes(far.port.received) == b"x")
        conn.set_deadline(time.monotonic() - 1)
        with pytest.raises(TimeoutError, match="read deadline"):
            conn.read()
        with pytest.raises(TimeoutError, match="write deadline") as caught:
            conn.write(b"y")
        assert written(caught.value) == 0
        conn.set_deadline(None)
        assert conn.read() == b"x"


def test_a_deadline_ends_a_wait():
    with stream(echo=False) as (conn, _):
        conn.set_read_deadline(time.monotonic() + SOON_S)
        with pytest.raises(TimeoutError):
            conn.read()
        assert conn.write(b"writing has its own") == 19


def test_a_new_deadline_wakes_a_waiting_read():
    with stream(echo=False) as (conn, _):
        with in_background(conn.read) as result:
            settle()
            assert result == []
            conn.set_read_deadline(time.monotonic() - 1)
        assert isinstance(result[0], TimeoutError)


def test_a_deadline_may_be_put_off_while_waiting():
    with stream(echo=False) as (conn, far):
        conn.set_read_deadline(time.monotonic() + 60)
        with in_background(conn.read) as result:
            conn.set_read_deadline(None)
            far.say(b"late")
        assert result == [b"late"]


def test_an_interrupted_write_says_how_much_went():
    with stream(echo=False, window=1000) as (conn, far):
        with in_background(lambda: conn.write(bytes(64 << 20))) as result:
            far.until(lambda: len(far.port.received) == 1000)
            conn.set_write_deadline(time.monotonic() - 1)
        assert isinstance(result[0], TimeoutError)
        assert 1000 <= written(result[0]) < 64 << 20
        far.run(lambda: far.port.open_window(1 << 30))
        conn.set_write_deadline(None)


def test_settimeout_does_not_touch_read_and_write():
    with stream(echo=False) as (conn, far):
        conn.settimeout(1e-6)  # long over when the engine has turned a few times
        with in_background(conn.read) as result:
            settle()
            far.say(b"x")
        assert result == [b"x"]
        conn.setblocking(False)
        with in_background(conn.read) as result:
            settle()
            far.say(b"y")
        assert result == [b"y"]


def test_deadlines_do_not_touch_recv():
    with stream() as (conn, _):
        conn.set_deadline(time.monotonic() - 1)
        conn.settimeout(10)
        conn.sendall(b"x")
        assert conn.recv(1) == b"x"


def test_close_wakes_whoever_waits():
    conn, far = open_stream(echo=False)
    with in_background(conn.read) as first, in_background(conn.read) as second:
        settle()
        conn.close()
    for result in (*first, *second):
        assert isinstance(result, OSError)
        assert result.errno == errno.EBADF
    with pytest.raises(OSError, match="closed"):
        conn.read()
    assert far.until_closed() is False
    far.run(far.bridge.finish)


def test_writes_of_several_threads_do_not_mix():
    with stream(echo=False, window=1 << 30) as (conn, far):
        with in_background(lambda: conn.write(b"a" * 3_000_000)), in_background(lambda: conn.write(b"b" * 3_000_000)):
            pass
        far.until(lambda: len(far.port.received) == 6_000_000)
        text = bytes(far.port.received)
        assert text in (b"a" * 3_000_000 + b"b" * 3_000_000, b"b" * 3_000_000 + b"a" * 3_000_000)


def test_a_reset_wakes_read_with_its_reason():
    with stream(echo=False) as (conn, far):
        with in_background(conn.read) as result:
            settle()
            far.reset(StreamReset("broken by test"))
        assert isinstance(result[0], StreamReset)
        assert "broken by test" in str(result[0])


def test_buffers_of_any_shape_are_written():
    with stream() as (conn, _):
        data = memoryview(bytearray(os.urandom(8))).cast("I")
        assert conn.write(data) == 8
        assert conn.read() == bytes(data)
