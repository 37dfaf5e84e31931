"""A seeded bad network and seeded mischief for two paths, and everything that can be seen of them afterwards.

With the same seed two kinds of connection meet exactly the same, as long as they send the same: each datagram takes its
fate from the dice in the order of sending.
"""

import datetime
import functools
from collections.abc import Callable
from random import Random
from typing import Any

from aioquic.quic.connection import QuicConnectionState
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kwik.quic import QuicLimits, QuicPath, ServerTls
from kwik.quic.connection import PathConnection
from kwik.quic.pipes import PipeReceiver
from tests.unit.quic.lab import CLIENT, NAME, Lab, authority


def _far_pipe(connection: PathConnection, first: int) -> None:
    connection._remote_max_streams_uni = 30
    connection.send_stream_data(first + 4 * 20, b"x")


def _bidi(connection: PathConnection, first: int) -> None:
    connection._remote_max_streams_bidi = 10
    connection._remote_max_stream_data_bidi_remote = 1000
    connection.send_stream_data(0 if first == 2 else 1, b"x")


def _too_much(connection: PathConnection, first: int) -> None:
    connection._remote_max_data = 1 << 30
    connection._streams[first].max_stream_data_remote = 1 << 30
    connection.write(0, bytes(200_000))


def _too_much_in_all(connection: PathConnection, first: int) -> None:
    connection._remote_max_data = 1 << 30
    for pipe in range(4):
        connection.write(pipe, bytes(40_000))


OFFENCES: dict[str, Callable[[PathConnection, int], None]] = {
    "reset": lambda connection, first: connection.reset_stream(first, 9),
    "fin": lambda connection, first: connection.send_stream_data(first, b"", end_stream=True),
    "datagram": lambda connection, first: connection.send_datagram_frame(b"x"),
    "far pipe": _far_pipe,
    "bidi": _bidi,
    "too much": _too_much,
    "too much in all": _too_much_in_all,
}
MISCHIEF = (*OFFENCES, "stop", "close", "vanish")
WISHES = ("send", "send", "send", "send", "ping", "key", "move", "deaf", "storm")


@functools.cache
def steady_tls() -> ServerTls:
    """A server whose handshake is as long each time: signatures by Ed25519 are, those by ECDSA are not."""
    key, now = Ed25519PrivateKey.generate(), datetime.datetime.now(datetime.UTC)
    ca = authority()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ServerTls(certdata=cert.public_bytes(form[0]), keydata=key.private_bytes(*form))


class Chaos(Lab):
    """Two paths on a network that loses, repeats, damages and reorders, as `seed` says."""

    def __init__(self, kind: type[PathConnection], seed: int) -> None:
        dice = Random(f"{seed}/shape")
        self.loss, self.repeat = dice.choice((0, 0.01, 0.05, 0.2)), dice.choice((0, 0.03))
        self.damage, self.jitter_s = dice.choice((0, 0.03)), dice.choice((0, 0, 0.002, 0.03))
        self.stormy = False
        self.quiet = True
        self._fate = Random(f"{seed}/fate")
        window = dice.choice((65_536, 65_536, 1 << 20))
        limits = QuicLimits(window_bytes=window, idle_timeout_s=8.0)
        super().__init__(server=steady_tls(), client_limits=limits, server_limits=limits, kind=kind)
        self.dice = Random(f"{seed}/wishes")
        self.sent: dict[tuple[bool, int], bytearray] = {}
        self.seen: list[Any] = []

    def carry(self, other: QuicPath, data: bytes) -> None:
        fate = self._fate
        rolls = [fate.random() for _ in range(4)]
        if self.quiet:
            self.deliver(other, data, 0.0)
            return
        if self.stormy or rolls[0] < self.loss:
            return
        if rolls[1] < self.damage:
            at = int(rolls[2] * len(data))
            data = data[:at] + bytes([data[at] ^ 1 << int(rolls[3] * 8)]) + data[at + 1 :]
        self.deliver(other, data, rolls[3] * self.jitter_s)
        if rolls[2] < self.repeat:
            self.deliver(other, data, rolls[1] * 0.2)

    # ------------------------------------------------------------ what happens

    def live(self, wishes: int, *, mischief: bool) -> None:
        """Some wishes at odd times, perhaps something illegal, then peace until all has arrived or one has ended."""
        self.up()
        self.quiet = False
        for _ in range(wishes):
            getattr(self, f"_{self.dice.choice(WISHES)}")()
            self.run(self.dice.choice((0.001, 0.01, 0.06, 0.3)))
            self.note()
        if mischief:
            self._offend(self.dice.choice(MISCHIEF))
            self.run(self.dice.choice((0.01, 0.1)))
        self.run(1.0)
        self.note()
        self.quiet = True
        until = self.now + 60.0
        while not (self.is_over or self.is_complete) and self.now < until and self.step():
            pass
        self.run(0.5)
        self.note()

    @property
    def is_over(self) -> bool:
        return self.client_events.end is not None and self.server_events.end is not None

    @property
    def is_complete(self) -> bool:
        return all(self.got_by(side, pipe).startswith(data) for (side, pipe), data in self.sent.items())

    def got_by(self, sent_by_client: bool, pipe: int) -> bytes:
        return (self.server_events if sent_by_client else self.client_events).got(pipe)

    def _any(self) -> QuicPath:
        return self.dice.choice((self.client, self.server, self.server))

    def _send(self) -> None:
        path, pipe = self._any(), self.dice.randrange(4)
        data = self.dice.randbytes(self.dice.choice((1, 40, 3000, 30_000, 90_000)))
        if path.connection.end() is None:
            self.sent.setdefault((path is self.client, pipe), bytearray()).extend(data)
            path.send(pipe, data)
            self.pump(path)

    def _ping(self) -> None:
        path = self._any()
        path.ping(self.dice.randrange(1000))
        self.pump(path)

    def _key(self) -> None:
        path = self._any()
        if path.connection._state is QuicConnectionState.CONNECTED:
            path.connection.request_key_update()

    def _move(self) -> None:
        self.client_address = (CLIENT[0], self.client_address[1] + 1)

    def _deaf(self) -> None:
        path = self._any()
        path.dispatch = lambda now: []  # type: ignore[method-assign]
        self.run(0.2)
        del path.dispatch

    def _storm(self) -> None:
        self.stormy = True
        self.run(self.dice.choice((0.05, 0.4)))
        self.stormy = False

    def _offend(self, what: str) -> None:
        path = self._any()
        connection = path.connection
        if connection.end() is not None:
            return
        first = 2 if path is self.client else 3
        path.send(0, b"last words")
        if what == "close":
            path.close(77, "enough", self.now)
        elif what == "vanish":
            self.stormy = True
        elif what == "stop":
            theirs = [number for number, stream in connection._streams.items() if not stream.receiver.is_finished]
            for number in theirs[:1]:
                connection.stop_stream(number, 9)
        else:
            OFFENCES[what](connection, first)
        self.pump(path)

    # ------------------------------------------------------------ what can be seen

    def note(self) -> None:
        """Write down the whole state of both sides."""
        for events, path in ((self.client_events, self.client), (self.server_events, self.server)):
            self.seen.append((self.now, list(events.log), events.pongs[:], events.end, state_of(path.connection)))


def state_of(connection: PathConnection) -> dict[str, Any]:
    """What decides about the future of a connection, but for keys and other random bytes."""
    names = """
        _ack_eliciting_sent_since_receipt _close_at _close_pending _handshake_confirmed _loss_at _packet_number
        _pacing_at _ping_pending _probe_pending _remote_max_data _remote_max_data_used _retire_connection_ids
        _spin_bit _spin_highest_pn _state last_packet_at packet_bytes received_bytes
    """
    loss = connection._loss
    return {
        **{name: getattr(connection, name) for name in names.split()},
        "due": connection.get_timer() if connection._close_at is not None else None,
        "loss": {name: value for name, value in vars(loss).items() if isinstance(value, int | float | bool)},
        "congestion": {name: value for name, value in vars(loss._cc).items() if isinstance(value, int | float | None)},
        "pacer": {name: value for name, value in vars(loss._pacer).items() if isinstance(value, int | float | None)},
        "spaces": [_space_of(space) for space in loss.spaces],
        "phase": [(keys.send.key_phase, keys.recv.key_phase) for keys in connection._cryptos.values()],
        "routes": [(path.addr, path.is_validated, path.bytes_sent) for path in connection._network_paths],
        "limit": (connection._local_max_data.value, connection._local_max_data.sent, connection._local_max_data.used),
        "order": [stream.stream_id for stream in connection._streams_queue],
        "streams": [_stream_of(stream) for stream in connection._streams.values()],
    }


def _space_of(space: Any) -> dict[str, Any]:
    kept = {name: value for name, value in vars(space).items() if isinstance(value, int | float | None)}
    packets = [
        (number, packet.sent_time, packet.sent_bytes, packet.is_ack_eliciting, packet.in_flight)
        for number, packet in space.sent_packets.items()
    ]
    window = space.received_packets
    return kept | {"owed": list(space.ack_queue), "sent": packets, "window": (window._lower, sorted(window._received))}


def _stream_of(stream: Any) -> dict[str, Any]:
    sender, receiver = stream.sender, stream.receiver
    kept = {name: value for name, value in vars(stream).items() if isinstance(value, int | bool)}
    # Not `buffer_is_empty`: stock finds out late, when it looks for a piece and there is none.
    sending = (sender.highest_offset, sender._buffer_start)
    ranges = (list(sender._pending), list(sender._acked), bytes(sender._buffer))
    held = (receiver._starts, receiver._pieces) if isinstance(receiver, PipeReceiver) else ()
    return (
        kept
        | {"sending": sending, "ranges": ranges, "receiving": (receiver.highest_offset, receiver._buffer_start)}
        | {"held": repr(held)}
    )
