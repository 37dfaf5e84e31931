"""Two paths over a wire in virtual time: no sockets, no sleeping, the same bytes on every run but for keys."""

import functools
import heapq
from collections.abc import Callable

from kwik.quic import ClientTls, PathEnd, QuicLimits, QuicPath, ServerTls
from kwik.quic.certs import Issued, issue, make_ca
from kwik.quic.connection import PathConnection
from kwik.quic.fast import connection_class

CLIENT, SERVER = ("192.0.2.1", 1111), ("192.0.2.2", 4433)
START = 1000.0
NAME = "files.example"


@functools.cache
def authority() -> Issued:
    return make_ca("test CA")


@functools.cache
def server_tls(*names: str) -> ServerTls:
    leaf = issue(authority(), names or (NAME,))
    return ServerTls(certdata=leaf.cert_pem, keydata=leaf.key_pem)


def client_tls(name: str = NAME, ca: Issued | None = None) -> ClientTls:
    return ClientTls(server_name=name, cadata=(ca or authority()).cert_pem)


class Recorder:
    """Writes down what a path tells, and lets a test answer."""

    def __init__(self) -> None:
        self.log: list[tuple[str, float]] = []
        self.binding = b""
        self.pipes: dict[int, bytearray] = {}
        self.pongs: list[int] = []
        self.end: PathEnd | None = None
        self.offers: list[int] = []
        self.to_send = b""
        self.at_writable: Callable[[QuicPath, float], None] = lambda path, now: None
        self.at_data: Callable[[QuicPath, int, bytes, float], None] = lambda path, pipe, data, now: None

    def on_writable(self, path: QuicPath, binding: bytes, now: float) -> None:
        self.log.append(("writable", now))
        self.binding = binding
        self.at_writable(path, now)

    def on_up(self, path: QuicPath, now: float) -> None:
        self.log.append(("up", now))

    def on_data(self, path: QuicPath, pipe: int, data: bytes, now: float) -> None:
        self.log.append((f"data {pipe}", now))
        self.pipes.setdefault(pipe, bytearray()).extend(data)
        self.at_data(path, pipe, data, now)

    def on_room(self, path: QuicPath, n_bytes: int, now: float) -> None:
        self.offers.append(n_bytes)
        piece, self.to_send = self.to_send[:n_bytes], self.to_send[n_bytes:]
        if piece:
            path.send(1, piece)

    def on_pong(self, path: QuicPath, ping_id: int, now: float) -> None:
        self.pongs.append(ping_id)

    def on_down(self, path: QuicPath, reason: PathEnd, now: float) -> None:
        assert self.end is None, "on_down came twice"
        self.log.append(("down", now))
        self.end = reason

    def got(self, pipe: int) -> bytes:
        return bytes(self.pipes.get(pipe, b""))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.log]

    def when(self, word: str) -> float:
        return next(now for each, now in self.log if each == word)


class Lab:
    """A client's and a server's path, joined by a wire of `delay_s` each way that `drops` what it likes."""

    def __init__(
        self,
        *,
        client: ClientTls | None = None,
        server: ServerTls | None = None,
        client_limits: QuicLimits | None = None,
        server_limits: QuicLimits | None = None,
        delay_s: float = 0.025,
        kind: type[PathConnection] | None = None,
    ) -> None:
        kind = kind or connection_class()
        self.now = START
        self.delay_s = delay_s
        self.client_address = CLIENT
        self.client_events, self.server_events = Recorder(), Recorder()
        limits = client_limits or QuicLimits()
        connection = kind(configuration=(client or client_tls()).configuration(limits), limits=limits)
        self.client = QuicPath(connection, limits, started_at=self.now, local_address=CLIENT)
        self.client.attach(self.client_events)
        limits = server_limits or QuicLimits()
        self.server = QuicPath(
            kind(
                configuration=(server or server_tls()).configuration(limits),
                limits=limits,
                original_destination_connection_id=connection.original_destination_connection_id,
            ),
            limits,
            started_at=self.now,
            local_address=SERVER,
        )
        self.server.attach(self.server_events)
        self.drops: Callable[[QuicPath, bytes], bool] = lambda sender, data: False
        self.extra_delay: Callable[[], float] = lambda: 0.0
        self.wire: list[tuple[float, str, int]] = []
        self._heap: list[tuple[float, int, QuicPath, bytes]] = []
        self._count = 0
        connection.connect(SERVER, self.now)
        self.pump(self.client)

    def pump(self, path: QuicPath) -> None:
        """One turn of one path, as the endpoint does it."""
        path.dispatch(self.now)
        path.fill(self.now)
        if path is self.client or path.connection.is_started:
            other = self.server if path is self.client else self.client
            for data, _ in path.flush(self.now):
                self.wire.append((self.now, "up" if path is self.client else "down", len(data)))
                self.carry(other, data)
            path.dispatch(self.now)

    def carry(self, other: QuicPath, data: bytes) -> None:
        """Bring one datagram to the `other` side, or not."""
        if not self.drops(self.client if other is self.server else self.server, data):
            self.deliver(other, data, self.extra_delay())

    def deliver(self, other: QuicPath, data: bytes, extra_s: float) -> None:
        """It will arrive so much later than usual."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + self.delay_s + extra_s, self._count, other, data))

    def step(self) -> bool:
        """The next thing that happens; False when nothing ever will."""
        events: list[tuple[float, int, QuicPath, bytes | None]] = list(self._heap[:1])
        for number, path in enumerate((self.client, self.server)):
            due = path.deadline() if path is self.client or path.connection.is_started else None
            if due is not None:
                events.append((due + 1e-6, number - 2, path, None))
        if not events:
            return False
        at, _, path, data = min(events, key=lambda event: event[:2])
        self.now = max(self.now, at)
        if data is None:
            path.handle_timer(self.now)
        else:
            heapq.heappop(self._heap)
            path.receive(data, self.client_address if path is self.server else SERVER, self.now)
        self.pump(path)
        return True

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        until = self.now + seconds
        while self._next_at() <= until and self.step():
            pass
        self.now = max(self.now, until)

    def run_until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        until = self.now + limit_s
        while not condition():
            assert self.step(), "nothing left to happen"
            assert self.now < until, f"not so within {limit_s} virtual seconds"

    def up(self) -> "Lab":
        """Run until both sides know the handshake to be complete, and things are quiet."""
        self.run_until(lambda: "up" in self.client_events.words and "up" in self.server_events.words)
        self.run(0.5)
        return self

    def _next_at(self) -> float:
        times = [path.deadline() for path in (self.client, self.server) if path.connection._network_paths]
        dues = [due for due in times if due is not None]
        return min([*dues, *(event[0] for event in self._heap[:1])], default=float("inf"))
