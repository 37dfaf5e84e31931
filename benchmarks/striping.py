"""1 to 4 servers behind equal links, then three behind unlike ones: how much of the links' sum reaches the reader.

Goodput is downstream bytes the reader got; whole: from before dial to the end; steady: over the middle of the bytes.
A ratio to one server counts only where that one server itself reaches 90 % of its link's payload rate (steady).
"""

from __future__ import annotations

from typing import Any

from benchmarks.figures import arguments, median, payload_rate, table, write_json
from benchmarks.stage import Program, Server, Stage, cpu_seconds

STEADY = (0.3, 0.95)
GOOD_SHARE = 0.9
UNLIKE = ((40.0, 10.0), (20.0, 40.0), (10.0, 100.0))
"""Mbit/s and ms of round trip."""
GB = 1e9
HEAD = ("", "whole", "steady", "share of links", "x one", "copies", "rejected", "client s/GB", "servers s/GB")


def fetch(client: Program, servers: list[Server], size: int, count: int) -> dict[str, Any]:
    """One download on a session of its own, with the CPU time of both sides."""
    before = sum(map(cpu_seconds, servers))
    config = {"session_idle_s": 0.01 + count * 1e-6}
    run = client.ask("fetch", servers=[server.address for server in servers], size=size, config=config)
    run["servers_cpu_s"] = sum(map(cpu_seconds, servers)) - before
    run["size"] = size
    return run


def whole(run: dict[str, Any]) -> float:
    """Bytes a second from before dial to the end."""
    return float(run["size"] / (run["ended_at"] - run["began_at"]))


def steady(run: dict[str, Any]) -> float:
    """Bytes a second over the middle of the bytes."""
    (at, low), (until, high) = (next(r for r in run["reads"] if r[1] >= edge * run["size"]) for edge in STEADY)
    return float((high - low) / (until - at))


def row(name: str, runs: list[dict[str, Any]], links_bytes_s: float, one: dict[str, Any] | None) -> list[str]:
    """Medians of the runs of one scene."""
    rates = median([whole(run) for run in runs]), median([steady(run) for run in runs])
    data = runs[0]["size"]
    copies = median([run["stats"]["duplicate_bytes"] / data for run in runs])
    ratio = "" if one is None else f"{rates[1] / median([steady(run) for run in one['runs']]):.2f}"
    return [
        name,
        *(f"{rate * 8 / 1e6:.1f}" for rate in rates),
        f"{rates[1] / links_bytes_s:.0%}",
        ratio,
        f"{copies:.1%}",
        str(max(run["stats"]["rejected_blocks"] for run in runs)),
        *(f"{median([run[key] for run in runs]) / data * GB:.0f}" for key in ("cpu_s", "servers_cpu_s")),
    ]


def scenes(options: Any) -> dict[str, list[tuple[float, float]]]:
    """The links of each scene."""
    equal = (options.mbit, options.rtt_ms)
    named = {f"{n} server{'s' * (n > 1)}": [equal] * n for n in range(1, options.servers + 1)}
    return named | {"40 Mbit/s alone": [UNLIKE[0]], "40/20/10 Mbit/s": list(UNLIKE)}


def measure(options: Any) -> dict[str, dict[str, Any]]:
    """All scenes in turn, so many times over."""
    size, results = int(options.mb * 1e6), dict[str, dict[str, Any]]()
    with Stage() as stage:
        client, count = stage.client(), 0
        placed: dict[str, list[Server]] = {}
        for name, links in scenes(options).items():
            placed[name] = [stage.server() for _ in links]
            for server, (mbit, rtt_ms) in zip(placed[name], links, strict=True):
                stage.put_link(server, mbit=mbit, rtt_ms=rtt_ms)
            results[name] = {"links": links, "runs": []}
        for _ in range(options.runs):
            for name, servers in placed.items():
                count += 1
                results[name]["runs"].append(fetch(client, servers, size, count))
    return results


def main() -> None:
    """Run, print, keep."""
    options = arguments(
        __doc__ or "",
        servers=(4, "most servers behind equal links"),
        mbit=(20.0, "rate of each link, Mbit/s of IP packets"),
        rtt_ms=(40.0, "round trip of each link"),
        mb=(20.0, "size of a download, MB"),
        runs=(3, "times that each scene is measured"),
    )
    results = measure(options)
    lines = []
    for name, result in results.items():
        one = results["40 Mbit/s alone" if result["links"][0] == UNLIKE[0] else "1 server"]
        links_bytes_s = sum(payload_rate(mbit) for mbit, _ in result["links"])
        lines.append(row(name, result["runs"], links_bytes_s, None if one is result else one))
        solo = median([steady(run) for run in result["runs"]]) / links_bytes_s
        if one is result and solo < GOOD_SHARE:
            lines[-1][0] += f" (below {GOOD_SHARE:.0%} of its link: ratios to it do not count)"
    print(f"{options.mb:g} MB, {options.mbit:g} Mbit/s and {options.rtt_ms:g} ms a link; goodput in Mbit/s, medians")
    print(table(HEAD, lines))
    write_json(options.json, "striping", options, results)


if __name__ == "__main__":
    main()
