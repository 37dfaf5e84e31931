"""Who a server is and whom a client believes: certificates, keys and trust, checked before any socket is opened."""

import datetime
import io
import ipaddress
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from kwik.errors import ConfigError
from kwik.quic.congestion import controller_name
from kwik.quic.limits import QuicLimits
from kwik.wire.messages import ALPN


class KeyLog(io.TextIOBase):
    """TLS secrets appended to a file in the NSS format, for Wireshark; the file is open only while it is written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self.write("")

    def write(self, text: str) -> int:
        """Append. Raises ConfigError when the file cannot be written."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                return file.write(text)
        except OSError as error:
            raise ConfigError(f"cannot write the TLS key log {self._path}: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class ClientTls:
    """Whom a client believes: whoever proves `server_name` with a certificate from a trusted authority.

    `server_name` is the host of the service, whatever address is dialled: a DNS name or an IP address, looked for in
    the certificate's subjectAltName. Trust comes from `cafile` (a PEM file, or a directory in OpenSSL's layout) and
    `cadata` (PEM); from the system's store when both are None. Raises ConfigError when something is wrong.
    """

    server_name: str
    cafile: str | os.PathLike[str] | None = None
    cadata: bytes | str | None = None
    keylog: str | None = None
    _trust: tuple[bytes | None, str | None, str | None] = field(init=False, repr=False, compare=False)
    _keylog: KeyLog | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "server_name", normal_name(self.server_name))
        object.__setattr__(self, "_trust", _load_trust(self.cafile, self.cadata))
        object.__setattr__(self, "_keylog", None if self.keylog is None else KeyLog(self.keylog))

    def configuration(self, limits: QuicLimits) -> QuicConfiguration:
        """A fresh configuration for one path."""
        configuration = _configuration(limits, is_client=True, keylog=self._keylog)
        configuration.server_name = self.server_name
        configuration.verify_mode = ssl.CERT_REQUIRED
        configuration.cadata, configuration.cafile, configuration.capath = self._trust
        return configuration


@dataclass(frozen=True, kw_only=True)
class ServerTls:
    """A server's certificate chain (leaf first) and private key, from PEM files or from memory.

    `keyfile` and `keydata` may be left out when the certificate's file or data holds the key as well. Raises
    ConfigError for files that are missing, unreadable or do not belong together.
    """

    certfile: str | os.PathLike[str] | None = None
    keyfile: str | os.PathLike[str] | None = None
    certdata: bytes | None = None
    keydata: bytes | None = None
    keylog: str | None = None
    _chain: list[x509.Certificate] = field(init=False, repr=False, compare=False)
    _key: PrivateKeyTypes = field(init=False, repr=False, compare=False)
    _keylog: KeyLog | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.certfile is None) == (self.certdata is None):
            raise ConfigError("a server needs a certificate: give certfile or certdata (kwik certs makes one)")
        cert_pem = self.certdata if self.certdata is not None else _read(cast("str", self.certfile), "certificate")
        where = "certdata" if self.certfile is None else str(self.certfile)
        key_pem, key_where = cert_pem, where
        if self.keydata is not None:
            key_pem, key_where = self.keydata, "keydata"
        elif self.keyfile is not None:
            key_pem, key_where = _read(self.keyfile, "private key"), str(self.keyfile)
        chain, key = _load_certificates(cert_pem, where), _load_key(key_pem, key_where)
        if _public_bytes(chain[0].public_key()) != _public_bytes(key.public_key()):
            raise ConfigError(f"the private key in {key_where} does not belong to the first certificate in {where}")
        object.__setattr__(self, "_chain", chain)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_keylog", None if self.keylog is None else KeyLog(self.keylog))

    def configuration(self, limits: QuicLimits) -> QuicConfiguration:
        """A fresh configuration for one path."""
        configuration = _configuration(limits, is_client=False, keylog=self._keylog)
        configuration.certificate = self._chain[0]
        configuration.certificate_chain = self._chain[1:]
        configuration.private_key = self._key
        return configuration

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the server itself."""
        return self._chain[0]

    @property
    def private_key(self) -> PrivateKeyTypes:
        """The key that belongs to `leaf`."""
        return self._key

    def problems(self, at: datetime.datetime | None = None) -> list[str]:
        """What will make clients refuse this certificate, in words: expired, not valid yet, no names."""
        now = at or datetime.datetime.now(datetime.UTC)
        leaf, found = self._chain[0], []
        if now > leaf.not_valid_after_utc:
            found.append(f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
        if now < leaf.not_valid_before_utc:
            found.append(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
        if not certificate_names(leaf):
            found.append("the certificate has no subjectAltName: no client will accept it for any service")
        return found


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """DNS names and IP addresses in the subjectAltName, in that order; empty when there is none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def normal_name(name: str) -> str:
    """The form in which certificates carry a host: no brackets, no final dot, lower case, A-labels. Or ConfigError."""
    bare = name.strip().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    try:
        plain = bare.encode("ascii").decode() if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError as error:
        raise ConfigError(f"{name!r} is not a host name: {error}") from error
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_."
    if not plain or ".." in plain or any(char not in allowed for char in plain.lower()):
        raise ConfigError(f"{name!r} is not a host name: the name of the service must be a DNS name or an IP address")
    return plain.lower()


def _configuration(limits: QuicLimits, *, is_client: bool, keylog: KeyLog | None) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[ALPN],
        congestion_control_algorithm=controller_name(limits.congestion),
        idle_timeout=limits.idle_timeout_s,
        max_data=limits.window_bytes,
        max_stream_data=limits.window_bytes,
        max_datagram_size=limits.datagram_bytes,
        secrets_log_file=cast("TextIO | None", keylog),
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )


def _read(path: str | os.PathLike[str], what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {os.fspath(path)}: {error.strerror}") from error


def _load_certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"{where} holds no PEM certificate: {error}") from error


def _load_key(pem: bytes, where: str) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigError(f"the private key in {where} is encrypted: decrypt it first") from error
    except ValueError as error:
        raise ConfigError(f"{where} holds no PEM private key: {error}") from error
    curves = (ec.SECP256R1, ec.SECP384R1)
    usable = isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, curves)
    )
    if not usable:
        raise ConfigError(f"the private key in {where} must be ECDSA P-256 or P-384, Ed25519, Ed448 or RSA")
    return key


def _public_bytes(key: object) -> bytes:
    encode = cast("ec.EllipticCurvePublicKey", key).public_bytes
    return encode(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _load_trust(
    cafile: str | os.PathLike[str] | None, cadata: bytes | str | None
) -> tuple[bytes | None, str | None, str | None]:
    """(cadata, cafile, capath) for aioquic; all None makes it use the bundle of certifi."""
    data = None
    if cadata is not None:
        pem = cadata.encode() if isinstance(cadata, str) else cadata
        # Written anew, because aioquic wants nothing but certificates between the markers.
        data = b"".join(each.public_bytes(Encoding.PEM) for each in _load_certificates(pem, "cadata"))
    if cafile is None:
        if data is not None:
            return data, None, None
        paths = ssl.get_default_verify_paths()
        capath = paths.capath if paths.capath and any(Path(paths.capath).iterdir()) else None
        return None, paths.cafile, capath
    if Path(cafile).is_dir():
        return data, None, os.fspath(cafile)
    _load_certificates(_read(cafile, "file of trusted certificates"), os.fspath(cafile))
    return data, os.fspath(cafile), None
