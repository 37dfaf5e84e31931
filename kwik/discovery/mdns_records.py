"""The DNS-SD records of a Kwik server (RFC 6763): what may be written into them and what is believed of those read.

Stricter than the mDNS library when writing, because it accepts records that nobody can read (a TXT above 9 kB, a key
with `=`, two keys that differ in case only), and distrustful when reading, because anybody on the link may write.
No I/O here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final

from kwik.discovery.provider import Offer
from kwik.errors import ConfigError
from kwik.kcp.sighting import (
    MAX_ADDRESSES,
    MAX_REGION_CHARS,
    MAX_SERVER_ID_CHARS,
    MAX_WEIGHT,
    SightingState,
    address_defect,
)
from kwik.types import Address, ServiceName, parse_service

SERVICE_TYPE: Final = "_kwik._udp.local."
ALPN: Final = "kwik/1"
MAX_TXT_BYTES: Final = 400
"""So that the whole answer stays in one small packet (RFC 6763 §6.2: 400 bytes or less is desirable)."""
MAX_TXT_STRING_BYTES: Final = 255
MAX_TXT_KEY_CHARS: Final = 9
MAX_READ_TXT_BYTES: Final = 1300
"""Other implementations may write more than we do; above one Ethernet frame (RFC 6763 §6.2) nothing is read."""
_MAX_LABEL_BYTES: Final = 50
"""A DNS label has 63 bytes: 9 are the mark of the server id, 4 are left for a rename to `name-999`."""
_MAX_READ_STRINGS: Final = 64


class RecordError(ValueError):
    """A record from the network that does not describe a server we can talk to; the text says which part."""


@dataclass(frozen=True, slots=True)
class TxtFields:
    """The part of a TXT record that Kwik reads."""

    service: ServiceName
    server_id: str | None
    region: str
    state: SightingState


def encode_txt(fields: Mapping[str, str]) -> bytes:
    """Return the TXT record data, in the order given. Raises ConfigError for what RFC 6763 §6 or our limits forbid."""
    seen: set[str] = set()
    parts: list[bytes] = []
    for key, value in fields.items():
        _check_key(key)
        if key.lower() in seen:
            raise ConfigError(f"mDNS: the TXT key {key!r} is given twice (keys do not differ by case)")
        seen.add(key.lower())
        string = f"{key}={value}".encode()
        if len(string) > MAX_TXT_STRING_BYTES:
            room = MAX_TXT_STRING_BYTES - len(key) - 1
            raise ConfigError(
                f"mDNS: the value of TXT key {key!r} has {len(string) - len(key) - 1} bytes and at most {room} fit into"
                " one TXT string; use a shorter one or another kind of discovery"
            )
        parts.append(bytes((len(string),)) + string)
    data = b"".join(parts)
    if len(data) > MAX_TXT_BYTES:
        raise ConfigError(f"mDNS: the TXT record has {len(data)} bytes, the limit is {MAX_TXT_BYTES}; shorten it")
    return data


def decode_txt(data: bytes) -> dict[str, bytes]:
    """Return the key=value strings, keys in lower case; the first of equal keys counts (RFC 6763 §6.4).

    Strings without a key or a value are left out, as RFC 6763 tells readers to do. Raises RecordError when the data is
    cut, too long or has too many strings.
    """
    if len(data) > MAX_READ_TXT_BYTES:
        raise RecordError(f"the TXT record has {len(data)} bytes, more than {MAX_READ_TXT_BYTES}")
    fields: dict[str, bytes] = {}
    position = strings = 0
    while position < len(data):
        end = position + 1 + data[position]
        strings += 1
        if end > len(data):
            raise RecordError("the TXT record is cut inside a string")
        if strings > _MAX_READ_STRINGS:
            raise RecordError(f"the TXT record has more than {_MAX_READ_STRINGS} strings")
        key, equals, value = data[position + 1 : end].partition(b"=")
        position = end
        if key and equals and all(0x20 <= byte <= 0x7E for byte in key):
            fields.setdefault(key.decode("ascii").lower(), value)
    return fields


def txt_of(offer: Offer) -> bytes:
    """Return the TXT record of an offer. Raises ConfigError naming what does not fit."""
    service = parse_service(offer.service)
    _check_hint("server id", offer.server_id, MAX_SERVER_ID_CHARS)
    if not offer.server_id:
        raise ConfigError("mDNS: the server id is empty")
    _check_hint("region", offer.region, MAX_REGION_CHARS)
    if offer.state not in ("up", "drain"):
        raise ConfigError(f"mDNS: the state {offer.state!r} is neither up nor drain")
    fields = {"txtvers": "1", "v": "1", "id": offer.server_id, "svc": service, "al": ALPN}
    if offer.region:
        fields["zn"] = offer.region
    fields["st"] = offer.state
    return encode_txt(fields)


def read_txt(data: bytes) -> TxtFields:
    """Return what a TXT record says. Raises RecordError unless it is version 1 and speaks our protocol."""
    fields = decode_txt(data)
    if fields.get("txtvers", b"1") != b"1":
        raise RecordError("txtvers is not 1")
    if b"1" not in fields.get("v", b"1").split(b","):
        raise RecordError("protocol version 1 is not offered")
    if ALPN.encode() not in fields.get("al", ALPN.encode()).split(b","):
        raise RecordError(f"{ALPN} is not offered")
    try:
        service = parse_service(_text(fields, "svc", MAX_TXT_STRING_BYTES))
    except ConfigError as error:
        raise RecordError("svc is not host:port") from error
    server_id = _text(fields, "id", MAX_SERVER_ID_CHARS)
    state: SightingState = "drain" if fields.get("st") == b"drain" else "up"
    return TxtFields(service, server_id or None, _text(fields, "zn", MAX_REGION_CHARS), state)


def instance_name(label: str, server_id: str) -> str:
    """Return `<label>-<8 hex of the server id>._kwik._udp.local.`; the label is cut to what a DNS label holds.

    Raises ConfigError for an empty label or one with control characters.
    """
    if not label.strip() or not label.isprintable():
        raise ConfigError(f"mDNS: the label {label[:60]!r} must be printable text")
    cut = label.encode()[:_MAX_LABEL_BYTES].decode(errors="ignore").strip()
    return f"{cut}-{_mark(server_id)}.{SERVICE_TYPE}"


def host_name(mark: str) -> str:
    """Return the target host name for 16 hex digits.

    Never the machine's own name: registering that makes its real owner rename itself. And never one that two
    announcements share: address records of one name replace each other.
    """
    if len(mark) != 16 or not set(mark) <= set("0123456789abcdef"):
        raise ValueError(f"{mark!r} is not 16 hex digits")
    return f"kwik-{mark}.local."


def offer_port(offer: Offer) -> int:
    """Return the one port of the offer; raises ConfigError when SRV cannot express the addresses or the weight."""
    ports = {address.port for address in offer.addresses}
    if len(ports) != 1:
        raise ConfigError("mDNS: all addresses of one server need the same port; announce one server for each port")
    if len(offer.addresses) > MAX_ADDRESSES:
        raise ConfigError(f"mDNS: {len(offer.addresses)} addresses, the limit is {MAX_ADDRESSES}")
    if not 0 <= offer.weight <= MAX_WEIGHT:
        raise ConfigError(f"mDNS: the weight {offer.weight} is not between 0 and {MAX_WEIGHT}")
    port = ports.pop()
    if not 1 <= port <= 65535:
        raise ConfigError(f"mDNS: the port {port} is not between 1 and 65535")
    return port


def announced_hosts(offer: Offer, own: Sequence[str], *, loopback_only: bool) -> list[str]:
    """Return the IP addresses to announce: those of the offer, 0.0.0.0 and :: replaced by `own` ones.

    :: stands for both families, as a listening socket there takes both. Addresses that only this host can reach are
    left out unless nothing leaves the host anyway. Raises ConfigError when none is left or one is no IP address.
    """
    hosts: dict[str, None] = {}
    for address in offer.addresses:
        host = address.host.partition("%")[0]
        try:
            parsed = ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError(
                f"mDNS: {address.host[:60]!r} is not an IP address: announce addresses, not names"
            ) from None
        if parsed.is_unspecified:
            hosts.update(dict.fromkeys(own_host for own_host in own if parsed.version == 6 or ":" not in own_host))
        elif parsed.is_multicast:
            raise ConfigError(f"mDNS: nobody can dial the multicast address {host}")
        else:
            hosts[str(parsed)] = None
    reachable = [host for host in hosts if loopback_only or not is_loopback(host)]
    if not reachable:
        raise ConfigError(
            "mDNS: no address that other hosts could dial: listen on an address of the network,"
            ' or announce on this host only with interfaces=["127.0.0.1"]'
        )
    return reachable[:MAX_ADDRESSES]


def believable(addresses: list[str], port: int, *, accept_loopback: bool) -> tuple[Address, ...]:
    """Return the addresses worth dialling, in order, without repeats, at most MAX_ADDRESSES.

    A stranger must not be able to aim us at our own host (unless we browse on loopback only), at a multicast group or
    at a link-local IPv6 address without its interface.
    """
    found: dict[Address, None] = {}
    for host in addresses:
        address = Address(host, port)
        if address_defect(address) is None and (accept_loopback or not is_loopback(host)) and not _lacks_scope(host):
            found[address] = None
    return tuple(found)[:MAX_ADDRESSES]


def is_loopback(host: str) -> bool:
    """True for an address of this host; also written as IPv4-mapped IPv6. False for what is no IP address."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _lacks_scope(host: str) -> bool:
    parsed = ipaddress.ip_address(host)
    return isinstance(parsed, ipaddress.IPv6Address) and parsed.is_link_local and parsed.scope_id is None


def _check_key(key: str) -> None:
    if not 1 <= len(key) <= MAX_TXT_KEY_CHARS:
        raise ConfigError(f"mDNS: the TXT key {key[:60]!r} must have 1 to {MAX_TXT_KEY_CHARS} characters")
    if "=" in key or not all(" " <= char <= "~" for char in key):
        raise ConfigError(f"mDNS: the TXT key {key!r} must be printable ASCII without '='")


def _check_hint(field: str, text: str, limit: int) -> None:
    if len(text) > limit or not text.isprintable():
        raise ConfigError(f"mDNS: the {field} {text[:60]!r} must be printable and at most {limit} characters long")


def _text(fields: Mapping[str, bytes], key: str, limit: int) -> str:
    try:
        text = fields.get(key, b"").decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{key} is not UTF-8") from error
    if len(text) > limit or not text.isprintable():
        raise RecordError(f"{key} is too long or cannot be printed")
    return text


def _mark(server_id: str) -> str:
    start = server_id[:8].lower()
    if len(start) == 8 and set(start) <= set("0123456789abcdef"):
        return start
    return blake2s(server_id.encode(), digest_size=4).hexdigest()
