"""Feed hostile bytes to every target for a while: `python -m tests.fuzz.run --seconds 60 [--seed 1] [--target NAME]`.

With `--jobs 0` on every processor at once, each with dice of its own. A finding is anything but RemoteProtocolError. It
is written to tests/fuzz/corpus, where the normal test run replays it.
Exit codes: 0 nothing found, 1 findings.
"""

import argparse
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the project's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kwik.errors import RemoteProtocolError
from tests.fuzz import corpus
from tests.fuzz.mutate import hostile
from tests.fuzz.targets import TARGETS

MAX_FINDINGS = 10
TURN_S = 0.05
CORE_TURN_S = 1.0
"""How long a target is fed before the next one has its turn; whole cores are a thousand times slower and far deeper."""


def attempt(name: str, octets: bytes) -> bool:
    """Whether the target bore the input; if not, the input is saved and the fault printed."""
    try:
        TARGETS[name](octets)
    except RemoteProtocolError:
        return True
    except Exception:
        path = corpus.save(name, octets)
        print(f"FINDING {name}: {path}\n{traceback.format_exc()}")
        return False
    return True


def fuzz(names: Sequence[str], *, seconds: float, seed: int) -> tuple[Counter[str], int]:
    """Executions of each target, and findings. Inputs follow from the seed alone, their number from the time.

    The targets take turns of given lengths, so that a slow one gets its share and no more.
    """
    dice = {name: random.Random(f"{seed} {name}") for name in names}
    seeds = {name: fitting(name) for name in names}
    executions, findings = Counter[str](), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and findings < MAX_FINDINGS:
        for name in names:
            turn_ends_at = min(end, time.monotonic() + (CORE_TURN_S if name.endswith("-core") else TURN_S))
            while findings < MAX_FINDINGS and (not executions[name] or time.monotonic() < turn_ends_at):
                executions[name] += 1
                findings += not attempt(name, hostile(dice[name], seeds[name]))
    return executions, findings


def fuzz_on_all(jobs: int, names: Sequence[str], *, seconds: float, seed: int) -> tuple[Counter[str], int]:
    """As `fuzz`, in so many processes; the dice of the first are those of a single one."""
    executions, findings = Counter[str](), 0
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        parts = [
            pool.apply_async(fuzz, (names,), {"seconds": seconds, "seed": seed + number}) for number in range(jobs)
        ]
        for part in parts:
            done, found = part.get()
            executions += done
            findings += found
    return executions, findings


def fitting(name: str) -> list[bytes]:
    """The seeds that the target takes, so that mutation starts deep inside it; all of them if it takes none."""

    def is_taken(octets: bytes) -> bool:
        try:
            TARGETS[name](octets)
        except Exception:
            return False
        return True

    every = corpus.seeds(name)
    return [octets for octets in every if is_taken(octets)] or every


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Feed hostile bytes to every decoder.")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, help="repeat an earlier run (default: drawn)")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes; 0: one a processor (default: 1)")
    chosen = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if chosen.seed is None else chosen.seed
    names = chosen.target or sorted(TARGETS)
    print(f"fuzzing {', '.join(names)} for {chosen.seconds:g} s with --seed {seed}", flush=True)
    jobs = chosen.jobs or os.cpu_count() or 1
    if jobs == 1:
        executions, findings = fuzz(names, seconds=chosen.seconds, seed=seed)
    else:
        executions, findings = fuzz_on_all(jobs, names, seconds=chosen.seconds, seed=seed)
    rate = executions.total() / max(chosen.seconds, 1e-9)
    for name in names:
        print(f"  {name:16} {executions[name]}")
    print(f"{executions.total()} executions, {rate:.0f}/s, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
