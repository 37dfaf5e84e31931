"""A Conn answers as a connected TCP socket would."""

import array
import contextlib
import copy
import errno
import os
import pickle
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest

from kwik.conn import Conn
from kwik.engine.handle import registry
from kwik.errors import ConfigError, ConnectRefused, StreamReset
from tests.net.engine_streams import LOCAL, REMOTE, in_background, open_stream, settle, stream

LINGER_ABORT = struct.pack("ii", 1, 0)


def test_what_it_says_about_itself():
    with stream() as (conn, _):
        assert isinstance(conn, socket.socket)
        assert (conn.family, conn.type, conn.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        assert conn.getpeername() == conn.remote_addr() == REMOTE
        assert conn.getsockname() == conn.local_addr() == LOCAL
        assert conn.gettimeout() is None
        assert conn.paths() == []
        assert conn.stats() is None
        conn.flush()
        assert "files.example" in repr(conn)
    for call in (conn.getpeername, conn.getsockname):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_a_service_named_by_an_ipv6_address():
    with stream(remote=("::1", 80, 0, 0)) as (conn, _):
        assert conn.family == socket.AF_INET6
        assert conn.getpeername() == ("::1", 80, 0, 0)


def test_options_of_tcp_are_remembered():
    with stream() as (conn, _):
        assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, struct.pack("i", 17))
        assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 17
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 16)
        assert conn.getsockopt(socket.IPPROTO_IP, socket.IP_TOS, 4) == struct.pack("i", 16)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with pytest.raises(OSError, match="not available") as caught:
            conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        assert caught.value.errno == errno.ENOPROTOOPT


def test_it_is_connected_for_good():
    with stream() as (conn, _):
        with pytest.raises(OSError, match="already connected"):
            conn.connect(("127.0.0.1", 1))
        assert conn.connect_ex(("127.0.0.1", 1)) == errno.EISCONN
        with pytest.raises(OSError, match="Invalid"):
            conn.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="Invalid"):
            conn.accept()


def test_it_cannot_be_made_from_nothing():
    with pytest.raises(ConfigError, match=r"kwik\.dial"):
        Conn()


def test_every_way_to_send_and_receive():
    with stream() as (conn, _):
        conn.settimeout(10)
        assert conn.send(b"a") == 1
        assert conn.recv(10) == b"a"
        assert conn.sendto(b"b", ("ignored", 1)) == 1
        assert conn.recvfrom(10) == (b"b", None)
        assert conn.sendto(b"c", 0, ("ignored", 1)) == 1
        buffer = bytearray(4)
        assert conn.recv_into(buffer) == 1
        assert buffer == b"c\0\0\0"
        assert conn.sendmsg([b"de", b"f"]) == 3
        assert conn.recvmsg(10) == (b"def", [], 0, None)
        conn.sendall(b"ghi")
        assert conn.recvfrom_into(buffer) == (3, None)
        conn.sendall(b"jkl")
        parts = [bytearray(2), bytearray(2)]
        assert conn.recvmsg_into(parts)[0] == 3
        assert parts == [b"jk", b"l\0"]
        assert conn.recv(0) == b""
        assert conn.recv_into(bytearray(0)) == 0


def test_descriptors_do_not_travel():
    with stream() as (conn, far):
        conn.settimeout(10)
        conn.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        assert conn.recv(1) == b"x"
        far.until(lambda: bytes(far.port.received) == b"x")


def test_files_over_it(tmp_path):
    with stream() as (conn, _):
        conn.settimeout(10)
        with conn.makefile("rwb") as file:
            file.write(b"line one\nline two\n")
            file.flush()
            assert file.readline() == b"line one\n"
            assert file.readline() == b"line two\n"
        path = tmp_path / "data"
        path.write_bytes(os.urandom(300_000))
        with path.open("rb") as file, in_background(lambda: conn.sendfile(file)) as sent:
            got = b""
            while len(got) < 300_000:
                got += conn.recv(65536)
        assert sent == [300_000]
        assert got == path.read_bytes()


def test_close_waits_for_the_files():
    conn, far = open_stream()
    file = conn.makefile("rb")
    conn.close()
    far.say(b"later", end=True)
    assert file.read() == b"later"
    file.close()
    assert far.until_closed() is False
    far.run(far.bridge.finish)


def test_timeouts_and_modes():
    with stream(echo=False) as (conn, _):
        conn.settimeout(0.01)
        with pytest.raises(TimeoutError):
            conn.recv(1)
        conn.setblocking(False)
        with pytest.raises(BlockingIOError):
            conn.recv(1)


def test_the_default_timeout_counts():
    try:
        socket.setdefaulttimeout(0.01)
        conn, far = open_stream(echo=False)
    finally:
        socket.setdefaulttimeout(None)
    assert conn.gettimeout() == 0.01
    with conn, pytest.raises(TimeoutError):
        conn.recv(1)
    far.run(far.bridge.finish)


def test_select_and_poll():
    with stream(echo=False) as (conn, far):
        assert select.select([conn], [conn], [], 10)[:2] == ([], [conn])
        far.say(b"x")
        assert select.select([conn], [], [], 10)[0] == [conn]
        poll = select.poll()
        poll.register(conn, select.POLLIN)
        assert poll.poll(10_000) == [(conn.fileno(), select.POLLIN)]


def test_copies():
    with stream() as (conn, _):
        conn.settimeout(10)
        with conn.dup() as other:
            assert type(other) is Conn
            assert other.getpeername() == REMOTE
            other.sendall(b"via the copy")
            assert conn.recv(100) == b"via the copy"
        plain = socket.fromfd(conn.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        assert registry.find(plain.fileno()) is not None
        with Conn(fileno=plain.detach()) as again:
            assert again.getpeername() == REMOTE
    with stream() as (conn, _):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(conn)
        with pytest.raises(TypeError):
            copy.copy(conn)


def test_a_detached_descriptor_lives_on():
    conn, far = open_stream()
    with socket.socket(fileno=conn.detach()) as plain:
        assert conn.fileno() == -1
        conn.close()
        plain.settimeout(10)
        plain.sendall(b"x")
        assert plain.recv(1) == b"x"
    assert far.until_closed() is False
    far.run(far.bridge.finish)


# ---------------------------------------------------------------- resets


def receive(conn):
    return conn.recv(10)


def receive_into(conn):
    return conn.recv_into(bytearray(10))


def read_file(conn):
    with conn.makefile("rb") as file:
        return file.read(10)


@pytest.mark.parametrize("call", [receive, receive_into, read_file, lambda conn: conn.recvmsg(10), Conn.read])
def test_a_reset_tells_its_reason_for_ever(call):
    with stream(echo=False) as (conn, far):
        conn.settimeout(10)
        far.say(b"rest")
        far.reset(StreamReset("the server died and no other may take over"))
        assert conn.recv(10) == b"rest"
        for _ in range(3):
            with pytest.raises(ConnectionResetError, match="no other may take over") as caught:
                call(conn)
            assert isinstance(caught.value, StreamReset)
            assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize(
    "call", [lambda conn: conn.send(b"x"), lambda conn: conn.sendall(b"x"), lambda c: c.write(b"x")]
)
def test_writing_after_a_reset(call):
    with stream(echo=False) as (conn, far):
        far.reset(StreamReset("broken"))
        for _ in range(2):
            with pytest.raises(StreamReset, match="broken"):
                call(conn)


def test_a_refused_stream():
    with stream(echo=False) as (conn, far):
        far.reset(ConnectRefused("the application is down"))
        assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        with pytest.raises(ConnectionRefusedError, match="application is down"):
            conn.recv(1)


def test_a_reset_after_the_half_close():
    with stream(echo=False) as (conn, far):
        conn.sendall(b"request")
        conn.shutdown(socket.SHUT_WR)
        far.until(lambda: far.port.eof)
        far.say(b"half an ans")
        far.reset(StreamReset("broken"))
        assert conn.recv(100) == b"half an ans"
        with pytest.raises(StreamReset):
            conn.recv(100)


def test_the_bare_descriptor_shows_the_reset_too():
    with stream(echo=False) as (conn, far):
        conn.shutdown(socket.SHUT_WR)
        far.reset(StreamReset("broken"))
        with pytest.raises(ConnectionResetError):
            os.read(conn.fileno(), 1)


def test_a_copy_made_before_the_reset_knows_the_reason():
    with stream(echo=False) as (conn, far), conn.dup() as other:
        far.reset(StreamReset("broken"))
        with pytest.raises(StreamReset, match="broken"):
            conn.recv(1)
        with pytest.raises(StreamReset, match="broken"):
            other.recv(1)


# ---------------------------------------------------------------- closing and aborting


def test_close_delivers_what_was_written():
    conn, far = open_stream(echo=False)
    conn.sendall(b"x" * 100_000)
    conn.close()
    assert far.until_closed() is False
    assert len(far.port.received) == 100_000
    far.run(far.bridge.finish)


def test_linger_zero_aborts():
    conn, far = open_stream(echo=False)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ABORT)
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER_ABORT
    conn.close()
    assert far.until_closed() is True
    far.run(far.bridge.finish)


def test_linger_waits_for_delivery():
    conn, far = open_stream(echo=False)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
    with in_background(conn.close) as closed:
        assert far.until_closed() is False
        settle()
        assert closed == []
        far.run(far.bridge.finish)
    assert closed == [None]


def test_abort_also_reaches_copies():
    conn, far = open_stream(echo=False)
    with conn.dup() as other:
        conn.abort()
        assert far.until_closed() is True
        assert other.recv(1) == b""
    conn.abort()
    far.run(far.bridge.finish)


def test_close_with_unread_bytes_is_an_abort():
    conn, far = open_stream(echo=False)
    far.say(b"unread")
    conn.close()
    assert far.until_closed() is True
    far.run(far.bridge.finish)


# ---------------------------------------------------------------- other owners of the descriptor


def test_a_child_process_uses_it():
    with stream() as (conn, _):
        conn.settimeout(10)
        subprocess.run([sys.executable, "-c", "print('from the child')"], stdout=conn.fileno(), check=True)
        with conn.makefile("rb") as file:
            assert file.readline() == b"from the child\n"


def test_a_reset_in_a_child_process():
    with stream(echo=False) as (conn, far):
        code = "import os\ntry: os.read(0, 1)\nexcept ConnectionResetError: print('reset')\nelse: print('eof')"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=conn.fileno(), stdout=subprocess.PIPE, text=True)
        far.reset(StreamReset("broken"))
        assert child.communicate(timeout=20)[0] == "reset\n"


def test_tls_over_it(tls_contexts):
    server_context, client_context = tls_contexts
    ours, theirs = socket.socketpair()
    with stream() as (conn, far), ours, theirs:
        # The far side of the stream is the TLS server: bytes are carried between the port and a socket pair.
        def serve():
            with server_context.wrap_socket(ours, server_side=True) as tls:
                tls.sendall(tls.recv(100).upper())
                done.wait(20)

        def carry():
            position = 0
            theirs.settimeout(0.01)
            while not done.is_set():
                data = bytes(far.port.received[position:])
                position += len(data)
                if data:
                    theirs.sendall(data)
                with contextlib.suppress(TimeoutError):
                    far.say(theirs.recv(65536))

        done = threading.Event()
        far.port.echo = False
        with in_background(serve), in_background(carry):
            try:
                # Some versions of Python take even TCP's reset for an end of file unless they are told not to.
                with client_context.wrap_socket(
                    conn, server_hostname="files.example", suppress_ragged_eofs=False
                ) as tls:
                    assert conn.fileno() == -1
                    tls.settimeout(20)
                    tls.sendall(b"through tls")
                    assert tls.recv(100) == b"THROUGH TLS"
                    far.reset(StreamReset("broken"))
                    with pytest.raises((ConnectionResetError, ssl.SSLError)):
                        tls.recv(100)
            finally:
                done.set()


@pytest.fixture
def tls_contexts(tmp_path):
    from kwik.quic.certs import issue, make_ca, write_issued

    ca = make_ca()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem)
    write_issued(issue(ca, ["files.example"]), tmp_path / "cert.pem", tmp_path / "key.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    return server, client
