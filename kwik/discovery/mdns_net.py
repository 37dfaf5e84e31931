"""Which network interfaces mDNS uses, what their failures mean, and whether multicast passes at all.

Interfaces are always given to the mDNS library one by one: its default choice fails on a host without a default route.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import ifaddr
from zeroconf import IPVersion

from kwik.discovery.mdns_records import is_loopback
from kwik.discovery.provider import DiscoveryError

IpVersion = Literal["auto", "v4", "v6", "both"]

MDNS_PORT: Final = 5353
_MDNS_GROUP: Final = "224.0.0.251"


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """An address of this host. `host` has no scope id; `index` is the number of its interface."""

    interface: str
    index: int
    host: str

    @property
    def is_ipv6(self) -> bool:
        """True for IPv6."""
        return ":" in self.host


@dataclass(frozen=True, slots=True)
class Choice:
    """The interfaces to use, as the mDNS library wants them, and the addresses that they have."""

    interfaces: tuple[str | int, ...]
    version: IPVersion
    addresses: tuple[LocalAddress, ...]

    @property
    def loopback_only(self) -> bool:
        """True when nothing leaves this host."""
        return all(is_loopback(address.host) for address in self.addresses)


def local_addresses() -> tuple[LocalAddress, ...]:
    """Return the addresses of all interfaces that are up, in a stable order. Raises OSError."""
    return tuple(sorted(_every_address(), key=lambda address: (address.index, address.host)))


def choose(interfaces: Sequence[str] | None, ip_version: IpVersion, local: Sequence[LocalAddress]) -> Choice:
    """Pick interfaces by address or by name (`eth0`); None means all. IPv6 loopback carries no mDNS and is left out.

    Raises DiscoveryError when an entry matches nothing or nothing is left.
    """
    usable = [address for address in local if address.host != "::1" and _wanted(address, ip_version)]
    if interfaces is not None:
        usable = [address for entry in dict.fromkeys(interfaces) for address in _matching(entry, usable, local)]
    if not usable:
        raise DiscoveryError("no network interface is up; mDNS is off, other discovery continues")
    addresses = tuple(dict.fromkeys(usable))
    hosts = [address.host for address in addresses if not address.is_ipv6]
    indexes = list(dict.fromkeys(address.index for address in addresses if address.is_ipv6))
    version = IPVersion.V4Only if not indexes else IPVersion.All if hosts else IPVersion.V6Only
    return Choice((*hosts, *indexes), version, addresses)


def explain(error: Exception) -> DiscoveryError:
    """Turn what the mDNS library or the system raised into an error that says what to do."""
    if isinstance(error, DiscoveryError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO):
        text = "an interface has no multicast or no longer owns its address; name the interfaces to use"
    elif number == errno.EADDRINUSE:
        text = f"port {MDNS_PORT} is held exclusively by another program; stop it or let it share the port"
    elif number in (errno.EACCES, errno.EPERM):
        text = "this program may not open multicast sockets; allow it or use another kind of discovery"
    else:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return DiscoveryError(f"mDNS: {text}")


async def multicast_works(interface: str = "127.0.0.1", timeout_s: float = 1.0) -> bool:
    """Send a datagram to the mDNS group on this interface and see whether it comes back.

    `interface` is one of this host's IPv4 addresses. False as well when the mDNS port cannot be shared. Never raises
    for what the network does; ValueError for an interface that is no IPv4 address.
    """
    try:
        address = ipaddress.IPv4Address(interface).packed
    except ValueError:
        raise ValueError(f"interface {interface!r} is not an IPv4 address") from None
    token = secrets.token_bytes(16)
    loop = asyncio.get_running_loop()
    try:
        with _port_probe(), _receiver(address) as receiver, _sender(address) as sender:
            sender.sendto(token, (_MDNS_GROUP, receiver.getsockname()[1]))
            async with asyncio.timeout(timeout_s):
                while await loop.sock_recv(receiver, 64) != token:
                    pass
    except OSError:  # TimeoutError is one
        return False
    return True


def _every_address() -> Iterator[LocalAddress]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            yield LocalAddress(adapter.name, adapter.index or 0, host.partition("%")[0])


def _wanted(address: LocalAddress, ip_version: IpVersion) -> bool:
    return ip_version in ("auto", "both") or address.is_ipv6 == (ip_version == "v6")


def _matching(entry: str, usable: Sequence[LocalAddress], local: Sequence[LocalAddress]) -> list[LocalAddress]:
    host = entry.partition("%")[0]
    found = [address for address in usable if entry == address.interface or host == address.host]
    if not found:
        known = ", ".join(f"{address.interface} ({address.host})" for address in local[:20]) or "none"
        raise DiscoveryError(
            f"mDNS: interface {entry} is not up, does not own this address or has no multicast; this host has {known}"
        )
    return found


@contextlib.contextmanager
def _receiver(interface: bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind((_MDNS_GROUP, 0))
        membership = socket.inet_aton(_MDNS_GROUP) + interface
        receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        yield receiver


@contextlib.contextmanager
def _sender(interface: bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sender.bind((socket.inet_ntoa(interface), 0))
        yield sender


@contextlib.contextmanager
def _port_probe() -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("", MDNS_PORT))
    yield
