"""dial and listen over real QUIC with one server: every way in which two applications may talk and part."""

import asyncio
import http.client
import http.server
import os
import select
import socket
import ssl
import struct
import threading
from typing import Any

import pytest

import kwik
from tests.net.engine_streams import in_background
from tests.net.services import NAME, SERVICE, echo, receive_all

MEGABYTE = 1 << 20


def test_echo(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn:
        conn.sendall(b"hello")
        assert conn.recv(100) == b"hello"
        assert conn.getpeername() == (NAME, 7)
        assert conn.getsockname()[0] == "127.0.0.1"
        (path,) = conn.paths()
        assert path.server_id == "server-0"
        assert path.state == "active"
        stats = conn.stats()
        assert stats.delivered_bytes == 5
        assert stats.written_bytes == 5
        conn.shutdown(socket.SHUT_WR)
        assert conn.recv(100) == b""
    assert echo_service.errors == []


def test_what_accept_returns(echo_service):
    listener = echo_service.listener()
    listener.settimeout(20)
    with echo_service.dial() as conn:
        accepted, address = listener.accept()
        with accepted:
            assert isinstance(accepted, kwik.Conn)
            assert address == accepted.getpeername()
            assert address[0] == "127.0.0.1"
            assert accepted.getsockname() == listener.getsockname() == tuple(listener.addresses[0])
            assert accepted.gettimeout() is None
            assert accepted.family == listener.family == socket.AF_INET
            accepted.sendall(b"from the server")
            assert conn.recv(100) == b"from the server"


def test_over_ipv6(echo_service):
    listener = kwik.listen(
        "[::1]:0", service=SERVICE, certfile=echo_service.certfile, keyfile=echo_service.keyfile, server_id="six"
    )
    listener.settimeout(20)
    assert listener.family == socket.AF_INET6
    with listener, echo_service.dial(servers=[str(listener.addresses[0])]) as conn:
        accepted, address = listener.accept()
        with accepted:
            assert accepted.family == socket.AF_INET6
            assert address == accepted.getpeername() == conn.getsockname()
            assert address[0] == "::1"


@pytest.mark.slow
def test_ten_megabytes_each_way(echo_service):
    data = os.urandom(10 * MEGABYTE)
    echo_service.start(echo)
    with echo_service.dial() as conn, in_background(lambda: (conn.sendall(data), conn.shutdown(socket.SHUT_WR))):
        assert receive_all(conn) == data
    assert echo_service.errors == []


def test_the_client_ends_first(echo_service):
    def application(conn):
        with conn:
            request = receive_all(conn)
            conn.sendall(request[::-1])

    echo_service.start(application)
    with echo_service.dial() as conn:
        conn.sendall(b"abc" * 1000)
        conn.shutdown(socket.SHUT_WR)
        assert receive_all(conn) == b"cba" * 1000


def test_the_server_ends_first(echo_service):
    got = []

    def application(conn):
        with conn:
            conn.sendall(b"greeting")
            conn.shutdown(socket.SHUT_WR)
            got.append(receive_all(conn))
            done.set()

    done = threading.Event()
    echo_service.start(application)
    with echo_service.dial() as conn:
        assert receive_all(conn) == b"greeting"
        conn.sendall(b"thank you")
        conn.shutdown(socket.SHUT_WR)
        assert done.wait(20)
    assert got == [b"thank you"]


def test_the_client_ends_at_once(echo_service):
    def application(conn):
        with conn:
            assert conn.recv(1) == b""
            conn.sendall(b"x" * 100_000)

    echo_service.start(application)
    with echo_service.dial() as conn:
        conn.shutdown(socket.SHUT_WR)
        assert receive_all(conn) == b"x" * 100_000
    assert echo_service.errors == []


def test_empty_in_both_directions(echo_service):
    def application(conn):
        with conn:
            assert receive_all(conn) == b""
            done.set()

    done = threading.Event()
    echo_service.start(application)
    with echo_service.dial() as conn:
        conn.shutdown(socket.SHUT_WR)
        assert receive_all(conn) == b""
    assert done.wait(20)
    assert echo_service.errors == []


def test_dial_and_close(echo_service):
    ended = threading.Event()

    def application(conn):
        with conn:
            assert conn.recv(1) == b""
            ended.set()

    echo_service.start(application)
    echo_service.dial().close()
    assert ended.wait(20)
    assert echo_service.errors == []


def test_written_and_closed_at_once(echo_service):
    got = []
    ended = threading.Event()

    def application(conn):
        with conn:
            got.append(receive_all(conn))
            ended.set()

    echo_service.start(application)
    with echo_service.dial() as conn:
        conn.sendall(b"y" * 3 * MEGABYTE)
    assert ended.wait(20)
    assert got == [b"y" * 3 * MEGABYTE]


def test_many_streams_share_a_session(echo_service):
    echo_service.start(echo)
    conns = [echo_service.dial() for _ in range(20)]
    for number, conn in enumerate(conns):
        conn.sendall(b"%d" % number)
    for number, conn in enumerate(conns):
        assert conn.recv(10) == b"%d" % number
    assert len({conn.getsockname() for conn in conns}) == 1
    for conn in conns:
        conn.close()


# ---------------------------------------------------------------- resets


def test_the_server_aborts(echo_service):
    def application(conn):
        conn.sendall(b"half an ans")
        assert conn.recv(1) == b"g"
        conn.abort()

    echo_service.start(application)
    with echo_service.dial() as conn:
        assert conn.recv(100) == b"half an ans"
        conn.sendall(b"g")
        with pytest.raises(ConnectionResetError) as caught:
            conn.recv(100)
        assert isinstance(caught.value, kwik.StreamReset)
        assert len(str(caught.value)) > 10


def test_the_server_aborts_after_the_half_close(echo_service):
    def application(conn):
        assert receive_all(conn) == b"request"
        conn.sendall(b"half an ans")
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()

    echo_service.start(application)
    with echo_service.dial() as conn:
        conn.sendall(b"request")
        conn.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            receive_all(conn)


def test_the_client_aborts(echo_service):
    reset = threading.Event()

    def application(conn):
        with conn:
            conn.sendall(b"x")
            try:
                while conn.recv(100):
                    pass
            except ConnectionResetError:
                reset.set()

    echo_service.start(application)
    conn = echo_service.dial()
    assert conn.recv(1) == b"x"
    conn.abort()
    assert reset.wait(20)


def test_a_writer_is_told_that_nobody_reads(echo_service):
    told = threading.Event()

    def application(conn):
        with conn:
            try:
                while True:
                    conn.sendall(bytes(65536))
            except (BrokenPipeError, ConnectionResetError):
                told.set()

    echo_service.start(application)
    conn = echo_service.dial()
    conn.recv(1)
    conn.close()
    assert told.wait(20)


def test_a_server_that_stops_resets_its_streams(echo_service):
    accepted = threading.Event()

    def application(conn):
        conn.recv(1)
        accepted.set()

    listener = echo_service.start(application)
    with echo_service.dial(config=kwik.Config(recovery_time_s=0.2)) as conn:
        conn.sendall(b"x")
        assert accepted.wait(20)
        asyncio.run(listener.server.close())
        with pytest.raises(ConnectionResetError):
            conn.recv(1)


# ---------------------------------------------------------------- dialling that fails


def test_nobody_listens(echo_service):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError, match=address) as caught:
        kwik.dial(SERVICE, servers=[address], timeout=10)
    assert isinstance(caught.value, kwik.KwikError)
    assert "static" in str(caught.value)


def test_nobody_answers():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=address) as caught:
            kwik.dial(SERVICE, servers=[address], timeout=0.2)
    assert isinstance(caught.value, kwik.DialTimeout)
    assert "static" in str(caught.value)


def test_a_certificate_of_a_stranger(echo_service, tmp_path):
    from kwik.quic.certs import make_ca

    echo_service.start(echo)
    other = tmp_path / "other.pem"
    other.write_bytes(make_ca().cert_pem)
    with pytest.raises(ConnectionRefusedError, match="cafile"):
        echo_service.dial(cafile=other)


def test_a_certificate_for_another_name(echo_service):
    echo_service.start(echo)
    with pytest.raises(ConnectionRefusedError, match="certificate"):
        kwik.dial("other.example:7", servers=echo_service.addresses, cafile=echo_service.cafile, timeout=10)


def test_another_service_of_the_same_host(echo_service):
    echo_service.start(echo)
    with pytest.raises(ConnectionRefusedError):
        kwik.dial(f"{NAME}:8", servers=echo_service.addresses, cafile=echo_service.cafile, timeout=10, confirm=True)


def test_arguments_that_cannot_be_right(echo_service):
    wrong: list[tuple[Any, dict[str, Any]]] = [
        ("no port", {}),
        (SERVICE, {"servers": "127.0.0.1:1"}),
        (SERVICE, {"discovery": ["smoke signals"]}),
        (SERVICE, {"cafile": "/nowhere/ca.pem", "servers": []}),
        (("host",), {}),
        (f"{NAME}:0", {}),
    ]
    for address, options in wrong:
        with pytest.raises(kwik.ConfigError):
            kwik.dial(address, **options)
    with pytest.raises(TypeError, match="colour"):
        kwik.dial(SERVICE, colour="red")  # type: ignore[call-arg]
    with pytest.raises(kwik.ConfigError):
        kwik.listen("127.0.0.1:0", service=SERVICE, certfile="/nowhere/cert.pem")


# ---------------------------------------------------------------- programs that know nothing of Kwik


def test_create_connection(echo_service):
    echo_service.start(echo)
    options = {"servers": echo_service.addresses, "cafile": echo_service.cafile}
    with kwik.create_connection((NAME, 7), 15, ("0.0.0.0", 0), **options) as conn:
        assert conn.gettimeout() == 15
        conn.sendall(b"x")
        assert conn.recv(1) == b"x"
    with kwik.create_connection((NAME, 7), **options) as conn:
        assert conn.gettimeout() is None
    with pytest.raises(ValueError, match="out of range"):
        kwik.create_connection((NAME, 7), -1, **options)


def test_http_client_unmodified(echo_service):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = echo_service.listener()
    server.server_activate()
    with in_background(lambda: server.serve_forever(0.01)):
        client = http.client.HTTPConnection(NAME, 7, timeout=20)
        client.sock = echo_service.dial()
        for size in (0, 10, 300_000):
            client.request("POST", "/", body=b"z" * size)
            response = client.getresponse()
            assert response.status == 200
            assert response.read() == b"z" * size
        client.close()
        server.shutdown()
    server.server_close()


def test_select_and_timeouts(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn:
        assert select.select([conn], [], [], 0)[0] == []
        conn.sendall(b"x")
        assert select.select([conn], [], [], 20)[0] == [conn]
        assert conn.recv(10) == b"x"
        conn.settimeout(0.01)
        with pytest.raises(TimeoutError):
            conn.recv(1)
        conn.setblocking(False)
        with pytest.raises(BlockingIOError):
            conn.recv(1)


def test_makefile(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn, conn.makefile("rw", encoding="utf-8") as file:
        file.write("one\ntwo\n")
        file.flush()
        assert file.readline() == "one\n"
        assert file.readline() == "two\n"


def test_tls_inside(echo_service):
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(echo_service.certfile, echo_service.keyfile)
    client_context = ssl.create_default_context(cafile=str(echo_service.cafile))

    def application(conn):
        with server_context.wrap_socket(conn, server_side=True) as tls:
            while data := tls.recv(65536):
                tls.sendall(data)

    echo_service.start(application)
    with client_context.wrap_socket(echo_service.dial(), server_hostname=NAME) as tls:
        for size in (1, 100_000):
            tls.sendall(b"t" * size)
            got = 0
            while got < size:
                got += len(tls.recv(65536))
    assert echo_service.errors == []


def test_flush(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn:
        conn.sendall(b"x" * 100_000)
        conn.flush(timeout=20)
        assert conn.stats().written_bytes == 100_000
        with pytest.raises(kwik.ConfigError):
            conn.flush(0)


def test_stats_of_a_stream_that_is_over(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn:
        conn.sendall(b"x")
        conn.shutdown(socket.SHUT_WR)
        assert receive_all(conn) == b"x"
        assert conn._handle.done.wait(20)
        assert conn.stats().delivered_bytes == 1
        assert conn.paths() == []
