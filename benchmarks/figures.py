"""Medians, confidence intervals, tables and the JSON file of a benchmark."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESAMPLES = 2000
CONFIDENCE = 0.95
DATAGRAM_BYTES, DATAGRAM_PAYLOAD_BYTES = 1228, 1160
"""A full IP packet of a path and the stream bytes in it: what share of a link's rate can be payload."""


def median(values: Sequence[float]) -> float:
    """The median; nan of nothing."""
    return statistics.median(values) if values else float("nan")


def ratio_interval(ours: Sequence[float], theirs: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """Bootstrap interval (percentiles, CONFIDENCE) of median(ours) / median(theirs); pairs are drawn together."""
    rng, count, ratios = random.Random(seed), len(ours), list[float]()
    for _ in range(RESAMPLES):
        drawn = [rng.randrange(count) for _ in range(count)]
        ratios.append(median([ours[i] for i in drawn]) / median([theirs[i] for i in drawn]))
    ratios.sort()
    edge = (1 - CONFIDENCE) / 2
    return ratios[int(edge * RESAMPLES)], ratios[min(int((1 - edge) * RESAMPLES), RESAMPLES - 1)]


def payload_rate(mbit: float) -> float:
    """Stream bytes a second that a link of so many Mbit/s of IP packets carries at best."""
    return mbit * 1e6 / 8 * DATAGRAM_PAYLOAD_BYTES / DATAGRAM_BYTES


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as need be; the first one left, the others right."""
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells)))
    return "\n".join(line.rstrip() for line in lines)


def arguments(text: str, **defaults: tuple[float | int, str]) -> argparse.Namespace:
    """The command line: `--name NUMBER` for each default (with its help) and `--json FILE`."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, (default, explanation) in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=explanation)
    parser.add_argument("--json", type=Path, help="write all raw runs to this file")
    return parser.parse_args()


def write_json(path: Path | None, name: str, options: argparse.Namespace, runs: object) -> None:
    """Keep the raw runs, with what they were made with."""
    if path is None:
        return
    document: dict[str, Any] = {
        "benchmark": name,
        "options": {key: value for key, value in vars(options).items() if key != "json"},
        "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "runs": runs,
    }
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")
