"""Bounded memory on both sides however slow the readers, and room for a newcomer beside them."""

from __future__ import annotations

import hashlib
import time

import pytest

from tests.proc.harness import Child, until
from tests.proc.harness_content import content
from tests.proc.harness_stage import Reading, Server, Stage, request_line, stats_of

MIB = 2**20
BODY = 8_000_000
WINDOW = 2 * MIB
SLOW_BODY = 8 * WINDOW
SLACK = 6 * MIB
"""What the allocator keeps, and sockets, QUIC and the interpreter take beside the window."""
AHEAD = 2 * WINDOW
"""A window, and what is under way while the two sides are asked one after the other."""
SOCKET = MIB // 2
"""What the socket of an application that does not read takes at most."""
QUIET_S = 0.3
MEMORY = 64 * MIB
"""Budget of the client's session, and of the server for output."""
KIB = 2**10
CLIENT_GUARANTEE = 32 * KIB
"""Of each stream: a block and 16 KiB (SPEC §6.6)."""
SERVER_GUARANTEE = CLIENT_GUARANTEE + 64 * KIB
"""The same, and the first upstream credit."""
CLIENT_STREAM = 24 * KIB
"""What one more stream takes beside its bytes: its objects on both sides of the pair, and what the allocator rounds."""
SERVER_STREAM = CLIENT_STREAM + 128 * KIB
"""And what the test's application holds: the piece that it writes and asyncio's buffer of the others."""
BESIDE = 12 * MIB
"""QUIC's buffers for one path, and the interpreter's own growth. (The 128 KiB at most of each kernel buffer are not
in it: kernel memory is not resident memory.)"""


def settle(*children: Child) -> list[int]:
    """Resident bytes once they stand still."""
    last: list[int] = []

    def stands() -> bool:
        now = [child.resident_bytes() // MIB for child in children]
        is_same = now == last
        last[:] = now
        return is_same

    until(stands, "memory stands still")
    return [child.resident_bytes() for child in children]


def client_and_server(stage: Stage, memory: int = MEMORY, served: int = MEMORY) -> tuple[Child, Server]:
    server = stage.server(link={"rate_mbps": 80, "delay_ms": 2}, config={"memory_bytes": served})
    client = stage.client(memory_bytes=memory)
    warm_up(client, server)
    return client, server


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [500])
def test_stalled_streams_and_a_newcomer(stage: Stage, count: int) -> None:
    """So many streams, each with 8 MB to come, that nobody reads: gigabytes wait, a few MiB are held."""
    # Half of a budget is for guarantees (SPEC §6.6): so many streams and a newcomer must find theirs there.
    memory, served = (max(8 * MIB, 2 * (count + 2) * guarantee) for guarantee in (CLIENT_GUARANTEE, SERVER_GUARANTEE))
    client, server = client_and_server(stage, memory, served)
    before = settle(client, server)
    line = request_line("stalled", BODY).decode()
    client.ask("dial", count=count, servers=[server.address], line=line, limit_s=count)
    line = request_line("new", MIB).decode()
    newcomer = client.ask("dial", count=1, servers=[server.address], line=line)["streams"] - 1
    client.ask("read", stream=newcomer)
    over = client.wait("read", lambda event: event["stream"] == newcomer, limit_s=60)
    assert (over["error"], over["size"]) == ("", MIB)
    assert over["sha256"] == hashlib.sha256(content("new", MIB)).hexdigest()
    grown = [after - earlier for after, earlier in zip(settle(client, server), before, strict=True)]
    print(f"{count} stalled streams: the client grew by {grown[0] // MIB} MiB, the server by {grown[1] // MIB} MiB")
    print(f"budgets: {memory // MIB} MiB, {served // MIB} MiB")
    assert grown[0] < memory + count * CLIENT_STREAM + BESIDE
    # What the server holds beyond the floors is within the client's credit.
    assert grown[1] < min(memory, served) + count * SERVER_STREAM + BESIDE


def test_a_slow_reader_holds_the_server_back(stage: Stage) -> None:
    """Eight windows for one who at first does not read, then slowly, then as fast as it can.

    What the two processes hold is bounded by the windows all the time, and every byte comes.
    """
    server = stage.server(link={"rate_mbps": 80, "delay_ms": 2}, config={"send_window_bytes": WINDOW})
    client = stage.client(receive_window_bytes=WINDOW, first_window_bytes=WINDOW)
    server.ask("prepare", seed="slow", size=SLOW_BODY)
    warm_up(client, server)
    before = settle(client, server)
    client.ask("dial", count=1, servers=[server.address], line=request_line("slow", SLOW_BODY).decode())
    until(lambda: produced(server) >= WINDOW // 4, "the application has begun")
    stood_at = stand_still(server)
    assert stood_at <= WINDOW + SOCKET, "nobody reads, so no more than a window is produced"
    held = [settle(client, server)]
    client.ask("read", stream=1, rate=4 * MIB, slow=SLOW_BODY // 4)
    while (read := delivered(client)) < SLOW_BODY // 4:
        held.append([client.resident_bytes(), server.resident_bytes()])
        assert produced(server) <= max(delivered(client), read) + AHEAD, "the server runs ahead of a slow reader"
        time.sleep(0.05)
    over = client.wait("read", lambda event: event["stream"] == 1)
    held.append(settle(client, server))
    assert (over["error"], over["size"]) == ("", SLOW_BODY)
    assert over["sha256"] == hashlib.sha256(content("slow", SLOW_BODY)).hexdigest()
    grown = [max(sizes) - earlier for sizes, earlier in zip(zip(*held, strict=True), before, strict=True)]
    print(f"a slow reader: the client grew by {grown[0] / MIB:.1f} MiB, the server by {grown[1] / MIB:.1f} MiB")
    assert max(grown) < 3 * WINDOW + SLACK


def warm_up(client: Child, server: Server) -> None:
    """One small stream, so that everything is imported and every buffer has its first size."""
    client.ask("dial", count=1, servers=[server.address], line=request_line("small", 100).decode())
    client.ask("read", stream=0)
    assert client.wait("read")["size"] == 100


def produced(server: Server) -> int:
    """How far the output of its streams has got."""
    return sum(view["produced_bytes"] for view in server.report()["replicas"])


def stand_still(server: Server) -> int:
    """Wait until no more is produced: nothing of the last QUIET_S."""
    size, since = produced(server), time.monotonic()
    while time.monotonic() < since + QUIET_S:
        if (now := produced(server)) != size:
            size, since = now, time.monotonic()
    return size


def delivered(client: Child) -> int:
    """What the client's application has read of its second stream."""
    size: int = client.ask("report", stream=1)["delivered"]["1"]
    return size


def test_slow_and_quick_readers_share_a_session(stage: Stage) -> None:
    """Three quick readers are served beside one who does not read; then that one gets everything too."""
    stage.server(link={"rate_mbps": 40, "delay_ms": 5})
    stalled = stage.dial()
    stalled.sendall(request_line("stalled", BODY))
    for number in range(3):
        Reading.of(stage.dial(), f"quick {number}", 1_000_000).finish()
    stats = stats_of(stalled)
    assert stats.delivered_bytes < BODY // 2, "nobody reads it"
    stalled.shutdown(1)
    Reading(stalled, content("stalled", BODY)).finish()


def test_a_slow_application_is_no_dead_server(stage: Stage) -> None:
    """Bytes come in pieces with long pauses from the anchor's application, which is no reason to blame its path.

    The helper's application is slower still, so nobody is faster than the anchor. The pauses are many times as long as
    a path that owes may say nothing: blame would fall in each of them, and not only when this machine is busy.
    """
    anchor = stage.server(link={"rate_mbps": 40, "delay_ms": 5}, rate=100_000)
    conn = stage.dial(replicas=2)
    reading = Reading.of(conn, "slow", 300_000)
    anchor.wait("request")
    stage.server(link={"rate_mbps": 40, "delay_ms": 5}, rate=40_000).wait("request")
    blamed, polls = 0, 0
    while not reading.is_over and reading.size < 280_000:
        blamed, polls = blamed + any(path.silent for path in conn.paths()), polls + 1
        time.sleep(0.002)
    stats = stats_of(conn)
    reading.finish()
    print(f"a path was blamed in {blamed} of {polls} pictures")
    assert blamed <= polls // 10
    assert (stats.anchor, stats.takeovers) == (anchor.id, 0)
