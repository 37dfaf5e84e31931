"""Faults, and what must be known of each: who was anchor, what was owed, who told the client, where it resumed."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from kwik.kdp.snapshots import PathSnapshot
from tests.proc.harness import until
from tests.proc.harness_stage import Reading, Server, path_to, stats_of

BLOCK_BYTES = 16384


@dataclass(frozen=True)
class Fault:
    """A way in which a server goes away without a word, and how the harness knows that it said none."""

    name: str
    strike: Callable[[Server], None]
    counter: str | None
    """What of the link's statistics stands still afterwards; None: the port is closed, and the kernel says so."""
    heal: Callable[[Server], None] | None = None

    def __repr__(self) -> str:
        return self.name


def _kill_and_close(server: Server) -> None:
    server.kill()
    server.close_link()


FAULTS = {
    "kill": Fault("kill", Server.kill, "packets_in"),
    "kill-heard": Fault("kill-heard", _kill_and_close, None),
    "stop": Fault("stop", Server.stop, "packets_in", heal=Server.go_on),
    "blackhole": Fault(
        "blackhole",
        lambda server: server.set_link(blackhole="both"),
        "delivered_packets",
        heal=lambda server: server.set_link(blackhole=None),
    ),
}


@dataclass
class Hit:
    """One fault that struck, with the facts at that moment."""

    fault: Fault
    victim: Server
    was_anchor: bool
    owed_bytes: int
    offset: int
    """How far the application had read."""
    at: float
    packets: int
    """What the link had carried from the victim to the client when the fault had struck."""

    @classmethod
    def strike(cls, fault: Fault, victim: Server, reading: Reading, when: PathSnapshot | None = None) -> Hit:
        """Do it. What is owed is counted just before: now, or by `when`, the picture that said that it is time."""
        stats, path = stats_of(reading.conn), when or path_to(reading.conn, victim)
        owed = 0 if path is None else path.outstanding_bytes
        offset = reading.size
        fault.strike(victim)
        packets = _packets(victim, fault)
        return cls(fault, victim, stats.anchor == victim.id, owed, offset, time.monotonic(), packets)

    def check_silence(self) -> None:
        """Nothing came from the victim after it was struck, or, for a closed port, only the kernel's own message."""
        if self.fault.counter is None:
            assert _is_refused(self.victim), "the kernel tells of the closed port"
        else:
            assert _packets(self.victim, self.fault) == self.packets, "the victim still spoke"

    def pause(self, reading: Reading) -> tuple[int, float]:
        """The longest pause of the reader after the fault: at which offset it stood, and for how long."""
        marks = [(self.at, self.offset), *(mark for mark in reading.marks if mark[0] > self.at)]
        pauses = [(later[0] - sooner[0], sooner[1]) for sooner, later in itertools.pairwise(marks)]
        length, offset = max(pauses, default=(0.0, self.offset))
        return offset, length

    def tell(self, reading: Reading) -> None:
        """Print the facts."""
        offset, length = self.pause(reading)
        who = "anchor" if self.was_anchor else "helper"
        print(
            f"{self.fault.name}: {self.victim.id} was {who}, owed {self.owed_bytes} bytes; read {self.offset} bytes"
            f" before; reading stood at {offset} for {length * 1000:.0f} ms and resumed there"
        )


def _packets(server: Server, fault: Fault) -> int:
    return 0 if fault.counter is None else int(server.link_stats()["down"][fault.counter])


def _is_refused(server: Server) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(5)
        probe.connect(server.address)
        probe.send(b"?")
        try:
            probe.recv(1)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
    return False


def wait_before_first_block(reading: Reading, victim: Server) -> PathSnapshot | None:
    """Until the victim owes and nothing of it has come; None if the moment was missed."""

    def owes() -> bool:
        path = path_to(reading.conn, victim)
        return (
            path is not None
            and path.outstanding_bytes > 0
            and any(view["produced_bytes"] for view in victim.report()["replicas"])
        )

    until(owes, "the victim owes its first block")
    path = path_to(reading.conn, victim)
    return path if path is not None and path.outstanding_bytes > 0 and path.received_bytes == 0 else None


def wait_mid_block(reading: Reading, victim: Server, least: int) -> PathSnapshot:
    """Until `least` bytes were read, the victim owes, and it or the reader is in the middle of a block."""

    seen: list[PathSnapshot] = []

    def stands() -> bool:
        assert not reading.is_over, f"the stream was over too soon: {reading.size} bytes, {reading.error!r}"
        path = path_to(reading.conn, victim)
        if path is None or reading.size < least or not path.received_bytes or not path.outstanding_bytes:
            return False
        if path.outstanding_bytes % BLOCK_BYTES == 0 and reading.size % BLOCK_BYTES == 0:
            return False
        seen.append(path)
        return True

    until(stands, "the victim has given something and owes more, in mid-block")
    return seen[0]
