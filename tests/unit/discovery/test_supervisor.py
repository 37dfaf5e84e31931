"""Several providers side by side: failures stay where they are, and nothing invalid or unbounded passes."""

import asyncio
import random

import pytest

from kwik.discovery import supervisor
from kwik.discovery.supervisor import MAX_PER_SOURCE, Discovery, ProviderReport, full_jitter
from kwik.errors import ConfigError
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address
from tests.unit.discovery.scripted import ScriptedProvider, gone, sighting


class Pauses:
    """Stands for `sleep`: records each pause and ends it when the test says so."""

    def __init__(self):
        self.lengths = []
        self._gate = asyncio.Semaphore(0)

    async def __call__(self, length):
        self.lengths.append(length)
        await self._gate.acquire()

    def end(self):
        self._gate.release()


class Stage:
    """A running Discovery with all that it says."""

    def __init__(self, *providers, service="a.example:80"):
        self.told: list[Sighting] = []
        self.heard: list[ProviderReport] = []
        self.pauses = Pauses()
        self.discovery = Discovery(
            service, providers, self.told.append, random.Random(7), on_report=self.heard.append, sleep=self.pauses
        )

    async def __aenter__(self):
        self.before = asyncio.all_tasks()
        self.discovery.start()
        return self

    async def __aexit__(self, *error):
        await self.discovery.close()
        assert asyncio.all_tasks() <= self.before

    async def until(self, condition):
        """Let the loop turn until it holds; the test's own time limit ends a wait in vain."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the condition is a snapshot, nothing could set an event
                await asyncio.sleep(0)

    def states(self):
        return [report.state for report in self.discovery.reports()]


async def test_sightings_of_all_providers_arrive():
    one, two = ScriptedProvider("one"), ScriptedProvider("two")
    one.put(sighting("a", source="one"))
    async with Stage(one, two) as stage:
        await stage.until(lambda: stage.states() == ["ok", "starting"])
        two.put(sighting("b", source="two"))
        await stage.until(lambda: len(stage.told) == 2)
        two.put(gone("b", source="two"))
        await stage.until(lambda: len(stage.told) == 3)
        assert [(said.source, said.kind.value) for said in stage.told] == [
            ("one", "found"),
            ("two", "found"),
            ("two", "gone"),
        ]
        assert [report.answers for report in stage.discovery.reports()] == [1, 0]


async def test_one_that_fails_is_reported_and_restarted_while_the_other_goes_on():
    bad, good = ScriptedProvider("bad"), ScriptedProvider("good")
    async with Stage(bad, good) as stage:
        await bad.wait_for_watch(1)
        await good.wait_for_watch(1)
        bad.fail(RuntimeError("registry on fire"))
        await stage.until(lambda: stage.states()[0] == "failed")
        report = stage.discovery.reports()[0]
        assert report.last_error == "registry on fire"
        assert report.detail == f"registry on fire; next try in {stage.pauses.lengths[0]:.1f} s"
        good.put(sighting("g", source="good"))
        await stage.until(lambda: len(stage.told) == 1)
        stage.pauses.end()
        await bad.wait_for_watch(2)
        assert stage.states()[0] == "starting"
        bad.put(sighting("b", source="bad"))
        await stage.until(lambda: stage.states() == ["ok", "ok"])
        assert stage.discovery.reports()[0].last_error == "registry on fire"
    assert good.watches == 1
    assert bad.open_watches == good.open_watches == 0


async def test_pauses_grow_with_full_jitter_and_a_long_run_starts_them_anew(monkeypatch):
    bad = ScriptedProvider("bad")
    async with Stage(bad) as stage:
        for number in range(1, 9):
            if number == 8:
                monkeypatch.setattr(supervisor, "HEALTHY_RUN_S", 0.0)
            await bad.wait_for_watch(number)
            bad.fail(RuntimeError("again"))
            await stage.until(lambda wanted=number: len(stage.pauses.lengths) == wanted)
            stage.pauses.end()
    rng = random.Random(7)
    assert stage.pauses.lengths == [full_jitter(rng, failures) for failures in (1, 2, 3, 4, 5, 6, 7, 1)]


def test_full_jitter_doubles_to_30_s():
    class Highest(random.Random):
        def uniform(self, a, b):
            assert a == 0.0
            return b

    assert [full_jitter(Highest(), n) for n in (1, 2, 3, 6, 7, 8, 10_000)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0]


class Odd(ScriptedProvider):
    """A provider with a way of its own to misbehave."""

    def __init__(self, way):
        super().__init__("odd")
        self.way = way

    async def watch(self, service):
        self.watches += 1
        if self.way == "raises at once":
            raise ValueError
        if self.way == "swallows cancellation":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return
        if self.way == "raises when cancelled":
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("cleaning up failed")
        if self.way == "never pauses":
            while True:
                yield sighting(source="odd")
        yield sighting(source="odd")


async def test_a_watch_that_ends_counts_as_a_failure():
    async with Stage(Odd("ends")) as stage:
        await stage.until(lambda: stage.states() == ["failed"])
        assert stage.discovery.reports()[0].last_error == "the watch ended by itself"
        assert len(stage.told) == 1


async def test_an_error_without_text_is_named():
    async with Stage(Odd("raises at once")) as stage:
        await stage.until(lambda: stage.states() == ["failed"])
        assert stage.discovery.reports()[0].last_error == "ValueError"


@pytest.mark.parametrize("way", ["swallows cancellation", "raises when cancelled"])
async def test_closing_stops_a_provider_that_abuses_its_cancellation(way):
    odd = Odd(way)
    async with Stage(odd) as stage:
        await stage.until(lambda: odd.watches == 1)
        await asyncio.sleep(0)
    assert odd.watches == 1


async def test_a_provider_that_never_pauses_does_not_stop_the_others():
    good = ScriptedProvider("good")
    async with Stage(Odd("never pauses"), good) as stage:
        await good.wait_for_watch(1)
        good.put(sighting("g", source="good"))
        await stage.until(lambda: any(said.source == "good" for said in stage.told))


async def test_a_stuck_provider_is_named_after_a_while(monkeypatch):
    class Stuck(ScriptedProvider):
        freed = asyncio.Event()

        async def watch(self, service):
            self.watches += 1
            try:
                await asyncio.Event().wait()
            finally:
                await self.freed.wait()
            yield sighting()

    monkeypatch.setattr(supervisor, "CLOSE_LIMIT_S", 0.0)
    stuck = Stuck("stuck")
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    before = asyncio.all_tasks()
    stage = Stage(stuck)
    stage.discovery.start()
    await stage.until(lambda: stuck.watches == 1)
    await stage.discovery.close()
    assert complaints == ["discovery stuck: still not stopped 0 s after close"]
    stuck.freed.set()
    await stage.until(lambda: asyncio.all_tasks() <= before)


async def test_invalid_sightings_are_dropped_and_reported_once():
    provider = ScriptedProvider()
    async with Stage(provider) as stage:
        await provider.wait_for_watch(1)
        provider.put(sighting("k1", source="other"))
        provider.put(sighting("k2", service="b.example:80"))
        provider.put(sighting("k3", addresses=(Address("0.0.0.0", 1),)))
        provider.put(sighting("k4", addresses=None))
        provider.put(sighting("k5"))
        await stage.until(lambda: stage.told)
        (report,) = stage.discovery.reports()
        assert [said.key for said in stage.told] == ["k5"]
        assert (report.state, report.answers) == ("degraded", 1)
        assert report.detail.startswith("4 sightings dropped, the last: malformed (")
        assert [heard.state for heard in stage.heard] == ["degraded", "degraded"]


async def test_at_most_256_per_source():
    flood, calm = ScriptedProvider("flood"), ScriptedProvider("calm")
    for number in range(MAX_PER_SOURCE + 10):
        flood.put(sighting(f"k{number}", source="flood"))
    calm.put(sighting("c", source="calm"))
    async with Stage(flood, calm) as stage:
        await stage.until(lambda: stage.discovery.reports()[0].detail.startswith("10 sightings dropped"))
        assert len([said for said in stage.told if said.source == "flood"]) == MAX_PER_SOURCE
        assert stage.states() == ["degraded", "ok"]
        flood.put(sighting("k0", source="flood", state="drain"))  # a known one may change
        flood.put(gone("k1", source="flood"))  # and one that leaves makes room
        flood.put(sighting("new", source="flood"))
        await stage.until(lambda: stage.told[-1].key == "new")
        assert [said.key for said in stage.told[-3:]] == ["k0", "k1", "new"]


async def test_gone_of_something_unknown_is_not_passed_on():
    provider = ScriptedProvider()
    async with Stage(provider) as stage:
        await provider.wait_for_watch(1)
        provider.put(gone("never"))
        provider.put(sighting("k"))
        await stage.until(lambda: stage.told)
        assert [said.key for said in stage.told] == ["k"]


async def test_what_a_restarted_source_does_not_confirm_is_gone_in_the_end(monkeypatch):
    monkeypatch.setattr(supervisor, "STALE_S", 0.01)
    provider = ScriptedProvider()
    provider.put(sighting("stays"))
    provider.put(sighting("leaves"))
    async with Stage(provider) as stage:
        await stage.until(lambda: len(stage.told) == 2)
        provider.fail(RuntimeError("x"))
        await stage.until(lambda: stage.states() == ["failed"])
        assert stage.discovery.reports()[0].answers == 2
        del provider.records["leaves"]
        stage.pauses.end()
        await stage.until(lambda: len(stage.told) == 4)
        assert {(said.key, said.kind) for said in stage.told[2:]} == {
            ("stays", SightingKind.FOUND),
            ("leaves", SightingKind.GONE),
        }


async def test_warnings_degrade_and_pass():
    provider = ScriptedProvider()
    async with Stage(provider) as stage:
        await provider.wait_for_watch(1)
        provider.warn("silence")
        assert stage.discovery.reports()[0].detail == "silence"
        assert stage.states() == ["degraded"]
        provider.put(sighting())
        await stage.until(lambda: stage.told)
        assert stage.states() == ["degraded"]
        provider.warn(None)
        assert stage.states() == ["ok"]
        provider.warn("silence again")
        provider.fail(RuntimeError("worse"))
        await stage.until(lambda: stage.states() == ["failed"])


async def test_a_listener_that_fails_is_not_the_providers_fault():
    def listener(said):
        raise ZeroDivisionError

    complaints = []
    heard = asyncio.Event()

    def complain(loop, context):
        complaints.append(context)
        heard.set()

    asyncio.get_running_loop().set_exception_handler(complain)
    provider = ScriptedProvider()
    provider.put(sighting("a"))
    discovery = Discovery("a.example:80", [provider], listener, random.Random(1))
    discovery.start()
    async with asyncio.timeout(20):
        await heard.wait()
    assert discovery.reports()[0].state == "ok"
    await discovery.close()
    assert isinstance(complaints[0]["exception"], ZeroDivisionError)


async def test_nothing_is_told_after_close_began():
    provider = ScriptedProvider()
    stage = Stage(provider)
    stage.discovery.start()
    await provider.wait_for_watch(1)
    closing = asyncio.ensure_future(stage.discovery.close())
    await asyncio.sleep(0)
    provider.put(sighting())
    await closing
    await stage.discovery.close()
    assert stage.told == []
    assert provider.open_watches == 0


async def test_close_without_start_and_without_providers():
    await Discovery("a.example:80", [ScriptedProvider()], print, random.Random(1)).close()
    empty = Discovery("a.example:80", [], print, random.Random(1))
    empty.start()
    assert empty.reports() == ()
    await empty.close()


async def test_mistakes_of_the_caller_are_named():
    with pytest.raises(ConfigError, match="no port"):
        Discovery("nonsense", [], print, random.Random(1))
    with pytest.raises(ConfigError, match="two providers"):
        Discovery("a.example:80", [ScriptedProvider(), ScriptedProvider()], print, random.Random(1))
    with pytest.raises(ConfigError, match="provider name"):
        Discovery("a.example:80", [ScriptedProvider("")], print, random.Random(1))
    async with Stage(ScriptedProvider()) as stage:
        with pytest.raises(RuntimeError):
            stage.discovery.start()


async def test_the_service_is_spelt_as_everywhere():
    provider = ScriptedProvider()
    provider.put(sighting("a"))
    async with Stage(provider, service="A.example:80") as stage:
        await stage.until(lambda: stage.told)
