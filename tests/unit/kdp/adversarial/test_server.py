"""Hostile and unlucky clients against one server: no crash, bounded memory, no leaks (SPEC §6.6, §3.2, §7)."""

from __future__ import annotations

import contextlib

import pytest

from kwik.config import ServerConfig
from kwik.errors import ConfigError, LocalProtocolError
from kwik.kdp.server import DataServer
from kwik.types import PathId
from kwik.wire import frames
from kwik.wire.codec import UpstreamPiece
from tests.unit.kdp.adversarial.driver import BLOCK, RTT_S, SERVICE, SESSION, App, Net, content

PATH = PathId(1)
NOW = 1000.0


def make_open(number: int = 1, **changes: object) -> frames.Open:
    fields: dict[str, object] = {
        "replica": number,
        "stream": 1,
        "mode": frames.MODE_FIRST,
        "role": frames.ROLE_ANCHOR,
        "service": SERVICE,
        "block_bytes": BLOCK,
        "digest": frames.DIGEST_BLAKE3,
        "floor": 0,
        "credit": 1 << 30,
        "first_grant_blocks": 0,
        "extensions": (),
    }
    fields.update(changes)
    return frames.Open(**fields)  # type: ignore[arg-type]


def make_server(**config: object) -> DataServer:
    settings: dict[str, object] = {"replicated": True, "min_block_bytes": 256}
    settings.update(config)
    server = DataServer(ServerConfig(service=SERVICE, server_id="s", **settings), [])  # type: ignore[arg-type]
    server.on_path(PATH, SESSION, None)
    return server


def open_one(server: DataServer, **changes: object) -> int:
    server.on_frame(PATH, make_open(**changes), NOW)  # type: ignore[arg-type]
    key = server.ports()[-1]
    server.accepted(key)
    return key


def drain(server: DataServer, path: PathId = PATH) -> None:
    while server.room(path, 65536, NOW):
        pass


def upstream(offset: int, payload: bytes, after: int = 0, flags: int = 0) -> UpstreamPiece:
    pair = (b"c" * 32, b"p" * 32) if after else (b"", b"")
    return UpstreamPiece(1, offset, after, flags, *pair, payload, is_last=True)


def test_a_floor_beyond_the_output_within_an_order_does_not_break_the_server() -> None:
    # A client must not be able to fail the process (SPEC §3.2). replica.py:next_data: size becomes negative, the
    # payload empty, and encode_data_head raises LocalProtocolError out of room().
    server = make_server()
    key = open_one(server)
    server.on_app_bytes(key, content(10 * BLOCK), NOW)
    server.on_frame(PATH, frames.Grant(1, 1, urgent=False, blocks=((0, 100),)), NOW)
    server.on_frame(PATH, frames.Ack(1, 50 * BLOCK, 1 << 30), NOW)
    drain(server)


def test_thousands_of_void_ranges_do_not_break_the_server() -> None:
    # A client must not be able to fail the process. replica.py:next_data calls itself once for each range below the
    # floor: 256 orders of 16 ranges are 4096 levels, RecursionError.
    server = make_server()
    key = open_one(server)
    server.on_app_bytes(key, content(33 * BLOCK), NOW)
    for number in range(200):
        blocks = tuple((2 * i, 1) for i in range(16))
        server.on_frame(PATH, frames.Grant(1, number, urgent=False, blocks=blocks), NOW)
    server.on_frame(PATH, frames.Ack(1, 33 * BLOCK, 1 << 30), NOW)
    drain(server)


def test_marks_that_hold_no_bytes_are_not_remembered() -> None:
    # Guarantee 5. replica.py:on_upstream gates (and so watches) the mark of every piece, also of empty and of repeated
    # ones: Producer._to_watch grows by one entry for each frame, for ever.
    server = make_server()
    key = open_one(server)
    replica = server.replica_of(key)
    assert replica is not None
    with contextlib.suppress(LocalProtocolError):
        for after in range(1, 5000):
            server.on_upstream(PATH, upstream(0, b"", after=after))
    assert len(replica.producer._to_watch) <= 1100


@pytest.mark.parametrize("kind", ["attach unknown", "attach known", "revoke", "close"])
def test_answers_to_a_client_that_does_not_read_are_bounded(kind: str) -> None:
    # Guarantee 5. server.py: nothing limits ServerPath.replies and PathDuty.replies (SPEC §5.3: 256 ATTACHs).
    server = make_server()
    key = open_one(server)
    replica = server.replica_of(key)
    assert replica is not None
    with contextlib.suppress(LocalProtocolError):
        for number in range(5000):
            if kind == "attach unknown":
                server.on_frame(PATH, frames.Attach(2 + 2 * number, frames.ROLE_HELPER, 0, 0, ()), NOW)
            elif kind == "attach known":
                server.on_frame(PATH, frames.Attach(1, frames.ROLE_HELPER, 0, 0, ()), NOW)
            elif kind == "revoke":
                server.on_frame(PATH, frames.Revoke(1, ((number, 0),)), NOW)
            else:
                server.on_frame(PATH, make_open(2 + number, first_grant_blocks=0, service="other:1"), NOW)
    replies = len(server._paths[PATH].replies) + len(replica.duties[PATH].replies)
    assert replies <= 2048


def test_tombstones_of_one_session_are_bounded() -> None:
    # Guarantee 5. server.py:_on_attach adds a range to SessionReplicas.dead for every number that was never opened.
    server = make_server()
    with contextlib.suppress(LocalProtocolError):
        for number in range(0, 24_000, 2):  # a fifth more than may be kept
            server.on_frame(PATH, frames.Attach(number, frames.ROLE_HELPER, 0, 0, ()), NOW)
            drain(server)
    assert len(server._sessions[SESSION].dead) <= 10_000


def test_a_closed_replica_does_not_wait_for_output_that_nobody_counts() -> None:
    # Leak (guarantee 5, SPEC §5.10). In CLOSING replica.py:on_output drops the output uncounted, so a mark beyond it
    # is never reached, the upstream behind it never fed, and the replica stays for as long as its path does.
    server = make_server()
    key = open_one(server)
    server.on_app_bytes(key, content(100), NOW)
    server.on_upstream(PATH, upstream(0, b"request", after=500))
    server.on_frame(PATH, frames.Close(1, 0), NOW)
    server.on_app_bytes(key, content(900, 100), NOW)
    server.on_app_eof(key)
    drain(server)
    server.on_timeout(NOW + 10_000.0)
    replica = server.replica_of(key)
    while replica is not None and (view := replica.peek()):
        server.consume(key, len(view))
        replica = server.replica_of(key)
    assert server.ports() == []


def test_pieces_of_one_mark_count_as_one_mark() -> None:
    # An honest client must not break LIMIT. upstream_sink.py:mark_count counts every piece that came ahead of a gap; a
    # UPSTREAM frame becomes a piece for each packet, so 1 MiB of credit in packets of 1 KiB is more than 1024.
    server = make_server(upstream_credit_bytes=1 << 21, upstream_window_bytes=1 << 21)
    open_one(server)
    size = 1000
    for index in range(1, 1200):
        server.on_upstream(PATH, upstream(index * size, b"u" * size))
    server.on_upstream(PATH, upstream(0, b"u" * size))
    replica = server.replica_of(server.ports()[0])
    assert replica is not None
    assert replica.sink.received == 1200 * size


def test_upstream_sent_before_the_hello_is_within_every_servers_credit() -> None:
    # An honest client must not break FLOW_CONTROL: SPEC §4.1 allows 64 KiB before the hello, ServerConfig any credit.
    try:
        server = make_server(upstream_credit_bytes=1024, upstream_window_bytes=4096)
    except ConfigError:
        return  # a remedy: such a server cannot be configured
    open_one(server)
    server.on_upstream(PATH, upstream(0, b"u" * 16384))


def test_the_upstream_of_all_replicas_is_within_the_budget() -> None:
    # Guarantee 5, SPEC §6.6. Only the output's cap is reserved from memory_bytes; each replica may hold
    # upstream_window_bytes of unread upstream besides, 4 GiB with the defaults.
    memory = 4 << 20
    server = make_server(memory_bytes=memory, send_window_bytes=64 * BLOCK)
    with contextlib.suppress(LocalProtocolError):
        for number in range(1, 33):
            server.on_frame(PATH, make_open(number), NOW)
            for key in server.ports():
                server.accepted(key)
            for key in server.ports():
                replica = server.replica_of(key)
                if replica is None or replica.number != number:
                    continue
                while replica.sink.received + 16384 <= replica.sink.credit:
                    offset = replica.sink.received
                    piece = UpstreamPiece(number, offset, 0, 0, b"", b"", b"u" * 16384, is_last=True)
                    server.on_upstream(PATH, piece)
    held = sum(replica.held_bytes for key in server.ports() if (replica := server.replica_of(key)) is not None)
    assert held <= memory


def test_a_stream_that_is_aborted_before_open_left_never_starts() -> None:
    # Leak on the server, and an application touched for nobody. stream.py:drop_view sends no CLOSE because OPEN was not
    # sent, yet session.py:room sends the OPEN that waits in the outbox: nobody ever closes that replica.
    net = Net()
    server = net.server("s", lambda: App(b"", ends=False))
    net.connect(server)
    stream = net.dial(b"GET")
    net.session.settle(net.now)
    stream.on_app_closed(aborted=True)
    net.session.touch(stream)
    net.pump()
    net.wait(RTT_S)
    assert net.session.streams == {}
    assert server.data.ports() == []


def test_output_that_nobody_reads_does_not_hold_up_the_upstream_of_a_closed_socket() -> None:
    # Leak: after a full close nothing is consumed any more; a service that echoes stops reading when its output is
    # blocked, the upstream is never received, and stream, replica and application stay for ever.
    net = Net(receive_window_bytes=8 * BLOCK, first_window_bytes=8 * BLOCK, replay_limit_bytes=0)
    app = App(ends=False)
    server = net.server("s", lambda: app, replicated=False, upstream_window_bytes=65536, send_window_bytes=8 * BLOCK)
    net.connect(server)
    net.reads = False
    stream = net.dial()

    def echo(rounds: int) -> None:
        for _ in range(rounds):
            app.reads = app.given >= len(app.upstream)
            app.output = bytes(app.upstream)
            net.session.touch(stream)
            net.pump(2)

    for _ in range(50):
        stream.on_app_bytes(b"u" * stream.allowance())
        echo(2)
    assert stream.allowance() == 0, "the writer is held up"
    stream.on_app_closed(aborted=False)
    echo(2000)
    assert stream.is_over
