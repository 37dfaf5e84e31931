"""Drawn scenarios, each held to every guarantee; and all those seeds that once failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kwik.sim.draw import BRISK, SCALES, Scale
from kwik.sim.runner import run_seed

FAILED_ONCE = Path(__file__).with_name("seeds.txt")
SHARDS = 30
SEEDS_PER_SHARD = 10


def check(seed: int, scale: Scale = BRISK):
    verdict = run_seed(seed, scale)
    assert not verdict.breaches, "\n".join((verdict.command, *verdict.breaches))
    return verdict


def seeds_that_failed_once():
    lines = FAILED_ONCE.read_text().splitlines()
    words = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [pytest.param(SCALES[word], int(seed, 0), id=seed) for word, seed, *_ in words]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_drawn_scenarios(shard):
    for seed in range(shard * SEEDS_PER_SHARD, (shard + 1) * SEEDS_PER_SHARD):
        check(seed)


@pytest.mark.parametrize(("scale", "seed"), seeds_that_failed_once())
def test_a_seed_that_failed_once(scale, seed):
    check(seed, scale)


@pytest.mark.proc
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 7])
def test_the_order_of_sets_does_not_matter(seed):
    """Two processes with different hash seeds see the same run."""
    command = [sys.executable, "-m", "kwik.sim", "--seed", str(seed)]
    outputs = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True)
        for salt in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert b"trace hash" in outputs[0].stdout
