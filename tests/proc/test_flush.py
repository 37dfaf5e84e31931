"""flush(replicas=N): it returns when N applications have taken everything, and not a byte earlier."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.proc.harness import until
from tests.proc.harness_content import content
from tests.proc.harness_stage import Server, Stage

SIZE = 900_000
"""More than the sockets between a server and its application hold; less than Config.replay_limit_bytes."""
LINK = {"rate_mbps": 40, "delay_ms": 5}


def taken(server: Server) -> int:
    """How much of the upstream its application's socket has taken."""
    return max((view["upstream_taken_bytes"] for view in server.report()["replicas"]), default=0)


def test_flush_waits_for_so_many_applications(stage: Stage) -> None:
    """Three applications read nothing until they are let; each that does makes one of the flushes return."""
    for _ in range(3):
        stage.server("deaf", link=LINK)
    conn = stage.dial(replicas=3)
    for server in stage.servers:
        server.wait("accept")
    conn.sendall(content("flush", SIZE))
    with ThreadPoolExecutor(3) as pool:
        flushes = [pool.submit(conn.flush, replicas, 20.0) for replicas in (1, 2, "all")]
        for done, server in enumerate(reversed(stage.servers)):
            until(lambda server=server: 0 < taken(server) < SIZE, "its sockets are full")  # type: ignore[misc]
            assert [flush.done() for flush in flushes] == [number < done for number in range(3)]
            server.open()
            flushes[done].result()
            assert sum(taken(each) == SIZE for each in stage.servers) == done + 1
        assert all(flush.done() for flush in flushes)
    conn.shutdown(1)
    assert conn.recv(1) == b""
