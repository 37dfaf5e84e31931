"""What a discovery source says about one server: the value that crosses from discovery into the control plane.

A sighting is a hint from a stranger. It may be late, wrong or forged: it never proves who a server is (the TLS
handshake and the hello do that) nor that it lives (health does). The bounds below are all that a registry may rely on.
"""

from __future__ import annotations

import enum
import ipaddress
import math
from dataclasses import dataclass
from typing import Final, Literal

from kwik.errors import ConfigError
from kwik.types import MAX_SERVICE_BYTES, Address, parse_service

MAX_ADDRESSES: Final = 16
MAX_SOURCE_CHARS: Final = 32
MAX_KEY_CHARS: Final = 300
MAX_SERVER_ID_CHARS: Final = 64
MAX_REGION_CHARS: Final = 64
MAX_WEIGHT: Final = 65535
"""The range of a weight in an SRV record (RFC 2782)."""
MAX_TTL_S: Final = 7 * 86400.0

SightingState = Literal["up", "drain"]


class SightingKind(enum.Enum):
    """FOUND also says *changed*: the newest FOUND of a (source, key) replaces the one before it."""

    FOUND = "found"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One record of one source, as it is now.

    `key` names the record within `source`, stable for as long as the record lives. `service` is the `host:port` that
    clients dial, in the spelling of `parse_service`. `addresses` are IP literals, best first; a GONE may leave them
    out. `server_id` is a hint only. `weight` (0 to 65535, default 100) is an initial share. `ttl_s` None: valid until
    a GONE of the same key.
    """

    kind: SightingKind
    source: str
    service: str
    addresses: tuple[Address, ...]
    key: str
    server_id: str | None = None
    weight: int = 100
    region: str = ""
    state: SightingState = "up"
    ttl_s: float | None = None


def find_defect(sighting: Sighting) -> str | None:
    """Return why the sighting must be dropped, or None when every field is within its bounds.

    Meant for values from the network: never raises, costs O(size) and at most MAX_ADDRESSES address parses. The text
    names the field and quotes at most 60 characters of it.
    """
    return (
        _text_defect("source", sighting.source, MAX_SOURCE_CHARS)
        or _text_defect("key", sighting.key, MAX_KEY_CHARS)
        or _service_defect(sighting.service)
        or _hint_defect(sighting)
        or _number_defect(sighting)
        or _addresses_defect(sighting)
    )


def _quote(value: object) -> str:
    return repr(value)[:60]


def _text_defect(field: str, text: str, limit: int) -> str | None:
    if not text:
        return f"{field} is empty"
    return _hint_text_defect(field, text, limit)


def _hint_text_defect(field: str, text: str, limit: int) -> str | None:
    if len(text) > limit:
        return f"{field} has {len(text)} characters, the limit is {limit}"
    if not text.isprintable():
        return f"{field} {_quote(text)} has characters that cannot be printed"
    return None


def _service_defect(service: str) -> str | None:
    if len(service) > MAX_SERVICE_BYTES:
        return f"service has {len(service)} characters, the limit is {MAX_SERVICE_BYTES}"
    try:
        spelling = parse_service(service)
    except ConfigError:
        return f"service {_quote(service)} is not host:port"
    return None if spelling == service else f"service {_quote(service)} is not spelt {_quote(spelling)}"


def _hint_defect(sighting: Sighting) -> str | None:
    if sighting.server_id is not None:
        defect = _text_defect("server_id", sighting.server_id, MAX_SERVER_ID_CHARS)
        if defect:
            return defect
    return _hint_text_defect("region", sighting.region, MAX_REGION_CHARS)


def _number_defect(sighting: Sighting) -> str | None:
    if sighting.state not in ("up", "drain"):
        return f"state {_quote(sighting.state)} is neither up nor drain"
    if not 0 <= sighting.weight <= MAX_WEIGHT:
        return f"weight {_quote(sighting.weight)} is not between 0 and {MAX_WEIGHT}"
    ttl_s = sighting.ttl_s
    if ttl_s is not None and not (math.isfinite(ttl_s) and 0 < ttl_s <= MAX_TTL_S):
        return f"ttl_s {_quote(ttl_s)} is not between 0 and {MAX_TTL_S:.0f}"
    return None


def _addresses_defect(sighting: Sighting) -> str | None:
    addresses = sighting.addresses
    if len(addresses) > MAX_ADDRESSES:
        return f"{len(addresses)} addresses, the limit is {MAX_ADDRESSES}"
    if sighting.kind is SightingKind.FOUND and not addresses:
        return "no address"
    if len(set(addresses)) != len(addresses):
        return "an address is given twice"
    for address in addresses:
        defect = address_defect(address)
        if defect:
            return defect
    return None


def address_defect(address: Address) -> str | None:
    """Return why a server cannot be at this address, or None; loopback and link-local addresses pass."""
    host, port = address
    if not 1 <= port <= 65535:
        return f"port {_quote(port)} is not between 1 and 65535"
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return f"address {_quote(host)} is not an IP address"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if parsed.is_unspecified or parsed.is_multicast or str(parsed) == "255.255.255.255":
        return f"address {_quote(host)} cannot be dialled"
    return None
