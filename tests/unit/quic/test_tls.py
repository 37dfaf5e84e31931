"""Who is believed: every certificate that must be refused is refused before any stream byte leaves the client."""

import datetime
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from kwik.errors import ConfigError
from kwik.quic import ClientTls, QuicLimits, ServerTls
from kwik.quic.adapter import EndKind
from kwik.quic.certs import Issued, issue, make_ca
from kwik.quic.tls import certificate_names, normal_name
from tests.unit.quic.lab import NAME, Lab, authority, client_tls

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def served(leaf: Issued) -> ServerTls:
    return ServerTls(certdata=leaf.cert_pem, keydata=leaf.key_pem)


def meet(leaf: Issued, name: str = NAME, ca: Issued | None = None) -> Lab:
    lab = Lab(client=client_tls(name, ca), server=served(leaf))
    lab.client_events.at_writable = lambda path, now: path.send(0, b"secret")
    lab.run(2)
    return lab


@pytest.mark.parametrize(
    ("names", "dialled"),
    [
        ([NAME], NAME),
        ([NAME], "FILES.example."),
        (["*.files.example"], "a.files.example"),
        (["10.1.2.3"], "10.1.2.3"),
        (["2001:db8::1"], "[2001:db8::1]"),
        (["localhost"], "localhost"),
        (["my_service"], "my_service"),
        (["bücher.example"], "bücher.example"),
        (["other.example", NAME], NAME),
    ],
)
def test_good_certificates_are_accepted(names, dialled):
    lab = meet(issue(authority(), names), dialled)
    assert lab.client_events.words[:2] == ["writable", "up"]
    assert bytes(lab.server_events.pipes[0]) == b"secret"


def bad_certificates():
    good = authority()
    yield "wrong name", issue(good, ["other.example"]), NAME, "bad_certificate"
    yield "parent domain", issue(good, ["example"]), NAME, "bad_certificate"
    yield "wildcard too deep", issue(good, ["*.files.example"]), "a.b.files.example", "bad_certificate"
    yield "wildcard too wide", issue(good, ["*.example"]), NAME, "bad_certificate"
    yield "wrong address", issue(good, ["10.1.2.3"]), "10.1.2.4", "bad_certificate"
    yield "address as a name", issue(good, ["10.1.2.3.example"]), "10.1.2.3", "bad_certificate"
    yield "no names but the common name", issue(good, []), NAME, "bad_certificate"
    yield "expired", issue(good, [NAME], validity=(NOW - 3 * DAY, NOW - DAY)), NAME, "certificate_expired"
    yield "not valid yet", issue(good, [NAME], validity=(NOW + DAY, NOW + 3 * DAY)), NAME, "certificate_expired"
    yield "stranger's authority", issue(make_ca(), [NAME]), NAME, "bad_certificate"
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    yield "for clients only", issue(good, [NAME], purpose=purpose), NAME, "unsupported_certificate"
    yield "issued by a leaf", issue(issue(good, [NAME]), [NAME]), NAME, "bad_certificate"


@pytest.mark.parametrize(
    ("leaf", "name", "alert"), [pytest.param(*case[1:], id=case[0]) for case in bad_certificates()]
)
def test_bad_certificates_are_refused_before_any_data(leaf, name, alert):
    lab = meet(leaf, name)
    assert lab.client_events.words == ["down"]
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.REFUSED_TLS
    assert alert in lab.client_events.end.detail
    assert lab.server_events.pipes == {}
    assert "up" not in lab.server_events.words
    assert lab.server_events.end is not None
    assert lab.server_events.end.kind is EndKind.REFUSED_TLS


def test_an_authority_that_expired_is_not_believed():
    old = make_ca(days=-0.01)
    lab = meet(issue(old, [NAME]), ca=old)
    assert lab.client_events.words == ["down"]


def test_a_certificate_without_purposes_is_accepted():
    lab = meet(issue(authority(), [NAME], purpose=None))
    assert "up" in lab.client_events.words


@pytest.mark.parametrize("alpn", [["h3"], None])
@pytest.mark.parametrize("side", ["client", "server"])
def test_both_sides_insist_on_the_alpn(monkeypatch, alpn, side):
    owner = ClientTls if side == "client" else ServerTls
    original = owner.configuration

    def changed(self, limits):
        configuration = original(self, limits)
        configuration.alpn_protocols = alpn
        return configuration

    monkeypatch.setattr(owner, "configuration", changed)
    lab = Lab()
    lab.run(2)
    for events in (lab.client_events, lab.server_events):
        assert "up" not in events.words
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.REFUSED_TLS
    assert lab.client_events.end.code == 120


def test_no_tickets_no_early_data():
    lab = Lab().up()
    assert lab.client.connection.tls._new_session_ticket is None
    assert lab.server.connection.tls._new_session_ticket is None
    assert lab.server.connection._session_ticket_handler is None
    assert lab.client.connection._configuration.session_ticket is None


def test_key_log_has_the_secrets_of_both_sides(tmp_path):
    path = tmp_path / "keys.log"
    lab = Lab(client=ClientTls(server_name=NAME, cadata=authority().cert_pem, keylog=str(path))).up()
    text = path.read_text()
    assert "CLIENT_TRAFFIC_SECRET_0 " in text
    assert "SERVER_HANDSHAKE_TRAFFIC_SECRET " in text
    assert lab.client.connection.tls.client_random.hex() in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("Files.Example.", "files.example"),
        ("[::1]", "::1"),
        ("0:0::1", "::1"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_names_are_normalised(name, normal):
    assert normal_name(name) == normal


@pytest.mark.parametrize("name", ["", ".", "a..b", "a b", "a/b", "files.example:80", "*.example", "é" * 70])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ConfigError, match="not a host name"):
        ClientTls(server_name=name, cadata=authority().cert_pem)


def test_the_systems_store_is_used_by_default():
    configuration = ClientTls(server_name=NAME).configuration(QuicLimits())
    assert configuration.cadata is None
    lab = Lab(client=ClientTls(server_name=NAME))
    lab.run(2)
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.REFUSED_TLS


def test_trust_from_a_file_and_from_text(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(b"a comment\n" + authority().cert_pem + b"\n\n")
    for tls in (
        ClientTls(server_name=NAME, cafile=path),
        ClientTls(server_name=NAME, cadata="x\n" + authority().cert_pem.decode() + "\n trailing"),
    ):
        assert "up" in Lab(client=tls).up().client_events.words


def test_trust_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the file of trusted certificates .*nowhere.pem: No such file"):
        ClientTls(server_name=NAME, cafile=tmp_path / "nowhere.pem")
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"junk.pem holds no PEM certificate"):
        ClientTls(server_name=NAME, cafile=tmp_path / "junk.pem")
    with pytest.raises(ConfigError, match="cannot write the TLS key log"):
        ClientTls(server_name=NAME, cadata=authority().cert_pem, keylog=str(tmp_path / "no" / "dir"))


def test_server_files(tmp_path):
    leaf, other = issue(authority(), [NAME]), issue(authority(), [NAME])
    cert, key = tmp_path / "a.pem", tmp_path / "a.key"
    cert.write_bytes(leaf.cert_pem)
    key.write_bytes(leaf.key_pem)
    (tmp_path / "other.key").write_bytes(other.key_pem)
    (tmp_path / "both.pem").write_bytes(leaf.cert_pem + leaf.key_pem)
    locked = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    strange = ec.generate_private_key(ec.SECP521R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    assert ServerTls(certfile=cert, keyfile=key).leaf == leaf.certificate
    assert ServerTls(certfile=tmp_path / "both.pem").leaf == leaf.certificate
    for options, words in [
        ({"certfile": tmp_path / "no.pem"}, "cannot read the certificate .*no.pem"),
        ({"certfile": cert, "keyfile": tmp_path / "no.key"}, "cannot read the private key .*no.key"),
        ({"certfile": cert, "keyfile": tmp_path / "other.key"}, "does not belong to the first certificate"),
        ({"certfile": cert}, "a.pem holds no PEM private key"),
        ({"certfile": key, "keyfile": key}, "a.key holds no PEM certificate"),
        ({"certdata": leaf.cert_pem, "keydata": locked}, "is encrypted"),
        ({"certdata": leaf.cert_pem, "keydata": strange}, "must be ECDSA"),
        ({}, "a server needs a certificate"),
    ]:
        with pytest.raises(ConfigError, match=words):
            ServerTls(**options)


def test_other_kinds_of_keys_may_be_loaded_but_must_fit():
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigError, match="does not belong"):
        ServerTls(certdata=issue(authority(), [NAME]).cert_pem, keydata=key)


def test_problems_are_named():
    good = issue(authority(), [NAME])
    assert served(good).problems() == []
    assert "expired on" in served(good).problems(NOW + 60 * DAY)[0]
    assert "not valid before" in served(good).problems(NOW - 60 * DAY)[0]
    assert "no subjectAltName" in served(issue(authority(), [])).problems()[0]
    assert certificate_names(issue(authority(), [NAME, "::1"]).certificate) == [NAME, "::1"]
