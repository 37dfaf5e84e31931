"""Sessions over real QUIC: shared, ended when idle, replaced after a failure; a defect stays where it is."""

import asyncio
import contextlib
import socket
import threading

import pytest

import kwik
from kwik.engine.sessions import sessions_of
from kwik.engine.thread import engine
from kwik.errors import ErrorCode
from tests.net.services import SERVICE, echo


def on_engine(call):
    async def run():
        return call()

    return engine().call(run(), 10)


def session_of(service):
    """The one living session with these servers."""
    table = sessions_of(engine())._sessions
    return next(
        session
        for key, session in table.items()
        if not session.is_over and key.sources.servers == tuple(service.addresses)
    )


def says_back(conn, data=b"x"):
    conn.sendall(data)
    return conn.recv(len(data)) == data


def test_equal_dials_share_a_session_and_others_do_not(echo_service):
    echo_service.start(echo)
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(echo_service.dial()) for _ in range(2))
        assert first.getsockname() == second.getsockname()
        other = stack.enter_context(echo_service.dial(config=kwik.Config(max_paths=2)))
        assert other.getsockname() != first.getsockname()
        for conn in (first, second, other):
            assert says_back(conn)


def test_an_idle_session_ends_and_the_next_dial_makes_a_new_one(echo_service):
    echo_service.start(echo)
    config = kwik.Config(session_idle_s=0.05)
    with echo_service.dial(config=config) as conn:
        assert says_back(conn)
        session = session_of(echo_service)
        name = conn.getsockname()
    for _ in range(500):
        if session.is_over:
            break
        on_engine(lambda: None)
        threading.Event().wait(0.01)
    assert session.is_over
    with echo_service.dial(config=config) as conn:
        assert says_back(conn)
        assert conn.getsockname() != name
        assert session_of(echo_service) is not session


def test_a_closed_session_resets_its_streams(echo_service):
    echo_service.start(echo)
    with echo_service.dial() as conn:
        assert says_back(conn)
        engine().call(session_of(echo_service).close(), 10)
        with pytest.raises(kwik.StreamReset):
            conn.recv(1)
    with echo_service.dial() as conn:
        assert says_back(conn)


def explode(*args, **kwargs):
    raise ZeroDivisionError("made by the test")


def test_a_defect_of_a_session_resets_its_streams_only(echo_service, caplog):
    echo_service.start(echo)
    own, others = kwik.Config(max_paths=3), kwik.Config(max_paths=2)
    with echo_service.dial(config=own) as conn, echo_service.dial(config=others) as other:
        assert says_back(conn)
        session = next(
            each for each in sessions_of(engine())._sessions.values() if not each.is_over and each.config.max_paths == 3
            and not each._streams.is_empty
        )  # fmt: skip
        on_engine(lambda: setattr(session._core, "on_path_data", explode))
        conn.sendall(b"y")
        with pytest.raises(kwik.StreamReset, match="internal error") as caught:
            conn.recv(1)
        assert caught.value.code == ErrorCode.INTERNAL
        assert "made by the test" in caplog.text
        assert says_back(other)
    with echo_service.dial() as conn:
        assert says_back(conn)


def test_a_defect_of_a_server_ends_the_path_that_did_it(echo_service, caplog):
    listener = echo_service.start(echo)
    core = listener.server._server._core
    with echo_service.dial(config=kwik.Config(recovery_time_s=10)) as conn:
        assert says_back(conn)
        real = core.on_path_data
        exploded = threading.Event()

        def explode_once(*args):
            core.on_path_data = real
            exploded.set()
            explode()

        on_engine(lambda: setattr(core, "on_path_data", explode_once))
        with contextlib.suppress(ConnectionError):
            conn.sendall(b"y")
            conn.recv(1)
        assert exploded.wait(20)
    with echo_service.dial(config=kwik.Config(max_paths=2)) as other:
        assert says_back(other)
    assert "made by the test" in caplog.text


def test_a_dial_that_is_given_up_while_it_succeeds(echo_service):
    echo_service.start(echo)

    async def race():
        for delay in (0.0, 0.001, 0.002, 0.005, 0.01, 0.02):
            task = asyncio.create_task(
                kwik.aio.dial(SERVICE, servers=echo_service.addresses, cafile=echo_service.cafile, timeout=10)
            )
            await asyncio.sleep(delay)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await task).close()

    asyncio.run(race())
    with echo_service.dial() as conn:
        assert says_back(conn)


def test_many_clients_of_a_slow_accepter(echo_service):
    listener = echo_service.listener()
    listener.settimeout(20)
    conns = [echo_service.dial() for _ in range(10)]
    accepted = [listener.accept() for _ in conns]
    assert {address for _, address in accepted} == {conns[0].getsockname()[:2]}
    for number, conn in enumerate(conns):
        conn.sendall(b"%d" % number)
        conn.shutdown(socket.SHUT_WR)
    assert sorted(conn.recv(10) for conn, _ in accepted) == [b"%d" % number for number in range(10)]
    for conn in (*conns, *(conn for conn, _ in accepted)):
        conn.close()


def test_a_closed_listener_refuses_but_lets_streams_go_on(echo_service):
    listener = echo_service.listener()
    listener.settimeout(20)
    with echo_service.dial() as conn:
        accepted, _ = listener.accept()
        listener.close()
        with accepted:
            accepted.sendall(b"still there")
            assert conn.recv(100) == b"still there"
            with pytest.raises((kwik.ConnectRefused, kwik.DialTimeout)):
                echo_service.dial(confirm=True, timeout=0.3)
        assert conn.recv(1) == b""
