"""One server: Kwik against the same QUIC without it, cold (with the handshake) and warm, in interleaved runs.

A run is one transfer of each kind, over equal links, in changing order, in this one warm process. The figures are the
time to the first byte and to the last one. Kwik is used by its blocking socket. There are two baselines on the same
adapter: `plain`, its bare callbacks, and `face`, the same blocking socket as Kwik's (and the same asyncio application
at the server), so that what Kwik's planes take is told from what threads and sockets take (`of face`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import kwik
from benchmarks.content import is_right
from benchmarks.face import FaceClient
from benchmarks.figures import arguments, median, ratio_interval, table, write_json
from benchmarks.plain import PlainClient
from benchmarks.stage import HOST, SERVICE, Server, Stage
from kwik.config import Config
from kwik.engine.thread import engine
from kwik.quic import ClientTls
from kwik.types import Address

SIZES = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000}
LIMIT = 1.05
Times = tuple[float, float]
"""Seconds to the first byte and to the last."""


@dataclass
class Clients:
    """Both ways to fetch, cold and warm."""

    kwik_server: Server
    plain_server: Server
    face_server: Server
    cafile: str
    count: int = 0
    warm_plain: PlainClient | None = None
    warm_face: FaceClient | None = None

    def kwik_cold(self, size: int) -> Times:
        """A session of its own: no other dial has this very config."""
        self.count += 1
        return self._kwik(size, Config(session_idle_s=0.001 + self.count * 1e-6))

    def kwik_warm(self, size: int) -> Times:
        """On the session that all warm dials share."""
        return self._kwik(size, Config())

    def _kwik(self, size: int, config: Config) -> Times:
        began_at = time.perf_counter()
        with kwik.dial(SERVICE, servers=[self.kwik_server.address], cafile=self.cafile, config=config) as conn:
            first_at, ended_at = _fetch(conn, size)
            assert not conn.recv(1)
        return first_at - began_at, ended_at - began_at

    def face_cold(self, size: int) -> Times:
        """On a path of its own."""
        began_at = time.perf_counter()
        client = self._connect_face()
        with client.dial() as conn:
            first_at, ended_at = _fetch(conn, size)
        client.close()
        return first_at - began_at, ended_at - began_at

    def face_warm(self, size: int) -> Times:
        """On the path that all warm transfers share."""
        if self.warm_face is None:
            self.warm_face = self._connect_face()
        began_at = time.perf_counter()
        with self.warm_face.dial() as conn:
            first_at, ended_at = _fetch(conn, size)
        return first_at - began_at, ended_at - began_at

    def _connect_face(self) -> FaceClient:
        tls = ClientTls(server_name=HOST, cafile=self.cafile)
        return FaceClient.connect(Address(*self.face_server.address), tls)

    def plain_cold(self, size: int) -> Times:
        """On a path of its own."""
        return engine().call(self._plain_cold(size))

    def plain_warm(self, size: int) -> Times:
        """On the path that all warm transfers share."""
        return engine().call(self._plain_warm(size))

    async def _plain_cold(self, size: int) -> Times:
        began_at = time.perf_counter()
        client = await self._connect()
        first_at, ended_at = await client.fetch(size)
        await client.close()
        return first_at - began_at, ended_at - began_at

    async def _plain_warm(self, size: int) -> Times:
        if self.warm_plain is None:
            self.warm_plain = await self._connect()
        began_at = time.perf_counter()
        first_at, ended_at = await self.warm_plain.fetch(size)
        return first_at - began_at, ended_at - began_at

    async def _connect(self) -> PlainClient:
        tls = ClientTls(server_name=HOST, cafile=self.cafile)
        return await PlainClient.connect(Address(*self.plain_server.address), tls)

    async def _forget(self) -> None:
        if self.warm_plain is not None:
            await self.warm_plain.close()

    def close(self) -> None:
        """End the warm paths of the baselines."""
        engine().call(self._forget())
        if self.warm_face is not None:
            self.warm_face.close()


def _fetch(conn: kwik.Conn, size: int) -> Times:
    """Instants of the first and of the last byte. Contents are looked at afterwards: the baseline looks at nothing."""
    conn.sendall(f"{size}\n".encode())
    pieces, got, first_at = list[bytes](), 0, 0.0
    while got < size and (data := conn.recv(65536)):
        first_at = first_at or time.perf_counter()
        pieces.append(data)
        got += len(data)
    ended_at = time.perf_counter()
    assert got == size
    for piece in reversed(pieces):
        got -= len(piece)
        assert is_right(piece, got)
    return first_at, ended_at


def measure(kinds: dict[str, Callable[[int], Times]], size: int, pairs: int) -> dict[str, Any]:
    """Interleaved runs, after one of each that does not count. Each kind follows each other one equally often."""
    times: dict[str, list[Times]] = {kind: [] for kind in kinds}
    for fetch in kinds.values():
        fetch(size)
    orders = list(permutations(kinds))
    for number in range(pairs):
        for kind in orders[number % len(orders)]:
            times[kind].append(kinds[kind](size))
            time.sleep(0.002)  # the last acknowledgements of one must not meet the next
    return times


def rows(runs: dict[str, dict[str, Any]]) -> list[list[object]]:
    """One line for each figure."""
    lines: list[list[object]] = []
    for name, run in runs.items():
        for index, what in enumerate(("first byte", "total")):
            ours, plain, face = ([each[index] for each in run[which]] for which in ("kwik", "plain", "face"))
            figures = [f"{median(each) * 1e3:.1f}" for each in (ours, plain, face)]
            lines.append([f"{name}, {what}", len(ours), *figures, *_ratio(ours, plain), *_ratio(ours, face)])
    return lines


def _ratio(ours: list[float], theirs: list[float]) -> list[str]:
    low, high = ratio_interval(ours, theirs)
    ratio = median(ours) / median(theirs)
    verdict = "ok" if ratio <= LIMIT else "SLOWER" if low > LIMIT else "unclear"
    return [f"{ratio:.3f}", f"{low:.3f}-{high:.3f}", verdict]


def main() -> None:
    """Run, print, keep."""
    options = arguments(
        __doc__ or "",
        pairs=(50, "runs: transfers of each kind, for each size"),
        mbit=(50.0, "rate of the link, Mbit/s of IP packets"),
        rtt_ms=(20.0, "round trip of the link"),
        replicated=(1, "1: the service may have replicas (answers are hashed); 0: it may not"),
    )
    runs: dict[str, dict[str, Any]] = {}
    with Stage() as stage:
        for name, size in SIZES.items():
            servers = stage.server(replicated=bool(options.replicated)), stage.server("plain"), stage.server("face")
            for server in servers:
                stage.put_link(server, mbit=options.mbit, rtt_ms=options.rtt_ms)
            clients = Clients(*servers, stage.cafile)
            for how in ("cold", "warm"):
                kinds = {kind: getattr(clients, f"{kind}_{how}") for kind in ("kwik", "plain", "face")}
                runs[f"{name} {how}"] = measure(kinds, size, options.pairs)
            clients.close()
    print(f"One server, {options.mbit:g} Mbit/s, {options.rtt_ms:g} ms: medians in ms, ratio with its 95 % interval")
    verdict = f"<= {LIMIT}"
    heads = ("", "runs", "kwik", "plain", "face", "of plain", "interval", verdict, "of face", "interval", verdict)
    print(table(heads, rows(runs)))
    write_json(options.json, "single_server", options, runs)


if __name__ == "__main__":
    main()
