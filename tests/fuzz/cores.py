"""Whole endpoints: a core on admitted paths is fed any sequence of frames, and bytes that are no frames.

The input is read as a script, so that a mutation changes a step or an argument. A core may close a path for what comes
on it; nothing may come out of it but that, and what it holds stays within its limits (SPEC §2, guarantee 5).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import singledispatchmethod
from typing import Any

from kwik.config import Config, ServerConfig
from kwik.core.actions import Accept, ClosePath, OpenPath, PingPath, PortDone, PortReset
from kwik.core.client import ClientCore
from kwik.core.server import ServerCore
from kwik.errors import KwikError
from kwik.kcp.admission import client_proof
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.kdp.facts import PathFacts
from kwik.types import Address, PathId
from kwik.wire import frames, kinds, varint
from kwik.wire.codec import Decoder, Frame, Received, encode
from kwik.wire.messages import JOIN_OK, VERSION, ClientHello, Join, Joined, ServerHello
from kwik.wire.schema import BY_CLASS, REGISTRY, FrameSpec, Sender
from tests.fuzz.targets import target
from tests.unit.kdp.naive import digests_of, naive_pair, naive_run, pattern

SERVICE = "files.example:80"
BLOCK = 64
MEMORY_BYTES = 1 << 20
STEPS_MAX = 150
BLOCKS = 128
TEXT = pattern(BLOCKS * BLOCK)
DIGESTS = digests_of(TEXT, BLOCK)
SCRIPTS = [random.Random(number).randbytes(50 + 30 * number) for number in range(8)]
"""Mutation joins up to three of them: long enough to reach every part, short enough that many are played."""
NAMED = {
    "replica": (0, 1, 2, 3, 4, 5),
    "stream": (1, 2),
    "mode": (0, 1, 1, 2),
    "role": (0, 1, 2),
    "block_bytes": (BLOCK, BLOCK, BLOCK, 0, 32, 131072),
    "digest": (1, 1, 1, 0, 2),
    "order": (0, 1, 2, 3, 4),
    "flags": (0, 0, 1, 255),
    "count": (1, 1, 16, 64, 0, 255),
    "code": (0, 0, 14, 99),
    "credit": (BLOCK * 64, BLOCK * 64, BLOCK, 0, varint.MAX),
    "first_grant_blocks": (0, 0, 4, 64, varint.MAX),
    "status": (0, 0, 1, 255),
    "probe": (0, 1, 2),
}
"""Small numbers, so that frames speak of the same things; where none is named, `EDGES`."""
EDGES = (0, 0, 1, BLOCK, BLOCK, 2 * BLOCK, 3 * BLOCK, 10 * BLOCK, 64 * BLOCK, BLOCK - 1, 63, 70000, varint.MAX - 1)


class Script:
    """Choices drawn from the input; over when it is used up."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets[: 24 * STEPS_MAX]
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Nothing is left to be chosen by."""
        return self._at >= len(self._octets)

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1, at most 256."""
        value = 0 if self.is_over else self._octets[self._at]
        self._at += 1
        return value % limit

    def one(self, values: Any) -> Any:
        """One of them."""
        return values[self.below(len(values))]

    def octets(self, size: int) -> bytes:
        """Bytes that repeat, so that digests may agree."""
        return bytes([self.below(3)]) * size

    def frame(self, specs: list[FrameSpec], replicas: list[int]) -> Frame:
        """A well-formed frame of one of these types, mostly about one of these replicas."""
        spec: FrameSpec = self.one(specs)
        named = NAMED | {"replica": (*replicas * 4, 7)} if replicas else NAMED
        made: Frame = spec.cls(**{f.name: self._of(f.kind, named.get(f.name, EDGES)) for f in spec.fields})
        return made

    @singledispatchmethod
    def _of(self, kind: kinds.Kind, numbers: tuple[int, ...]) -> object:
        raise TypeError(kind.label)

    @_of.register
    def _(self, kind: kinds.Integer, numbers: tuple[int, ...]) -> object:
        return min(self.one(numbers), kind.maximum)

    @_of.register
    def _(self, kind: kinds.Boolean, numbers: tuple[int, ...]) -> object:
        return bool(self.below(2))

    @_of.register
    def _(self, kind: kinds.Text, numbers: tuple[int, ...]) -> object:
        return self.one((SERVICE, SERVICE, SERVICE, "", "other.example:1"))[: kind.maximum]

    @_of.register
    def _(self, kind: kinds.Octets, numbers: tuple[int, ...]) -> object:
        return self.octets(kind.length)

    @_of.register
    def _(self, kind: kinds.OptionalOctets, numbers: tuple[int, ...]) -> object:
        return self.octets(kind.length) if self.below(2) else b""

    @_of.register
    def _(self, kind: kinds.OctetsList, numbers: tuple[int, ...]) -> object:
        return tuple(self.octets(kind.length) for _ in range(1 + self.below(4)))

    @_of.register
    def _(self, kind: kinds.IntegerList, numbers: tuple[int, ...]) -> object:
        return tuple(self.below(4) for _ in range(self.below(3)))

    @_of.register
    def _(self, kind: kinds.RangeList, numbers: tuple[int, ...]) -> object:
        return tuple((self.below(70), 1 + self.below(20)) for _ in range(1 + self.below(3)))

    @_of.register
    def _(self, kind: kinds.PairList, numbers: tuple[int, ...]) -> object:
        return tuple((self.below(5), self.below(70)) for _ in range(1 + self.below(3)))

    @_of.register
    def _(self, kind: kinds.TypedEntries, numbers: tuple[int, ...]) -> object:
        return tuple((number, b"x") for number in range(self.below(3)))

    @_of.register
    def _(self, kind: kinds.Rest, numbers: tuple[int, ...]) -> object:
        return self.octets(self.one((1, BLOCK, 2 * BLOCK, 1000)))


def _specs(sender: str) -> list[FrameSpec]:
    return [REGISTRY[number] for number in sorted(REGISTRY) if REGISTRY[number].sender == sender]


def _pipe(frame: object) -> int:
    return 1 if isinstance(frame, frames.Data | frames.Upstream) else 0


class Stage:
    """What both sides have in common: a clock, dice, paths, and the steps of a script."""

    def __init__(self, script: Script, sender: Sender) -> None:
        self.script = script
        self.now = 1000.0
        self.dice = random.Random(1)
        self.paths: list[PathId] = []
        self.replicas: dict[PathId, list[int]] = {}
        """Those that were opened or bound on a path."""
        self.keys: list[int] = []
        self._other: Sender = "server" if sender == "client" else "client"
        self._decoders: dict[tuple[PathId, int], Decoder] = {}
        self._specs = _specs(sender)
        self._streams = [spec for spec in self._specs if spec.number >= 0x20]
        self.core: Any = None

    def run(self) -> None:
        """Play the script to its end."""
        steps: tuple[Callable[[], None], ...] = (*([self.honest] * 12), *([self.app] * 5), *([self.room] * 4))
        steps += (self.send, self.send, self.send, self.time, self.path_down, self.garbage)
        for _ in range(STEPS_MAX):
            if self.script.is_over:
                break
            self.script.one(steps)()
            self.perform()
            self.check()
        self.now += 200.0
        self.core.on_timeout(self.now)
        self.perform()
        self.check()

    def send(self) -> None:
        """The other side sends a frame: mostly of a stream, now and then of the control plane."""
        if not self.paths:
            self.path_up()
            return
        path = self.script.one(self.paths)
        specs = self._specs if self.script.below(20) == 0 else self._streams
        frame = self.script.frame(specs, self.replicas.get(path, []))
        pipe = _pipe(frame) if self.script.below(20) else self.script.below(3)
        # Past the check of `encode`: a stranger may name an offset beyond the last one.
        self.feed(path, pipe, BY_CLASS[type(frame)].encode(frame))

    def say(self, path: PathId, *said: Frame) -> None:
        """The other side keeps to the rules."""
        for frame in said:
            self.feed(path, _pipe(frame), encode(frame))

    def garbage(self) -> None:
        """Bytes that may be anything."""
        if self.paths:
            octets = bytes(self.script.below(256) for _ in range(self.script.below(9)))
            self.feed(self.script.one(self.paths), self.script.below(3), octets)

    def feed(self, path: PathId, pipe: int, octets: bytes) -> None:
        """Whole, now and then in two parts: the decoders are fuzzed for themselves."""
        cut = 0 if self.script.below(8) else self.script.below(len(octets) + 1)
        if cut:
            self.core.on_path_data(path, pipe, octets[:cut], self.now)
        self.core.on_path_data(path, pipe, octets[cut:], self.now)

    def room(self) -> None:
        """A path has room; what comes out must be frames."""
        if not self.paths:
            return
        path = self.script.one(self.paths)
        size = self.script.one((1, 100, 1500, 20000, 65536))
        for pipe, data in self.core.on_room(path, size, self.now):
            decoder = self._decoders.get((path, pipe))
            if decoder is None:
                decoder = self._decoders[path, pipe] = Decoder(self._other, "data" if pipe else "control")
            for received in decoder.feed(data):
                self.on_said(path, received)

    def on_said(self, path: PathId, received: Received) -> None:
        """What the core under test said."""

    def honest(self) -> None:
        """The other side does something useful."""

    def time(self) -> None:
        """Time goes on."""
        self.now += self.script.one((0.001, 0.05, 1.0, 130.0))
        self.core.on_timeout(self.now)
        due = self.core.deadline()
        assert due is None or due > self.now

    def path_down(self) -> None:
        """A path is lost, or one more comes."""
        if self.paths and self.script.below(2):
            self.core.on_path_down(self.paths.pop(self.script.below(len(self.paths))), "lost", self.now)
        elif len(self.paths) < 4:
            self.path_up()

    def app(self) -> None:
        """The application's end of a stream does something that it may."""
        if not self.keys:
            self.app_up()
            return
        core, key = self.core, self.script.one(self.keys)
        action = self.script.below(8)
        if action == 0:
            core.on_app_eof(key, self.now)
        elif action == 1:
            core.on_app_closed(key, self.now, aborted=bool(self.script.below(2)))
        elif action <= 4:
            size = min(core.allowance(key), self.script.one((1, BLOCK, 1000, 5000)))
            if size:
                core.on_app_bytes(key, self.script.octets(size), self.now)
        elif (view := core.peek(key)) is not None:
            size = min(len(view), self.script.one((1, BLOCK, 100000)))
            view.release()
            core.consume(key, size, self.now)
        core.at_end(key)

    def perform(self) -> None:
        """What the core asks for."""
        for _ in range(20):
            actions = self.core.actions()
            if not actions:
                return
            for action in actions:
                self.on_action(action)
        raise AssertionError("the core never comes to rest")

    def on_action(self, action: object) -> None:
        """Those of both sides."""
        if isinstance(action, ClosePath) and action.path in self.paths:
            self.paths.remove(action.path)
            self.replicas.pop(action.path, None)
            self.core.on_path_down(action.path, "closed", self.now)
        elif isinstance(action, PortDone | PortReset) and action.key in self.keys:
            self.keys.remove(action.key)

    def path_up(self) -> None:
        """One more path, admitted."""

    def app_up(self) -> None:
        """One more application."""

    def check(self) -> None:
        """What must hold after every step."""


class ServerStage(Stage):
    """A server with one session of several paths, and a client that does as it likes."""

    def __init__(self, script: Script) -> None:
        super().__init__(script, "client")
        self._secret, self._name = b"k" * 32, b""
        self._next = 1
        self._number = self._orders = 0
        self._written: dict[int, int] = {}
        config = ServerConfig(
            service=SERVICE,
            server_id="s",
            replicated=bool(script.below(4)),
            min_block_bytes=BLOCK,
            memory_bytes=MEMORY_BYTES,
            send_window_bytes=4000,
            max_replicas=8,
            upstream_credit_bytes=1000,
            upstream_window_bytes=2000,
        )
        self.core = ServerCore(
            config, incarnation=b"i" * 16, facts=lambda path, now: None, token_bytes=self.dice.randbytes
        )
        self.path_up()

    def path_up(self) -> None:
        """With its hello; further ones join."""
        path, self._next = PathId(self._next), self._next + 1
        binding, session, nonce = bytes([path % 256]) * 32, path.to_bytes(16), b"n" * 16
        self.core.on_path_writable(path, binding, None, self.now)
        hello = ClientHello(VERSION, session, self._secret, nonce, path, SERVICE, ())
        self.core.on_path_data(path, 0, encode(hello), self.now)
        decoder = self._decoders[path, 0] = Decoder("server", "control")
        answer = self._answer(path, decoder)
        assert isinstance(answer, ServerHello)
        if self._name:
            proof = client_proof(self._secret, nonce, answer.nonce, binding)
            self.core.on_path_data(path, 0, encode(Join(self._name, proof)), self.now)
            joined = self._answer(path, decoder)
            assert isinstance(joined, Joined)
            if joined.status != JOIN_OK:  # that session is over: the next path begins a new one
                self.core.on_path_down(path, "of no use", self.now)
                self._name, self._number = b"", 0
                return
        else:
            self._name = session
        self.paths.append(path)

    def _answer(self, path: PathId, decoder: Decoder) -> Received:
        control = [data for pipe, data in self.core.on_room(path, 65536, self.now) if pipe == 0]
        return decoder.feed(b"".join(control))[0]

    def honest(self) -> None:
        """The client opens, attaches, grants, acknowledges and writes."""
        if not self.paths:
            self.path_up()
            return
        path = self.script.one(self.paths)
        known = self.replicas.setdefault(path, [])
        action = self.script.below(8)
        if not known or action == 0:
            self._number += 1
            known.append(self._number)
            self._written[self._number] = 0
            mode, role = self.script.below(2), self.script.below(2)
            opened = frames.Open(self._number, 1, mode, role, SERVICE, BLOCK, 1, 0, 64 * BLOCK, 4, ())
            self.say(path, opened)
            return
        number = self.script.one(known)
        if action == 1:
            number = 1 + self.script.below(self._number)
            known.append(number)
            self.say(path, frames.Attach(number, self.script.below(2), 0, 64 * BLOCK, (self.script.below(5),)))
        elif action == 2:
            self._orders += 1
            blocks = ((self.script.below(60), 1 + self.script.below(4)),)
            self.say(path, frames.Grant(number, self._orders, self.script.below(2) == 0, blocks))
        elif action == 3:
            self.say(path, frames.Ack(number, BLOCK * self.script.below(64), BLOCK * (64 + self.script.below(64))))
        elif action == 4:
            self.say(path, frames.Revoke(number, ((1 + self.script.below(self._orders + 1), self.script.below(9)),)))
        elif action == 5:
            self.say(path, frames.Anchor(number, 2, 0), frames.Probe(number, 1, BLOCK * self.script.below(70)))
        else:
            start, size = self._written.get(number, 0), self.script.one((1, BLOCK, 300))
            after = self.script.one((0, 0, 0, BLOCK, 1000))
            pair = (self.script.octets(32), self.script.octets(32)) if after else (b"", b"")
            self._written[number] = start + size
            self.say(path, frames.Upstream(number, start, after, self.script.one((0, 0, 0, 1)), *pair, b"u" * size))

    def on_action(self, action: object) -> None:
        """Applications are reached, or not."""
        super().on_action(action)
        if isinstance(action, Accept):
            if self.script.below(8):
                self.core.accepted(action.key, self.now)
                self.keys.append(action.key)
            else:
                self.core.refused(action.key, 10, "down", self.now)

    def check(self) -> None:
        """Memory and number of replicas."""
        assert self.core.held_bytes <= MEMORY_BYTES
        assert self.core.stream_count <= 8
        assert all(0 <= self.core.allowance(key) <= MEMORY_BYTES for key in self.keys)


class ClientStage(Stage):
    """A client with streams over several servers, which do as they like."""

    STREAMS = 3

    def __init__(self, script: Script) -> None:
        super().__init__(script, "server")
        self._owed: dict[tuple[PathId, int], list[tuple[int, int]]] = {}
        """(order, block) that a replica has to send on a path."""
        self._probes: list[tuple[PathId, frames.Probe]] = []
        self._produced: dict[int, int] = {}
        self._addresses = [Address(f"192.0.2.{number}", 4433) for number in (1, 2, 3)]
        self._sighted: list[Address] = []
        config = Config(
            block_bytes=BLOCK,
            receive_window_bytes=64 * BLOCK,
            first_window_bytes=16 * BLOCK,
            memory_bytes=MEMORY_BYTES,
            replay_limit_bytes=20_000,
            recruit_backlog_bytes=4 * BLOCK,
            replicas=1 + script.below(3),
        )
        self.core = ClientCore(
            SERVICE, config, facts=self._facts, token_bytes=self.dice.randbytes, rng=random.Random(2)
        )
        self.app_up()
        self.path_up()

    def _facts(self, path: PathId, now: float) -> PathFacts | None:
        if path not in self.paths:
            return None
        owes = now - 0.01 if self.now % 1 > 0.5 else None
        return PathFacts(
            last_packet_at=now - 0.02,
            oldest_unacked_at=owes,
            smoothed_rtt_s=0.01,
            rtt_variance_s=0.001,
            min_rtt_s=0.01,
            latest_rtt_s=0.01,
            max_ack_delay_s=0.0,
            unsent_bytes=0,
            congestion_window=1 << 20,
            bytes_in_flight=0,
            lost_packets=0,
        )

    def path_up(self) -> None:
        """Discovery has seen servers; the core opens paths itself, in its own time."""
        address = self.script.one(self._addresses)
        if address not in self._sighted:
            self._sighted.append(address)
            self.core.on_sighting(Sighting(SightingKind.FOUND, "fuzz", SERVICE, (address,), str(address)), self.now)
        elif not self.keys:
            self.app_up()
        elif (due := self.core.deadline()) is not None:
            self.now = max(self.now, due)
            self.core.on_timeout(self.now)

    def app_up(self) -> None:
        """A dial."""
        if len(self.keys) < self.STREAMS:
            try:
                self.keys.append(self.core.dial(self.now, replicas=1 + self.script.below(3)))
            except KwikError:
                return
            self.core.on_app_bytes(self.keys[-1], b"GET", self.now)

    def on_said(self, path: PathId, received: Received) -> None:
        """Remember what the servers owe."""
        if isinstance(received, frames.Open):
            self.replicas.setdefault(path, []).append(received.replica)
            first = received.floor // BLOCK
            blocks = range(first, min(first + received.first_grant_blocks, BLOCKS))
            self._owed[path, received.replica] = [(0, block) for block in blocks]
        elif isinstance(received, frames.Attach):
            self.replicas.setdefault(path, []).append(received.replica)
            self.say(path, frames.Attached(received.replica, True, 0, 0, 65536, 0))
        elif isinstance(received, frames.Grant):
            owed = self._owed.setdefault((path, received.replica), [])
            granted = [block for first, count in received.blocks for block in range(first, min(first + count, BLOCKS))]
            owed += [(received.order, block) for block in granted]
        elif isinstance(received, frames.Probe):
            self._probes.append((path, received))

    def honest(self) -> None:
        """A server answers, produces, announces and sends what is true."""
        self.room()
        known = [(path, number) for path in self.paths for number in self.replicas.get(path, [])]
        if not known:
            self.path_up()
            return
        path, number = self.script.one(known)
        action = self.script.below(8)
        owed = self._owed.get((path, number), [])
        if number not in self._produced:
            self._produced[number] = 0
            self.say(path, frames.Opened(number, 1 << 20, True, True))
        elif action == 0:
            self._produced[number] = min(self._produced[number] + 16 * BLOCK, len(TEXT))
            self.say(path, frames.Produced(number, self._produced[number]))
        elif action == 1 and self._produced[number]:
            last = self._produced[number] // BLOCK
            self.say(path, frames.Digests(number, last - 16, tuple(DIGESTS[last - 16 : last])))
        elif action == 2 and self._produced[number]:
            first = self._produced[number] // BLOCK - 16
            self.say(path, frames.Run(number, first, 16, naive_run(TEXT, first, 16, BLOCK)))
        elif action == 3 and self._probes:
            asked, probe = self._probes.pop()
            pair = naive_pair(TEXT, min(probe.offset, len(TEXT)), BLOCK)
            if asked in self.paths:
                self.say(asked, frames.Probed(probe.replica, probe.probe, probe.offset, 0, *pair))
        elif action == 4 and self.script.below(6) == 0:
            self.say(path, frames.Fin(number, self._produced[number]))
        elif owed:
            order, block = owed.pop(0)
            self.say(path, frames.Data(number, order, block * BLOCK, TEXT[block * BLOCK : (block + 1) * BLOCK]))

    def on_action(self, action: object) -> None:
        """Paths come up with a hello, mostly a good one; pings are answered."""
        super().on_action(action)
        if isinstance(action, OpenPath):
            if not self.script.below(8):
                self.core.on_path_down(action.path, "refused", self.now)
                return
            self.paths.append(action.path)
            self.core.on_path_writable(action.path, b"b" * 32, self.now)
            number = self._addresses.index(action.address) if action.address in self._addresses else 9
            incarnation = bytes([number + 10 * self.script.below(2)]) * 16
            hello = ServerHello(VERSION, f"s{number}", incarnation, b"n" * 16, SERVICE, True, False, 65536, 120_000, ())
            if self.script.below(10):
                self.core.on_path_data(action.path, 0, encode(hello), self.now)
        elif isinstance(action, PingPath) and self.script.below(2):
            self.core.on_pong(action.path, action.ping, self.now)

    def check(self) -> None:
        """What arrived and what was written, within their limits."""
        copies = 2 * MEMORY_BYTES
        assert self.core.held_bytes <= copies + self.STREAMS * 100_000


@target("server-core", SCRIPTS)
def server_core(octets: bytes) -> None:
    """A server, whatever its client does."""
    ServerStage(Script(octets)).run()


@target("client-core", SCRIPTS)
def client_core(octets: bytes) -> None:
    """A client, whatever its servers do."""
    ClientStage(Script(octets)).run()
