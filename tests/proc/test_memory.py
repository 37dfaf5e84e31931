"""Memory of both sides stays within the configured windows, however long the stream and however slow its reader.

Resident sizes are sampled from outside while a client reads a long answer from two servers and pauses in between. The
bounds follow from the windows: a leak of one part in ten of the bytes would break them many times over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from benchmarks.stage import Program, Server, Stage

MIB = 1 << 20
WINDOW_BYTES = 2 * MIB
CLIENT = {"receive_window_bytes": WINDOW_BYTES, "memory_bytes": 2 * WINDOW_BYTES, "replicas": 2}
SERVER = {"send_window_bytes": WINDOW_BYTES, "memory_bytes": 2 * WINDOW_BYTES}
HELD = 3
"""Times the window that one side may hold: with a helper, each byte once; QUIC's and the socket pair's buffers."""
SLACK_BYTES = 6 * MIB
"""What the allocator keeps, and the interpreter's own growth."""
FLAT_BYTES = 3 * MIB
"""Most growth over the second half of a stream: nothing new is needed there."""
SAMPLE_S = 0.05
WARM_BYTES = 10_000_000
PAUSE_S = 1.0


@dataclass
class Weights:
    """Resident bytes of some processes while a client reads."""

    programs: dict[str, Program]
    samples: dict[str, list[int]] = field(default_factory=dict)

    def watch(self, over: threading.Event) -> None:
        """Take samples until told to stop."""
        while not over.wait(SAMPLE_S):
            for name, program in self.programs.items():
                self.samples.setdefault(name, []).append(program.resident_bytes())

    def curve(self, name: str, points: int = 12) -> str:
        """For the report of a run, MiB."""
        taken = self.samples[name]
        return " ".join(f"{taken[i * (len(taken) - 1) // (points - 1)] / MIB:.1f}" for i in range(points))


def fetch(client: Program, servers: list[Server], size: int, pauses: int) -> None:
    """One download, on the session of all, with pauses at equal distances."""
    plan = [[size * (number + 1) // (pauses + 1), PAUSE_S] for number in range(pauses)]
    addresses = [server.address for server in servers]
    result = client.ask("fetch", servers=addresses, size=size, config=CLIENT, pauses=plan, reads=False)
    assert result["stats"]["delivered_bytes"] == size
    assert len(result["stats"]["shares"]) == len(servers), "the second server was meant to help"


def weigh(stage: Stage, size: int, pauses: int) -> None:
    """The transfer, and the bounds."""
    servers = [stage.server(config=SERVER) for _ in range(2)]
    client = stage.client()
    weights = Weights({"client": client} | {f"server {server.server_id}": server for server in servers})
    before = {name: program.resident_bytes() for name, program in weights.programs.items()}
    fetch(client, servers, WARM_BYTES, 1)  # what is imported and cached at first use is no growth
    over = threading.Event()
    watcher = threading.Thread(target=weights.watch, args=(over,))
    watcher.start()
    try:
        fetch(client, servers, size, pauses)
    finally:
        over.set()
        watcher.join()
    for name in weights.samples:
        print(f"{name}: {before[name] / MIB:.1f} MiB at the start, then {weights.curve(name)}")
    for name, taken in weights.samples.items():
        growth = max(taken) - before[name]
        assert growth <= HELD * WINDOW_BYTES + SLACK_BYTES, f"{name} grew by {growth / MIB:.1f} MiB"
        late = max(taken[len(taken) // 2 :]) - max(taken[: len(taken) // 2])
        assert late <= FLAT_BYTES, f"{name} grew by {late / MIB:.1f} MiB in the second half"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_memory_is_flat_while_the_reader_pauses():
    with Stage() as stage:
        weigh(stage, 70_000_000, pauses=2)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_memory_is_flat_over_a_gigabyte():
    with Stage() as stage:
        weigh(stage, 1_000_000_000, pauses=10)
