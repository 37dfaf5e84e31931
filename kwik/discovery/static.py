"""The simplest source: a list of servers, by address or by name. Names are looked up again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from kwik.discovery.outbox import Outbox, WarningBoard
from kwik.errors import ConfigError
from kwik.kcp.sighting import MAX_ADDRESSES, Sighting, SightingKind, address_defect
from kwik.types import Address, parse_service

DEFAULT_PORT: Final = 4433
MAX_SERVERS: Final = 256
REFRESH_S: Final = 30.0
_FIRST_RETRY_S: Final = 1.0

Resolver = Callable[[Address], Awaitable[Sequence[Address]]]


async def resolve(address: Address) -> tuple[Address, ...]:
    """Ask the system for the IP addresses of a host, both families, in its order of preference (RFC 6724).

    Runs in the loop's thread pool; cancelling leaves the look-up running there. Raises OSError, UnicodeError.
    """
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    found = dict.fromkeys(Address(_with_scope(answer[4]), address.port) for answer in answers)
    return tuple(found)[:MAX_ADDRESSES]


class StaticProvider:
    """Yields the servers of a list; a DiscoveryProvider and a Warns.

    An entry is `host`, `host:port`, an IPv4 or IPv6 address with or without port (`[::1]:4433`, `::1`), or a pair
    (host, port); the port is 4433 when left out. Names are resolved at the start, every `refresh_s` seconds, and after
    a failure with back-off from 1 s; an entry that no longer resolves stays as it was. Raises ConfigError for an entry
    that cannot be right. Entries never go away: they are what somebody configured.
    """

    def __init__(
        self,
        servers: Sequence[str | tuple[str, int]],
        *,
        name: str = "static",
        refresh_s: float = REFRESH_S,
        resolver: Resolver = resolve,
    ) -> None:
        if isinstance(servers, str):
            raise ConfigError(f"servers: give a list: [{servers!r}]")
        self._servers = tuple(dict.fromkeys(parse_server(entry) for entry in servers))
        if len(self._servers) > MAX_SERVERS:
            raise ConfigError(f"servers: {len(self._servers)} entries, the limit is {MAX_SERVERS}; use a registry")
        if not refresh_s > 0:
            raise ConfigError(f"refresh_s must be above 0, not {refresh_s!r}")
        self._name = name
        self._refresh_s = refresh_s
        self._resolver = resolver
        self._warnings = WarningBoard()
        self._failing: dict[Address, str] = {}

    @property
    def name(self) -> str:
        """See DiscoveryProvider."""
        return self._name

    @property
    def servers(self) -> tuple[Address, ...]:
        """The entries as they were understood, without repeats."""
        return self._servers

    def on_warning(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        """See Warns. Warns while a name of the list does not resolve."""
        return self._warnings.subscribe(callback)

    async def watch(self, service: str) -> AsyncIterator[Sighting]:
        """See DiscoveryProvider. The list is the same for every service."""
        spelling = parse_service(service)
        outbox = Outbox()
        tasks: list[asyncio.Task[None]] = []
        try:
            for server in self._servers:
                if _is_literal(server.host):
                    outbox.put(self._sighting(spelling, server, (server,)))
                else:
                    follow = self._follow(spelling, server, outbox)
                    tasks.append(asyncio.get_running_loop().create_task(follow, name=f"resolve {server}"))
                    outbox.watch_task(tasks[-1])
            while True:
                yield await outbox.get()
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _follow(self, service: str, server: Address, outbox: Outbox) -> None:
        known: tuple[Address, ...] = ()
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                found = tuple(await self._resolver(server))
                if not found:
                    raise OSError("the answer is empty")
            except (OSError, UnicodeError) as error:
                self._note(server, str(error) or type(error).__name__)
                pause_s, retry_s = min(retry_s, self._refresh_s), retry_s * 2
            else:
                self._note(server, None)
                if found != known:
                    known = found
                    outbox.put(self._sighting(service, server, found))
                pause_s, retry_s = self._refresh_s, _FIRST_RETRY_S
            await asyncio.sleep(pause_s)

    def _note(self, server: Address, failure: str | None) -> None:
        if failure is None:
            self._failing.pop(server, None)
        else:
            self._failing[server] = failure
        texts = [f"{name.host} does not resolve: {text}" for name, text in self._failing.items()]
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        self._warnings.set(texts[0] + more if texts else None)

    def _sighting(self, service: str, server: Address, addresses: tuple[Address, ...]) -> Sighting:
        return Sighting(SightingKind.FOUND, self._name, service, addresses, key=str(server))


def parse_server(entry: str | tuple[str, int]) -> Address:
    """Read one entry of a server list (see StaticProvider). Raises ConfigError that quotes it."""
    if isinstance(entry, str):
        text = entry.strip()
        address = Address.parse(_with_port(text))
    else:
        try:
            host, port = entry
            address = Address.parse(str(Address(str(host), int(port))))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"server {entry!r}: write 'host:port' or (host, port)") from error
    if not 1 <= address.port <= 65535:
        raise ConfigError(f"server {entry!r}: port {address.port} cannot be dialled, write one from 1 to 65535")
    if _is_literal(address.host) and address_defect(address) is not None:
        raise ConfigError(f"server {entry!r}: {address_defect(address)}; write the address of one server")
    return address


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _with_port(text: str) -> str:
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]:{DEFAULT_PORT}"
    if ":" not in text or text.endswith("]"):
        return f"{text}:{DEFAULT_PORT}"
    return text


def _with_scope(sockaddr: tuple[object, ...]) -> str:
    """A link-local IPv6 address keeps its interface."""
    host = str(sockaddr[0])
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host
