"""An anchored stream runs on one server, once: OPEN of unknown outcome, and races among servers that come and go.

What counts is what a server's application was given (accepts), not what it read: a second one is one too many even if
nobody ever speaks to it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import kwik
from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_faults import FAULTS
from tests.proc.harness_stage import Reading, Server, Stage

FAR = {"delay_ms": 100}
NEAR = {"delay_ms": 5}
CONFIG = {"keepalive_s": 0.2}
HELLO_BYTES = 50
"""Less than a CLIENT_HELLO has."""
RACE = (300, 30, 120, 5, 60)
"""One-way delays of the servers of a race, in milliseconds; the fourth finishes first."""
QUICKEST = 3


def accepts(*servers: Server) -> int:
    """How often their applications were given a stream, the dead ones' included."""
    return sum(len(server.told("accept")) for server in servers)


# ---------------------------------------------------------------- OPEN of unknown outcome


def dial_the_far_one(stage: Stage, recovery_time_s: float) -> tuple[Server, kwik.Conn]:
    """`dial` returns half a round trip before OPEN can have arrived, and a whole one before the answer."""
    first = stage.server("echo", replicated=False, link=FAR)
    return first, stage.dial(config=CONFIG | {"recovery_time_s": recovery_time_s})


def tempt(stage: Stage) -> Server:
    """Another server turns up, quick and willing; returns once the session has greeted it."""
    second = stage.server("echo", replicated=False, link=NEAR)
    until(lambda: second.report()["path_bytes"] > HELLO_BYTES, "the session has a path to the other server")
    return second


@pytest.mark.parametrize("fault", ["kill", "blackhole"])
def test_a_server_is_lost_while_open_is_under_way(stage: Stage, fault: str) -> None:
    """Nobody will ever know whether OPEN arrived: the stream is reset, and not begun elsewhere."""
    first, conn = dial_the_far_one(stage, 4.0)
    FAULTS[fault].strike(first)
    second = tempt(stage)
    reading = Reading(conn, b"")
    conn.sendall(b"who is there?")
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert reading.size == 0
    assert (second.report()["streams"], second.report()["upstream_bytes"]) == (0, 0)
    assert accepts(first, second) <= 1


@pytest.mark.parametrize("session", ["cold", "warm"])
@pytest.mark.parametrize("lost", ["up", "down"], ids=["OPEN lost", "answer lost"])
def test_a_black_hole_swallows_open_or_its_answer_and_heals(stage: Stage, lost: str, session: str) -> None:
    """Long enough for the path to die: ATTACH on a new one tells what became of OPEN.

    Where OPEN had arrived the stream goes on. Where it had not, that replica can never run any more (tombstone), and
    the stream begins, once, at whoever is there. A server that does not even know the session cannot promise that: then
    the stream is reset.
    """
    first, conn = dial_the_far_one(stage, 30.0)
    earlier = 0
    if session == "warm":
        assert ask(conn, b"before") == b"before"
        first.set_link(blackhole=lost)
        conn, earlier = stage.dial(config=CONFIG | {"recovery_time_s": 30.0}), 1
    first.set_link(blackhole=lost)
    old = {path.path for path in conn.paths()}
    data = content("unknown", 50_000)
    reading = Reading(conn, data)
    conn.sendall(data)
    second = tempt(stage)
    until(lambda: not old & {path.path for path in conn.paths()}, "the first path is dead")
    assert not reading.is_over
    assert accepts(second) == 0, "not while the outcome is unknown"
    first.set_link(blackhole=None)
    conn.shutdown(1)
    reading.wait_over()
    streams = [server.report()["streams"] for server in (first, second)]
    print(f"{lost} lost: {streams}, {reading.error}")
    if (session, lost) == ("cold", "up") and reading.error is not None:
        assert isinstance(reading.error, ConnectionResetError)
        assert streams == [0, 0]
        return
    reading.finish()
    assert sum(streams) == earlier + 1
    if lost == "down":
        assert streams == [earlier + 1, 0], "OPEN had arrived"


def test_a_server_is_started_again_while_open_is_under_way(stage: Stage) -> None:
    """The new instance is another server: it may not begin what the old one may have begun."""
    first, conn = dial_the_far_one(stage, 30.0)
    first.kill()
    reading = Reading(conn, b"")
    again = stage.restart(first)
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert again.report()["streams"] == 0


# ---------------------------------------------------------------- races


def race(stage: Stage) -> None:
    """Five candidates at all distances."""
    for delay_ms in RACE:
        stage.server("echo", replicated=False, link={"rate_mbps": 20, "delay_ms": delay_ms})


def dial_one(stage: Stage, number: int, recovery_time_s: float) -> kwik.Conn:
    """A stream in a session of its own."""
    config = {"race_stagger_s": 0.02, "session_idle_s": 0.2 + number / 1000, "recovery_time_s": recovery_time_s}
    return stage.dial(config=config, timeout=10)


def ask(conn: kwik.Conn, name: bytes) -> bytes:
    """Say the name and hear the echo."""
    conn.sendall(name)
    conn.shutdown(1)
    return b"".join(iter(lambda: conn.recv(65536), b""))


def strike_after(delay_s: float, dialling: Future[kwik.Conn]) -> None:
    """Let so much of the race pass; not longer than it lasts."""
    if delay_s:
        try:
            dialling.result(delay_s)
        except TimeoutError:
            return


@pytest.mark.parametrize("hole", ["up", "down"])
def test_candidates_fall_silent_during_the_race_and_come_back(stage: Stage, hole: str) -> None:
    """Struck at every moment of the race, the quickest one comes back when the dial is over: every stream is served."""
    race(stage)
    quickest = stage.servers[QUICKEST]
    with ThreadPoolExecutor(1) as pool:
        for number in range(8):
            before = accepts(*stage.servers)
            dialling = pool.submit(dial_one, stage, number, 20.0)
            strike_after(number * 0.004, dialling)
            quickest.set_link(blackhole=hole)
            conn = dialling.result()
            quickest.set_link(blackhole=None)
            name = b"stream %d\n" % number
            assert ask(conn, name) == name
            assert accepts(*stage.servers) == before + 1, f"stream {number}"
    check_once(stage, 8)


def test_candidates_die_during_the_race(stage: Stage) -> None:
    """Killed at every moment of the race and started again for the next: a stream is served once, or reset."""
    race(stage)
    met, answered = list(stage.servers), 0
    with ThreadPoolExecutor(1) as pool:
        for number in range(8):
            before = accepts(*met)
            dialling = pool.submit(dial_one, stage, number, 0.5)
            strike_after(number * 0.005, dialling)
            stage.servers[QUICKEST].kill()
            name = b"stream %d\n" % number
            try:
                assert ask(dialling.result(), name) == name
                answered += 1
            except ConnectionError as error:
                print(number, error)
            assert accepts(*met) <= before + 1, f"stream {number}"
            met.append(stage.restart(stage.servers[QUICKEST]))
    assert answered > 0
    check_once(stage, 8, met)


def test_an_anchored_stream_is_seen_by_one_application(stage: Stage) -> None:
    """Races over slow, dying and dead candidates, one after another."""
    race(stage)
    answered = 0
    for number in range(12):
        if number == 4:
            stage.servers[QUICKEST].kill()
        if number == 8:
            stage.servers[1].set_link(blackhole="both")
        before, name = accepts(*stage.servers), b"stream %d\n" % number
        try:
            answered += ask(dial_one(stage, number, 1.0), name) == name
        except ConnectionError as error:
            print(name, error)
        assert accepts(*stage.servers) <= before + 1, f"stream {number}"
    stage.servers[1].set_link(blackhole=None)
    check_once(stage, 12)
    assert answered >= 10, "others were there to serve"


def check_once(stage: Stage, dials: int, servers: list[Server] | None = None) -> None:
    """When all is over: no more accepts than dials, and no name was read twice."""
    met = servers or stage.servers
    for server in stage.servers:
        if not server.is_dead:
            assert server.report()["streams"] == accepts(server)
    assert accepts(*met) <= dials
    seen = [event["data"] for server in met for event in server.told("first")]
    assert len(seen) == len(set(seen)), "a stream was seen by two applications"
