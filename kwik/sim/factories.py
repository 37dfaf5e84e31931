"""Which cores a world is made of: the real ones, or the plain pair that serves as a yardstick."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kwik.config import Config, ServerConfig
from kwik.core.client import ClientCore
from kwik.core.port import FactsView
from kwik.core.server import ServerCore
from kwik.sim.endpoints import ClientSide, ServerSide
from kwik.sim.plain import PlainClient, PlainServer, Remark

Trace = Callable[[object], None]


class Cores(Protocol):
    """Makes the two kinds of core."""

    def client(
        self, service: str, config: Config, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ClientSide:
        """A client's core."""

    def server(
        self, config: ServerConfig, incarnation: bytes, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ServerSide:
        """A server's core, with this incarnation."""


class RealCores:
    """The cores that the engine drives."""

    def client(
        self, service: str, config: Config, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ClientSide:
        return ClientCore(
            service, config, facts=facts, token_bytes=rng.randbytes, rng=random.Random(rng.random()), trace=trace
        )

    def server(
        self, config: ServerConfig, incarnation: bytes, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ServerSide:
        return ServerCore(config, incarnation=incarnation, facts=facts, token_bytes=rng.randbytes, trace=trace)


@dataclass(frozen=True, slots=True)
class PlainCores:
    """One path, one stream, nothing else; but for remarks, if any are given."""

    client_remarks: Sequence[Remark] = ()
    server_remarks: Sequence[Remark] = ()

    def client(
        self, service: str, config: Config, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ClientSide:
        return PlainClient(self.client_remarks)

    def server(
        self, config: ServerConfig, incarnation: bytes, facts: FactsView, rng: random.Random, trace: Trace | None
    ) -> ServerSide:
        return PlainServer(self.server_remarks)
