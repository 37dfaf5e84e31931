"""What every discovery provider promises. Subclass `ProviderContract` for another one; tests/net does so for mDNS."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from kwik.discovery.provider import DiscoveryProvider, Warns
from kwik.discovery.static import StaticProvider
from kwik.discovery.supervisor import Discovery
from kwik.errors import ConfigError
from kwik.kcp.sighting import Sighting, SightingKind, find_defect
from kwik.types import Address
from tests.unit.discovery.scripted import ScriptedProvider, gone, sighting

PATIENCE_S = 20.0
"""How long a test waits for what must come; never a measurement."""


@dataclasses.dataclass
class Scene:
    """A provider that has something to say about `service`, and, where the source can change, how to make it."""

    provider: DiscoveryProvider
    service: str
    ports: frozenset[int]
    change: Callable[[], Awaitable[None]] | None = None
    """Sets the state of one server to drain."""
    withdraw: Callable[[], Awaitable[None]] | None = None
    """Takes that server away."""


@asynccontextmanager
async def closing(watch: AsyncIterator[Sighting]) -> AsyncIterator[AsyncIterator[Sighting]]:
    """Like contextlib.aclosing, for what the protocol promises: an iterator that may have aclose()."""
    try:
        yield watch
    finally:
        if close := getattr(watch, "aclose", None):
            await close()


async def take(watch: AsyncIterator[Sighting], number: int) -> list[Sighting]:
    """Read that many; whatever the outcome, the watch stays open unless it raised."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(watch) for _ in range(number)]


def tasks_now() -> set["asyncio.Task[Any]"]:
    return asyncio.all_tasks()


class ProviderContract:
    """The suite. `scene` must offer a source with exactly the servers of `ports`."""

    def scene(self) -> AbstractAsyncContextManager[Scene]:
        raise NotImplementedError

    async def test_it_has_a_short_name_and_the_right_shape(self):
        async with self.scene() as scene:
            assert isinstance(scene.provider, DiscoveryProvider)
            assert 1 <= len(scene.provider.name) <= 32
            assert scene.provider.name.isprintable()

    async def test_it_tells_what_there_is_in_valid_sightings(self):
        async with self.scene() as scene, closing(scene.provider.watch(scene.service)) as watch:
            told = await take(watch, len(scene.ports))
            assert [find_defect(one) for one in told] == [None] * len(told)
            assert {one.source for one in told} == {scene.provider.name}
            assert {one.service for one in told} == {scene.service}
            assert {one.kind for one in told} == {SightingKind.FOUND}
            assert {address.port for one in told for address in one.addresses} == scene.ports
            assert len({one.key for one in told}) == len(scene.ports)

    async def test_two_watches_at_once_and_one_after_the_other(self):
        async with self.scene() as scene:
            for _ in range(2):
                async with closing(scene.provider.watch(scene.service)) as one:
                    await take(one, 1)
                    async with closing(scene.provider.watch(scene.service)) as other:
                        assert len(await take(other, len(scene.ports))) == len(scene.ports)

    async def test_closing_leaves_no_task_behind(self):
        async with self.scene() as scene:
            before = tasks_now()
            async with closing(scene.provider.watch(scene.service)) as watch:
                await take(watch, len(scene.ports))
            assert tasks_now() <= before

    async def test_closing_a_watch_that_was_never_read(self):
        async with self.scene() as scene:
            before = tasks_now()
            async with closing(scene.provider.watch(scene.service)):
                pass
            assert tasks_now() <= before

    async def test_cancelling_while_it_waits_leaves_no_task_behind(self):
        async with self.scene() as scene:
            before = tasks_now()
            all_told = asyncio.Event()

            async def read() -> None:
                async with closing(scene.provider.watch(scene.service)) as watch:
                    await take(watch, len(scene.ports))
                    all_told.set()
                    await anext(watch)

            task = asyncio.create_task(read())
            async with asyncio.timeout(PATIENCE_S):
                await all_told.wait()
                task.cancel()
                await asyncio.wait([task])
            assert task.cancelled()
            assert tasks_now() <= before

    async def test_a_bad_service_is_a_config_error(self):
        async with self.scene() as scene, closing(scene.provider.watch("no-port")) as watch:
            with pytest.raises(ConfigError):
                await anext(watch)

    async def test_changes_and_withdrawals_are_told(self):
        async with self.scene() as scene:
            if scene.change is None or scene.withdraw is None:
                pytest.skip("this source does not change")
            async with closing(scene.provider.watch(scene.service)) as watch:
                await take(watch, len(scene.ports))
                await scene.change()
                (changed,) = await take(watch, 1)
                assert (changed.kind, changed.state) == (SightingKind.FOUND, "drain")
                await scene.withdraw()
                (last,) = await take(watch, 1)
                assert (last.kind, last.key) == (SightingKind.GONE, changed.key)

    async def test_warnings_can_be_subscribed_and_left(self):
        async with self.scene() as scene:
            if not isinstance(scene.provider, Warns):
                pytest.skip("this provider does not warn")
            leave = scene.provider.on_warning(lambda text: None)
            leave()
            leave()

    async def test_it_runs_under_discovery(self):
        async with self.scene() as scene:
            told: asyncio.Queue[Sighting] = asyncio.Queue()
            before = tasks_now()
            discovery = Discovery(scene.service, [scene.provider], told.put_nowait, random.Random(1))
            discovery.start()
            async with asyncio.timeout(PATIENCE_S):
                found = [await told.get() for _ in scene.ports]
            (report,) = discovery.reports()
            await discovery.close()
            assert {address.port for one in found for address in one.addresses} == scene.ports
            assert (report.state, report.answers, report.last_error) == ("ok", len(scene.ports), "")
            assert tasks_now() <= before


async def _resolver(address: Address) -> Sequence[Address]:
    return (Address("127.0.0.1", address.port), Address("::1", address.port))


class TestStatic(ProviderContract):
    @asynccontextmanager
    async def scene(self):
        servers = ["127.0.0.1:4001", "[::1]:4002", "server.example:4003"]
        yield Scene(StaticProvider(servers, resolver=_resolver), "files.example:80", frozenset({4001, 4002, 4003}))


class TestScripted(ProviderContract):
    @asynccontextmanager
    async def scene(self):
        provider = ScriptedProvider()
        provider.put(sighting("k1", port=4001))
        provider.put(sighting("k2", port=4002))

        async def change() -> None:
            provider.put(sighting("k2", port=4002, state="drain"))

        async def withdraw() -> None:
            provider.put(gone("k2"))

        yield Scene(provider, "a.example:80", frozenset({4001, 4002}), change, withdraw)
