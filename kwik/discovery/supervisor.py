"""Runs all discovery providers of one service side by side: one that fails is reported and restarted, the others go on.

The only gate from discovery into the control plane: each sighting is checked and counted here, so that a hostile or
broken source can neither crash nor fill the registry.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from kwik.discovery.provider import DiscoveryProvider, Warns
from kwik.errors import ConfigError
from kwik.kcp.sighting import MAX_SOURCE_CHARS, Sighting, SightingKind, find_defect
from kwik.types import ServiceName, parse_service

_Value = TypeVar("_Value")
ProviderState = Literal["starting", "ok", "degraded", "failed"]

MAX_PER_SOURCE: Final = 256
FIRST_BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 30.0
HEALTHY_RUN_S: Final = 10.0
"""A run of at least this length starts the back-off anew."""
STALE_S: Final = 300.0
"""So long are sightings kept that their source has not confirmed since its failure."""
CLOSE_LIMIT_S: Final = 5.0
_BURST: Final = 64
"""After so many sightings in a row the others get the event loop."""


@dataclass(frozen=True, slots=True)
class ProviderReport:
    """How one provider is doing. `answers`: records that it holds up now. `last_error`: of the newest failure.

    starting: has not answered yet. degraded: answers, or may yet, but `detail` says what is wrong. failed: `detail`
    says why and when it is tried again.
    """

    name: str
    state: ProviderState
    detail: str
    last_error: str
    answers: int


class Discovery:
    """Feeds the sightings of several providers to one function. Event loop only, not thread-safe.

    `on_sighting` gets valid sightings only, at most 256 keys per source, GONE only after FOUND; it must not block.
    When a provider fails, what it found stays; what it has not confirmed 300 s later is reported GONE. `on_report` (if
    given) is called with each change of a report. Raises ConfigError for a bad service name and for two providers of
    one name. `rng` spreads the restarts (full jitter, 0.5 s doubling to 30 s).
    """

    def __init__(
        self,
        service: str,
        providers: Iterable[DiscoveryProvider],
        on_sighting: Callable[[Sighting], None],
        rng: random.Random,
        *,
        on_report: Callable[[ProviderReport], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        spelling = parse_service(service)
        self._sources = [
            _Source(provider, spelling, on_sighting=on_sighting, on_report=on_report, rng=rng, sleep=sleep)
            for provider in providers
        ]
        names = [source.name for source in self._sources]
        for name in names:
            if not 1 <= len(name) <= MAX_SOURCE_CHARS or not name.isprintable():
                raise ConfigError(
                    f"discovery: the provider name {name[:60]!r} must have 1 to {MAX_SOURCE_CHARS} characters"
                )
            if names.count(name) > 1:
                raise ConfigError(f"discovery: two providers are called {name!r}: give one of them another name")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start every provider, each in its own task, on the running loop. Once only: RuntimeError the second time."""
        if self._tasks:
            raise RuntimeError("this Discovery was started before")
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(source.run(), name=f"discovery {source.name}") for source in self._sources]

    def reports(self) -> tuple[ProviderReport, ...]:
        """Return how each provider is doing now, in the order given. Also after `close`."""
        return tuple(source.report() for source in self._sources)

    async def close(self) -> None:
        """Stop every provider and wait until each has freed what it holds. No sighting comes after the call began.

        Waits at most 5 s for a provider that does not stop; the loop's exception handler then hears of it. May be
        called twice and without `start`. Cancelled while waiting, the providers still stop by themselves.
        """
        for source in self._sources:
            source.mute()
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            return
        _, stuck = await asyncio.wait(self._tasks, timeout=CLOSE_LIMIT_S)
        if stuck:
            names = ", ".join(sorted(task.get_name() for task in stuck))
            message = f"{names}: still not stopped {CLOSE_LIMIT_S:g} s after close"
            asyncio.get_running_loop().call_exception_handler({"message": message})


class _Source:
    """One provider and what is known of it."""

    def __init__(
        self,
        provider: DiscoveryProvider,
        service: ServiceName,
        *,
        on_sighting: Callable[[Sighting], None],
        on_report: Callable[[ProviderReport], None] | None,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.name = provider.name
        self._provider = provider
        self._service = service
        self._on_sighting = on_sighting
        self._on_report = on_report
        self._rng = rng
        self._sleep = sleep
        self._held: dict[str, Sighting] = {}
        self._unconfirmed: set[str] = set()
        self._stale_timer: asyncio.TimerHandle | None = None
        self._state: ProviderState = "starting"
        self._detail = "no answer yet"
        self._warning: str | None = None
        self._drops = 0
        self._last_drop = ""
        self._last_error = ""
        self._muted = False

    def report(self) -> ProviderReport:
        drops = f"{self._drops} sightings dropped, the last: {self._last_drop}" if self._drops else None
        wrong = "; ".join(text for text in (self._warning, drops) if text)
        if wrong and self._state in ("starting", "ok"):
            return ProviderReport(self.name, "degraded", wrong, self._last_error, len(self._held))
        return ProviderReport(self.name, self._state, self._detail, self._last_error, len(self._held))

    def mute(self) -> None:
        """From now on nothing is passed on."""
        self._muted = True
        if self._stale_timer is not None:
            self._stale_timer.cancel()

    async def run(self) -> None:
        """Watch, and watch again after each failure. Ends by cancellation only."""
        loop = asyncio.get_running_loop()
        unsubscribe = self._provider.on_warning(self._on_warning) if isinstance(self._provider, Warns) else None
        failures = 0
        try:
            while True:
                started_at = loop.time()
                try:
                    await self._watch()
                    error = "the watch ended by itself"
                except Exception as failure:  # noqa: BLE001 - a plug-in may raise anything; none may stop the others
                    error = str(failure) or type(failure).__name__
                if self._muted:  # a provider may swallow the cancellation
                    return
                failures = 1 if loop.time() - started_at >= HEALTHY_RUN_S else failures + 1
                pause_s = full_jitter(self._rng, failures)
                self._on_failure(error, pause_s)
                await self._sleep(pause_s)
                self._change("starting", f"trying again after: {error}")
        finally:
            if unsubscribe is not None:
                unsubscribe()

    async def _watch(self) -> None:
        sightings = self._provider.watch(self._service)
        try:
            taken = 0
            async for sighting in sightings:
                self._take(sighting)
                taken += 1
                if taken % _BURST == 0:
                    await asyncio.sleep(0)
        finally:
            await _close_iterator(sightings)

    def _take(self, sighting: Sighting) -> None:
        defect = self._defect(sighting)
        if defect is not None:
            self._drop(defect)
            return
        if sighting.kind is SightingKind.GONE:
            self._unconfirmed.discard(sighting.key)
            if self._held.pop(sighting.key, None) is not None:
                self._pass_on(sighting)
        elif sighting.key not in self._held and len(self._held) >= MAX_PER_SOURCE:
            self._drop(f"more than {MAX_PER_SOURCE} servers")
        else:
            self._unconfirmed.discard(sighting.key)
            self._held[sighting.key] = sighting
            self._pass_on(sighting)
        if self._state != "ok":
            self._change("ok", "")

    def _defect(self, sighting: Sighting) -> str | None:
        try:
            if sighting.source != self.name:
                return f"source {sighting.source[:60]!r} is not {self.name!r}"
            if sighting.service != self._service:
                return f"service {sighting.service[:60]!r} was not asked for"
            return find_defect(sighting)
        except (TypeError, AttributeError, ValueError) as error:  # a field of a type that cannot be
            return f"malformed ({error})"

    def _pass_on(self, sighting: Sighting) -> None:
        self._call(self._on_sighting, sighting)

    def _on_failure(self, error: str, pause_s: float) -> None:
        self._last_error = error
        self._drops = 0
        self._unconfirmed.update(self._held)
        if self._unconfirmed and self._stale_timer is None:
            self._stale_timer = asyncio.get_running_loop().call_later(STALE_S, self._forget_unconfirmed)
        self._change("failed", f"{error}; next try in {pause_s:.1f} s")

    def _forget_unconfirmed(self) -> None:
        self._stale_timer = None
        for key in [key for key in self._held if key in self._unconfirmed]:
            self._pass_on(replace(self._held.pop(key), kind=SightingKind.GONE))
        self._unconfirmed.clear()
        self._tell()

    def _on_warning(self, text: str | None) -> None:
        self._warning = text
        self._tell()

    def _drop(self, text: str) -> None:
        self._drops += 1
        self._last_drop = text
        if self._drops == 1:  # once a run: a hostile source must not flood the listener of reports instead
            self._tell()

    def _change(self, state: ProviderState, detail: str) -> None:
        self._state, self._detail = state, detail
        self._tell()

    def _tell(self) -> None:
        if self._on_report is not None:
            self._call(self._on_report, self.report())

    def _call(self, listener: Callable[[_Value], None], value: _Value) -> None:
        if self._muted:
            return
        try:
            listener(value)
        except Exception as error:  # noqa: BLE001 - the listener's defect must not be blamed on the provider
            message = f"a listener of discovery failed on what {self.name} said"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


def full_jitter(rng: random.Random, failures: int) -> float:
    """Return a pause in seconds after the n-th failure in a row: uniform from 0 to 0.5, 1, 2, … 30 s."""
    return rng.uniform(0.0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 10)))


async def _close_iterator(sightings: AsyncIterator[Sighting]) -> None:
    close = getattr(sightings, "aclose", None)
    if close is not None:
        await close()
