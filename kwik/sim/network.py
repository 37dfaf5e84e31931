"""Who is where: addresses, the pair of links to each server, and the handshakes that join two ends to a path."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kwik.sim.clock import Clock
from kwik.sim.link import Link, LinkPlan
from kwik.sim.paths import PathEnd, PathRules
from kwik.types import Address, PathId

if TYPE_CHECKING:
    from kwik.sim.hosts import Host

FIRST_REPEAT_S: Final = 0.3
CLIENT_ADDRESS: Final = ("198.51.100.7", 40000)


class Site:
    """A place on the network: an address, its two links, and the process that listens there at present."""

    def __init__(self, clock: Clock, address: Address, up: LinkPlan, down: LinkPlan, rng: random.Random) -> None:
        self.address = address
        self.up = Link(clock, up, rng)
        self.down = Link(clock, down, rng)
        self.host: Host | None = None
        self.handshake_s = 0.0
        """What a server needs to answer a handshake."""
        self.answers_when_dead = False
        """True if a closed port is reported (ICMP) to those who try to connect."""

    def pair(self) -> tuple[Link, Link]:
        """Both links."""
        return self.up, self.down


class Network:
    """Opens paths for the client. Each path uses the links of its site, shared with the site's other paths."""

    def __init__(self, clock: Clock, rules: PathRules, rng: random.Random) -> None:
        self.sites: dict[Address, Site] = {}
        self.client: Host | None = None
        self.opened: list[tuple[PathEnd, Site]] = []
        """Client's ends of all paths so far."""
        self.on_server_path: Callable[[Host, PathEnd, bytes], None] | None = None
        self._clock = clock
        self._rules = rules
        self._rng = rng

    def open_path(self, path: PathId, address: Address) -> None:
        """Start a handshake for the client's core."""
        client = self.client
        assert client is not None
        site = self.sites.get(address)
        if site is None:
            self._clock.after(0.001, client.enter, self._no_address, client, path)
            return
        end = PathEnd(self._clock, client, path, site.up, self._rules)
        client.ends[path] = end
        self.opened.append((end, site))
        binding = self._rng.randbytes(32)
        handshake = Handshake(self._clock, self._rules, end=end, site=site, binding=binding, accept=self.on_server_path)
        handshake.begin()

    def _no_address(self, client: Host, path: PathId) -> None:
        client.core.on_path_down(path, "no such address", self._clock.now)


class Handshake:
    """One attempt: the client's first packet, repeated until the server's flight is back or time is up."""

    def __init__(
        self,
        clock: Clock,
        rules: PathRules,
        *,
        end: PathEnd,
        site: Site,
        binding: bytes,
        accept: Callable[[Host, PathEnd, bytes], None] | None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._end = end
        self._site = site
        self._binding = binding
        self._accept = accept
        self._began_at = clock.now
        self._server_end: PathEnd | None = None

    def begin(self) -> None:
        """Send the first packet and keep an eye on the time."""
        self._try(FIRST_REPEAT_S)
        self._clock.after(self._rules.handshake_timeout_s, self._end.host.enter, self._give_up)

    def _give_up(self) -> None:
        if not self._end.is_writable:
            self._end.finish(f"no handshake within {self._rules.handshake_timeout_s:.1f} s")

    def _try(self, repeat_s: float) -> None:
        if self._end.is_writable or self._end.is_over:
            return
        self._site.up.send(self._rules.packet_bytes, self._at_server)
        self._clock.after(repeat_s, self._end.host.enter, self._try, 2 * repeat_s)

    def _at_server(self) -> None:
        host = self._site.host
        if self._end.is_broken:
            return
        if host is None or host.is_dead:
            if self._site.answers_when_dead:
                self._site.down.send(self._rules.overhead_bytes, self._end.host.enter, self._refused)
            return
        if host.takes_packets:
            host.enter(self._answer, host)

    def _refused(self) -> None:
        if not self._end.is_writable:
            self._end.finish("nobody listens there")

    def _answer(self, host: Host) -> None:
        if self._server_end is None:
            self._server_end = PathEnd(self._clock, host, PathId(-1), self._site.down, self._rules)
            self._server_end.twin = self._end
            self._end.twin = self._server_end
            self._clock.after(self._site.handshake_s, host.enter, self._flight, host, True)
        elif self._server_end.host is host:
            self._flight(host, False)

    def _flight(self, host: Host, is_first: bool) -> None:
        """The server's first flight, and its 0.5-RTT data right behind it."""
        server_end = self._server_end
        assert server_end is not None
        if server_end.is_over:
            return
        self._site.down.send(self._rules.packet_bytes, self._at_client)
        if is_first and self._accept is not None:
            server_end.open(unproven_bytes=max(2 * self._rules.packet_bytes, 512))
            self._accept(host, server_end, self._binding)

    def _at_client(self) -> None:
        if not self._end.is_broken:
            self._end.host.enter(self._established)

    def _established(self) -> None:
        end = self._end
        if end.is_writable or end.is_over:
            return
        end.open()
        end.last_packet_at = self._clock.now
        end.start_rtt(self._clock.now - self._began_at)
        end.ping(-1)  # the Finished: something goes out in any case
        end.host.touch(end)
        end.host.on_writable(end, self._binding)
        end.take_early()
