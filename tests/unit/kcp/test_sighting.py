"""Sightings: what is within the bounds passes, what is not is named."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.kcp.sighting import (
    MAX_ADDRESSES,
    MAX_KEY_CHARS,
    MAX_REGION_CHARS,
    MAX_SERVER_ID_CHARS,
    MAX_SOURCE_CHARS,
    MAX_TTL_S,
    MAX_WEIGHT,
    Sighting,
    SightingKind,
    address_defect,
    find_defect,
)
from kwik.types import Address

GOOD = Sighting(
    kind=SightingKind.FOUND,
    source="mdns",
    service="files.example:80",
    addresses=(Address("10.0.0.1", 4433), Address("fe80::1%eth0", 4433)),
    key="web-00f1a3b2._kwik._udp.local.",
    server_id="00f1a3b2c4d5e6f7",
    region="lab-a",
    ttl_s=30.0,
)


def test_a_good_one_passes_and_cannot_be_changed():
    assert find_defect(GOOD) is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.weight = 1  # type: ignore[misc]
    assert not hasattr(GOOD, "__dict__")


def test_defaults_say_up_with_the_usual_weight_for_ever():
    plain = Sighting(SightingKind.FOUND, "static", "a.example:1", (Address("::1", 1),), "k")
    assert (plain.server_id, plain.weight, plain.region, plain.state, plain.ttl_s) == (None, 100, "", "up", None)
    assert find_defect(plain) is None


def test_gone_needs_no_address_but_found_does():
    assert find_defect(dataclasses.replace(GOOD, kind=SightingKind.GONE, addresses=())) is None
    assert find_defect(dataclasses.replace(GOOD, addresses=())) == "no address"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("source", "", "source is empty"),
        ("source", "x" * (MAX_SOURCE_CHARS + 1), "source has 33 characters"),
        ("source", "a\nb", "cannot be printed"),
        ("key", "", "key is empty"),
        ("key", "k" * (MAX_KEY_CHARS + 1), "key has 301"),
        ("service", "files.example", "not host:port"),
        ("service", "files.example:0", "not host:port"),
        ("service", "FILES.example:80", "not spelt"),
        ("service", "f" * 300 + ":80", "service has 303"),
        ("server_id", "", "server_id is empty"),
        ("server_id", "i" * (MAX_SERVER_ID_CHARS + 1), "server_id has 65"),
        ("region", "r" * (MAX_REGION_CHARS + 1), "region has 65"),
        ("region", "\x1b[2J", "cannot be printed"),
        ("weight", -1, "weight"),
        ("weight", MAX_WEIGHT + 1, "weight"),
        ("state", "down", "neither up nor drain"),
        ("ttl_s", 0.0, "ttl_s"),
        ("ttl_s", float("nan"), "ttl_s"),
        ("ttl_s", float("inf"), "ttl_s"),
        ("ttl_s", MAX_TTL_S * 2, "ttl_s"),
        ("addresses", tuple(Address("10.0.0.1", 1 + i) for i in range(MAX_ADDRESSES + 1)), "17 addresses"),
        ("addresses", (Address("10.0.0.1", 1),) * 2, "given twice"),
        ("addresses", (Address("10.0.0.1", 0),), "port 0"),
        ("addresses", (Address("10.0.0.1", 65536),), "port 65536"),
        ("addresses", (Address("server.example", 4433),), "not an IP address"),
    ],
)
def test_each_bound_is_named(field, value, named):
    defect = find_defect(dataclasses.replace(GOOD, **{field: value}))
    assert defect is not None
    assert named in defect


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "224.0.0.251", "ff02::fb", "255.255.255.255", "::ffff:224.0.0.1"])
def test_what_cannot_be_dialled_is_refused(host):
    assert "cannot be dialled" in (address_defect(Address(host, 4433)) or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.1.1", "fe80::1%3", "192.0.2.1"])
def test_loopback_and_link_local_pass_here(host):
    assert address_defect(Address(host, 4433)) is None


@given(
    st.builds(
        Sighting,
        kind=st.sampled_from(SightingKind),
        source=st.text(max_size=40),
        service=st.text(max_size=300),
        addresses=st.lists(st.builds(Address, st.text(max_size=300), st.integers()), max_size=20).map(tuple),
        key=st.text(max_size=400),
        server_id=st.none() | st.text(max_size=80),
        weight=st.integers(),
        region=st.text(max_size=80),
        state=st.sampled_from(["up", "drain", "x"]),
        ttl_s=st.none() | st.floats(),
    )
)
def test_it_never_raises_and_quotes_little(sighting):
    defect = find_defect(sighting)
    assert defect is None or len(defect) < 300
