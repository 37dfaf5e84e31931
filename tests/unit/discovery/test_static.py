"""The list of servers: how entries are read, how names are looked up again, what is said when they fail."""

import asyncio
import socket

import pytest

from kwik.discovery.static import MAX_SERVERS, StaticProvider, parse_server, resolve
from kwik.errors import ConfigError
from kwik.types import Address
from tests.contract.test_provider import closing

SERVICE = "files.example:80"


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("10.0.0.1", ("10.0.0.1", 4433)),
        (" 10.0.0.1:5 ", ("10.0.0.1", 5)),
        ("server.example", ("server.example", 4433)),
        ("server.example:65535", ("server.example", 65535)),
        ("::1", ("::1", 4433)),
        ("[::1]", ("::1", 4433)),
        ("[fe80::1%eth0]:7", ("fe80::1%eth0", 7)),
        (("server.example", 5), ("server.example", 5)),
        (Address("::1", 5), ("::1", 5)),
    ],
)
def test_entries(entry, address):
    assert parse_server(entry) == Address(*address)


@pytest.mark.parametrize(
    "entry",
    ["", ":4433", "host:", "host:0", "host:65536", "host:x", "a b", "host/x", "[::1", "::x", "0.0.0.0:1", "[::]:1",
     "224.0.0.1", ("host", 0), ("host", "x"), ("host",), ("", 1), 7, None],
)  # fmt: skip
def test_bad_entries_are_config_errors(entry):
    with pytest.raises(ConfigError):
        parse_server(entry)


def test_a_single_string_is_refused_and_so_are_too_many():
    with pytest.raises(ConfigError, match="list"):
        StaticProvider("10.0.0.1")
    with pytest.raises(ConfigError, match="257 entries"):
        StaticProvider([f"10.0.{i // 250}.{i % 250}" for i in range(MAX_SERVERS + 1)])
    with pytest.raises(ConfigError, match="refresh_s"):
        StaticProvider(["10.0.0.1"], refresh_s=0)


def test_repeats_are_one():
    assert StaticProvider(["10.0.0.1", "10.0.0.1:4433"]).servers == (Address("10.0.0.1", 4433),)


class Names:
    """A resolver whose answers a test lists: addresses, or an error to raise; the last answer stays."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, address):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return tuple(Address(host, address.port) for host in answer)


async def test_a_changed_answer_is_told_and_an_equal_one_is_not():
    names = Names(["10.0.0.1"], ["10.0.0.1"], ["10.0.0.2"])
    provider = StaticProvider(["server.example"], refresh_s=0.001, resolver=names)
    async with asyncio.timeout(20), closing(provider.watch(SERVICE)) as watch:
        first = await anext(watch)
        second = await anext(watch)
    assert first.addresses == (Address("10.0.0.1", 4433),)
    assert second.addresses == (Address("10.0.0.2", 4433),)
    assert first.key == second.key == "server.example:4433"
    assert names.asked >= 3


async def test_a_failure_is_a_warning_and_is_tried_again():
    names = Names(OSError("no such name"), UnicodeError("label too long"), [], ["10.0.0.1"])
    provider = StaticProvider(["10.0.0.9:1", "server.example"], refresh_s=0.001, resolver=names)
    warnings: list[str | None] = []
    provider.on_warning(warnings.append)
    async with asyncio.timeout(20), closing(provider.watch(SERVICE)) as watch:
        assert (await anext(watch)).addresses == (Address("10.0.0.9", 1),)
        assert (await anext(watch)).addresses == (Address("10.0.0.1", 4433),)
    assert warnings == [
        "server.example does not resolve: no such name",
        "server.example does not resolve: label too long",
        "server.example does not resolve: the answer is empty",
        None,
    ]


async def test_what_no_longer_resolves_stays():
    names = Names(["10.0.0.1"], OSError("gone"), OSError("gone"), ["10.0.0.2"])
    provider = StaticProvider(["server.example"], refresh_s=0.001, resolver=names)
    async with asyncio.timeout(20), closing(provider.watch(SERVICE)) as watch:
        told = [await anext(watch), await anext(watch)]
    assert [one.kind.value for one in told] == ["found", "found"]


async def test_a_defect_of_the_resolver_ends_the_watch():
    provider = StaticProvider(["server.example"], resolver=Names(KeyError("defect")))
    async with asyncio.timeout(20), closing(provider.watch(SERVICE)) as watch:
        with pytest.raises(KeyError):
            await anext(watch)


async def test_the_system_is_asked_for_both_families_once_per_address(monkeypatch):
    async def getaddrinfo(host, port, **kind):
        assert (host, port, kind) == ("server.example", 7, {"type": socket.SOCK_DGRAM})
        v6 = (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("fe80::1", 7, 0, 3))
        v4 = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("10.0.0.1", 7))
        return [v6, v4, v4]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await resolve(Address("server.example", 7)) == (Address("fe80::1%3", 7), Address("10.0.0.1", 7))
