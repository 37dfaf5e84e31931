"""The client's application: what it writes when, how fast it reads, how it ends, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from kwik.sim.apps import content
from kwik.sim.pace import AT_ONCE, Pace, Pacer
from kwik.types import Instant

if TYPE_CHECKING:
    from kwik.core.port import PortKey
    from kwik.sim.hosts import Host

EndKind = Literal["bye", "half-close", "half-close-first", "abort", "close"]
Seen = Literal["open", "end", "reset", "refused", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPlan:
    """One stream as its application uses it."""

    start_s: float = 0.0
    program: Literal["answer", "echo"] = "answer"
    greeting_bytes: int = 0
    answers: tuple[int, ...] = (4096,)
    """Sizes of the answers asked for, one after the other; for an echo, the sizes of the bursts written."""
    is_pipelined: bool = False
    """All requests at once, instead of each after the answer before."""
    request_bytes: int = 24
    """Length of each request line."""
    reading: Pace = AT_ONCE
    writing: Pace = AT_ONCE
    finish: EndKind = "bye"
    """bye and half-close: after the last answer asks the server to end; half-close-first: directly behind the last
    request; abort and close: leaves in the middle, with or without reset."""
    leave_at: int = 0
    """Where abort and close happen, in bytes read."""

    @property
    def total_bytes(self) -> int:
        """Everything that an honest server sends."""
        return self.greeting_bytes + sum(self.answers)

    @property
    def leaves_at(self) -> int:
        """Where abort and close really happen: nobody waits for more than there is."""
        return min(self.leave_at, self.total_bytes)


class ClientApp:
    """Drives one port of the client by its plan."""

    def __init__(self, host: Host, plan: ClientPlan, number: int) -> None:
        self.host = host
        self.plan = plan
        self.number = number
        self.key: PortKey = -1
        self.received = bytearray()
        self.written = bytearray()
        self.wrote_eof = False
        self.seen: Seen = "open"
        self.failure: tuple[int, str] | None = None
        """Code and text of a reset."""
        self.first_byte_at: Instant | None = None
        self.read_at: Instant = host.clock.now
        """When bytes came last."""
        self.ended_at: Instant | None = None
        self.is_settled = False
        """True when the core has told the end of the port."""
        self._asked = 0
        self._unsent = bytearray()
        self._wants_eof = False
        self._reading = Pacer(host, plan.reading, self.on_readable)
        self._writing = Pacer(host, plan.writing, self._write)

    def begin(self, key: PortKey) -> None:
        """The dial returned."""
        self.key = key
        self._go_on_writing()

    # ------------------------------------------------------------ App

    def on_readable(self) -> None:
        """Read what the pace allows."""
        core = self.host.core
        while self.seen == "open" and (limit := self._limit()) > 0:
            view = core.peek(self.key)
            if view is None or not len(view):
                break
            self._read(bytes(view[:limit]))
        if self.seen == "open" and not self._reading.is_waiting and core.at_end(self.key):
            self._leave("end", aborted=False)

    def on_writable(self) -> None:
        """There is room for upstream."""
        self._write()

    def on_reset(self, code: int, text: str, *, refused: bool) -> None:
        """Connection reset, or refused."""
        if self.seen == "open":
            self.seen = "refused" if refused else "reset"
            self.ended_at = self.host.clock.now
        self.failure = (code, text)
        self.is_settled = True

    def on_done(self) -> None:
        """The core has forgotten the port."""
        self.is_settled = True

    # ------------------------------------------------------------ reading

    def _read(self, data: bytes) -> None:
        now = self.host.clock.now
        if self.first_byte_at is None:
            self.first_byte_at = now
        self.read_at = now
        self.received += data
        self.host.core.consume(self.key, len(data), now)
        if self.plan.finish in ("abort", "close") and len(self.received) >= self.plan.leaves_at:
            self._leave("left", aborted=self.plan.finish == "abort")
            return
        self._reading.on_moved(len(data))
        self._go_on_writing()

    def _limit(self) -> int:
        limit = self._reading.limit(len(self.received))
        if self.plan.finish in ("abort", "close"):
            limit = min(limit, max(1, self.plan.leaves_at - len(self.received))) if limit else 0
        return limit

    # ------------------------------------------------------------ writing

    def _go_on_writing(self) -> None:
        """Ask for the next answer when the one before is complete."""
        plan = self.plan
        while self._asked < len(plan.answers) and (plan.is_pipelined or len(self.received) >= self._due()):
            size = plan.answers[self._asked]
            self._unsent += content(size, size) if plan.program == "echo" else self._request(size)
            self._asked += 1
        if self._asked == len(plan.answers) and not self._wants_eof:
            is_answered = len(self.received) >= self._due()
            if plan.finish == "half-close-first" or (is_answered and plan.finish == "half-close"):
                self._wants_eof = True
            elif is_answered and plan.finish == "bye":
                self._wants_eof = True
                self._unsent += b"BYE\n" if plan.program == "answer" else b""
        self._write()

    def _due(self) -> int:
        """Bytes that must have been read before the next request."""
        return self.plan.greeting_bytes + sum(self.plan.answers[: self._asked])

    def _request(self, size: int) -> bytes:
        """Depends on everything read so far: a dialogue, not a script."""
        line = b"GET %d %d %08x " % (size, self.number, crc32(self.received))
        return line.ljust(self.plan.request_bytes - 1, b".") + b"\n"

    def _write(self) -> None:
        core, now, writing = self.host.core, self.host.clock.now, self._writing
        while self.seen == "open" and self._unsent and (allowed := core.allowance(self.key)) > 0:
            size = min(allowed, writing.limit(len(self.written)))
            if not size:
                return
            data = bytes(self._unsent[:size])
            del self._unsent[:size]
            self.written += data
            core.on_app_bytes(self.key, data, now)
            writing.on_moved(len(data))
        is_bye = self.plan.finish == "bye" and self.plan.program == "answer"
        if self._wants_eof and not self._unsent and not self.wrote_eof and self.seen == "open" and not is_bye:
            self.wrote_eof = True
            core.on_app_eof(self.key, now)

    def _leave(self, seen: Seen, *, aborted: bool) -> None:
        self.seen = seen
        self.ended_at = self.host.clock.now
        self.host.core.on_app_closed(self.key, self.ended_at, aborted=aborted)
