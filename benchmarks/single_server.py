"""One server: Kwik against the same QUIC without it, cold (with the handshake) and warm, in interleaved pairs.

A pair is one transfer of each, over equal links, in alternating order, in this one warm process. The figures are the
time to the first byte and to the last one. Kwik is used by its blocking socket; the baseline by its bare callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kwik
from benchmarks.content import is_right
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
    cafile: str
    count: int = 0
    warm_plain: PlainClient | None = None

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
            conn.sendall(f"{size}\n".encode())
            pieces, got, first_at = list[bytes](), 0, 0.0
            while got < size and (data := conn.recv(65536)):
                first_at = first_at or time.perf_counter()
                pieces.append(data)
                got += len(data)
            ended_at = time.perf_counter()
            assert got == size
            assert not conn.recv(1)
        # Not while the clock runs: the baseline looks at nothing.
        for piece in reversed(pieces):
            got -= len(piece)
            assert is_right(piece, got)
        return first_at - began_at, ended_at - began_at

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
        """End the warm path of the baseline."""
        engine().call(self._forget())


def measure(ours: Callable[[int], Times], theirs: Callable[[int], Times], size: int, pairs: int) -> dict[str, Any]:
    """Interleaved pairs, after one of each that does not count."""
    ours(size), theirs(size)
    mine: list[Times] = []
    other: list[Times] = []
    for number in range(pairs):
        for which in (0, 1) if number % 2 else (1, 0):
            (mine if which else other).append((ours if which else theirs)(size))
            time.sleep(0.002)  # the last acknowledgements of one must not meet the next
    return {"kwik": mine, "plain": other}


def rows(runs: dict[str, dict[str, Any]]) -> list[list[object]]:
    """One line for each figure."""
    lines: list[list[object]] = []
    for name, run in runs.items():
        for index, what in enumerate(("first byte", "total")):
            ours, theirs = ([each[index] for each in run[which]] for which in ("kwik", "plain"))
            low, high = ratio_interval(ours, theirs)
            ratio = median(ours) / median(theirs)
            verdict = "ok" if ratio <= LIMIT else "SLOWER" if low > LIMIT else "unclear"
            lines.append([f"{name}, {what}", len(ours), f"{median(ours) * 1e3:.1f}", f"{median(theirs) * 1e3:.1f}",
                          f"{ratio:.3f}", f"{low:.3f}-{high:.3f}", verdict])  # fmt: skip
    return lines


def main() -> None:
    """Run, print, keep."""
    options = arguments(
        __doc__ or "",
        pairs=(50, "pairs of transfers, for each size"),
        mbit=(50.0, "rate of the link, Mbit/s of IP packets"),
        rtt_ms=(20.0, "round trip of the link"),
        replicated=(1, "1: the service may have replicas (answers are hashed); 0: it may not"),
    )
    runs: dict[str, dict[str, Any]] = {}
    with Stage() as stage:
        for name, size in SIZES.items():
            servers = stage.server(replicated=bool(options.replicated)), stage.server("plain")
            for server in servers:
                stage.put_link(server, mbit=options.mbit, rtt_ms=options.rtt_ms)
            clients = Clients(*servers, stage.cafile)
            runs[f"{name} cold"] = measure(clients.kwik_cold, clients.plain_cold, size, options.pairs)
            runs[f"{name} warm"] = measure(clients.kwik_warm, clients.plain_warm, size, options.pairs)
            clients.close()
    print(f"One server, {options.mbit:g} Mbit/s, {options.rtt_ms:g} ms: medians in ms, ratio with its 95 % interval")
    print(table(("", "pairs", "kwik", "plain", "ratio", "interval", f"<= {LIMIT}"), rows(runs)))
    write_json(options.json, "single_server", options, runs)


if __name__ == "__main__":
    main()
