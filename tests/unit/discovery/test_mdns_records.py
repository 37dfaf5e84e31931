"""DNS-SD records: what we refuse to write, and what we do not believe when we read it."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.discovery.mdns_records import (
    MAX_TXT_BYTES,
    SERVICE_TYPE,
    RecordError,
    announced_hosts,
    believable,
    decode_txt,
    encode_txt,
    host_name,
    instance_name,
    is_loopback,
    offer_port,
    read_txt,
    txt_of,
)
from kwik.discovery.provider import Offer
from kwik.errors import ConfigError
from kwik.types import Address

OFFER = Offer("files.example:80", "00f1a3b2c4d5e6f7", (Address("10.0.0.1", 4433),), region="lab-a")


def raw(*strings: bytes) -> bytes:
    return b"".join(bytes((len(string),)) + string for string in strings)


def test_the_bytes_of_an_offer():
    assert txt_of(OFFER) == raw(
        b"txtvers=1", b"v=1", b"id=00f1a3b2c4d5e6f7", b"svc=files.example:80", b"al=kwik/1", b"zn=lab-a", b"st=up"
    )


def test_what_is_written_can_be_read():
    fields = read_txt(txt_of(dataclasses.replace(OFFER, state="drain", service="FILES.example:80")))
    assert (fields.service, fields.server_id, fields.region, fields.state) == (
        "files.example:80",
        "00f1a3b2c4d5e6f7",
        "lab-a",
        "drain",
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"": "x"}, "1 to 9"),
        ({"toolongkey": "x"}, "1 to 9"),
        ({"a=b": "x"}, "without '='"),
        ({"kéy": "x"}, "printable ASCII"),
        ({"A": "x", "a": "y"}, "given twice"),
        ({"svc": "x" * 252}, "'svc' has 252 bytes and at most 251"),
        ({"a": "x" * 200, "b": "y" * 200}, f"406 bytes, the limit is {MAX_TXT_BYTES}"),
    ],
)
def test_what_must_not_be_written(fields, named):
    with pytest.raises(ConfigError, match=named):
        encode_txt(fields)


def test_the_longest_service_that_fits():
    host = "a" * 248
    assert read_txt(txt_of(dataclasses.replace(OFFER, service=f"{host}:80"))).service == f"{host}:80"
    with pytest.raises(ConfigError, match="'svc' has 252 bytes"):
        txt_of(dataclasses.replace(OFFER, service=f"{host}a:80"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"service": "files.example"}, "port"),
        ({"server_id": ""}, "server id is empty"),
        ({"server_id": "x" * 65}, "server id"),
        ({"region": "a\nb"}, "region"),
        ({"region": "r" * 65}, "region"),
        ({"state": "down"}, "neither up nor drain"),
    ],
)
def test_offers_that_no_record_can_hold(change, named):
    with pytest.raises(ConfigError, match=named):
        txt_of(dataclasses.replace(OFFER, **change))


def test_reading_takes_the_first_of_equal_keys_in_any_case_and_skips_odd_strings():
    data = raw(b"A=1", b"a=2", b"flag", b"", b"=x", b"empty=", b"b=c=d", b"\xff=1")
    assert decode_txt(data) == {"a": b"1", "empty": b"", "b": b"c=d"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x05ab",
        raw(*[b"x"] * 65),
        b"\x00" * 1301,
        raw(b"txtvers=2", b"svc=a.example:1"),
        raw(b"v=2", b"svc=a.example:1"),
        raw(b"al=other", b"svc=a.example:1"),
        raw(b"txtvers=1"),
        raw(b"svc=nonsense"),
        raw(b"svc=\xff:1"),
        raw(b"svc=a.example:1", b"id=\xff"),
        raw(b"svc=a.example:1", b"id=a\nb"),
        raw(b"svc=a.example:1", b"zn=" + b"z" * 65),
    ],
)
def test_records_that_are_not_ours(data):
    with pytest.raises(RecordError):
        read_txt(data)


def test_little_is_needed_and_unknown_states_mean_up():
    fields = read_txt(raw(b"svc=a.example:1", b"st=party", b"v=3,1", b"al=h3,kwik/1"))
    assert (fields.service, fields.server_id, fields.region, fields.state) == ("a.example:1", None, "", "up")


@given(st.binary(max_size=1500))
def test_any_bytes_read_or_are_refused(data):
    with contextlib.suppress(RecordError):
        read_txt(data)


def test_instance_names():
    assert instance_name("web", "00F1A3B2C4") == f"web-00f1a3b2.{SERVICE_TYPE}"
    assert instance_name("Büro 2.og", "not hex at all").startswith("Büro 2.og-")
    label = instance_name("é" * 60, "00f1a3b2").removesuffix(f".{SERVICE_TYPE}")
    assert len(label.encode()) <= 59
    assert label.endswith("é-00f1a3b2")
    for bad in ("", "  ", "a\nb"):
        with pytest.raises(ConfigError):
            instance_name(bad, "00f1a3b2")


def test_host_names():
    assert host_name("0123456789abcdef") == "kwik-0123456789abcdef.local."
    with pytest.raises(ValueError, match="16 hex"):
        host_name("machine")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"addresses": ()}, "same port"),
        ({"addresses": (Address("10.0.0.1", 1), Address("10.0.0.2", 2))}, "same port"),
        ({"addresses": (Address("10.0.0.1", 0),)}, "port 0"),
        ({"addresses": tuple(Address(f"10.0.0.{i}", 1) for i in range(1, 18))}, "17 addresses"),
        ({"weight": 65536}, "weight"),
        ({"weight": -1}, "weight"),
    ],
)
def test_what_srv_cannot_express(change, named):
    assert offer_port(OFFER) == 4433
    with pytest.raises(ConfigError, match=named):
        offer_port(dataclasses.replace(OFFER, **change))


OWN = ["127.0.0.1", "192.0.2.2", "fd00::2"]


@pytest.mark.parametrize(
    ("hosts", "loopback_only", "announced"),
    [
        (["10.0.0.1"], False, ["10.0.0.1"]),
        (["0.0.0.0"], False, ["192.0.2.2"]),
        (["0.0.0.0"], True, ["127.0.0.1", "192.0.2.2"]),
        (["::"], False, ["192.0.2.2", "fd00::2"]),
        (["127.0.0.1", "192.0.2.9"], False, ["192.0.2.9"]),
        (["127.0.0.1"], True, ["127.0.0.1"]),
        (["fe80::1%eth0", "10.0.0.1", "10.0.0.1"], False, ["fe80::1", "10.0.0.1"]),
    ],
)
def test_which_addresses_are_announced(hosts, loopback_only, announced):
    offer = dataclasses.replace(OFFER, addresses=tuple(Address(host, 1) for host in hosts))
    assert announced_hosts(offer, OWN, loopback_only=loopback_only) == announced


@pytest.mark.parametrize(
    ("host", "named"),
    [("127.0.0.1", "other hosts could dial"), ("server.example", "not an IP address"), ("224.0.0.1", "multicast")],
)
def test_addresses_that_nobody_could_use(host, named):
    offer = dataclasses.replace(OFFER, addresses=(Address(host, 1),))
    with pytest.raises(ConfigError, match=named):
        announced_hosts(offer, OWN, loopback_only=False)


def test_strangers_cannot_aim_us_at_ourselves():
    hosts = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1", "fe80::1", "fe80::1%2", "10.0.0.1", "x"]
    assert believable(hosts, 5, accept_loopback=False) == (Address("fe80::1%2", 5), Address("10.0.0.1", 5))
    assert believable(["127.0.0.1"], 5, accept_loopback=True) == (Address("127.0.0.1", 5),)
    assert believable(["10.0.0.1"], 0, accept_loopback=True) == ()
    assert len(believable([f"10.0.0.{i}" for i in range(99)], 5, accept_loopback=False)) == 16


def test_loopback():
    assert [is_loopback(host) for host in ("127.9.9.9", "::1", "::ffff:127.0.0.1")] == [True] * 3
    assert [is_loopback(host) for host in ("10.0.0.1", "server.example")] == [False] * 2
