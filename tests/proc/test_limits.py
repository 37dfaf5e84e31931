"""Bounded memory on both sides however slow the readers, and room for a newcomer beside them."""

from __future__ import annotations

import hashlib

import pytest

from tests.proc.harness import Child, until
from tests.proc.harness_content import content
from tests.proc.harness_stage import Reading, Server, Stage, request_line

MIB = 2**20
BODY = 8_000_000
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
    client.ask("dial", count=1, servers=[server.address], line=request_line("small", 100).decode())
    client.ask("read", stream=0)
    assert client.wait("read")["size"] == 100
    return client, server


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [100, 500])
def test_stalled_streams_and_a_newcomer(stage: Stage, count: int) -> None:
    """So many streams, each with 8 MB to come, that nobody reads: gigabytes wait, a few MiB are held."""
    # Half of a budget is for guarantees (SPEC §6.6): so many streams and a newcomer must find theirs there.
    memory, served = (max(8 * MIB, 2 * (count + 2) * guarantee) for guarantee in (CLIENT_GUARANTEE, SERVER_GUARANTEE))
    client, server = client_and_server(stage, memory, served)
    before = settle(client, server)
    line = request_line("stalled", BODY).decode()
    client.ask("dial", count=count, servers=[server.address], line=line, limit_s=count / 2)
    line = request_line("new", MIB).decode()
    newcomer = client.ask("dial", count=1, servers=[server.address], line=line)["streams"] - 1
    client.ask("read", stream=newcomer)
    over = client.wait("read", lambda event: event["stream"] == newcomer)
    assert (over["error"], over["size"]) == ("", MIB)
    assert over["sha256"] == hashlib.sha256(content("new", MIB)).hexdigest()
    grown = [after - earlier for after, earlier in zip(settle(client, server), before, strict=True)]
    print(f"{count} stalled streams: the client grew by {grown[0] // MIB} MiB, the server by {grown[1] // MIB} MiB")
    print(f"budgets: {memory // MIB} MiB, {served // MIB} MiB")
    assert grown[0] < memory + count * CLIENT_STREAM + BESIDE
    # What the server holds beyond the floors is within the client's credit.
    assert grown[1] < min(memory, served) + count * SERVER_STREAM + BESIDE


def test_a_slow_reader_holds_the_server_back(stage: Stage) -> None:
    """80 MB for one who does not read: the windows are held, not the body; then it all comes."""
    client, server = client_and_server(stage)
    before = settle(client, server)
    client.ask("dial", count=1, servers=[server.address], line=request_line("slow", 10 * BODY).decode())
    until(lambda: any(view["produced_bytes"] >= MIB for view in server.report()["replicas"]), "windows are full")
    grown = [after - earlier for after, earlier in zip(settle(client, server), before, strict=True)]
    print(f"a slow reader: the client grew by {grown[0] // MIB} MiB, the server by {grown[1] // MIB} MiB")
    assert grown[0] < 24 * MIB
    assert grown[1] < 24 * MIB + 10 * BODY, "the test's application holds the body itself"


def test_slow_and_quick_readers_share_a_session(stage: Stage) -> None:
    stage.server(link={"rate_mbps": 40, "delay_ms": 5})
    stalled = stage.dial()
    stalled.sendall(request_line("stalled", BODY))
    for number in range(3):
        Reading.of(stage.dial(), f"quick {number}", 1_000_000).finish()
    Reading(stalled, content("stalled", BODY)).conn.shutdown(1)


def test_a_slow_application_is_no_dead_server(stage: Stage) -> None:
    """Bytes come at 200 kB/s from one server's application, which is no reason to blame its path."""
    stage.server(link={"rate_mbps": 40, "delay_ms": 5}, rate=400_000)
    conn = stage.dial()
    reading = Reading.of(conn, "slow", 800_000)
    reading.finish()
