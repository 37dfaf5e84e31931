"""A simulated path: what QUIC gives the cores (SPEC §11), reduced to what they can notice.

Pipes are reliable and in order each for itself; packets are lost, acknowledged, repeated, held back by a congestion
window; a handshake takes a round trip. No cryptography, no encoding: a packet is an object on a link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from kwik.base.rtt import RttEstimator
from kwik.kdp.facts import PathFacts
from kwik.sim.clock import Clock
from kwik.sim.congestion import INITIAL_PACKETS, Congestion
from kwik.sim.link import Link
from kwik.types import Instant, PathId

if TYPE_CHECKING:
    from kwik.sim.hosts import Host

ACK_DELAY_S: Final = 0.025
"""How long an acknowledgement of a single packet may be held back."""
AHEAD_S: Final = 0.010
"""How far unsent bytes may run ahead of the window."""
REORDERING: Final = 3
"""A packet is lost when one sent so many later was acknowledged (RFC 9002 §6.1.1)."""
FIRST_PTO_S: Final = 0.3
PROBES: Final = 2
"""Packets whose content is sent again when no acknowledgement comes."""
LONGEST_BACKOFF: Final = 6
LEAST_ROOM: Final = 256
"""Less room is never offered, however small packets are: heads of frames and digests are not scaled down."""
MOST_REPEATED_WORDS: Final = 16
LATE_S: Final = 0.1
"""A probe that is this late says that the process did not run, not how long the path is (as in kwik.quic)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRules:
    """What all paths of a simulation have in common."""

    packet_bytes: int = 1200
    """Pipe bytes in one packet."""
    idle_timeout_s: float = 30.0
    handshake_timeout_s: float = 10.0
    overhead_bytes: int = field(init=False)
    """What a packet adds, in the proportion of real ones; an acknowledgement alone is one of these."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "overhead_bytes", max(1, self.packet_bytes // 32))


Chunk = tuple[int, int, bytes]
"""Pipe, offset in the pipe, bytes."""


@dataclass(slots=True)
class Packet:
    """What travels. `delay_s` says how long the newest of `acks` had waited."""

    number: int
    sent_at: Instant
    size: int
    chunks: list[Chunk]
    pings: tuple[int, ...]
    acks: tuple[int, ...]
    delay_s: float
    is_probed: bool = False
    """True for what is left in flight of a packet whose content a probe has taken over."""


@dataclass(slots=True)
class _Inbox:
    """One pipe of the other side, put into order."""

    next_offset: int = 0
    waiting: dict[int, bytes] = field(default_factory=dict)

    def take(self, offset: int, data: bytes) -> bytes:
        """What has become contiguous; chunks are never cut differently when they are repeated."""
        if offset != self.next_offset:
            if offset > self.next_offset:
                self.waiting[offset] = data
            return b""
        self.next_offset += len(data)
        if not self.waiting:
            return data
        pieces = [data]
        while (more := self.waiting.pop(self.next_offset, None)) is not None:
            pieces.append(more)
            self.next_offset += len(more)
        return b"".join(pieces)


class Sender:
    """The sending half of one end: what waits, what is in flight, what the window allows."""

    def __init__(self, rules: PathRules) -> None:
        self.rtt = RttEstimator()
        self.congestion = Congestion(rules.packet_bytes)
        self.control: deque[Chunk] = deque()
        self.data: deque[Chunk] = deque()
        self.pings: list[int] = []
        self.flight: dict[int, Packet] = {}
        self.flight_bytes = 0
        self.unsent_bytes = 0
        self.lost_packets = 0
        self.backoff = 0
        self.next_number = 0
        self.least_room = max(rules.packet_bytes, LEAST_ROOM)
        self._packet_bytes = rules.packet_bytes
        self._written: dict[int, int] = {}

    def write(self, pipe: int, data: bytes) -> None:
        """Append to a pipe."""
        offset = self._written.get(pipe, 0)
        self._written[pipe] = offset + len(data)
        (self.data if pipe else self.control).append((pipe, offset, data))
        self.unsent_bytes += len(data)

    def fill_packet(self) -> list[Chunk]:
        """The next packet's content, control pipe first; empty when nothing waits."""
        left = self._packet_bytes
        chunks: list[Chunk] = []
        for queue in (self.control, self.data):
            while queue and left:
                pipe, offset, data = queue[0]
                if len(data) > left:
                    queue[0] = (pipe, offset + left, data[left:])
                    data = data[:left]
                else:
                    queue.popleft()
                chunks.append((pipe, offset, data))
                left -= len(data)
        self.unsent_bytes -= self._packet_bytes - left
        return chunks

    def remove(self, number: int) -> Packet | None:
        """Take a packet out of flight."""
        packet = self.flight.pop(number, None)
        if packet is not None:
            self.flight_bytes -= packet.size
        return packet

    def requeue(self, packet: Packet) -> None:
        """Let the content of a lost packet go first."""
        for pipe, offset, data in reversed(packet.chunks):
            (self.data if pipe else self.control).appendleft((pipe, offset, data))
            self.unsent_bytes += len(data)
        self.pings.extend(packet.pings)

    def oldest_full(self) -> Packet | None:
        """The oldest packet in flight whose content no probe has taken over."""
        return next((packet for packet in self.flight.values() if not packet.is_probed), None)

    def probe(self) -> None:
        """Let the content of the two oldest packets go once more. That they are lost is not said: no window shrinks for
        a probe, and an acknowledgement may still come (RFC 9002 §6.2.4)."""
        oldest = [packet for packet in self.flight.values() if not packet.is_probed][:PROBES]
        for packet in reversed(oldest):
            self.requeue(packet)
            self.flight[packet.number] = replace(packet, chunks=[], pings=(), is_probed=True)

    @property
    def pto_s(self) -> float:
        """How long to wait for an acknowledgement before repeating."""
        base_s = self.rtt.pto_s(ACK_DELAY_S) if self.rtt.has_sample else FIRST_PTO_S
        return base_s * float(1 << min(self.backoff, LONGEST_BACKOFF))


class Receiver:
    """The receiving half of one end: pipes put into order, and what is to be acknowledged."""

    def __init__(self) -> None:
        self.to_ack: list[int] = []
        self.received_bytes = 0
        self._newest_at: Instant = 0.0
        self._acked_before: tuple[int, ...] = ()
        self._inboxes: dict[int, _Inbox] = {}

    def take(self, pipe: int, offset: int, data: bytes) -> bytes:
        """What has become contiguous on this pipe."""
        inbox = self._inboxes.get(pipe)
        if inbox is None:
            inbox = self._inboxes[pipe] = _Inbox()
        return inbox.take(offset, data)

    def on_packet(self, number: int, now: Instant) -> None:
        """A packet came that asks for an acknowledgement."""
        self.to_ack.append(number)
        self._newest_at = now

    def take_acks(self, now: Instant) -> tuple[tuple[int, ...], float]:
        """What to acknowledge: the news, and the news of last time in case that was lost; and how long they waited."""
        if not self.to_ack:
            return (), 0.0
        news = tuple(self.to_ack)
        acks = self._acked_before + news
        self._acked_before = news[-16:]
        self.to_ack.clear()
        return acks, now - self._newest_at


class PathEnd:
    """One side's end of a path. Everything that happens to it enters through its host, which may be stopped or dead."""

    def __init__(self, clock: Clock, host: Host, path: PathId, out: Link, rules: PathRules) -> None:
        self.clock = clock
        self.host = host
        self.path = path
        self.twin: PathEnd | None = None
        self.sender = Sender(rules)
        self.is_writable = False
        self.is_over = False
        self.is_broken = False
        """True when a device on the way has forgotten the path: nothing passes, and nobody is told."""
        self.last_packet_at: Instant | None = None
        self._out = out
        self._rules = rules
        self._receiver = Receiver()
        self._timers = [False, False, False]
        self._idle_from = clock.now
        self._credit_bytes: float | None = None
        self._last_words: tuple[str, int] | None = None
        self._facts: PathFacts | None = None
        """As measured last; None once something has changed."""
        self._early: deque[Packet] = deque(maxlen=INITIAL_PACKETS)

    # ------------------------------------------------------------ for the host

    def open(self, *, unproven_bytes: int | None = None) -> None:
        """Keys exist. A server may send `unproven_bytes` until the client has shown that it is there."""
        self.is_writable = True
        self._credit_bytes = unproven_bytes
        self._idle_from = self.clock.now
        self._arm(2, self._rules.idle_timeout_s)

    def take_early(self) -> None:
        """Take in what overtook the handshake."""
        while self._early:
            self._receive(self._early.popleft())

    def room(self) -> int:
        """Pipe bytes that may be handed over now, as in kwik.quic: free window and 10 ms more, less what is unsent."""
        sender, credit_bytes = self.sender, self._credit_bytes
        window = sender.congestion.window_bytes
        free = window - sender.flight_bytes
        if credit_bytes is not None:
            free = min(free, credit_bytes)
        else:
            smoothed_s = sender.rtt.smoothed_s
            free = (free if free > 0 else 0.0) + AHEAD_S * window / (smoothed_s if smoothed_s > 1e-3 else 1e-3)
        room = int(free) - sender.unsent_bytes
        if room >= sender.least_room:
            return room
        return 0 if sender.unsent_bytes or credit_bytes is not None else sender.least_room

    def has_room(self) -> bool:
        """Whether pipe bytes may be handed over now."""
        return self.is_writable and not self.is_over and self.room() > 0

    def write(self, pipe: int, data: bytes) -> None:
        """Put bytes on a pipe; they leave with `flush`."""
        if not self.is_over:
            self._facts = None
            self.sender.write(pipe, data)

    def ping(self, ping: int) -> None:
        """Ask for a sign of life."""
        self.sender.pings.append(ping)

    def flush(self, *, always: bool = False) -> None:
        """Send what the window allows; with `always` at least one packet."""
        sender = self.sender
        while not self.is_over and self.is_writable:
            if not always:
                is_empty = not (sender.control or sender.data or sender.pings)
                if is_empty or sender.flight_bytes >= self._window():
                    break
            always = False
            self._send(self._take_pings())

    def facts(self) -> PathFacts:
        """What the core may know."""
        if self._facts is None:
            self._facts = self._measure()
        return self._facts

    def _measure(self) -> PathFacts:
        sender = self.sender
        rtt = sender.rtt
        oldest = next(iter(sender.flight.values()), None)
        return PathFacts(
            last_packet_at=self.last_packet_at,
            oldest_unacked_at=oldest.sent_at if oldest else None,
            smoothed_rtt_s=rtt.smoothed_s if rtt.has_sample else None,
            rtt_variance_s=rtt.variance_s if rtt.has_sample else 0.0,
            min_rtt_s=rtt.min_s,
            latest_rtt_s=rtt.latest_s,
            max_ack_delay_s=ACK_DELAY_S,
            unsent_bytes=sender.unsent_bytes,
            congestion_window=int(sender.congestion.window_bytes),
            bytes_in_flight=sender.flight_bytes,
            lost_packets=sender.lost_packets,
            received_bytes=self._receiver.received_bytes,
        )

    def close(self, code: int, reason: str) -> None:
        """End the path and tell the other side; what was not yet sent is lost."""
        if self.is_over:
            return
        self._last_words = (f"closed by the other side: {reason} ({code})", 0)
        self._say_closed()
        self.finish(f"closed: {reason}")

    def finish(self, reason: str) -> None:
        """The path is over on this side only; the host hears of it once, later in this instant."""
        if not self.is_over:
            self.is_over = True
            self.clock.at(self.clock.now, self.host.enter, self.host.on_path_over, self.path, reason)

    def on_gap(self) -> None:
        """The process runs again: what waited for it tells nothing about the round trip, as in kwik.quic."""
        left_s = self._probe_left_s()
        if left_s is None or left_s > -LATE_S:
            return
        self._facts = None
        for packet in self.sender.flight.values():
            packet.sent_at -= left_s

    def start_rtt(self, rtt_s: float) -> None:
        """The handshake measured a round trip."""
        self._facts = None
        self.sender.rtt.on_sample(rtt_s)

    # ------------------------------------------------------------ sending

    def _window(self) -> float:
        if self._credit_bytes is not None:
            return self.sender.flight_bytes + self._credit_bytes
        return self.sender.congestion.window_bytes

    def _take_pings(self) -> tuple[int, ...]:
        pings = tuple(self.sender.pings)
        self.sender.pings.clear()
        return pings

    def _send(self, pings: tuple[int, ...]) -> None:
        sender, now = self.sender, self.clock.now
        self._facts = None
        waited_bytes = sender.unsent_bytes
        chunks = sender.fill_packet()
        size = self._rules.overhead_bytes + waited_bytes - sender.unsent_bytes
        acks, delay_s = self._receiver.take_acks(now)
        packet = Packet(sender.next_number, now, size, chunks, pings, acks, delay_s)
        sender.next_number += 1
        if not sender.flight and (self.last_packet_at is None or self.last_packet_at >= self._idle_from):
            self._idle_from = now
        if not self._timers[0]:
            self._arm(0, sender.pto_s)
        sender.flight[packet.number] = packet
        sender.flight_bytes += size
        if self._credit_bytes is not None:
            self._credit_bytes = max(0.0, self._credit_bytes - size)
        self._transmit(size, PathEnd._receive, packet)

    def _transmit(self, size: int, receive: Callable[..., None], what: object) -> None:
        if self.twin is not None and not self.is_broken:
            self._out.send(size, self.twin._arrive, receive, what)

    def _arrive(self, receive: Callable[..., None], what: object) -> None:
        host = self.host
        if not self.is_broken and host.takes_packets:
            host.enter_end(self, receive, self, what)

    def _send_acks(self) -> None:
        acks, delay_s = self._receiver.take_acks(self.clock.now)
        if acks and not self.is_over:
            size = 2 * self._rules.overhead_bytes
            self._transmit(size, PathEnd._receive, Packet(-1, self.clock.now, size, [], (), acks, delay_s))

    def _say_closed(self) -> None:
        """Tell the other side that the path is over; repeated when more comes, for the word may be lost."""
        if self._last_words is not None and self._last_words[1] < MOST_REPEATED_WORDS:
            text, count = self._last_words
            self._last_words = (text, count + 1)
            self._transmit(2 * self._rules.overhead_bytes, PathEnd.finish, text)

    # ------------------------------------------------------------ receiving

    def _receive(self, packet: Packet) -> None:
        if self.is_over:
            self._say_closed()
            return
        if not self.is_writable:
            self._early.append(packet)
            return
        if (left_s := self._idle_left_s()) is not None and left_s <= 0:
            # It waited for a process that was stopped: as in kwik.quic it does not revive what is given up over there.
            self._on_idle_timer()
            return
        now, receiver = self.clock.now, self._receiver
        self._facts = None
        self.last_packet_at = now
        self._credit_bytes = None
        self._idle_from = now
        receiver.received_bytes += packet.size
        if packet.acks:
            self._on_acks(packet.acks, packet.delay_s)
        if packet.number < 0:
            return
        receiver.on_packet(packet.number, now)
        core = self.host.core
        for pipe, offset, data in packet.chunks:
            if (ready := receiver.take(pipe, offset, data)) and not self.is_over:
                self.host.note(self.path, pipe, ready)
                core.on_path_data(self.path, pipe, ready, now)
        if len(receiver.to_ack) >= 2:
            self._send_acks()
        else:
            self._arm(1, ACK_DELAY_S)

    def _on_acks(self, numbers: tuple[int, ...], delay_s: float) -> None:
        sender, now = self.sender, self.clock.now
        is_window_used = 2 * sender.flight_bytes >= sender.congestion.window_bytes
        newest: Packet | None = None
        for number in numbers:
            packet = sender.remove(number)
            if packet is None:
                continue
            sender.congestion.on_acknowledged(packet.size, packet.sent_at, is_window_used=is_window_used)
            for ping in packet.pings:
                if ping >= 0:
                    self.host.is_fed = True
                    self.host.core.on_pong(self.path, ping, now)
            if newest is None or number > newest.number:
                newest = packet
        if newest is None:
            return
        sender.backoff = 0
        sender.rtt.on_sample(now - newest.sent_at, delay_s)
        self._find_lost(newest)

    def _find_lost(self, newest: Packet) -> None:
        sender = self.sender
        latest_s = max(sender.rtt.smoothed_s, sender.rtt.latest_s or 0.0)
        late = newest.sent_at - latest_s / 8
        lost = []
        for number, packet in sender.flight.items():
            if number > newest.number - REORDERING and packet.sent_at > late:
                break
            if number < newest.number:
                lost.append(number)
        if lost:
            self._repeat(lost)

    def _repeat(self, numbers: list[int]) -> None:
        sender = self.sender
        for number in reversed(numbers):
            packet = sender.remove(number)
            if packet is not None:
                sender.lost_packets += 1
                sender.congestion.on_lost(packet.sent_at, self.clock.now)
                sender.requeue(packet)

    # ------------------------------------------------------------ timers: 0 repeat, 1 acknowledge, 2 idle

    def _arm(self, timer: int, delay_s: float) -> None:
        """At most one event per timer is under way; it looks when it comes whether it is really due."""
        if not self._timers[timer]:
            self._timers[timer] = True
            self.clock.after(delay_s, self._look, timer)

    def _look(self, timer: int) -> None:
        """A timer that is not due any more is set again, or forgotten, and costs its host no turn."""
        left_s = (self._probe_left_s, self._ack_left_s, self._idle_left_s)[timer]()
        if left_s is not None and left_s <= 1e-9:
            self.host.enter_end(self, self._on_timer, timer)
            return
        self._timers[timer] = False
        if left_s is not None:
            self._arm(timer, left_s)

    def _probe_left_s(self) -> float | None:
        oldest = self.sender.oldest_full()
        return None if oldest is None else oldest.sent_at + self.sender.pto_s - self.clock.now

    def _ack_left_s(self) -> float | None:
        return 0.0 if self._receiver.to_ack else None

    def _idle_left_s(self) -> float | None:
        return None if self.is_over else self._idle_from + self._rules.idle_timeout_s - self.clock.now

    def _on_timer(self, timer: int) -> None:
        self._timers[timer] = False
        if not self.is_over:
            (self._on_probe_timer, self._send_acks, self._on_idle_timer)[timer]()

    def _on_probe_timer(self) -> None:
        sender, wait_s = self.sender, self._probe_left_s()
        if wait_s is None:
            return
        if wait_s <= 1e-9:
            sender.backoff += 1
            self._facts = None
            sender.probe()
            self._credit_bytes = None if self._credit_bytes is None else float(self._rules.packet_bytes)
            self.flush(always=True)
            wait_s = sender.pto_s
        self._arm(0, wait_s)

    def _on_idle_timer(self) -> None:
        left_s = self._idle_left_s()
        if left_s is not None and left_s > 1e-9:
            self._arm(2, left_s)
        elif left_s is not None:
            self.finish(f"nothing received for {self._rules.idle_timeout_s:.1f} s")
