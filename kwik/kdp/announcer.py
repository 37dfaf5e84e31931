"""Server: what a replica announces of its blocks, and when (SPEC §5.4, §5.7)."""

from __future__ import annotations

from kwik.kdp.digest import RUN_BLOCKS, Algorithm, run_digest
from kwik.kdp.producer import Producer
from kwik.types import Instant, ReplicaId
from kwik.wire.frames import Digests, Run

PAUSE_S = 0.010
"""A run ends this long after the output paused behind unannounced whole blocks (SPEC §5.7)."""
MAX_DIGESTS = 64
"""Digests in one frame."""


class Announcer:
    """Walks over the produced blocks once per path; an anchor tells digests, a helper run digests."""

    def __init__(self, replica: ReplicaId, algorithm: Algorithm, first_block: int, *, block_by_block: bool) -> None:
        self._replica = replica
        self._algorithm = algorithm
        self.block_by_block = block_by_block
        self._next = first_block
        self._output_at: Instant | None = None

    def restart(self, first_block: int, *, block_by_block: bool) -> None:
        """Announce again from this block on: the role or the path has changed."""
        self._next = first_block
        self.block_by_block = block_by_block

    def on_output(self, now: Instant) -> None:
        """The application produced something."""
        self._output_at = now

    def next_frame(self, producer: Producer, now: Instant) -> Digests | Run | None:
        """The next announcement, or None if none is due."""
        self._next = max(self._next, producer.floor // producer.block_bytes)
        digests = self._ready(producer, MAX_DIGESTS if self.block_by_block else RUN_BLOCKS)
        if not digests or not self._is_due(digests, producer, now):
            return None
        first = self._next
        self._next += len(digests)
        if self.block_by_block:
            return Digests(self._replica, first, tuple(digests))
        return Run(self._replica, first, len(digests), run_digest(self._algorithm, digests))

    def is_pending(self, producer: Producer) -> bool:
        """Whether a block is waiting to be announced, now or soon."""
        return producer.digest(max(self._next, producer.floor // producer.block_bytes)) is not None

    def deadline(self, producer: Producer) -> Instant | None:
        """When a short run becomes due."""
        if self.block_by_block or self._output_at is None or not self.is_pending(producer):
            return None
        return self._output_at + PAUSE_S

    def _ready(self, producer: Producer, limit: int) -> list[bytes]:
        digests: list[bytes] = []
        while len(digests) < limit:
            digest = producer.digest(self._next + len(digests))
            if digest is None:
                break
            digests.append(digest)
        return digests

    def _is_due(self, digests: list[bytes], producer: Producer, now: Instant) -> bool:
        if self.block_by_block or len(digests) == RUN_BLOCKS or producer.final is not None:
            return True
        # Output that stands at its credit cannot go on before the client has moved, which may wait for this very run.
        return self._output_at is None or now >= self._output_at + PAUSE_S or not producer.allowance()
