"""Checks of a server's certificate that aioquic leaves out.

aioquic verifies the signature, the dates of the leaf, the name (DNS or address in subjectAltName, never the common
name) and the chain. It does not look at what the certificate may be used for (RFC 5280 §4.2.1.12), and it skips the
name when it is given none, which `ClientTls` rules out.
"""

from aioquic import tls
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID


def refuse_other_purpose(certificate: x509.Certificate | None) -> None:
    """Raise a TLS alert unless the certificate may identify a server: no purposes named, serverAuth, or any."""
    if certificate is None:
        raise tls.AlertBadCertificate("the server showed no certificate")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError as error:
        raise tls.AlertBadCertificate("the certificate's extensions could not be parsed") from error
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
        raise tls.AlertUnsupportedCertificate("the certificate is not for a server (extendedKeyUsage)")
