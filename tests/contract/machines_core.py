"""The two endpoints, and everything that may happen to them."""

from __future__ import annotations

import contextlib
import random

from hypothesis import strategies as st

from kwik.config import Config, ServerConfig
from kwik.core.client import ClientCore
from kwik.core.server import ServerCore
from kwik.errors import KwikError
from kwik.kdp.facts import PathFacts
from kwik.types import PathId
from kwik.wire import codec
from kwik.wire.messages import ServerHello
from tests.contract.machines import Case, Machine
from tests.contract.machines_kcp import PATHS, SERVICE, call, client_hellos, sightings
from tests.contract.machines_kdp import BLOCK, KEYS, client_frames, server_frames, upstream_frames

REASONS = st.sampled_from(["refused", "reset", "idle time-out"])
PIPES = st.integers(0, 2)
SIZES = st.sampled_from([40, 400, 4000])


def facts_of(path: int, now: float) -> PathFacts | None:
    """Path 3 has owed an answer since the beginning of time; the others are well."""
    owes = path == 3
    return PathFacts(
        last_packet_at=1000.0 if owes else now,
        oldest_unacked_at=1000.0 if owes else None,
        smoothed_rtt_s=0.02,
        rtt_variance_s=0.001,
        min_rtt_s=0.02,
        latest_rtt_s=0.02,
        max_ack_delay_s=0.0,
        unsent_bytes=0,
        congestion_window=100_000,
        bytes_in_flight=0,
        lost_packets=0,
    )


class Client(ClientCore):
    """With inputs that make sense together. Decides once per turn, so that actions() go before deadline()."""

    _kept: tuple[object, ...] = ()

    def deadline(self) -> float | None:
        """See Machine."""
        self._kept += tuple(super().actions())
        return super().deadline()

    def actions(self) -> list[object]:
        """See Machine."""
        kept, self._kept = self._kept, ()
        return [*kept, *super().actions()]

    def attempt(self, now: float) -> None:
        """A dial that may find no memory left."""
        with contextlib.suppress(KwikError):
            self.dial(now, replicas=2)

    def greet(self, path: int, name: str, now: float) -> None:
        """A path comes up and its server says hello."""
        self.on_path_writable(PathId(path), bytes(32), now)
        hello = ServerHello(1, name, name.encode() * 16, bytes(16), SERVICE, True, False, 1000, 5000, ())
        self.on_path_data(PathId(path), 0, codec.encode(hello), now)

    def say(self, path: int, pipe: int, frame: codec.Frame, now: float) -> None:
        """A frame of a server."""
        self.on_path_data(PathId(path), pipe, codec.encode(frame), now)

    def take(self, key: int, now: float) -> None:
        """The application reads."""
        view = self.peek(key)
        if view is not None:
            size = len(view)
            view.release()
            self.consume(key, size, now)
        self.at_end(key)

    def leave(self, key: int, aborted: bool, now: float) -> None:
        """The application closes its socket."""
        self.on_app_closed(key, now, aborted=aborted)


class Server(ServerCore):
    """With inputs that make sense together."""

    def join(self, path: int, now: float) -> None:
        """A path becomes writable, once."""
        if path not in self._readers:
            self.on_path_writable(PathId(path), bytes(32), None, now)

    def say(self, path: int, pipe: int, frame: codec.Frame, now: float) -> None:
        """A frame of a client."""
        self.on_path_data(PathId(path), pipe, codec.encode(frame), now)

    def reach(self, key: int, now: float) -> None:
        """The application was reached and writes."""
        self.accepted(key, now)
        self.on_app_bytes(key, bytes(min(40, self.allowance(key))), now)

    def take(self, key: int, now: float) -> None:
        """The application reads."""
        view = self.peek(key)
        if view is not None:
            size = len(view)
            view.release()
            self.consume(key, size, now)

    def leave(self, key: int, aborted: bool, now: float) -> None:
        """The application closes its socket."""
        self.on_app_closed(key, now, aborted=aborted)


def build_client() -> Machine:
    config = Config(block_bytes=BLOCK, receive_window_bytes=8 * BLOCK, memory_bytes=40 * BLOCK, recovery_time_s=3.0)
    dice = random.Random(7)
    return Client(SERVICE, config, facts=facts_of, token_bytes=dice.randbytes, rng=dice)


def build_server() -> Machine:
    config = ServerConfig(
        service=SERVICE,
        server_id="a",
        replicated=True,
        min_block_bytes=BLOCK,
        max_sessions=2,
        linger_s=3.0,
        drain_s=2.0,
        upstream_credit_bytes=100,
        upstream_window_bytes=100,
    )
    return Server(config, incarnation=bytes(16), facts=facts_of, token_bytes=random.Random(7).randbytes)


client_calls = st.one_of(
    call("on_sighting", sightings),
    call("on_discovery_done", st.just("test: nobody")),
    call("attempt"),
    call("greet", PATHS, st.sampled_from(["a", "b"])),
    call("greet", PATHS, st.sampled_from(["a", "b"])),
    call("on_path_down", PATHS, REASONS),
    call("on_pong", PATHS, st.integers(0, 9)),
    call("say", PATHS, st.just(0), server_frames),
    call("say", PATHS, PIPES, server_frames),
    call("on_room", PATHS, SIZES),
    call("on_app_bytes", KEYS, st.binary(min_size=1, max_size=9)),
    call("on_app_eof", KEYS),
    call("take", KEYS),
    call("leave", KEYS, st.booleans()),
    call("flush", KEYS, st.integers(0, 2), st.integers(1, 9)),
    call("on_allowance", st.sampled_from([0, 10 * BLOCK, 1 << 20])),
    call("close"),
)
server_calls = st.one_of(
    call("join", PATHS),
    call("say", PATHS, st.just(0), client_hellos),
    call("say", PATHS, st.just(0), client_frames),
    call("say", PATHS, st.just(0), client_frames),
    call("say", PATHS, PIPES, upstream_frames),
    call("on_path_down", PATHS, REASONS),
    call("on_room", PATHS, SIZES),
    call("reach", KEYS),
    call("refused", KEYS, st.just(10), st.just("no such port")),
    call("on_app_eof", KEYS),
    call("take", KEYS),
    call("leave", KEYS, st.booleans()),
    call("drain"),
    call("stop"),
)

CASES = (Case("client core", build_client, client_calls), Case("server core", build_server, server_calls))
