"""Servers that are taken for another one, or want to be (clones, relays, load balancers): none of them becomes it."""

from __future__ import annotations

import pytest

import kwik
from kwik.wire.messages import JOIN_REFUSED, JOIN_UNKNOWN
from tests.proc.harness import until
from tests.proc.harness_stage import Reading, Server, Stage, share_of, stats_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 10}
CONFIG = {"receive_window_bytes": 2**20, "keepalive_s": 0.2}
PATIENT = CONFIG | {"recovery_time_s": 30.0}
HELLO_AND_JOIN_BYTES = 200
"""More than a CLIENT_HELLO and a JOIN have together, less than any stream."""


# ---------------------------------------------------------------- clones


def test_two_servers_with_one_id_are_two(stage: Stage) -> None:
    """One id, two incarnations: both serve."""
    for _ in range(2):
        stage.server(link=LINK, server_id="same")
    stage.listing.add("second", stage.servers[1].address)
    conn = stage.dial(replicas=2, config=CONFIG)
    reading = Reading.of(conn, "one id", SIZE)
    for server in stage.servers:
        server.wait("request")
    reading.finish()


@pytest.mark.parametrize("forge", [False, True], ids=["honest", "forging"])
def test_a_clone_cannot_stand_in_for_its_original(stage: Stage, forge: bool) -> None:
    """Same id, same incarnation, a good certificate: without the proof it never becomes a path to the anchor."""
    incarnation = "00112233445566778899aabbccddeeff"
    original = stage.server(link=LINK, replicated=False, server_id="same", incarnation=incarnation)
    conn = stage.dial(config=CONFIG | {"recovery_time_s": 3.0})
    reading = Reading.of(conn, "clone", SIZE, holds=[SIZE // 2])
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    original.kill()
    clone = stage.server(replicated=False, server_id="same", incarnation=incarnation, forge=forge, listed=False)
    stage.listing.add("clone", clone.address)
    asked = clone.wait("join")
    assert asked["status"] == JOIN_UNKNOWN, "it was asked, and cannot know the session"
    reading.wait_over()
    assert isinstance(reading.error, ConnectionResetError)
    assert not reading.is_wrong
    report = clone.report()
    assert (report["streams"], report["upstream_bytes"], report["replicas"]) == (0, 0, []), "nothing runs twice"
    assert 0 < report["path_bytes"] <= HELLO_AND_JOIN_BYTES * (1 + len(clone.told("join")))


# ---------------------------------------------------------------- relays


@pytest.mark.parametrize("forge", [False, True], ids=["faithful", "forging"])
def test_a_relayed_challenge_is_no_proof(stage: Stage, forge: bool) -> None:
    """A dishonest server with a good certificate relays the JOIN to the living anchor: the anchor refuses it.

    The proof is bound to the connection that it was made for, so that nobody in the middle can speak as the anchor.
    """
    anchor = stage.server(link=LINK, replicated=False)
    conn = stage.dial(config=PATIENT)
    reading = Reading.of(conn, "relayed", SIZE, holds=[SIZE // 2])
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    relay = stage.relay(anchor, forge=forge)
    anchor.set_link(blackhole="both")
    stage.listing.add("relay", tuple(relay.told("ready")[0]["address"]))
    answer = relay.wait("relayed", lambda event: event["frame"] == "Joined")
    assert answer["status"] == JOIN_REFUSED, "the true server was asked, and saw through it"
    anchor.wait("join", lambda event: event["status"] == JOIN_REFUSED)
    anchor.set_link(blackhole=None)
    anchor.open()
    reading.finish()
    passed = {(event["sender"], event["frame"]) for event in relay.told("relayed")}
    print(passed)
    assert passed == {
        ("client", "ClientHello"),
        ("server", "ServerHello"),
        ("client", "Join"),
        ("server", "Joined"),
    }, "nothing of a stream"
    assert anchor.report()["streams"] == 1


# ---------------------------------------------------------------- several servers behind one address


def fresh_path(conn: kwik.Conn, server: Server, before: set[int]) -> bool:
    """Whether the session has a path to that server which it did not have then."""
    return any(path.server_id == server.id and path.path not in before for path in conn.paths())


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "anchored"])
def test_two_servers_behind_one_address(stage: Stage, replicated: bool) -> None:
    """A load balancer that knows nothing of Kwik: each path ends at a server of its own; streams stay whole."""
    servers = [stage.server(listed=False, replicated=replicated) for _ in range(2)]
    address = stage.balancer(*servers).address
    streams = [0, 0]
    for number in range(20):  # a session that is slow to begin may take two turns
        config = {"session_idle_s": 5.0 + number}  # a session of its own
        Reading.of(stage.dial(servers=[address], config=config), f"balanced {number}", 500_000).finish()
        streams = [server.report()["streams"] for server in servers]
        assert replicated or sum(streams) == number + 1
        if all(streams) and number >= 3:
            break
    assert all(streams), "both were used"


def test_an_anchored_stream_that_meets_another_server_at_its_address(stage: Stage) -> None:
    """The path breaks, and the next one ends at the other server behind the balancer: it gets nothing of the stream.

    The next but one ends at the anchor again, and the stream goes on there.
    """
    anchor, other = (stage.server(link=LINK, listed=False, replicated=False) for _ in range(2))
    balancer = stage.balancer(anchor, other)
    conn = stage.dial(servers=[balancer.address], config=PATIENT)
    reading = Reading.of(conn, "balanced", SIZE, holds=[SIZE // 2])
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    assert stats_of(conn).anchor == anchor.id
    before = {path.path for path in conn.paths()}
    balancer.cut()
    until(lambda: fresh_path(conn, anchor, before), "there is a new path to the same instance")
    assert stats_of(conn).anchor == anchor.id
    anchor.open()
    reading.finish()
    theirs, others = anchor.report(), other.report()
    assert theirs["streams"] == 1
    assert others["path_bytes"] > 0, "the session has met the other server"
    assert (others["streams"], others["upstream_bytes"], others["replicas"]) == (0, 0, [])


def test_a_replicated_stream_that_meets_another_server_at_its_address(stage: Stage) -> None:
    """As above; the other server is a server in its own right: the stream is replayed to it and goes on there."""
    anchor, other = (stage.server(link=LINK, listed=False) for _ in range(2))
    balancer = stage.balancer(anchor, other)
    conn = stage.dial(servers=[balancer.address], config=PATIENT)
    reading = Reading.of(conn, "balanced", SIZE, holds=[SIZE // 2])
    until(lambda: reading.size > SIZE // 4, "the stream is under way")
    before = {path.path for path in conn.paths()}
    balancer.cut()
    other.wait("hold")
    until(lambda: fresh_path(conn, other, before), "there is a path to the other server")
    for server in (anchor, other):
        server.open()
    until(lambda: (share := share_of(conn, other)) is not None and share.delivered_bytes > 0, "it contributes")
    reading.finish()
    assert [server.report()["streams"] for server in (anchor, other)] == [1, 1]
