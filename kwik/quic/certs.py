"""A certificate authority for development: made once, used to issue certificates for names and addresses.

Keys are ECDSA P-256. Nothing here is trusted by anybody who was not told to: clients get the CA by `cafile`.
"""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from kwik.errors import ConfigError
from kwik.quic.tls import ServerTls, normal_name

BACKDATED = datetime.timedelta(hours=1)
"""Certificates begin a little in the past, for clocks that are behind."""
CA_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM (PKCS #8, not encrypted)."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_ca(common_name: str = "Kwik development CA", *, days: float = CA_DAYS) -> Issued:
    """A new authority. It may sign certificates, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = (
        _builder(name, name, key, _validity(days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue(
    ca: Issued,
    names: Sequence[str],
    *,
    days: float = 30,
    validity: tuple[datetime.datetime, datetime.datetime] | None = None,
    purpose: ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Issued:
    """A server certificate for DNS names and IP addresses.

    `validity` overrides `days` (a past one makes an expired certificate); no `names` at all leaves the
    subjectAltName out; `purpose` None leaves the extended key usage out. Raises ConfigError for a malformed name.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    label = names[0] if names and len(names[0]) <= 64 else "kwik server"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    builder = (
        _builder(subject, ca.certificate.subject, key, validity or _validity(days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return Issued(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    validity: tuple[datetime.datetime, datetime.datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def _validity(days: float) -> tuple[datetime.datetime, datetime.datetime]:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return now - BACKDATED, now + datetime.timedelta(days=days)


def _san(name: str) -> x509.GeneralName:
    if name.startswith("*."):
        return x509.DNSName("*." + normal_name(name[2:]))
    plain = normal_name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(plain))
    except ValueError:
        return x509.DNSName(plain)


def load_issued(certfile: Path, keyfile: Path) -> Issued:
    """Read back what `write_issued` wrote. Raises ConfigError when it is missing, damaged or of another kind."""
    pair = ServerTls(certfile=certfile, keyfile=keyfile)
    key = pair.private_key
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{keyfile} is not a key that kwik certs made: move it away or use another folder")
    return Issued(pair.leaf, key)


def write_issued(issued: Issued, certfile: Path, keyfile: Path) -> None:
    """Write both files, each atomically, the key first and readable by its owner only. Raises OSError."""
    write_atomically(keyfile, issued.key_pem, 0o600)
    write_atomically(certfile, issued.cert_pem, 0o644)


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """Replace `path` by a file with this content and mode; a reader sees the old or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
