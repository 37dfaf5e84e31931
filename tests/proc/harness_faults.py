"""Faults, and what must be known of each: who was anchor, what was owed, who told the client, where it resumed."""

from __future__ import annotations

import functools
import itertools
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from kwik.kdp.snapshots import PathSnapshot
from tests.proc.harness import until
from tests.proc.harness_stage import Reading, Server, Stage, path_to, stats_of

BLOCK_BYTES = 16384
PAUSE_S = 3.0
"""No reader may stand longer than this while somebody can serve it: ten times what it takes, see `patience`."""
TRIES = 4
AT_REST_S = 2.0
THE_END = "the end"


Test = TypeVar("Test", bound=Callable[..., None])


class MissedError(Exception):
    """The moment for the fault did not come: what was to be struck was over, or owed nothing."""


def retried(test: Test) -> Test:
    """A test that may miss its moment on a busy machine, and then begins again with new servers."""

    @functools.wraps(test)
    def run(*args: Any, stage: Stage, **options: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return test(*args, stage=stage, **options)
            except MissedError:
                stage.clear()
        return test(*args, stage=stage, **options)

    return cast("Test", run)


def patience(seconds: float) -> float:
    """So long, and longer in proportion when more wants to run than this machine has processors."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


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
    owed: str
    """In words: bytes, or the end alone."""
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
        words = THE_END if offset == len(reading.expected) and not reading.is_over else f"{owed} bytes"
        fault.strike(victim)
        packets = _packets(victim, fault)
        return cls(fault, victim, stats.anchor == victim.id, owed, words, offset, time.monotonic(), packets)

    def check_silence(self) -> None:
        """Nothing came from the victim after it was struck, or, for a closed port, only the kernel's own message."""
        if self.fault.counter is None:
            assert _is_refused(self.victim), "the kernel tells of the closed port"
        else:
            assert _packets(self.victim, self.fault) == self.packets, "the victim still spoke"

    def pause(self, reading: Reading) -> tuple[int, float]:
        """The longest pause of the reader after the fault: at which offset it stood, and for how long."""
        marks = [(self.at, self.offset), *(mark for mark in list(reading.marks) if mark[0] > self.at)]
        pauses = [(later[0] - sooner[0], sooner[1]) for sooner, later in itertools.pairwise(marks)]
        length, offset = max(pauses, default=(0.0, self.offset))
        return offset, length

    def check_resumed(self, reading: Reading, *, since: float | None = None, within_s: float = PAUSE_S) -> None:
        """The reader went on, from where it stood or behind; at most so long after the fault, or after `since`."""
        assert reading.size > self.offset, "reading resumed"
        offset, length = self.pause(reading)
        assert offset >= self.offset, "nothing is read twice"
        later = (at for at, size in reading.marks if at > self.at and size > offset)
        stood_until = next(later, reading.over_at or time.monotonic())
        assert stood_until - max(since or 0.0, stood_until - length) < patience(within_s), (
            f"it stood at {offset} for {length:.1f} s"
        )

    def tell(self, reading: Reading) -> None:
        """Print the facts."""
        offset, length = self.pause(reading)
        who = "anchor" if self.was_anchor else "helper"
        print(
            f"{self.fault.name}: {self.victim.id} was {who}, owed {self.owed}; read {self.offset} bytes"
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


def wait_before_first_block(reading: Reading, victim: Server) -> PathSnapshot:
    """Until the victim owes and nothing of it has come."""

    def owes() -> bool:
        path = path_to(reading.conn, victim)
        return (
            path is not None
            and path.outstanding_bytes > 0
            and any(view["produced_bytes"] for view in victim.report()["replicas"])
        )

    until(owes, "the victim owes its first block")
    path = path_to(reading.conn, victim)
    if path is None or not path.outstanding_bytes or path.received_bytes:
        raise MissedError
    return path


def by_role(reading: Reading, servers: list[Server]) -> list[Server]:
    """The anchor of now first, then the others. On a busy machine it may be another one than at the start."""
    anchor = stats_of(reading.conn).anchor
    return sorted(servers, key=lambda server: server.id != anchor)


def wait_mid_block(reading: Reading, victim: Server, least: int) -> PathSnapshot:
    """Until `least` bytes were read, the victim owes, and it or the reader is in the middle of a block."""
    return wait_all_owe(reading, lambda: [victim], least)[0][1]


def wait_all_owe(reading: Reading, choose: Callable[[], list[Server]], least: int) -> list[tuple[Server, PathSnapshot]]:
    """As wait_mid_block, for the first of the victims; the others have given something and owe more as well."""
    seen: list[list[tuple[Server, PathSnapshot]]] = []

    def stands() -> bool:
        if reading.is_over or reading.size == len(reading.expected) or _is_at_rest(reading):
            raise MissedError
        if reading.size < least:
            return False
        by_address = {path.address: path for path in reading.conn.paths()}
        pairs = [(victim, by_address.get("{}:{}".format(*victim.address))) for victim in choose()]
        owing = [(victim, path) for victim, path in pairs if path is not None and path.received_bytes]
        if len(owing) < len(pairs) or not all(path.outstanding_bytes for _, path in owing):
            return False
        if owing[0][1].outstanding_bytes % BLOCK_BYTES == 0 and reading.size % BLOCK_BYTES == 0:
            return False
        seen.append(owing)
        return True

    until(stands, "every victim has given something and owes more, the first in mid-block")
    return seen[0]


def _is_at_rest(reading: Reading) -> bool:
    """Nothing has come for a while: all that the applications have let go is here, and the moment is over."""
    return bool(reading.marks) and time.monotonic() > reading.marks[-1][0] + patience(AT_REST_S)
