"""Runs one seed to a verdict: world, guarantees, comparisons, and now and then once more to see the same again."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from kwik.sim.compare import check_race, check_single, is_race, is_single
from kwik.sim.draw import BRISK, Scale, draw
from kwik.sim.framing import FramingWatch
from kwik.sim.guarantees import breaches
from kwik.sim.scenario import Scenario
from kwik.sim.watch import Watch
from kwik.sim.world import Outcome, World

REPEAT_EVERY = 50
"""Every so many seeds a run is repeated and must be equal."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one seed; small, for it crosses between processes."""

    seed: int
    name: str
    breaches: tuple[str, ...]
    events: int
    took_s: float
    trace_hash: int
    seen: tuple[str, ...]
    """How each stream ended."""
    faults: tuple[tuple[str, bool], ...]
    """Kind of each fault that struck, and whether it hit bytes under way."""
    misses: tuple[str, ...] = ()
    """Where the strict bound of guarantee 4 was missed, and only that (see compare.OVER_BEST_ASSERTED)."""

    scale: str = BRISK.name

    @property
    def command(self) -> str:
        """What repeats this run."""
        return f"python -m kwik.sim --scale {self.scale} --seed {self.seed:#x} --verbose"


def run_seed(seed: int, scale: Scale = BRISK) -> Verdict:
    """Draw, run, judge. A fault of a machine is a breach as well; nothing is raised."""
    verdict = run_scenario(draw(seed, scale), is_repeated=seed % REPEAT_EVERY == 3)
    return replace(verdict, scale=scale.name)


def run_scenario(scenario: Scenario, *, is_repeated: bool = False, watch: Watch | None = None) -> Verdict:
    """Run and judge one scenario."""
    outcome: Outcome | None = None
    found: list[str] = []
    misses: list[str] = []
    if watch is None and is_single(scenario):
        watch = FramingWatch()
    try:
        outcome = World(scenario, watch=watch).run()
        found += breaches(outcome)
        found += _compare(scenario, outcome, misses, is_repeated=is_repeated)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a run is a finding of that run
        found.append(f"0: {type(error).__name__}: {error}\n{_last_frames(error)}")
    if outcome is None:
        return Verdict(scenario.seed, scenario.name, tuple(found), 0, 0.0, 0, (), ())
    return Verdict(
        seed=scenario.seed,
        name=scenario.name,
        breaches=tuple(found),
        events=outcome.events,
        took_s=outcome.took_s,
        trace_hash=outcome.trace_hash,
        seen=tuple(app.seen for app in outcome.world.client.streams),
        misses=tuple(misses),
        faults=tuple((record.plan.kind, record.owed_bytes > 0) for record in outcome.faults),
    )


def _compare(scenario: Scenario, outcome: Outcome, misses: list[str], *, is_repeated: bool) -> list[str]:
    found: list[str] = []
    if outcome.ended and is_race(scenario) and scenario.name == "race":
        broken, missed = check_race(outcome)
        found += broken
        misses += missed
    if outcome.ended and is_single(scenario):
        found += check_single(outcome)
    if is_repeated and World(scenario).run().trace_hash != outcome.trace_hash:
        found.append("0: two runs of the same seed differ")
    return found


def _last_frames(error: BaseException, count: int = 6) -> str:
    lines = traceback.format_tb(error.__traceback__)[-count:]
    return "".join(lines).rstrip()


def tell(scenario: Scenario, say: Callable[[str], None]) -> Verdict:
    """Run one scenario and say everything that happens."""
    say(f"{scenario}\n")
    watch = Watch(tap=True, verbose=True, print_line=say)
    return run_scenario(scenario, watch=watch)
