"""Servers that lie: as helpers they change nothing; as candidates they get no further than their answer is true.

Each test says how far the lie got (lies told), and who found it out.
"""

from __future__ import annotations

import pytest

import kwik
from kwik.kdp.failover import MIN_STUCK_S, WITHHELD_PARTS
from tests.proc.harness import until
from tests.proc.harness_faults import BLOCK_BYTES, MissedError, patience, retried
from tests.proc.harness_stage import Listing, Reading, Server, Stage, share_of, stats_of

SIZE = 4_000_000
LINK = {"rate_mbps": 20, "delay_ms": 10}
CONFIG = {"receive_window_bytes": 2**19, "recovery_time_s": 2.0}
LIE_AT = SIZE // 2
KILL_AT = SIZE // 8
TRIES = 4
HOLD_AT = SIZE // 4
"""The applications go on behind it only when the anchor is dead: until then nobody is asked for bytes of the lie."""
CHAT_SIZE, CHAT_RATE = LIE_AT * 3 // 4, 3e5
"""Bytes a second: several packets within each time after which a path counts as silent, for longer than it takes."""

every_lie = pytest.mark.parametrize("lie", ["data", "digests", "final", "withhold", "probe"])


def anchor_and_liar(stage: Stage, lie: str, at: int, replicas: int = 2) -> tuple[Server, Server, kwik.Conn]:
    """A stream on an honest anchor, and a helper that lies from that offset on."""
    anchor = stage.server(link=LINK)
    conn = stage.dial(replicas=replicas, config=CONFIG)
    anchor.wait("accept")
    liar = stage.server(link=LINK, lie=[lie, at])
    liar.wait("accept")
    return anchor, liar, conn


def state_of(conn: kwik.Conn, server: Server) -> str:
    """What the client thinks of that server's replica."""
    share = share_of(conn, server)
    return "gone" if share is None else share.state


@every_lie
def test_a_lying_helper_changes_nothing(stage: Stage, lie: str) -> None:
    """Every byte is right, whatever a helper says. On a busy machine a slow anchor may be replaced; then once more."""
    assert any(helper_lies(stage, lie) for _ in range(TRIES)), "the liar became anchor, which nobody can judge"


def helper_lies(stage: Stage, lie: str) -> bool:
    """False if the liar did not remain a helper."""
    stage.listing = Listing()
    anchor, helper, conn = anchor_and_liar(stage, lie, SIZE // 3)
    reading = Reading.of(conn, "lies", SIZE, holds=[0, SIZE])
    helper.open(1)
    until(lambda: any(view["produced_bytes"] for view in helper.report()["replicas"]), "the helper is ready")
    anchor.open(1)
    until(lambda: reading.size == SIZE or stats_of(conn).takeovers, "all bytes have come")
    if stats_of(conn).takeovers:
        conn.abort()
        return False
    helper.open(2)  # it ends first: its lie about the end, if that is what it tells, comes before the truth
    helper.wait("over")
    if lie != "probe":  # nobody asks a helper for that while the anchor lives
        until(lambda: helper.report()["lies"] > 0, "the lie is told")
    verdict = {"data": "divergent", "digests": "divergent", "final": "dead"}.get(lie, state_of(conn, helper))
    until(lambda: state_of(conn, helper) in (verdict, "gone"), f"the liar is {verdict}")
    stats, share = stats_of(conn), share_of(conn, helper)
    print(f"{lie}: {helper.report()['lies']} lies, {stats.rejected_blocks} blocks rejected; {share}")
    assert stats.anchor == anchor.id
    if lie == "data":
        assert stats.rejected_blocks > 0
    if lie == "digests":
        assert share is None or share.delivered_bytes == 0, "nothing of what it sends can be verified"
    anchor.open(2)
    reading.finish()
    return True


@every_lie
def test_a_liar_never_takes_over_with_wrong_bytes(stage: Stage, lie: str) -> None:
    """The honest anchor dies: what was read below the lie is right, and a lie about that is found out.

    As anchor it IS the stream, so nobody can judge what it says of bytes behind the change. Yet bytes other than those
    that it announces itself end the stream within the block; and who withholds bytes is a server slow without end.
    """
    anchor, helper, conn = anchor_and_liar(stage, lie, LIE_AT)
    reading = Reading.of(conn, "lies", SIZE, holds=[0, HOLD_AT, SIZE])
    helper.open(1)  # it comes first, and its announcements before there is anything to deliver
    if lie == "digests":
        until(lambda: helper.report()["lies"] > 0, "it has announced")
    anchor.open(1)
    if lie == "digests":
        until(lambda: state_of(conn, helper) in ("divergent", "gone"), "the liar is found out")
    until(lambda: reading.size > KILL_AT, "the stream is under way")
    anchor.kill()
    helper.open(2)
    if lie == "final":
        until(lambda: reading.size == SIZE, "all bytes have come")
        helper.open(3)
    if lie == "withhold":
        until(lambda: helper.report()["lies"] > 0, "bytes are withheld")
        assert stats_of(conn).anchor == helper.id, "the liar has taken over"
        assert not reading.is_over
        assert reading.size <= LIE_AT
        conn.abort()
    reading.wait_over()
    told = helper.report()["lies"]
    print(f"{lie}: {told} lies; {reading.size} bytes, wrong from {reading.wrong_at} on, then {reading.error!r}")
    assert told > 0
    if lie == "data":
        assert "contradicts itself" in str(reading.error)
        assert reading.wrong_at in (None, LIE_AT)
        assert reading.size <= LIE_AT + BLOCK_BYTES
    else:
        assert not reading.is_wrong
    if lie in ("digests", "probe"):
        assert isinstance(reading.error, ConnectionResetError), "it may not take over"
        assert reading.size <= HOLD_AT
    if lie == "final":
        assert isinstance(reading.error, ConnectionResetError), "an end before bytes that were read is no end"


def test_an_honest_helper_takes_over_instead_of_the_liar(stage: Stage) -> None:
    """One helper answers every PROBE wrongly, the other does not: the stream goes on, exactly."""
    anchor, liar, conn = anchor_and_liar(stage, "probe", 0, replicas=3)
    honest = stage.server(link=LINK | {"delay_ms": 40})  # worse than the liar, which is asked first
    reading = Reading.of(conn, "lies", SIZE, holds=[SIZE])
    for helper in (liar, honest):
        helper.wait("request")
    until(lambda: reading.size > KILL_AT, "the stream is under way")
    anchor.kill()
    until(lambda: reading.size == SIZE, "all bytes have come")
    assert stats_of(conn).anchor == honest.id
    honest.open()
    reading.finish()


@pytest.mark.parametrize("comes", ["from the start", "when it is missed"])
@retried
def test_bytes_that_an_anchor_withholds_are_asked_of_others(stage: Stage, comes: str) -> None:
    """It speaks, produces and announces, and sends nothing from the middle on: no silence tells that (SPEC §6.3).

    A helper that is there already may be asked for the late head sooner; one that has to be found is not.
    """
    liar = stage.server(link=LINK, lie=["withhold", LIE_AT])
    config = CONFIG | {"recruit_backlog_bytes": SIZE}
    conn = stage.dial(replicas=2 if comes == "from the start" else 1, config=config)
    liar.wait("accept")
    if comes == "from the start":
        stage.server(link=LINK).wait("accept")
    reading = Reading.of(conn, "withheld", SIZE, holds=[SIZE])
    until(lambda: liar.report()["lies"] > 0, "bytes are withheld")
    other = Reading.of(stage.dial(config=config), "chat", CHAT_SIZE, rate=CHAT_RATE)  # the path is not silent
    honest = stage.servers[1] if comes == "from the start" else stage.server(link=LINK)
    until(lambda: reading.size == SIZE, "all bytes have come")
    pause, at, over_at = longest_pause(reading)
    print(f"{comes}: {liar.report()['lies']} pieces withheld; delivery stood for {pause:.1f} s at {at}; {conn.stats()}")
    if comes == "when it is missed" and other.is_over and other.marks[-1][0] < over_at:
        raise MissedError  # the machine is busy, and the path was silent in the end
    assert pause < patience(2 * MIN_STUCK_S), "all that is missing is asked for at once, not block by block"
    assert stats_of(conn).anchor == honest.id
    honest.open()
    reading.finish()
    other.finish()


def test_an_anchor_that_withholds_and_nobody_else_is_a_reset_in_bounded_time(stage: Stage) -> None:
    """Not a stream that stands for ever: three times the recovery time at the latest, then the application is told."""
    liar = stage.server(link=LINK, lie=["withhold", LIE_AT])
    recovery_time_s = 0.5
    conn = stage.dial(config=CONFIG | {"recovery_time_s": recovery_time_s})
    reading = Reading.of(conn, "withheld", SIZE)
    reading.wait_over()
    assert liar.report()["lies"] > 0
    assert isinstance(reading.error, ConnectionResetError)
    assert not reading.is_wrong
    assert reading.size <= LIE_AT
    assert reading.over_at is not None
    stood = reading.over_at - reading.marks[-1][0]
    print(f"delivery stood for {stood:.1f} s at {reading.size}, then {reading.error}")
    assert recovery_time_s <= stood < patience(2 * WITHHELD_PARTS * recovery_time_s)


def longest_pause(reading: Reading) -> tuple[float, int, float]:
    """How long delivery stood at most, at which offset, and when it went on."""
    steps = zip(reading.marks, reading.marks[1:], strict=False)
    return max((then - at, size, then) for (at, size), (then, _) in steps)
