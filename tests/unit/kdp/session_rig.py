"""A data plane of a client under test, against servers played by hand: frames in, frames out, virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from kwik.config import Config
from kwik.errors import LocalProtocolError
from kwik.kdp.actions import PortDone, PortReadable, PortReset, WakePath
from kwik.kdp.facts import PathFacts
from kwik.kdp.session import DataSession
from kwik.kdp.stream import ClientStream
from kwik.types import Instance, PathId
from kwik.wire import frames
from kwik.wire.codec import DataPiece, Decoder, Frame
from tests.strategies import joined
from tests.unit.kdp.naive import digests_of, naive_pair, naive_run, pattern

F = TypeVar("F")
SERVICE = "files.example:80"
BLOCK = 64
NOW = 1000.0
RTT_S = 0.02
P1, P2, P3, P4 = PathId(1), PathId(2), PathId(3), PathId(4)
TEXT = pattern(200 * BLOCK)
OTHER = pattern(200 * BLOCK, salt=1)


def instance(name: str) -> Instance:
    """A server instance by the name of its server."""
    return Instance(name, name.encode() * 16)


@dataclass
class Sent:
    """What one replica was told on one path."""

    orders: dict[int, list[int]] = field(default_factory=dict)
    """Blocks of each order that are neither sent nor revoked."""


class SessionRig:
    """One session with 64-byte blocks and a window of 64 of them."""

    def __init__(self, **settings: Any) -> None:
        values: dict[str, Any] = {
            "block_bytes": BLOCK,
            "receive_window_bytes": 64 * BLOCK,
            "first_window_bytes": 16 * BLOCK,
            "memory_bytes": 1 << 20,
            "recruit_backlog_bytes": 1 << 30,
        }
        self.said: list[object] = []
        self.session = DataSession(SERVICE, Config(**(values | settings)), self.said)
        self.session.hints.may_find_more = lambda: self.may_find_more
        self.may_find_more = True
        self.now = NOW
        self.orders: dict[tuple[PathId, int], Sent] = {}
        self._decoders: dict[tuple[PathId, int], Decoder] = {}
        self._unread: dict[PathId, list[Frame]] = {}
        self._facts: dict[PathId, PathFacts] = {}
        self.pipes: list[int] = []
        self.recover: list[Instance] = []

    # ---------------------------------------------------------------- paths

    def path(
        self, path: PathId = P1, server: str = "a", *, replicated: bool = True, credit: int = 1000, hello: bool = True
    ) -> None:
        """A path comes up and is admitted."""
        self.session.on_path_writable(path, f"192.0.2.{path}:4433")
        self.facts(path)
        if hello:
            self.admit(path, server, replicated=replicated, credit=credit)

    def admit(self, path: PathId, server: str, *, replicated: bool = True, credit: int = 1000) -> None:
        """The hello of a path was read."""
        self.session.on_path_admitted(path, instance(server), replicated, credit, self.now)
        self.settle()

    def gone(self, path: PathId, *, dead: str = "") -> None:
        """A path ends; `dead`: and its server with it."""
        self.session.on_path_gone(path, self.now)
        if dead:
            self.session.on_instance_dead(instance(dead))
        self.settle()

    def facts(self, path: PathId, **changes: Any) -> None:
        """What the transport knows of a path: by default a round trip of 20 ms and nothing owed."""
        values: dict[str, Any] = {
            "last_packet_at": self.now,
            "oldest_unacked_at": None,
            "smoothed_rtt_s": RTT_S,
            "rtt_variance_s": 0.001,
            "min_rtt_s": RTT_S,
            "latest_rtt_s": RTT_S,
            "max_ack_delay_s": 0.025,
            "unsent_bytes": 0,
            "congestion_window": 1 << 20,
            "bytes_in_flight": 0,
            "lost_packets": 0,
        }
        self._facts[path] = PathFacts(**(values | changes))
        if (state := self.session.paths.get(path)) is not None:
            state.on_facts(self._facts[path], self.now)

    def hush(self, path: PathId) -> None:
        """The path owes an acknowledgement and goes silent; others speak. Time goes on a little."""
        self.facts(path, last_packet_at=self.now - 10.0, oldest_unacked_at=self.now - 10.0)
        self.wake()

    def speak(self, path: PathId) -> None:
        """The path is heard again."""
        self.facts(path)
        self.settle()

    # ---------------------------------------------------------------- streams

    def dial(self, replicas: int = 1) -> int:
        """A new stream."""
        key = self.session.dial(self.now, replicas)
        self.settle()
        return key

    def live(self, path: PathId = P1, *, replicas: int = 1, **opened: Any) -> tuple[int, int]:
        """A stream whose anchor has answered: (key, replica). The path is brought up if it is not."""
        if path not in self.session.paths:
            self.path(path)
        key = self.dial(replicas)
        number = self.hear_only(frames.Open, path)[-1].replica
        self.opened(number, path, **opened)
        return key, number

    def opened(self, replica: int, path: PathId, *, replicated: bool = True, hashed: bool = True) -> None:
        """A server's application was reached."""
        self.tell(frames.Opened(replica, 1 << 20, replicated, hashed), path)

    def pair(self, **settings: Any) -> tuple[int, int, int]:
        """A stream with an anchor on path 1 and a helper on path 2, both live: (key, anchor, helper)."""
        self.path(P1, "a")
        self.path(P2, "b")
        key, anchor = self.live(P1, replicas=2)
        helper = self.hear_only(frames.Open, P2)[-1].replica
        self.opened(helper, P2)
        self.hear(P1)
        self.hear(P2)
        return key, anchor, helper

    def stream(self, key: int) -> ClientStream:
        """The stream; it must not be over."""
        return self.session.streams[key]

    def write(self, key: int, data: bytes) -> None:
        """The application writes."""
        self.stream(key).on_app_bytes(data)
        self.session.touch(self.stream(key))
        self.settle()

    def eof(self, key: int) -> None:
        """The application ends its direction."""
        self.stream(key).on_app_eof()
        self.session.touch(self.stream(key))
        self.settle()

    def close(self, key: int, *, aborted: bool = False) -> None:
        """The application closes its socket."""
        self.stream(key).on_app_closed(aborted=aborted)
        self.session.touch(self.stream(key))
        self.settle()

    def read(self, key: int, most: int = 1 << 30) -> bytes:
        """The application reads what it may."""
        data = b""
        stream = self.stream(key)
        while len(data) < most and (view := stream.peek()) is not None:
            piece = bytes(view[: most - len(data)])
            view.release()
            stream.consume(len(piece), self.now)
            data += piece
        self.session.touch(stream)
        self.settle()
        return data

    def at_end(self, key: int) -> bool:
        """Whether the end of file may be shown; it is shown then, as a core does."""
        stream = self.session.streams.get(key)
        if stream is None or not stream.may_end(self.now):
            return False
        stream.show_end()
        self.session.touch(stream)
        self.settle()
        return True

    # ---------------------------------------------------------------- frames

    def tell(self, frame: Any, path: PathId = P1) -> None:
        """A control frame of a server."""
        self.session.on_frame(path, frame, self.now)
        self.settle()

    def data(self, replica: int, order: int, offset: int, payload: bytes, path: PathId = P1) -> None:
        """DATA of a server."""
        self.session.on_data(path, DataPiece(replica, order, offset, payload), self.now)
        self.settle()

    def fault(self, what: Any, path: PathId = P1) -> int:
        """Code of the error that a frame or a piece of DATA raises."""
        try:
            if isinstance(what, DataPiece):
                self.session.on_data(path, what, self.now)
            else:
                self.session.on_frame(path, what, self.now)
        except LocalProtocolError as error:
            return error.code
        raise AssertionError(f"{what} was taken")

    def announce(self, replica: int, path: PathId, text: bytes = TEXT, *, first: int = 0, count: int = 16) -> None:
        """Digests of some blocks, whatever was told before."""
        digests = digests_of(text, BLOCK)[first : first + count]
        self.tell(frames.Digests(replica, first, tuple(digests)), path)

    def announce_run(self, replica: int, path: PathId, text: bytes = TEXT, *, first: int = 0, count: int = 16) -> None:
        """One run."""
        self.tell(frames.Run(replica, first, count, naive_run(text, first, count, BLOCK)), path)

    def supply(self, replica: int, path: PathId, text: bytes = TEXT, *, below: int = 1 << 30) -> list[int]:
        """Send all ordered blocks below `below` that are produced, in order; returns them."""
        self.hear_all()
        sent = []
        todo = self.orders.get((path, replica), Sent()).orders
        for number, blocks in todo.items():
            for block in [b for b in blocks if b < below and b * BLOCK < len(text)]:
                blocks.remove(block)
                sent.append(block)
                payload = text[block * BLOCK : (block + 1) * BLOCK]
                if (stream := self._of(replica)) is None:
                    return sent
                if stream.views[replica].is_usable:
                    self.data(replica, number, block * BLOCK, payload, path)
        return sent

    def answer(self, probe: frames.Probe, path: PathId, text: bytes = TEXT) -> None:
        """PROBED with the pair of that text."""
        pair = naive_pair(text, probe.offset, BLOCK)
        self.tell(frames.Probed(probe.replica, probe.probe, probe.offset, frames.PROBE_REACHED, *pair), path)

    def hear(self, path: PathId = P1, size: int = 1 << 16) -> list[Frame]:
        """What goes out on a path since the last look, decoded."""
        self._pull(path, size)
        return self._unread.pop(path, [])

    def hear_only(self, kind: type[F], path: PathId = P1) -> list[F]:
        """Frames of one type; others stay for the next look."""
        self._pull(path, 1 << 16)
        unread = self._unread.get(path, [])
        self._unread[path] = [frame for frame in unread if not isinstance(frame, kind)]
        return [frame for frame in unread if isinstance(frame, kind)]

    def hear_all(self) -> None:
        """Let every path say what it has to say; it stays for the next look."""
        for path in list(self.session.paths):
            self._pull(path, 1 << 16)

    def _pull(self, path: PathId, size: int) -> None:
        received = []
        while output := self.session.room(path, size, self.now):
            for pipe, data in output:
                self.pipes.append(pipe)
                decoder = self._decoders.setdefault((path, pipe), Decoder("client", "data" if pipe else "control"))
                received += decoder.feed(data)
            self.settle()
        for frame in joined(received):
            self._note(path, frame)
            self._unread.setdefault(path, []).append(frame)

    def _note(self, path: PathId, frame: Frame) -> None:
        if isinstance(frame, frames.Open):
            first = frame.floor // BLOCK
            orders = {0: list(range(first, first + frame.first_grant_blocks))} if frame.first_grant_blocks else {}
            self.orders[path, frame.replica] = Sent(orders)
        elif isinstance(frame, frames.Grant):
            blocks = [block for start, count in frame.blocks for block in range(start, start + count)]
            self.orders.setdefault((path, frame.replica), Sent()).orders[frame.order] = blocks

    def granted(self, replica: int, path: PathId) -> list[int]:
        """Blocks that are on order from a replica on a path."""
        self.hear_all()
        orders = self.orders.get((path, replica), Sent()).orders
        return sorted(block for blocks in orders.values() for block in blocks)

    def _of(self, replica: int) -> ClientStream | None:
        return next((s for s in self.session.streams.values() if replica in s.views), None)

    # ---------------------------------------------------------------- time and actions

    def settle(self) -> None:
        """Let every touched stream act, as a core does once per turn."""
        self.session.settle(self.now)
        self.recover += self.session.to_recover
        self.session.to_recover = []

    def wait(self, seconds: float) -> None:
        """Time goes on; paths without debts are heard all the time."""
        self.now += seconds
        for path, facts in self._facts.items():
            if facts.oldest_unacked_at is None and path in self.session.paths:
                self.facts(path)
        self.wake()

    def wake(self) -> None:
        """The timer goes off."""
        self.session.on_timeout(self.now)
        self.settle()

    def actions(self) -> list[object]:
        """What was asked for since the last call, wake-ups of paths left out."""
        said = [action for action in self.said if not isinstance(action, WakePath)]
        self.said.clear()
        return said

    def failed(self, key: int) -> PortReset | None:
        """How the stream failed, if it did."""
        found = [action for action in self.said if isinstance(action, PortReset) and action.key == key]
        return found[-1] if found else None

    def is_done(self, key: int) -> bool:
        """Whether the stream ended well."""
        return PortDone(key) in self.said

    def is_readable(self, key: int) -> bool:
        """Whether the application was told that it may read."""
        return PortReadable(key) in self.said
