"""One direction of an emulated link: rate, drop-tail queue, delay, jitter, loss, reordering, duplication, corruption.

Pure: time comes in as `now` (float seconds, monotonic), randomness as a `random.Random`. A packet's times are computed
when it enters, from the virtual finish time of the one before it, so a caller that wakes late never changes the rate.
Sizes are those of IP packets: UDP payload plus `overhead_bytes`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from random import Random

OVERHEAD_IPV4_BYTES = 28
"""IPv4 header without options (20) and UDP header (8)."""
OVERHEAD_IPV6_BYTES = 48
"""IPv6 header (40) and UDP header (8)."""
QUEUE_MIN_BYTES = 15_000
"""Least size of a queue that is derived from the bandwidth-delay product: ten packets of 1500 bytes."""
HELD_MAX_BYTES = 256 * 1024 * 1024
"""Most bytes that one direction holds, queue and wire together; what comes on top is dropped as from a full queue."""
REORDER_HOLD_MIN_S = 0.001
REORDER_HOLD_FRACTION = 0.25
"""A reordered packet is held back for a uniform time of at most this share of the delay, but at least the minimum."""

_FRACTIONS = ("loss", "reorder", "duplicate", "corrupt")
_SECONDS = ("delay_s", "jitter_s")

Route = TypeVar("Route")


@dataclass(frozen=True, slots=True)
class LinkShape:
    """What one direction of a link does to packets. Raises ValueError, naming the field, for a value out of range."""

    rate_bps: float | None = None
    """Bits per second of IP packets; None: no limit and no queue."""
    delay_s: float = 0.0
    """One-way delay after serialisation, 0 to 60."""
    jitter_s: float = 0.0
    """Further delay, uniform from 0 to this, 0 to 60; order is kept, so a late packet also delays those behind it."""
    loss: float = 0.0
    """Probability of loss before the queue, 0 to 1; so are the next three."""
    reorder: float = 0.0
    """Probability of being held back, so that later packets overtake."""
    duplicate: float = 0.0
    """Probability of being sent twice; the copy takes its own place in the queue."""
    corrupt: float = 0.0
    """Probability that one byte of the payload is changed."""
    queue_bytes: int | None = None
    """Bytes of IP packets that may wait (the rest of the one being sent counts too); None: rate x 2 x delay_s."""
    blackhole: bool = False
    """Everything that enters is dropped without a word."""

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not _number(self.rate_bps, 1.0, 1e12):
            raise ValueError(f"rate_bps must be None or a number from 1 to 1e12, not {self.rate_bps!r}")
        for name in _SECONDS:
            if not _number(getattr(self, name), 0.0, 60.0):
                raise ValueError(f"{name} must be a number of seconds from 0 to 60, not {getattr(self, name)!r}")
        for name in _FRACTIONS:
            if not _number(getattr(self, name), 0.0, 1.0):
                raise ValueError(f"{name} must be a number from 0 to 1, not {getattr(self, name)!r}")
        whole = isinstance(self.queue_bytes, int) and _number(self.queue_bytes, 0, 2**40)
        if self.queue_bytes is not None and not whole:
            raise ValueError(f"queue_bytes must be None or a whole number of bytes from 0, not {self.queue_bytes!r}")
        if not isinstance(self.blackhole, bool):
            raise ValueError(f"blackhole of one direction must be true or false, not {self.blackhole!r}")

    @property
    def queue_limit_bytes(self) -> float:
        """Size of the queue in force; infinite without a rate, where no queue forms."""
        if self.rate_bps is None:
            return float("inf")
        if self.queue_bytes is not None:
            return self.queue_bytes
        return max(QUEUE_MIN_BYTES, self.rate_bps * 2 * self.delay_s / 8)


def _number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


@dataclass(slots=True)
class DirectionStats:
    """Counts of one direction since its start. Bytes are those of IP packets.

    At any time packets_in + duplicated = delivered_packets + dropped_queue + lost + blackholed + packets held.
    """

    packets_in: int = 0
    bytes_in: int = 0
    delivered_packets: int = 0
    delivered_bytes: int = 0
    dropped_queue: int = 0
    lost: int = 0
    blackholed: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    held_packets: int = 0
    queue_bytes: int = 0
    queue_max_bytes: int = 0


class Direction(Generic[Route]):
    """One direction. Not thread-safe; `now` never runs backwards.

    `route` is the caller's and comes back with the packet. Randomness is drawn only for what the shape asks for; equal
    seeds, shapes and inputs give equal outputs.
    """

    def __init__(self, shape: LinkShape, rng: Random, *, overhead_bytes: int = OVERHEAD_IPV4_BYTES) -> None:
        self._shape = shape
        self._rng = rng
        self._overhead_bytes = overhead_bytes
        self._limit_bytes = shape.queue_limit_bytes
        self._finish = 0.0  # when the last accepted packet has left the queue
        # (deliver at, finish, packet, route); a packet also waits for those before it, whatever its own time
        self._ordered: deque[tuple[float, float, bytes, Route]] = deque()
        self._late: list[tuple[float, int, float, bytes, Route]] = []  # heap of reordered packets; the int breaks ties
        self._late_count = 0
        self._held_bytes = 0
        self._counts = DirectionStats()

    @property
    def shape(self) -> LinkShape:
        """The shape in force."""
        return self._shape

    def send(self, packet: bytes, route: Route, now: float) -> None:
        """Let one UDP payload enter the link at `now`; it comes out of `due`, once, twice or never."""
        shape, counts, rng = self._shape, self._counts, self._rng
        counts.packets_in += 1
        counts.bytes_in += len(packet) + self._overhead_bytes
        if shape.blackhole:
            counts.blackholed += 1
            return
        if shape.loss and rng.random() < shape.loss:
            counts.lost += 1
            return
        if shape.duplicate and rng.random() < shape.duplicate:
            counts.duplicated += 1
            self._enter(packet, route, now)
        self._enter(packet, route, now)

    def _enter(self, packet: bytes, route: Route, now: float) -> None:
        shape, counts = self._shape, self._counts
        size = len(packet) + self._overhead_bytes
        finish = self._finish if self._finish > now else now
        if self._held_bytes + size > HELD_MAX_BYTES:
            counts.dropped_queue += 1
            return
        if shape.rate_bps is not None:
            waiting = (finish - now) * shape.rate_bps / 8
            # An idle link takes a packet of any size; half a byte is for rounding.
            if waiting and waiting + size > self._limit_bytes + 0.5:
                counts.dropped_queue += 1
                return
            if waiting + size > counts.queue_max_bytes:
                counts.queue_max_bytes = round(waiting + size)
            finish += size * 8 / shape.rate_bps
        self._finish = finish
        self._held_bytes += size
        if shape.corrupt and packet and self._rng.random() < shape.corrupt:
            counts.corrupted += 1
            packet = self._corrupted(packet)
        at = finish + shape.delay_s
        if shape.jitter_s:
            at += shape.jitter_s * self._rng.random()
        if shape.reorder and self._rng.random() < shape.reorder:
            self._hold_back(at, finish, packet, route)
            return
        self._ordered.append((at, finish, packet, route))

    def _corrupted(self, packet: bytes) -> bytes:
        changed = bytearray(packet)
        changed[self._rng.randrange(len(changed))] ^= self._rng.randrange(1, 256)
        return bytes(changed)

    def _hold_back(self, at: float, finish: float, packet: bytes, route: Route) -> None:
        self._counts.reordered += 1
        self._late_count += 1
        hold = max(REORDER_HOLD_MIN_S, REORDER_HOLD_FRACTION * self._shape.delay_s)
        at += hold * (1.0 - self._rng.random())
        heapq.heappush(self._late, (at, self._late_count, finish, packet, route))

    def due(self, now: float) -> list[tuple[bytes, Route]]:
        """Take out what has arrived at the far end by `now`, in order of arrival."""
        ordered, late = self._ordered, self._late
        out: list[tuple[bytes, Route]] = []
        size = 0
        while ordered and ordered[0][0] <= now:
            while late and late[0][0] < ordered[0][0]:
                size += self._take_late(out)
            _, _, packet, route = ordered.popleft()
            out.append((packet, route))
            size += len(packet)
        while late and late[0][0] <= now:
            size += self._take_late(out)
        if out:
            size += len(out) * self._overhead_bytes
            self._held_bytes -= size
            self._counts.delivered_packets += len(out)
            self._counts.delivered_bytes += size
        return out

    def _take_late(self, out: list[tuple[bytes, Route]]) -> int:
        _, _, _, packet, route = heapq.heappop(self._late)
        out.append((packet, route))
        return len(packet)

    def deadline(self) -> float | None:
        """When the next packet arrives; None when the link is empty."""
        if self._late and (not self._ordered or self._late[0][0] < self._ordered[0][0]):
            return self._late[0][0]
        return self._ordered[0][0] if self._ordered else None

    def reshape(self, shape: LinkShape, now: float) -> None:
        """Change the shape at `now`.

        What waits in the queue leaves it at the new rate and takes the new delay; what is on the wire keeps its time.
        A black hole swallows both as it starts, as a cut cable would. A smaller queue drops only newcomers.
        """
        old, self._shape = self._shape, shape
        self._limit_bytes = shape.queue_limit_bytes
        if shape.blackhole:
            self._swallow(now)
        elif self._finish > now:
            self._retime(old, now)

    def _swallow(self, now: float) -> None:
        self._counts.blackholed += len(self._ordered) + len(self._late)
        self._ordered.clear()
        self._late.clear()
        self._held_bytes = 0
        self._finish = now

    def _retime(self, old: LinkShape, now: float) -> None:
        """Everything behind `now` in the queue is a number of bits: stretch its time by the ratio of the rates."""
        stretch = 0.0 if self._shape.rate_bps is None or old.rate_bps is None else old.rate_bps / self._shape.rate_bps
        later = self._shape.delay_s - old.delay_s

        def moved(at: float, finish: float) -> tuple[float, float]:
            if finish <= now:
                return at, finish
            new_finish = now + (finish - now) * stretch
            return at - finish + new_finish + later, new_finish

        self._ordered = deque((*moved(at, finish), packet, route) for at, finish, packet, route in self._ordered)
        late = []
        for at, order, finish, packet, route in self._late:
            new_at, new_finish = moved(at, finish)
            late.append((new_at, order, new_finish, packet, route))
        self._late = late
        heapq.heapify(self._late)
        self._finish = now + (self._finish - now) * stretch

    def stats(self, now: float) -> DirectionStats:
        """A copy of the counts, with what is held and queued at `now`."""
        waiting = max(0.0, self._finish - now) * (self._shape.rate_bps or 0.0) / 8
        return replace(self._counts, held_packets=len(self._ordered) + len(self._late), queue_bytes=round(waiting))


def changed(up: LinkShape, down: LinkShape, changes: Mapping[str, object]) -> tuple[LinkShape, LinkShape]:
    """The shapes of both directions after `changes`.

    Keys are field names of LinkShape, for one direction with `up_` or `down_` before them; `blackhole` is "both", "up",
    "down" or None (neither). Raises ValueError, naming the key, and then nothing has changed.
    """
    known = {field.name for field in fields(LinkShape)} - {"blackhole"}
    for_up: dict[str, object] = {}
    for_down: dict[str, object] = {}
    for key, value in changes.items():
        if key == "blackhole":
            if value not in ("both", "up", "down", None):
                raise ValueError(f'blackhole must be "both", "up", "down" or null, not {value!r}')
            for_up[key] = value in ("both", "up")
            for_down[key] = value in ("both", "down")
            continue
        side, name = _side_of(key, known)
        for target in {"up": [for_up], "down": [for_down], "": [for_up, for_down]}[side]:
            target[name] = value
    return replace(up, **for_up), replace(down, **for_down)  # type: ignore[arg-type]  # checked by LinkShape itself


def _side_of(key: str, known: set[str]) -> tuple[str, str]:
    side, _, name = key.partition("_")
    if key in known:
        return "", key
    if side in ("up", "down") and name in known:
        return side, name
    raise ValueError(f"unknown change {key!r}; known are blackhole, {', '.join(sorted(known))}, up_loss and so on")
