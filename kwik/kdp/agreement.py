"""Client: what replicas announced, and on which blocks a helper agrees with the anchor (SPEC §5.7, §6.2)."""

from __future__ import annotations

from kwik.base.ranges import RangeSet
from kwik.errors import LocalProtocolError
from kwik.kdp.digest import Algorithm, run_digest

DIVERGENT_BLOCKS = 16
"""A replica is divergent when this many whole blocks in a row differ (SPEC §6.2)."""


class Announced:
    """What one replica told about its blocks: single digests and run digests."""

    __slots__ = ("digests", "runs")

    def __init__(self) -> None:
        self.digests: dict[int, bytes] = {}
        self.runs: dict[int, tuple[int, bytes]] = {}

    @property
    def stop(self) -> int:
        """One more than the highest block of which a single digest is known; 0 if there is none."""
        return max(self.digests, default=-1) + 1

    def add_digests(self, first: int, digests: tuple[bytes, ...]) -> None:
        """Digests of consecutive blocks. Raises LocalProtocolError if one differs from what was said before."""
        for block, digest in enumerate(digests, first):
            if self.digests.setdefault(block, digest) != digest:
                raise LocalProtocolError(f"two digests were announced for block {block}", field="digests")

    def add_run(self, first: int, count: int, digest: bytes) -> bool:
        """A run digest; False if it was known. A longer or other run from the same block replaces a shorter one."""
        if not 1 <= count <= DIVERGENT_BLOCKS:
            raise LocalProtocolError(f"a run of {count} blocks; 1 to {DIVERGENT_BLOCKS} are allowed", field="count")
        known = self.runs.get(first)
        if known is not None and known[0] == count and known[1] != digest:
            raise LocalProtocolError(f"two run digests were announced from block {first}", field="first")
        self.runs[first] = (count, digest)
        return known != (count, digest)

    def drop_below(self, block: int) -> None:
        """Everything below this block is delivered."""
        for index in [index for index in self.digests if index < block]:
            del self.digests[index]
        for first in [first for first, (count, _) in self.runs.items() if first + count <= block]:
            del self.runs[first]


class Agreement:
    """One helper against the present anchor. `agreed` and `differing` are sets of blocks."""

    def __init__(self, announced: Announced) -> None:
        self.agreed = RangeSet()
        self.differing = RangeSet()
        self.has_agreed = False
        self._announced = announced
        self._runs_waiting: set[int] = set(announced.runs)
        self._blocks_waiting: set[int] = set(announced.digests)
        self._asked = RangeSet()
        self._asked_now = RangeSet()
        self._to_ask: list[tuple[int, int]] = []

    @property
    def is_divergent(self) -> bool:
        """16 whole blocks in a row differ."""
        return any(stop - start >= DIVERGENT_BLOCKS for start, stop in self.differing)

    def on_run(self, first: int) -> None:
        """The helper announced a run."""
        self._runs_waiting.add(first)

    def on_digests(self, first: int, count: int) -> None:
        """The helper announced single digests."""
        self._blocks_waiting.update(range(first, first + count))
        self._asked_now.subtract(first, first + count)

    @property
    def is_open(self) -> bool:
        """Whether something was announced that is not compared yet."""
        return bool(self._runs_waiting or self._blocks_waiting or self._to_ask or self._asked_now)

    def compare(self, anchor: Announced, algorithm: Algorithm, anchor_blocks: int | None) -> None:
        """Compare whatever can be compared now; `anchor_blocks` is how many blocks the anchor has, if it has ended."""
        for first in sorted(self._runs_waiting):
            verdict = self._compare_run(first, anchor, algorithm, anchor_blocks)
            if verdict is None:
                continue
            self._runs_waiting.discard(first)
            count = self._announced.runs[first][0] if first in self._announced.runs else 0
            if not verdict and count and not self._asked.covers(first, first + count):
                self._asked.add(first, first + count)
                self._to_ask.append((first, count))
        for block in sorted(self._blocks_waiting):
            self._compare_block(block, anchor)

    def next_questions(self) -> list[tuple[int, int]]:
        """Blocks whose digests must be asked for now; one run is unanswered at a time."""
        if not self._to_ask or self._asked_now:
            return []
        first, count = self._to_ask.pop(0)
        self._asked_now.add(first, first + count)
        return [(first, count)]

    def forget_below(self, block: int) -> None:
        """Everything below this block is delivered."""
        self.agreed.subtract(0, block)
        # A row of differences may straddle the floor: keep as many blocks as make a row.
        self.differing.subtract(0, max(0, block - DIVERGENT_BLOCKS))
        self._runs_waiting = {first for first in self._runs_waiting if first in self._announced.runs}
        self._blocks_waiting = {waiting for waiting in self._blocks_waiting if waiting >= block}
        self._asked.subtract(0, block)
        self._asked_now.subtract(0, block)
        self._to_ask = [(first, count) for first, count in self._to_ask if first >= block]

    def _compare_run(
        self, first: int, anchor: Announced, algorithm: Algorithm, anchor_blocks: int | None
    ) -> bool | None:
        run = self._announced.runs.get(first)
        if run is None:
            return True
        count, digest = run
        if anchor_blocks is not None and first + count > anchor_blocks:
            # The anchor has ended within the run: only single digests can tell.
            return False
        own = [anchor.digests.get(block) for block in range(first, first + count)]
        known = [value for value in own if value is not None]
        if len(known) < count:
            return None
        if run_digest(algorithm, known) != digest:
            return False
        self.agreed.add(first, first + count)
        self.has_agreed = True
        return True

    def _compare_block(self, block: int, anchor: Announced) -> None:
        theirs, ours = self._announced.digests.get(block), anchor.digests.get(block)
        if theirs is None or ours is None:
            return
        self._blocks_waiting.discard(block)
        (self.agreed if theirs == ours else self.differing).add(block, block + 1)
        self.has_agreed |= theirs == ours
