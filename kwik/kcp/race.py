"""When the next connection attempt may begin: a staggered race after RFC 8305 §5.

The first attempt begins at once; the next one when the one before has had its turn without an end, or at once when it
failed. The order is selection's; only handshakes race, never streams (SPEC §5.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kwik.types import Instant, PathId

MAX_ATTEMPTS: Final = 8
"""Handshakes under way at a time, stragglers included."""
MIN_TURN_S: Final = 0.01
"""RFC 8305 §5 allows no shorter delay between attempts."""


class Race:
    """The attempts under way. Each holds its turn for a while; a straggler goes on but holds up nobody."""

    def __init__(self, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._max_attempts = max_attempts
        self._turns: dict[PathId, Instant] = {}

    def on_begun(self, path: PathId, turn_s: float, now: Instant) -> None:
        """An attempt begins; the next one need not wait for it longer than `turn_s`."""
        self._turns[path] = now + max(turn_s, MIN_TURN_S)

    def on_progress(self, path: PathId, turn_s: float, now: Instant) -> None:
        """The attempt got an answer and will end soon: its turn is made longer."""
        if path in self._turns:
            self._turns[path] = max(self._turns[path], now + turn_s)

    def on_ended(self, path: PathId) -> None:
        """It won, failed or was given up. Unknown paths are ignored."""
        self._turns.pop(path, None)

    def free_turns(self, need: int, now: Instant) -> int:
        """How many attempts may begin now if `need` more paths are wanted."""
        running = sum(1 for until in self._turns.values() if until > now)
        return max(0, min(need - running, self._max_attempts - len(self._turns)))

    def next_turn(self, now: Instant) -> Instant | None:
        """When a turn ends next; None if no attempt is in its turn, or if no more may run."""
        if len(self._turns) >= self._max_attempts:
            return None
        return min((until for until in self._turns.values() if until > now), default=None)

    def __len__(self) -> int:
        return len(self._turns)
