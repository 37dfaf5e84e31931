"""mDNS on the loopback interface: real sockets, real multicast, several engines side by side.

All engines of a host share port 5353, so the tests see each other's servers: each test has a service of its own.
"""

import asyncio
import dataclasses
import random
import secrets
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from zeroconf._protocol.outgoing import DNSOutgoing  # the public name is not marked as exported
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from kwik.discovery.mdns import MdnsProvider, MdnsTimings, multicast_works
from kwik.discovery.mdns_net import LocalAddress
from kwik.discovery.mdns_records import SERVICE_TYPE
from kwik.discovery.provider import Announcement, Announcer, DiscoveryError, Offer
from kwik.discovery.supervisor import Discovery
from kwik.errors import ConfigError
from kwik.kcp.sighting import SightingKind
from kwik.types import Address
from tests.contract.test_provider import ProviderContract, Scene, closing, take

PATIENCE_S = 30.0
LOOPBACK = ["127.0.0.1"]
FLAGS_RESPONSE = 0x8400
"""A response, authoritative (RFC 6762 §18)."""


pytestmark = pytest.mark.multicast


def provider(**options) -> MdnsProvider:
    options.setdefault("cooperating_responders", True)
    return MdnsProvider(LOOPBACK, **options)


def new_service() -> str:
    return f"{secrets.token_hex(8)}.example:80"


def new_offer(service: str, port: int = 4001, **fields) -> Offer:
    return Offer(service, secrets.token_hex(8), (Address("127.0.0.1", port),), **fields)


class Told:
    """The newest sighting of each key, read from a watch in the background."""

    def __init__(self, watch):
        self.now = {}
        self.all = []
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._read(watch))

    async def _read(self, watch):
        async with closing(watch):
            async for sighting in watch:
                self.all.append(sighting)
                if sighting.kind is SightingKind.GONE:
                    del self.now[sighting.key]
                else:
                    self.now[sighting.key] = sighting
                self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                if self._task.done():
                    self._task.result()
                self._changed.clear()
                await self._changed.wait()

    def ports(self):
        return sorted(address.port for one in self.now.values() for address in one.addresses)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def announced(announcer: MdnsProvider, offer: Offer):
    announcement = await announcer.announce(offer)
    try:
        yield announcement
    finally:
        await announcement.close()


@asynccontextmanager
async def stranger():
    """Another mDNS program, without our manners."""
    engine = AsyncZeroconf(interfaces=list(LOOPBACK))
    try:
        yield engine
    finally:
        await engine.async_close()


MARK = secrets.token_hex(8)


def record(name: str, text: bytes, hosts: list[str]) -> AsyncServiceInfo:
    instance = f"{name}-{MARK}.{SERVICE_TYPE}"
    server = f"{name}-{MARK}.local."
    return AsyncServiceInfo(SERVICE_TYPE, instance, port=1, properties=text, server=server, parsed_addresses=hosts)


def text_record(string: str) -> bytes:
    return bytes((len(string),)) + string.encode()


class TestMdns(ProviderContract):
    """The suite of every provider; announcer and watcher are two engines."""

    @asynccontextmanager
    async def scene(self):
        service = new_service()
        stays, moves = new_offer(service, 4001), new_offer(service, 4002)
        async with announced(provider(), stays), announced(provider(), moves) as announcement:

            async def change() -> None:
                await announcement.update(dataclasses.replace(moves, state="drain"))

            yield Scene(provider(), service, frozenset({4001, 4002}), change, announcement.close)


async def test_everything_in_an_offer_arrives():
    service = new_service()
    offer = Offer(
        service, "00f1a3b2c4d5e6f7", (Address("127.0.0.1", 4433),), region="lab-ä", weight=7, state="up", label="web.1"
    )
    announcer = provider()
    assert isinstance(announcer, Announcer)
    async with announced(announcer, offer) as announcement:
        assert isinstance(announcement, Announcement)
        async with Told(provider().watch(service)) as told:
            await told.until(lambda: told.now)
            (one,) = told.now.values()
    assert one.key == f"web.1-00f1a3b2.{SERVICE_TYPE}"
    assert (one.server_id, one.region, one.weight, one.state) == ("00f1a3b2c4d5e6f7", "lab-ä", 7, "up")
    assert one.addresses == (Address("127.0.0.1", 4433),)
    assert one.ttl_s is None


async def test_other_services_are_not_told():
    service, other = new_service(), new_service()
    announcer = provider()
    async with (
        announced(announcer, new_offer(other, 4009)),
        Told(provider().watch(service)) as told,
        announced(announcer, new_offer(service, 4001)),
    ):
        await told.until(lambda: told.now)
        assert told.ports() == [4001]


async def test_announce_update_goodbye_as_a_waiting_watcher_sees_them():
    service = new_service()
    offer = new_offer(service)
    async with Told(provider().watch(service)) as told:
        announcement = await provider().announce(offer)
        await told.until(lambda: told.ports() == [4001])
        await announcement.update(dataclasses.replace(offer, state="drain", region="elsewhere", weight=1))
        await told.until(lambda: [one.state for one in told.now.values()] == ["drain"])
        await announcement.update(dataclasses.replace(offer, addresses=(Address("127.0.0.1", 4002),)))
        await told.until(lambda: told.ports() == [4002])
        await announcement.close()
        await told.until(lambda: not told.now)
        await announcement.close()
        with pytest.raises(DiscoveryError, match="closed"):
            await announcement.update(offer)


async def test_an_update_right_after_announcing_is_not_overwritten_by_its_repeats():
    service = new_service()
    offer = new_offer(service)
    async with Told(provider().watch(service)) as told:
        announcement = await provider().announce(offer)
        await announcement.update(dataclasses.replace(offer, state="drain"))
        await told.until(lambda: [one.state for one in told.now.values()] == ["drain"])
        await announcement._rest  # type: ignore[attr-defined]  # the repeats that were due
        assert [one.state for one in told.now.values()] == ["drain"]
        await announcement.close()


async def test_replaced_addresses_do_not_linger():
    service = new_service()
    two = (Address("127.0.0.1", 4001), Address("127.0.0.2", 4001))
    offer = dataclasses.replace(new_offer(service), addresses=two)
    async with Told(provider().watch(service)) as told, announced(provider(), offer) as announcement:
        await told.until(lambda: [one.addresses for one in told.now.values()] == [two])
        await announcement.update(dataclasses.replace(offer, addresses=(Address("127.0.0.3", 4001),)))
        await told.until(lambda: [one.addresses[0].host for one in told.now.values()] == ["127.0.0.3"])


@pytest.mark.slow
async def test_other_responders_replaced_addresses_leave_after_a_second():
    """They keep their host name; caches drop what is older than 1 s one second later, and nobody says so."""
    service = new_service()
    async with stranger() as engine, Told(provider(timings=MdnsTimings(settle_s=1.2)).watch(service)) as told:
        text = text_record(f"svc={service}")
        before = record("other", text, ["127.0.0.1"])
        await (await engine.async_register_service(before, cooperating_responders=True))
        await told.until(lambda: [one.addresses[0].host for one in told.now.values()] == ["127.0.0.1"])
        await asyncio.sleep(1.1)  # RFC 6762 §10.2: addresses younger than 1 s are not replaced
        await engine.async_update_service(record("other", text, ["127.0.0.2"]))
        await told.until(lambda: [one.addresses for one in told.now.values()] == [(Address("127.0.0.2", 1),)])


async def test_fifty_instances_reach_a_late_and_a_waiting_watcher():
    service = new_service()
    offers = [new_offer(service, 5000 + number) for number in range(50)]
    announcer = provider()
    async with AsyncExitStack() as stack:
        waiting = await stack.enter_async_context(Told(provider().watch(service)))
        announcements = await asyncio.gather(*[announcer.announce(offer) for offer in offers])
        await waiting.until(lambda: len(waiting.now) == 50)
        late = await stack.enter_async_context(Told(provider().watch(service)))
        await late.until(lambda: len(late.now) == 50)
        assert waiting.ports() == late.ports() == [offer.addresses[0].port for offer in offers]
        await asyncio.gather(*[announcement.close() for announcement in announcements])
        await late.until(lambda: not late.now)
        await waiting.until(lambda: not waiting.now)


@pytest.mark.slow
async def test_two_announcers_with_one_name_end_with_two_names():
    service = new_service()
    offer = new_offer(service, 4001)
    twin = dataclasses.replace(offer, addresses=(Address("127.0.0.1", 4002),))
    async with (
        announced(provider(cooperating_responders=False), offer) as one,
        announced(provider(cooperating_responders=False), twin) as other,
        Told(provider().watch(service)) as told,
    ):
        await told.until(lambda: told.ports() == [4001, 4002])
        assert other.instance == f"{one.instance}-2"
        assert {sighting.server_id for sighting in told.now.values()} == {offer.server_id}


async def test_one_provider_cannot_announce_the_same_server_twice():
    announcer = provider()
    offer = new_offer(new_service())
    async with announced(announcer, offer):
        with pytest.raises(ConfigError, match="announced already"):
            await announcer.announce(offer)


async def test_a_crash_leaves_the_server_listed_and_a_restart_replaces_it():
    """No goodbye: the entry must stay, for it is a hint; the server that comes back under its name takes it over."""
    service = new_service()
    offer = new_offer(service, 4001)
    async with Told(provider(timings=MdnsTimings(rebrowse_s=0.05)).watch(service)) as told:
        crashed = provider()
        await crashed.announce(offer)
        await told.until(lambda: told.ports() == [4001])
        engine = crashed._responder._zeroconf
        assert engine is not None
        await engine.zeroconf._async_close()
        assert crashed._responder._poll is not None
        crashed._responder._poll.cancel()
        again = dataclasses.replace(offer, addresses=(Address("127.0.0.1", 4002),))
        async with announced(provider(), again):
            await told.until(lambda: told.ports() == [4002])
            assert [one.kind for one in told.all] == [SightingKind.FOUND, SightingKind.FOUND]


async def test_strangers_records_are_ignored():
    """Wrong version, no address worth dialling, a TXT that is none: nothing is told, nothing stops the watch."""
    service = new_service()
    good = f"svc={service}".encode()
    texts = [
        b"\x09txtvers=9" + bytes((len(good),)) + good,
        b"\xff broken",
        b"",
        b"\x04svc=",
        bytes((len(good),)) + good,
    ]
    async with stranger() as engine:
        for number, text in enumerate(texts):
            host = "224.0.0.5" if number == len(texts) - 1 else "127.0.0.1"
            await engine.async_register_service(record(f"odd{number}", text, [host]), cooperating_responders=True)
        async with Told(provider().watch(service)) as told, announced(provider(), new_offer(service, 4001)):
            await told.until(lambda: told.now)
            assert told.ports() == [4001]


async def test_records_that_are_not_in_the_cache_are_asked_for():
    """Only the pointer was heard, the packet with the rest was lost."""
    service = new_service()
    async with stranger() as engine, Told(provider().watch(service)) as told:
        await engine.zeroconf.async_wait_for_start()
        info = record("lost", text_record(f"svc={service}"), ["127.0.0.1"])
        engine.zeroconf.registry.async_add(info)
        pointer = DNSOutgoing(FLAGS_RESPONSE)
        pointer.add_answer_at_time(info.dns_pointer(), 0)
        engine.zeroconf.async_send(pointer)
        await told.until(lambda: [one.addresses for one in told.now.values()] == [(Address("127.0.0.1", 1),)])


async def test_a_pointer_to_nothing_is_asked_for_and_given_up():
    service = new_service()
    timings = MdnsTimings(rechecks_s=(0.001,), request_s=0.01, rebrowse_s=0.05)
    async with stranger() as engine, Told(provider(timings=timings).watch(service)) as told:
        await engine.zeroconf.async_wait_for_start()
        pointer = DNSOutgoing(FLAGS_RESPONSE)
        pointer.add_answer_at_time(record("nothing", b"", []).dns_pointer(), 0)
        engine.zeroconf.async_send(pointer)
        async with announced(provider(), new_offer(service, 4001)):
            await told.until(lambda: told.ports() == [4001])
        await told.until(lambda: not told.now)


async def test_more_instances_than_can_be_followed_are_a_warning(monkeypatch):
    monkeypatch.setattr("kwik.discovery.mdns_browse.MAX_INSTANCES", 0)
    warned = asyncio.get_running_loop().create_future()
    watcher = provider()
    watcher.on_warning(lambda text: None if warned.done() else warned.set_result(text))
    service = new_service()
    async with Told(watcher.watch(service)) as told, announced(provider(), new_offer(service)):
        async with asyncio.timeout(PATIENCE_S):
            assert "more than 0 instances on the network" in await warned
        assert told.all == []


async def test_offers_that_cannot_be_announced_leave_nothing_behind():
    announcer = provider()
    before = asyncio.all_tasks()
    service = new_service()
    for offer in (
        new_offer("x" * 250 + ":80"),
        new_offer(service, label=""),
        dataclasses.replace(new_offer(service), addresses=(Address("server.example", 1),)),
    ):
        with pytest.raises(ConfigError):
            await announcer.announce(offer)
    assert asyncio.all_tasks() <= before
    async with announced(announcer, new_offer(service)) as announcement:
        with pytest.raises(ConfigError, match="stay"):
            await announcement.update(new_offer(service))


async def test_silence_is_one_warning_and_the_first_answer_ends_it():
    service = new_service()
    watcher = provider(timings=MdnsTimings(silence_s=0.0))
    warnings: list[str | None] = []
    ended = asyncio.Event()

    def on_warning(text: str | None) -> None:
        warnings.append(text)
        if text is None:
            ended.set()

    watcher.on_warning(on_warning)
    async with Told(watcher.watch(service)) as told, announced(provider(), new_offer(service)):
        await told.until(lambda: told.now)
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
    assert len(warnings) == 2
    assert warnings[0] is not None
    assert warnings[0].startswith("no mDNS answers for 0 s: no other Kwik server")


async def test_interfaces_that_come_and_go_are_followed():
    """An address that appears is used; all of them vanishing for a moment changes nothing; the watch goes on."""
    lo, second = LocalAddress("lo", 1, "127.0.0.1"), LocalAddress("lo", 1, "127.0.0.2")
    lists = [[lo], [], [lo, second], [lo]]
    asked = asyncio.Event()

    def list_addresses():
        if len(lists) == 1:
            asked.set()
            return lists[0]
        return lists.pop(0)

    service = new_service()
    timings = MdnsTimings(interfaces_s=0.01)
    moving = MdnsProvider(None, cooperating_responders=True, timings=timings, list_addresses=list_addresses)
    offer = dataclasses.replace(new_offer(service), addresses=(Address("0.0.0.0", 4001),))
    async with announced(moving, offer), Told(provider().watch(service)) as told:
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()
        await told.until(lambda: told.ports() == [4001])


async def test_an_interface_that_is_not_there():
    watcher = MdnsProvider(["192.0.2.77"])
    async with closing(watcher.watch("a.example:80")) as watch:
        with pytest.raises(DiscoveryError, match=r"192\.0\.2\.77"):
            await anext(watch)
    with pytest.raises(DiscoveryError, match=r"192\.0\.2\.77"):
        await watcher.announce(new_offer("a.example:80"))


async def test_discovery_reports_mdns_without_an_interface_and_goes_on_with_the_rest():
    service = new_service()
    found: asyncio.Queue[object] = asyncio.Queue()
    nowhere = MdnsProvider(None, name="nowhere", list_addresses=tuple)
    async with announced(provider(), new_offer(service)):
        discovery = Discovery(service, [nowhere, provider()], found.put_nowait, random.Random(1))
        discovery.start()
        async with asyncio.timeout(PATIENCE_S):
            await found.get()
        first, second = discovery.reports()
        await discovery.close()
    assert first.last_error == "no network interface is up; mDNS is off, other discovery continues"
    assert (second.state, second.answers) == ("ok", 1)


async def test_a_watch_cancelled_while_it_opens_leaves_nothing():
    before = asyncio.all_tasks()
    watcher = provider()
    for turns in range(6):
        task = asyncio.create_task(take(watcher.watch(new_service()), 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    async with asyncio.timeout(PATIENCE_S):
        if left := asyncio.all_tasks() - before:
            await asyncio.wait(left)
    assert watcher._responder._zeroconf is None


async def test_bad_settings_are_config_errors():
    several: list[dict[str, Any]] = [{"interfaces": "lo"}, {"interfaces": []}, {"ip_version": "v5"}]
    for settings in several:
        with pytest.raises(ConfigError):
            MdnsProvider(**settings)


async def test_multicast_works_says_no_where_it_does_not():
    assert await multicast_works("192.0.2.77", 0.1) is False
    with pytest.raises(ValueError, match="IPv4"):
        await multicast_works("lo")


async def test_multicast_works_says_no_when_the_port_is_taken(monkeypatch):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exclusive:
        exclusive.bind(("127.0.0.1", 0))
        monkeypatch.setattr("kwik.discovery.mdns_net.MDNS_PORT", exclusive.getsockname()[1])
        assert await multicast_works("127.0.0.1", 0.1) is False
