"""The server endpoint: hello, admission, streams, draining, stopping, lingering (SPEC §4, §5.10)."""

from __future__ import annotations

from typing import Any

import pytest

from kwik.core.actions import Accept, ClosePath, Drained, OpenPath, PortReset, WakePath
from kwik.core.server import ServerCore
from kwik.errors import ErrorCode
from kwik.kcp.admission import client_proof, server_proof
from kwik.types import PathId
from kwik.wire import frames
from kwik.wire.codec import Decoder, Frame, encode
from kwik.wire.messages import ClientHello, Drain, Join, Joined, ServerHello
from tests.unit.core.house import BLOCK, SERVICE, START, House, Server
from tests.unit.kdp.naive import pattern
from tests.unit.kdp.server_rig import open_frame

P1, P2 = PathId(1), PathId(2)
TEXT = pattern(300 * BLOCK)
BINDING = b"b" * 32


class Bare:
    """A server core and a client made of frames."""

    def __init__(self, **settings: Any) -> None:
        self.server: Server = House().build("a", **settings)
        self.core: ServerCore = self.server.core
        self.now = START
        self._decoders: dict[PathId, Decoder] = {}

    def path(self, path: PathId = P1) -> ServerHello:
        """A path becomes writable; its hello."""
        self.core.on_path_writable(path, BINDING, ("192.0.2.9", 1), self.now)
        (hello,) = self.hear(path)
        assert isinstance(hello, ServerHello)
        return hello

    def hello(self, path: PathId = P1, **fields: Any) -> ServerHello:
        """Both hellos."""
        answer = self.path(path)
        self.tell(client_hello(path, **fields), path)
        return answer

    def tell(self, frame: object, path: PathId = P1) -> None:
        self.core.on_path_data(path, 0, encode(frame), self.now)  # type: ignore[arg-type]

    def hear(self, path: PathId = P1) -> list[Frame]:
        decoder = self._decoders.setdefault(path, Decoder("server", "control"))
        output = self.core.on_room(path, 1 << 16, self.now)
        return [frame for pipe, data in output if pipe == 0 for frame in decoder.feed(data)]  # type: ignore[misc]

    def closed(self) -> list[int]:
        """Codes with which paths were closed."""
        return [action.code for action in self.core.actions() if isinstance(action, ClosePath)]


def client_hello(path: int = 1, **fields: Any) -> ClientHello:
    values: dict[str, Any] = {
        "version": 1,
        "session": bytes([path]) * 16,
        "secret": b"x" * 32,
        "nonce": b"n" * 16,
        "path": path,
        "service": SERVICE,
        "extensions": (),
    }
    return ClientHello(**(values | fields))


@pytest.fixture
def bare() -> Bare:
    return Bare()


class TestHello:
    def test_it_goes_out_before_anything_is_heard(self, bare: Bare):
        bare.core.on_path_writable(P1, BINDING, None, bare.now)
        assert bare.core.wants_room(P1)
        assert WakePath(P1) in bare.core.actions()
        (hello,) = bare.hear()
        assert isinstance(hello, ServerHello)
        assert (hello.server_id, hello.service, hello.upstream_credit, hello.replicated) == ("a", SERVICE, 65536, True)
        assert not bare.core.wants_room(P1)

    def test_open_may_come_right_behind_the_clients(self, bare: Bare):
        bare.path()
        data = encode(client_hello()) + encode(open_frame(block_bytes=BLOCK))
        bare.core.on_path_data(P1, 0, data, bare.now)
        (accept,) = [action for action in bare.core.actions() if isinstance(action, Accept)]
        assert accept.remote == ("192.0.2.9", 1)

    def test_without_a_hello_nothing_is_taken(self, bare: Bare):
        bare.path()
        bare.tell(open_frame(block_bytes=BLOCK))
        assert bare.closed() == [ErrorCode.ADMISSION]
        bare.tell(client_hello())
        assert bare.closed() == []

    @pytest.mark.parametrize(
        ("fields", "code"),
        [({"version": 9}, ErrorCode.WRONG_VERSION), ({"service": "other.example:80"}, ErrorCode.WRONG_SERVICE)],
    )
    def test_a_wrong_one_closes_the_path(self, bare: Bare, fields: dict[str, Any], code: int):
        bare.hello(**fields)
        assert bare.closed() == [code]

    def test_upstream_without_a_hello_is_refused_too(self, bare: Bare):
        bare.path()
        bare.core.on_path_data(P1, 1, encode(frames.Upstream(1, 0, 0, 0, b"", b"", b"x")), bare.now)
        assert bare.closed() == [ErrorCode.ADMISSION]

    def test_no_more_paths_than_it_may_have(self):
        bare = Bare(max_sessions=1)
        for number in range(64):
            bare.core.on_path_writable(PathId(number), BINDING, None, bare.now)
        assert bare.closed() == []
        bare.core.on_path_writable(PathId(64), BINDING, None, bare.now)
        assert bare.closed() == [ErrorCode.OVERLOADED]
        assert not bare.core.wants_room(PathId(64))

    @pytest.mark.parametrize("data", [b"\x3f\x00", encode(frames.Produced(1, 1)), b"\x01\x7f\xff"])
    def test_junk_closes_the_path_and_nothing_else(self, bare: Bare, data: bytes):
        bare.hello()
        bare.hello(P2)
        bare.core.on_path_data(P1, 0, data, bare.now)
        assert len(bare.closed()) == 1
        bare.tell(open_frame(block_bytes=BLOCK), P2)
        assert any(isinstance(action, Accept) for action in bare.core.actions())

    def test_bytes_of_an_unknown_path_are_ignored(self, bare: Bare):
        bare.core.on_path_data(PathId(9), 0, b"junk", bare.now)
        bare.core.on_path_down(PathId(9), "never was", bare.now)
        bare.core.on_pong(PathId(9), 1, bare.now)
        assert bare.core.actions() == []
        assert bare.core.on_room(PathId(9), 100, bare.now) == []


class TestJoin:
    def test_a_proven_path_carries_the_sessions_streams(self, bare: Bare):
        bare.hello()
        bare.tell(open_frame(block_bytes=BLOCK))
        bare.hear()
        answer = bare.hello(P2)
        proof = client_proof(b"x" * 32, b"n" * 16, answer.nonce, BINDING)
        bare.tell(Join(bytes([1]) * 16, proof), P2)
        assert bare.hear(P2) == [Joined(0, server_proof(b"x" * 32, b"n" * 16, answer.nonce, BINDING))]
        bare.tell(frames.Attach(1, frames.ROLE_ANCHOR, 0, 100, ()), P2)
        assert [type(frame) for frame in bare.hear(P2)] == [frames.Attached]

    @pytest.mark.parametrize(("session", "status"), [(bytes([1]) * 16, 2), (b"?" * 16, 1)])
    def test_an_unproven_one_carries_nothing(self, bare: Bare, session: bytes, status: int):
        bare.hello()
        bare.tell(open_frame(block_bytes=BLOCK))
        bare.core.actions()
        bare.hello(P2)
        bare.tell(Join(session, b"w" * 32), P2)
        assert [frame.status for frame in bare.hear(P2) if isinstance(frame, Joined)] == [status]
        bare.tell(frames.Attach(1, frames.ROLE_ANCHOR, 0, 100, ()), P2)
        assert bare.closed() == [ErrorCode.ADMISSION]

    def test_a_join_out_of_place_is_a_fault(self, bare: Bare):
        bare.hello()
        bare.tell(Join(bytes([1]) * 16, b"w" * 32))
        assert bare.closed() == [ErrorCode.PROTOCOL]


class TestLeaving:
    def test_draining_takes_nothing_new_and_is_done_when_streams_are(self):
        house = House()
        server = house.server("a", TEXT)
        key = house.dial()
        house.run(1.0)
        server.core.drain(house.now)
        house.run(0.1)
        assert not any(isinstance(action, Drained) for action in server.said)
        late = house.dial()
        house.run(1.0)
        assert len(server.apps) == 1
        assert house.reset(late) is None
        assert house.read(key) == TEXT
        house.client.at_end(key)
        house.client.on_app_closed(key, house.now, aborted=False)
        house.run(0.1)
        assert any(isinstance(action, Drained) for action in server.said)

    def test_a_new_client_is_told_too(self, bare: Bare):
        bare.core.drain(bare.now)
        assert bare.hello().draining
        assert any(isinstance(frame, Drain) for frame in bare.hear())
        bare.tell(open_frame(block_bytes=BLOCK))
        (refused,) = [frame for frame in bare.hear() if isinstance(frame, frames.Refused)]
        assert refused.code == ErrorCode.DRAINING

    def test_a_drain_has_an_end(self):
        house = House()
        server = house.server("a", TEXT, drain_s=5.0, ends=False)
        house.dial()
        house.run(1.0)
        server.core.drain(house.now)
        house.run(4.0)
        assert not any(isinstance(action, Drained) for action in server.said)
        house.run(2.0)
        assert any(isinstance(action, Drained) for action in server.said)

    def test_a_replicated_stream_is_handed_over(self):
        house = House()
        servers = [house.server(name, TEXT) for name in "ab"]
        key = house.dial(replicas=2)
        house.run(1.0)
        read = house.read(key, 500)
        stats = house.client.stream_stats(key, house.now)
        assert stats is not None
        leaving = next(server for server in servers if server.name == stats.anchor)
        leaving.core.drain(house.now)
        for _ in range(40):
            house.run(0.05)
            read += house.read(key, 400)
        stats = house.client.stream_stats(key, house.now)
        assert stats is not None
        assert stats.anchor not in ("", leaving.name)
        while piece := house.read(key):
            read += piece
            house.run(0.05)
        assert read == TEXT

    def test_stopping_ends_everything_at_once(self):
        house = House(recovery_time_s=0.5)
        server = house.server("a", TEXT, replicated=False)
        key = house.dial()
        house.run(1.0)
        server.core.stop(house.now)
        house.settle()
        assert [action.code for action in server.said if isinstance(action, ClosePath)] == [ErrorCode.SERVER_GONE]
        assert isinstance(server.apps[0].ended, PortReset)
        server.is_up = False
        house.run(5.0)
        assert house.reset(key) is not None


class TestLinger:
    def test_a_replica_waits_for_its_client_and_no_longer_than_it_must(self):
        house = House(recovery_time_s=100.0)
        server = house.server("a", TEXT, linger_s=10.0)
        house.dial()
        house.run(1.0)
        server.is_up = False
        house.drop(PathId(1))
        assert server.core.stream_count == 1
        server.core.on_timeout(house.now + 9.9)
        assert server.core.stream_count == 1
        server.core.on_timeout(house.now + 10.0)
        assert server.core.stream_count == 0
        house.settle()
        assert isinstance(server.apps[0].ended, PortReset)

    def test_a_forgotten_sessions_replicas_go_with_it(self, bare: Bare):
        bare = Bare(linger_s=1.0)
        bare.hello()
        bare.core.on_path_down(P1, "reset", bare.now)
        assert bare.core.deadline() == pytest.approx(START + 1.0)
        bare.core.on_timeout(START + 1.0)
        assert bare.core.deadline() is None


class TestPictures:
    def test_replicas(self):
        house = House()
        server = house.server("a", TEXT[:100])
        key = house.dial()
        house.run(1.0)
        house.write(key, b"GET")
        (view,) = server.core.replica_views(house.now)
        assert (view.state, view.produced_bytes, view.upstream_taken_bytes) == ("ended", 100, 3)
        assert view.paths == (1,)
        assert server.core.held_bytes > 0
        house.run(0.1)
        assert len(house.heard(OpenPath)) == 1

    def test_unknown_ports_answer_nothing(self, bare: Bare):
        assert bare.core.allowance(9) == 0
        assert bare.core.peek(9) is None
        assert not bare.core.at_end(9)
        bare.core.on_app_bytes(9, b"x", bare.now)
        bare.core.on_app_eof(9, bare.now)
        bare.core.on_app_closed(9, bare.now, aborted=True)
        bare.core.consume(9, 1, bare.now)
        bare.core.accepted(9, bare.now)
        bare.core.refused(9, 1, "x", bare.now)
        assert bare.core.actions() == []
