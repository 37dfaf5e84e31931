"""The machines of the control plane, and everything that may happen to them."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from kwik.config import Config, ServerConfig
from kwik.kcp.control import Control, Want
from kwik.kcp.drain import ServerDrain
from kwik.kcp.health import Health
from kwik.kcp.recovery import Recovery
from kwik.kcp.sessions import ServerSessions
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address, Instance
from kwik.wire.messages import ClientHello, Drain, Join, Joined, ServerHello
from tests.contract.machines import Call, Case, Machine

SERVICE = "files.example:80"
PATHS = st.integers(1, 9)
REASONS = st.sampled_from(["refused", "reset", "x" * 500])
ADDRESSES = st.integers(1, 5).map(lambda number: Address(f"192.0.2.{number}", 443))
INCARNATIONS = st.sampled_from([b"1" * 16, b"2" * 16])
INSTANCES = st.builds(Instance, st.sampled_from(["a", "b", "c"]), INCARNATIONS)
TOKENS = st.sampled_from([b"t" * 16, b"u" * 16])
PROOFS = st.just(bytes(32))


def no_facts(path: int, now: float) -> None:
    return None


def call(method: str, *args: st.SearchStrategy[object], timed: bool = True) -> st.SearchStrategy[Call]:
    return st.tuples(*args).map(lambda drawn: Call(method, drawn, timed))


sightings = st.builds(
    Sighting,
    kind=st.sampled_from(SightingKind),
    source=st.sampled_from(["mdns", "dns"]),
    service=st.sampled_from([SERVICE, SERVICE, SERVICE, "other.example:1"]),
    addresses=st.lists(ADDRESSES, min_size=1, max_size=3, unique=True).map(tuple),
    key=st.sampled_from(["r1", "r2", "r3"]),
    server_id=st.none() | st.sampled_from(["a", "b"]),
    weight=st.integers(0, 65535),
    state=st.sampled_from(["up", "up", "drain"]),
    ttl_s=st.none() | st.floats(0.1, 100.0),
)
server_hellos = st.builds(
    ServerHello,
    version=st.sampled_from([1, 1, 1, 2]),
    server_id=st.sampled_from(["a", "b", "c"]),
    incarnation=INCARNATIONS,
    nonce=TOKENS,
    service=st.sampled_from([SERVICE, SERVICE, SERVICE, "other.example:1"]),
    replicated=st.booleans(),
    draining=st.sampled_from([False, False, True]),
    upstream_credit=st.just(65536),
    linger_ms=st.sampled_from([0, 5000, 120000]),
    extensions=st.just(()),
)
joined = st.builds(Joined, status=st.integers(0, 3), proof=PROOFS)
drains = st.builds(Drain, deadline_ms=st.integers(0, 2**62 - 1))

control_calls = st.one_of(
    call("on_sighting", sightings),
    call("on_want", st.builds(Want, st.integers(0, 5), st.just("test"))),
    call("on_path_use", PATHS, st.booleans()),
    call("on_recover", INSTANCES),
    call("on_recovered", INSTANCES),
    call("on_path_writable", PATHS, st.just(bytes(32))),
    call("on_message", PATHS, server_hellos),
    call("on_message", PATHS, joined | drains),
    call("on_path_down", PATHS, REASONS),
    call("on_pong", PATHS, st.integers(0, 99)),
    call("on_close"),
)

client_hellos = st.builds(
    ClientHello,
    version=st.sampled_from([1, 1, 1, 2]),
    session=TOKENS,
    secret=PROOFS,
    nonce=TOKENS,
    path=PATHS,
    service=st.sampled_from([SERVICE, SERVICE, "other.example:1"]),
    extensions=st.just(()),
)
session_calls = st.one_of(
    st.tuples(PATHS, st.booleans()).map(lambda drawn: Call("on_path_for_test", (drawn[0], bytes(32), drawn[1]), False)),
    call("on_client_hello", PATHS, client_hellos),
    call("on_join", PATHS, st.builds(Join, session=TOKENS, proof=PROOFS)),
    call("on_path_down", PATHS),
    call("on_replicas", TOKENS, st.integers(0, 3)),
)


class Sessions(ServerSessions):
    """With the keyword argument of on_path as a positional one."""

    def on_path_for_test(self, path: int, binding: bytes, draining: bool) -> None:
        if path not in self._paths:
            self.on_path(path, binding, draining=draining)  # type: ignore[arg-type]


def build_control(**settings: float) -> Machine:
    dice = random.Random(7)
    config = Config(**settings)  # type: ignore[arg-type]
    return Control(SERVICE, config, facts=no_facts, token_bytes=dice.randbytes, rng=dice)


def build_sessions() -> Machine:
    config = ServerConfig(service=SERVICE, server_id="a", max_sessions=2, linger_s=3.0)
    return Sessions(config, incarnation=bytes(16), token_bytes=random.Random(7).randbytes)


CASES = (
    Case("control", build_control, control_calls),
    Case("control, small", lambda: build_control(max_paths=1, race_stagger_s=0.0, keepalive_s=0.05), control_calls),
    Case("control, two paths kept", lambda: build_control(min_paths=2), control_calls),
    Case(
        "health",
        lambda: Health(1.0, no_facts),
        st.one_of(
            call("on_opened", PATHS),
            call("on_admitted", PATHS, REASONS),
            call("on_packet", PATHS),
            call("on_doubt", PATHS),
            call("on_closed", PATHS, REASONS, timed=False),
        ),
    ),
    Case(
        "recovery",
        lambda: Recovery(60.0),
        st.one_of(
            call("on_recover", INSTANCES),
            call("on_attempt", INSTANCES, PATHS),
            call("on_attempt_ended", PATHS, timed=False),
            call("on_recovered", INSTANCES, timed=False),
        ),
    ),
    Case("server sessions", build_sessions, session_calls),
    Case("server drain", lambda: ServerDrain(5.0), call("on_drain") | call("on_replicas", st.integers(0, 3))),
)
