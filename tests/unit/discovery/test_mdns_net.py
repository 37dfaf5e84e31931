"""Which interfaces are taken, and what their failures are called."""

import errno

import pytest
from zeroconf import IPVersion

from kwik.discovery.mdns_net import LocalAddress, choose, explain
from kwik.discovery.provider import DiscoveryError

LO = LocalAddress("lo", 1, "127.0.0.1")
LO6 = LocalAddress("lo", 1, "::1")
ETH = LocalAddress("eth0", 4, "192.0.2.2")
ETH6 = LocalAddress("eth0", 4, "fd00::2")
ETH6_LINK = LocalAddress("eth0", 4, "fe80::1")
HOST = (LO, LO6, ETH, ETH6, ETH6_LINK)


@pytest.mark.parametrize(
    ("interfaces", "version", "taken", "family"),
    [
        (None, "auto", ("127.0.0.1", "192.0.2.2", 4), IPVersion.All),
        (None, "both", ("127.0.0.1", "192.0.2.2", 4), IPVersion.All),
        (None, "v4", ("127.0.0.1", "192.0.2.2"), IPVersion.V4Only),
        (None, "v6", (4,), IPVersion.V6Only),
        (["127.0.0.1"], "auto", ("127.0.0.1",), IPVersion.V4Only),
        (["lo"], "auto", ("127.0.0.1",), IPVersion.V4Only),
        (["eth0"], "auto", ("192.0.2.2", 4), IPVersion.All),
        (["192.0.2.2", "eth0"], "v4", ("192.0.2.2",), IPVersion.V4Only),
        (["fe80::1%eth0"], "auto", (4,), IPVersion.V6Only),
    ],
)
def test_what_is_taken(interfaces, version, taken, family):
    choice = choose(interfaces, version, HOST)
    assert (choice.interfaces, choice.version) == (taken, family)


def test_a_host_without_ipv6_uses_ipv4_only():
    assert choose(None, "auto", (LO, ETH)).version is IPVersion.V4Only


def test_loopback_only():
    assert choose(["127.0.0.1"], "auto", HOST).loopback_only
    assert choose(None, "auto", (LO, LO6)).loopback_only
    assert not choose(None, "auto", HOST).loopback_only


@pytest.mark.parametrize(
    ("interfaces", "local", "named"),
    [
        (None, (), "no network interface is up; mDNS is off, other discovery continues"),
        (None, (LO6,), "no network interface is up"),
        (["wlan0"], HOST, r"interface wlan0 is not up.*lo \(127.0.0.1\).*eth0 \(192.0.2.2\)"),
        (["10.9.9.9"], HOST, "interface 10.9.9.9"),
        (["eth0"], (), "this host has none"),
    ],
)
def test_nothing_to_take(interfaces, local, named):
    with pytest.raises(DiscoveryError, match=named):
        choose(interfaces, "auto", local)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENODEV, "x"), "has no multicast or no longer owns its address"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "has no multicast"),
        (OSError(errno.EADDRINUSE, "x"), "port 5353 is held exclusively by another program"),
        (OSError(errno.EPERM, "x"), "may not open multicast sockets"),
        (OSError(errno.EMFILE, "too many files"), "too many files"),
        (RuntimeError(), "mDNS: RuntimeError"),
    ],
)
def test_failures_are_named(error, named):
    assert named in str(explain(error))


def test_what_is_clear_already_stays():
    error = DiscoveryError("clear")
    assert explain(error) is error
