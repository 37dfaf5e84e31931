"""The end of a process, and forks: nothing written before is lost, nothing hangs, no child holds a stream open."""

import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import kwik
from tests.net.engine_streams import in_background
from tests.net.services import SERVICE, echo, receive_all

SIZE = 3_000_000

CLIENT = """
    import os, sys
    import kwik

    conn = kwik.dial({service!r}, servers={addresses!r}, cafile={cafile!r}, timeout=20)
    conn.sendall(b"w" * {size})
"""


def run(code: str, **values: object) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(code).format(**values)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", "conn.close()", "sys.exit(3)", "raise SystemExit(0)", "del conn"])
def test_what_was_written_before_the_exit_arrives(echo_service, ending):
    got = []
    ended = threading.Event()

    def application(conn):
        with conn:
            got.append(len(receive_all(conn)))
            ended.set()

    echo_service.start(application)
    result = run(
        CLIENT + "    " + ending,
        service=SERVICE, addresses=echo_service.addresses, cafile=str(echo_service.cafile), size=SIZE,
    )  # fmt: skip
    assert "Error" not in result.stderr.replace("ResourceWarning", "")
    assert result.returncode == (3 if "3" in ending else 0)
    assert ended.wait(20)
    assert got == [SIZE]
    assert echo_service.errors == []


@pytest.mark.slow
def test_an_exit_with_an_exception_delivers_too(echo_service):
    got = []
    ended = threading.Event()

    def application(conn):
        with conn:
            got.append(len(receive_all(conn)))
            ended.set()

    echo_service.start(application)
    result = run(
        CLIENT + "    1 / 0",
        service=SERVICE, addresses=echo_service.addresses, cafile=str(echo_service.cafile), size=SIZE,
    )  # fmt: skip
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert ended.wait(20)
    assert got == [SIZE]


@pytest.mark.slow
def test_an_exit_does_not_wait_for_ever_for_a_service_that_takes_nothing(echo_service):
    """The interpreter's own exit, with the limit that every program has (EXIT_LIMIT_S, 5 s)."""
    stop = threading.Event()

    def application(conn):
        stop.wait(60)
        conn.abort()

    echo_service.start(application)
    code = (
        CLIENT.replace('conn.sendall(b"w" * {size})', "conn.setblocking(False)")
        + """
    try:
        while True:
            conn.send(b"w" * 65536)
    except BlockingIOError:
        print("full")
    """
    )
    result = run(code, service=SERVICE, addresses=echo_service.addresses, cafile=str(echo_service.cafile))
    assert not stop.is_set(), "the service took nothing up to the end"
    stop.set()
    assert (result.returncode, result.stdout) == (0, "full\n"), result.stderr


@pytest.mark.slow
def test_a_process_of_multiprocessing_delivers_too(echo_service):
    got = []
    ended = threading.Event()

    def application(conn):
        with conn:
            got.append(len(receive_all(conn)))
            ended.set()

    echo_service.start(application)
    process = multiprocessing.get_context("spawn").Process(
        target=write_and_end, args=(echo_service.addresses, str(echo_service.cafile))
    )
    process.start()
    process.join(40)
    assert process.exitcode == 0
    assert ended.wait(20)
    assert got == [SIZE]


def write_and_end(addresses, cafile):
    conn = kwik.dial(SERVICE, servers=addresses, cafile=cafile, timeout=20)
    conn.sendall(b"w" * SIZE)


@pytest.mark.slow
def test_what_a_server_wrote_before_its_exit_arrives(echo_service):
    code = """
        import sys
        import kwik

        listener = kwik.listen(
            "127.0.0.1:0", service={service!r}, certfile={certfile!r}, keyfile={keyfile!r}, server_id="s"
        )
        print(listener.addresses[0], flush=True)
        conn, _ = listener.accept()
        conn.sendall(b"w" * {size})
    """
    script = textwrap.dedent(code).format(
        service=SERVICE, certfile=str(echo_service.certfile), keyfile=str(echo_service.keyfile), size=SIZE
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with kwik.dial(SERVICE, servers=[address], cafile=echo_service.cafile, timeout=20) as conn:
                conn.settimeout(20)
                assert len(receive_all(conn)) == SIZE
            assert server.wait(20) == 0
        finally:
            server.kill()


def in_child(call) -> int:
    """Fork, run it there, return the exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = 0 if call() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


# Python 3.12 and later warn when a process with threads forks; that is what is tried here.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestForks:
    def test_a_child_uses_an_inherited_stream(self, echo_service):
        echo_service.start(echo)
        with echo_service.dial() as conn:

            def child():
                conn.sendall(b"from the child")
                return conn.recv(100) == b"from the child" and conn.paths() == [] and conn.stats() is None

            assert in_child(child) == 0
            conn.sendall(b"and the parent")
            assert conn.recv(100) == b"and the parent"

    def test_a_child_has_its_own_locks(self, echo_service):
        echo_service.start(echo)
        with echo_service.dial() as conn, in_background(conn.read) as result:
            conn.set_write_deadline(None)

            def child():
                conn.write(b"x")
                conn.set_deadline(time.monotonic() + 60)
                conn.close()
                return True

            assert in_child(child) == 0
        assert result == [b"x"]

    def test_a_child_dials_by_its_own_engine(self, echo_service):
        echo_service.start(echo)
        with echo_service.dial() as conn:
            conn.sendall(b"x")
            assert conn.recv(1) == b"x"

            def child():
                with echo_service.dial() as own:
                    own.sendall(b"child")
                    return own.recv(100) == b"child" and own.getsockname() != conn.getsockname()

            assert in_child(child) == 0
            conn.sendall(b"y")
            assert conn.recv(1) == b"y"

    def test_a_child_does_not_hold_the_engine_s_ends_open(self, echo_service):
        def application(conn):
            assert conn.recv(1) == b"x"
            conn.abort()  # also ends the copy that the child has

        echo_service.start(application)
        with echo_service.dial() as conn:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(reader, 1)  # lives longer than the stream
                os._exit(0)
            try:
                conn.sendall(b"x")
                # The reset is shown by closing the engine's end, which works only if nobody else has it.
                with pytest.raises(ConnectionResetError):
                    conn.recv(1)
            finally:
                os.write(writer, b"x")
                os.waitpid(pid, 0)
                os.close(reader)
                os.close(writer)

    def test_a_pre_forked_child_accepts(self, echo_service):
        listener = echo_service.listener()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                conn, address = listener.accept()
                with conn:
                    conn.sendall(b"child " + conn.recv(10))
                    code = 0 if conn.getpeername() == address and address[0] == "127.0.0.1" else 2
            finally:
                os._exit(code)
        with echo_service.dial() as conn:
            conn.sendall(b"x")
            conn.shutdown(socket.SHUT_WR)
            assert receive_all(conn) == b"child x"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_strangers_are_not_accepted(echo_service):
    listener = echo_service.listener()
    listener.settimeout(20)
    name = super(type(listener), listener).getsockname()
    script = f"""if True:
        import socket
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect({name!r})
            print("connected", flush=True)
            print(stranger.recv(1), flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "connected\n"
        with echo_service.dial() as conn:
            accepted, address = listener.accept()
            with accepted:
                assert address[1] == conn.getsockname()[1]
                accepted.sendall(b"x")
                assert conn.recv(1) == b"x"
        assert stranger.stdout.readline() == "b''\n"
        assert stranger.wait(20) == 0
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()
