"""The data planes of both sides, and everything that may happen to them."""

from __future__ import annotations

import contextlib

from hypothesis import strategies as st

from kwik.config import Config, ServerConfig
from kwik.errors import KwikError, LocalProtocolError
from kwik.kdp.server import DataServer
from kwik.kdp.session import DataSession
from kwik.types import Instance, PathId
from kwik.wire import frames
from kwik.wire.codec import ClientFrame, DataPiece, ServerFrame, UpstreamPiece
from tests.contract.machines import Case, Machine
from tests.contract.machines_kcp import PATHS, SERVICE, call

BLOCK = 16
KEYS = st.integers(1, 3)
REPLICAS = st.integers(1, 4)
OFFSETS = st.sampled_from([0, 1, 5, BLOCK, 2 * BLOCK, 8 * BLOCK, 1 << 40])
DIGESTS = st.sampled_from([b"d" * 32, b"e" * 32])
CODES = st.sampled_from([0, 10, 11, 14])
MARKS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=3).map(tuple)
RANGES = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=3).map(tuple)

server_frames = st.one_of(
    st.builds(frames.Opened, REPLICAS, st.just(1 << 20), st.booleans(), st.booleans()),
    st.builds(frames.Opened, REPLICAS, st.just(1 << 20), st.just(True), st.just(True)),
    st.builds(frames.Refused, REPLICAS, CODES, st.just("no")),
    st.builds(frames.Attached, REPLICAS, st.booleans(), OFFSETS, OFFSETS, OFFSETS, OFFSETS),
    st.builds(frames.UpstreamState, REPLICAS, st.integers(0, 9), st.integers(0, 9), OFFSETS),
    st.builds(frames.Produced, REPLICAS, OFFSETS),
    st.builds(frames.Digests, REPLICAS, st.integers(0, 7), st.lists(DIGESTS, min_size=1, max_size=4).map(tuple)),
    st.builds(frames.Run, REPLICAS, st.integers(0, 7), st.integers(0, 17), DIGESTS),
    st.builds(frames.Probed, REPLICAS, st.integers(0, 3), OFFSETS, st.integers(0, 1), DIGESTS, DIGESTS),
    st.builds(frames.Revoked, REPLICAS, MARKS),
    st.builds(frames.Busy, REPLICAS, st.integers(0, 3), OFFSETS),
    st.builds(frames.Fin, REPLICAS, OFFSETS),
    st.builds(frames.Reset, REPLICAS, OFFSETS, CODES),
    st.builds(frames.Closed, REPLICAS),
    st.builds(frames.Diverged, REPLICAS, OFFSETS),
)
opens = st.builds(
    frames.Open,
    replica=REPLICAS,
    stream=KEYS,
    mode=st.integers(0, 1),
    role=st.integers(0, 1),
    service=st.sampled_from([SERVICE, SERVICE, SERVICE, "other.example:1"]),
    block_bytes=st.sampled_from([BLOCK, BLOCK, BLOCK, 24]),
    digest=st.integers(0, 2),
    floor=st.sampled_from([0, 0, BLOCK, 1]),
    credit=OFFSETS,
    first_grant_blocks=st.integers(0, 3),
    extensions=st.just(()),
)
client_frames = st.one_of(
    opens,
    opens,
    st.builds(frames.Attach, REPLICAS, st.integers(0, 1), st.sampled_from([0, BLOCK, 3]), OFFSETS, st.just((1,))),
    st.builds(frames.Anchor, REPLICAS, st.just(2), st.integers(0, 9)),
    st.builds(frames.Ack, REPLICAS, OFFSETS, OFFSETS),
    st.builds(frames.Grant, REPLICAS, st.integers(0, 3), st.booleans(), RANGES),
    st.builds(frames.Revoke, REPLICAS, MARKS),
    st.builds(frames.Probe, REPLICAS, st.integers(0, 3), OFFSETS),
    st.builds(frames.AskDigests, REPLICAS, st.integers(0, 9), st.integers(0, 65)),
    st.builds(frames.Close, REPLICAS, CODES),
)
upstream_frames = st.builds(
    frames.Upstream,
    replica=REPLICAS,
    offset=st.integers(0, 20),
    after=st.integers(0, 60),
    flags=st.integers(0, 1),
    chain=st.sampled_from([b"", b"d" * 32]),
    prefix=st.sampled_from([b"", b"d" * 32]),
    payload=st.binary(max_size=9),
)


class Session:
    """A client's data plane with the shape of a machine; a frame that breaks a rule is dropped, as with its path."""

    def __init__(self) -> None:
        self._actions: list[object] = []
        config = Config(block_bytes=BLOCK, receive_window_bytes=8 * BLOCK, memory_bytes=40 * BLOCK, recovery_time_s=3.0)
        self._plane = DataSession(SERVICE, config, self._actions)

    def on_path(self, path: int, name: str, now: float) -> None:
        """A path comes up, once."""
        if path not in self._plane.paths:
            self._plane.on_path_writable(PathId(path), "192.0.2.1:4433")
            self._plane.on_path_admitted(PathId(path), Instance(name, name.encode() * 16), True, 100, now)

    def on_path_gone(self, path: int, now: float) -> None:
        """A path ends."""
        self._plane.on_path_gone(PathId(path), now)

    def on_dial(self, now: float) -> None:
        """A dial that may find no memory left."""
        with contextlib.suppress(KwikError):
            self._plane.dial(now, 2)

    def on_frame(self, path: int, frame: ServerFrame, now: float) -> None:
        """A frame of a server."""
        try:
            self._plane.on_frame(PathId(path), frame, now)
        except LocalProtocolError:
            self._plane.on_path_gone(PathId(path), now)

    def on_data(self, path: int, piece: DataPiece, now: float) -> None:
        """A piece of downstream."""
        try:
            self._plane.on_data(PathId(path), piece, now)
        except LocalProtocolError:
            self._plane.on_path_gone(PathId(path), now)

    def on_room(self, path: int, now: float) -> None:
        """A path has room."""
        self._plane.settle(now)
        self._plane.room(PathId(path), 400, now)

    def on_timeout(self, now: float) -> None:
        """The deadline has passed."""
        self._plane.on_timeout(now)
        self._plane.settle(now)

    def deadline(self) -> float | None:
        """When it is due."""
        return self._plane.deadline()

    def actions(self) -> list[object]:
        """What it asks for."""
        said = self._actions[:]
        self._actions.clear()
        return said


class Replicas:
    """A server's data plane with the shape of a machine."""

    def __init__(self) -> None:
        self._actions: list[object] = []
        config = ServerConfig(
            service=SERVICE,
            server_id="a",
            replicated=True,
            min_block_bytes=BLOCK,
            linger_s=3.0,
            upstream_credit_bytes=100,
            upstream_window_bytes=100,
        )
        self._plane = DataServer(config, self._actions)
        self._paths: set[int] = set()

    def on_path(self, path: int) -> None:
        """A path is admitted, once."""
        if path not in self._paths:
            self._paths.add(path)
            self._plane.on_path(PathId(path), b"s" * 16, None)

    def on_path_gone(self, path: int, now: float) -> None:
        """A path ends."""
        self._paths.discard(path)
        self._plane.on_path_gone(PathId(path), now)

    def on_frame(self, path: int, frame: ClientFrame, now: float) -> None:
        """A frame of a client."""
        if path in self._paths:
            try:
                self._plane.on_frame(PathId(path), frame, now)
            except LocalProtocolError:
                self.on_path_gone(path, now)

    def on_upstream(self, path: int, frame: frames.Upstream, now: float) -> None:
        """Upstream of a client."""
        piece = UpstreamPiece(
            frame.replica, frame.offset, frame.after, frame.flags, frame.chain, frame.prefix, frame.payload, True
        )
        if path in self._paths:
            try:
                self._plane.on_upstream(PathId(path), piece)
            except LocalProtocolError:
                self.on_path_gone(path, now)

    def on_output(self, key: int, now: float) -> None:
        """An application is reached and writes as much as it may."""
        self._plane.accepted(key)
        replica = self._plane.replica_of(key)
        if replica is not None:
            self._plane.on_app_bytes(key, bytes(min(40, replica.allowance())), now)

    def on_end(self, key: int, closed: bool, aborted: bool) -> None:
        """An application ends its output, or everything."""
        if closed:
            self._plane.on_app_closed(key, aborted=aborted)
        else:
            self._plane.on_app_eof(key)

    def on_room(self, path: int, now: float) -> None:
        """A path has room."""
        self._plane.room(PathId(path), 400, now)

    def on_timeout(self, now: float) -> None:
        """The deadline has passed."""
        self._plane.on_timeout(now)

    def deadline(self) -> float | None:
        """When it is due."""
        return self._plane.deadline()

    def actions(self) -> list[object]:
        """What it asks for."""
        said = self._actions[:]
        self._actions.clear()
        return said


def build_session() -> Machine:
    return Session()


def build_replicas() -> Machine:
    return Replicas()


session_calls = st.one_of(
    call("on_path", PATHS, st.sampled_from(["a", "b"])),
    call("on_path", PATHS, st.sampled_from(["a", "b"])),
    call("on_path_gone", PATHS),
    call("on_dial"),
    call("on_frame", PATHS, server_frames),
    call("on_frame", PATHS, server_frames),
    call(
        "on_data", PATHS, st.builds(DataPiece, REPLICAS, st.integers(0, 2), OFFSETS, st.binary(min_size=1, max_size=20))
    ),
    call("on_room", PATHS),
    call("on_room", PATHS),
)
replica_calls = st.one_of(
    call("on_path", PATHS, timed=False),
    call("on_path_gone", PATHS),
    call("on_frame", PATHS, client_frames),
    call("on_frame", PATHS, client_frames),
    call("on_upstream", PATHS, upstream_frames),
    call("on_output", KEYS),
    call("on_end", KEYS, st.booleans(), st.booleans(), timed=False),
    call("on_room", PATHS),
)

CASES = (
    Case("client data plane", build_session, session_calls),
    Case("server data plane", build_replicas, replica_calls),
)
