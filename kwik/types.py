"""The small values that every other module speaks of: times, offsets, numbers of things, addresses, service names.

Pure: an address is two fields and a spelling, never a look-up. Quantities that take part in arithmetic (`Instant`,
`Offset`) are plain aliases; numbers that only name something are distinct types, so that one cannot stand for another.
"""

import ipaddress
import re
from typing import NamedTuple, NewType, TypeAlias

from kwik.errors import ConfigError

Instant: TypeAlias = float
"""Seconds on a monotonic clock without a meaning of its own. Unset is None, never 0."""

Offset: TypeAlias = int
"""Position of a byte in one direction of a stream, from 0."""

Range: TypeAlias = tuple[int, int]
"""Half-open: (start, stop)."""

StreamId = NewType("StreamId", int)
ReplicaId = NewType("ReplicaId", int)
PathId = NewType("PathId", int)
OrderId = NewType("OrderId", int)
ServerId = NewType("ServerId", str)
Incarnation = NewType("Incarnation", bytes)

ServiceName = NewType("ServiceName", str)
"""`host:port` in its one spelling (see `parse_service`): two names are the same service if and only if equal."""

INCARNATION_BYTES = 16
"""128 random bits, new at each start of a server, without order."""

MAX_HOST_BYTES = 255
"""Longest host (RFC 1035 §2.3.4)."""

MAX_SERVICE_BYTES = MAX_HOST_BYTES + 6
"""Longest service name: host, colon, five digits."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_PORT = re.compile(r"[0-9]{1,5}")


class Address(NamedTuple):
    """A host name or IP address (IPv6 without brackets) and a port from 0 to 65535. `str()` is what `parse` reads."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port`, `1.2.3.4:port` or `[v6]:port`; ConfigError says what is wrong and what would be right."""
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ConfigError(f"address {text!r} has no port: write HOST:PORT")
        if not _PORT.fullmatch(port) or int(port) > 65535:
            raise ConfigError(f"port {port!r} in address {text!r} is not a number from 0 to 65535")
        return cls(_parse_host(host, text), int(port))

    def format(self) -> str:
        """`host:port`, with brackets round an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.format()


class Instance(NamedTuple):
    """One start of one server. A server that restarts keeps its id and becomes another instance."""

    id: str
    incarnation: bytes

    def __str__(self) -> str:
        return f"{self.id}#{self.incarnation.hex()[:8]}"


def parse_service(text: str) -> ServiceName:
    """Read a service's name, `host:port` with a port from 1, and give it its one spelling: host in lower case.

    Raises ConfigError. An IPv6 host is spelt as RFC 5952 has it, in brackets.
    """
    host, port = Address.parse(text)
    if port == 0:
        raise ConfigError(f"service {text!r} has port 0: write the port that applications dial")
    return ServiceName(Address(host.lower(), port).format())


def service_address(service: ServiceName) -> Address:
    """Host and port of a service's name."""
    return Address.parse(service)


def _parse_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return _parse_v6(host[1:-1], text)
    if not host:
        raise ConfigError(f"address {text!r} has no host: write 0.0.0.0:PORT or [::]:PORT for every interface")
    if ":" in host:
        raise ConfigError(f"address {text!r} is ambiguous: write an IPv6 address in brackets, [ADDRESS]:PORT")
    if len(host) > MAX_HOST_BYTES:
        raise ConfigError(f"the host in address {text[:32]!r}... is longer than {MAX_HOST_BYTES} bytes: shorten it")
    if not _HOST.fullmatch(host) or ".." in host:
        raise ConfigError(
            f"host {host!r} in address {text!r} is neither a host name nor an address:"
            " use letters, digits, dots and hyphens (xn-- for others)"
        )
    return host


def _parse_v6(host: str, text: str) -> str:
    try:
        parsed = str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ConfigError(f"{host!r} in address {text!r} is not an IPv6 address: write [::1]:PORT") from None
    if not parsed.isascii() or not parsed.isprintable():
        raise ConfigError(f"the zone in address {text!r} has characters that no interface has: name the interface")
    return parsed
