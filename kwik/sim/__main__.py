"""Run drawn scenarios: python -m kwik.sim --seeds 1000, or one of them in detail: --seed 0x2a --verbose."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable

from kwik.sim.draw import SCALES, Scale, draw
from kwik.sim.runner import Verdict, run_seed, tell

SLOWEST = 5
TELL_EVERY = 500
"""Where nobody watches, progress is told once for so many seeds."""


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, print; 0 if every guarantee held."""
    options = _parse(arguments)
    if options.seed is not None:
        return _one(options.seed, SCALES[options.scale], verbose=options.verbose)
    seeds = range(options.start, options.start + options.seeds)
    if options.scenario:
        seeds = [seed for seed in seeds if draw(seed).name == options.scenario]  # type: ignore[assignment]
    return _many(seeds, options.jobs, show_all=options.verbose)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kwik.sim",
        description="Simulate many scenarios in virtual time and check every guarantee after each.",
        epilog="examples: python -m kwik.sim --seeds 5000    python -m kwik.sim --seed 0x2a --verbose",
    )
    parser.add_argument("--seeds", type=int, default=500, metavar="N", help="how many seeds (default 500)")
    parser.add_argument("--start", type=_number, default=0, metavar="S", help="the first of them (default 0)")
    parser.add_argument("--seed", type=_number, metavar="0x…", help="run this one only")
    parser.add_argument("--scenario", metavar="NAME", choices=("any", "race", "single"), help="only seeds of this sort")
    parser.add_argument("--scale", choices=SCALES, default="brisk", help="with --seed: how finely it is cut (brisk)")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), metavar="J", help="processes")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print all that happens")
    return parser.parse_args(arguments)


def _number(text: str) -> int:
    return int(text, 0)


def _one(seed: int, scale: Scale, *, verbose: bool) -> int:
    verdict = tell(draw(seed, scale), print) if verbose else run_seed(seed, scale)
    print(f"seed {seed:#x} ({verdict.name}): {', '.join(verdict.seen) or 'nothing'} after {verdict.took_s:.3f} s,")
    print(f"  {verdict.events} events, trace hash {verdict.trace_hash:08x}")
    for kind, hit in verdict.faults:
        print(f"  fault: {kind}{', bytes under way' if hit else ''}")
    for text in verdict.breaches:
        print(f"  BROKEN {text}")
    return 1 if verdict.breaches else 0


def _many(seeds: Iterable[int], jobs: int, *, show_all: bool) -> int:
    todo = list(seeds)
    began = time.monotonic()
    verdicts: list[Verdict] = []
    with multiprocessing.Pool(max(1, jobs), initializer=_collect_rarely) as pool:
        for verdict in pool.imap_unordered(run_seed, todo, chunksize=4):
            verdicts.append(verdict)
            if verdict.breaches or show_all:
                _print_verdict(verdict)
            if sys.stdout.isatty():
                print(f"\r{len(verdicts)}/{len(todo)} ", end="", flush=True)
            elif len(verdicts) % TELL_EVERY == 0:
                print(f"{len(verdicts)}/{len(todo)} after {time.monotonic() - began:.0f} s", flush=True)
    took_s = time.monotonic() - began
    _summarise(verdicts, took_s)
    return 1 if any(verdict.breaches for verdict in verdicts) else 0


def _collect_rarely() -> None:
    """A world is one big cycle that lives as long as its run: looking for garbage within it is in vain."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def _print_verdict(verdict: Verdict) -> None:
    if verdict.breaches:
        print(f"\nFAILED  {verdict.command}    # {verdict.name}", flush=True)
        for text in verdict.breaches:
            print(f"    {text}")
    else:
        print(f"ok      {verdict.seed:#x} {verdict.name} {verdict.seen} {verdict.trace_hash:08x}")


def _summarise(verdicts: list[Verdict], took_s: float) -> None:
    faults = Counter(kind for verdict in verdicts for kind, _ in verdict.faults)
    with_fault = [verdict for verdict in verdicts if verdict.faults]
    hit = sum(any(is_hit for _, is_hit in verdict.faults) for verdict in with_fault)
    seen = Counter(one for verdict in verdicts for one in verdict.seen)
    failed = sum(bool(verdict.breaches) for verdict in verdicts)
    broken = Counter(text.split(":")[0] for verdict in verdicts for text in verdict.breaches)
    print(f"\n{len(verdicts)} scenarios in {took_s:.1f} s: {len(verdicts) * 60 / max(took_s, 1e-9):.0f} a minute")
    print(f"streams: {_listed(seen)}")
    print(f"faults: {_listed(faults)}; {hit} of {len(with_fault)} scenarios with faults had bytes under way hit")
    slowest = sorted(verdicts, key=lambda verdict: -verdict.events)[:SLOWEST]
    print("most events: " + ", ".join(f"{one.seed:#x} ({one.events})" for one in slowest))
    races = [verdict for verdict in verdicts if verdict.name == "race"]
    missed = sum(bool(verdict.misses) for verdict in races)
    if races:
        print(f"guarantee 4, strict bound: met in {len(races) - missed} of {len(races)} races")
    print(f"broken: {_listed(broken)} in {failed} scenarios" if failed else "every guarantee held")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    sys.exit(main())
