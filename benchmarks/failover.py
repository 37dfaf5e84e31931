"""The reader's pause when one of three servers dies or vanishes in mid-stream: the anchor, or a helper.

Pause: the longest time without a new byte that ends after the fault, within the watched time. Nothing but silence tells
the client: the links stay and swallow, no ICMP, no farewell. Beside it the longest gap just before the fault.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from benchmarks.figures import arguments, median, table, write_json
from benchmarks.stage import Program, Server, Stage

FAULTS = ("kill", "black hole")
VICTIMS = ("anchor", "helper")
WATCHED_S = 2.0
AT = 0.5
"""The fault comes when this share of the bytes was read."""
CONFIG_IDLE_S = 0.01


def victim_of(reached: dict[str, Any], servers: list[Server], wanted: str) -> tuple[Server, int]:
    """The server to strike, and the bytes that it owed: the anchor, or the helper that owed most."""
    owed = {path["server_id"]: path["outstanding_bytes"] for path in reached["paths"]}
    anchor = reached["stats"]["anchor"]
    helpers = [share["server_id"] for share in reached["stats"]["shares"] if share["server_id"] != anchor]
    name = anchor if wanted == "anchor" else max(helpers, key=lambda each: owed.get(each, 0), default=anchor)
    return next(server for server in servers if server.server_id == name), owed.get(name, 0)


def strike(stage: Stage, server: Server, fault: str) -> float:
    """Do it; returns the instant (time.monotonic)."""
    at = time.monotonic()
    if fault == "kill":
        server.kill()
    else:
        stage.links.ask("set", link=server.link, changes={"blackhole": "both"})
    return at


def gap(reads: list[list[float]], begin: float, end: float) -> float:
    """The longest time between two reads, of which the second lies between begin and end."""
    pairs = itertools.pairwise(reads)
    return max((after[0] - before[0] for before, after in pairs if begin <= after[0] <= end), default=0.0)


def run_once(stage: Stage, client: Program, servers: list[Server], scene: dict[str, Any]) -> dict[str, Any]:
    """One download with one fault."""
    size = scene["size"]
    config = {"session_idle_s": CONFIG_IDLE_S + scene["number"] * 1e-6}
    addresses = [server.address for server in servers]
    client.tell("fetch", servers=addresses, size=size, config=config, tell_at=int(size * AT))
    reached = client.read()
    victim, owed_bytes = victim_of(reached, servers, scene["victim"])
    at = strike(stage, victim, scene["fault"])
    result = client.read()
    pause = gap(result["reads"], at, at + WATCHED_S)
    before = gap(result["reads"], at - WATCHED_S, at)
    if scene["fault"] == "black hole":
        stage.links.ask("set", link=victim.link, changes={"blackhole": None})
    else:
        servers[servers.index(victim)] = revived(stage, scene)
    stats = result["stats"]
    return scene | {"pause_s": pause, "before_s": before, "owed_bytes": owed_bytes, "stats": stats, "at": at,
                    "took_s": result["ended_at"] - result["began_at"], "reads": result["reads"]}  # fmt: skip


def revived(stage: Stage, scene: dict[str, Any]) -> Server:
    """A new server in the place of a killed one."""
    server = stage.server()
    stage.put_link(server, mbit=scene["mbit"], rtt_ms=scene["rtt_ms"])
    return server


def row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    """What the runs of one scene say."""
    pauses = [run["pause_s"] * 1e3 for run in runs]
    return [
        name,
        str(len(runs)),
        f"{median(pauses):.0f}",
        f"{max(pauses):.0f}",
        f"{median([run['before_s'] * 1e3 for run in runs]):.0f}",
        f"{median([run['owed_bytes'] / 1e3 for run in runs]):.0f}",
        str(min(run["owed_bytes"] for run in runs) > 0),
        f"{median([run['stats']['takeovers'] for run in runs]):g}",
        f"{median([run['stats']['regrants'] for run in runs]):g}",
    ]


def main() -> None:
    """Run, print, keep."""
    options = arguments(
        __doc__ or "",
        runs=(5, "repetitions of each scene"),
        mbit=(20.0, "rate of each link, Mbit/s of IP packets"),
        rtt_ms=(40.0, "round trip of each link"),
        mb=(16.0, "size of a download, MB"),
    )
    results: dict[str, list[dict[str, Any]]] = {f"{fault} of the {who}": [] for fault in FAULTS for who in VICTIMS}
    with Stage() as stage:
        client = stage.client()
        base = {"size": int(options.mb * 1e6), "mbit": options.mbit, "rtt_ms": options.rtt_ms}
        servers = [revived(stage, base) for _ in range(3)]
        for number in range(options.runs):
            for index, name in enumerate(results):
                scene = base | {"number": number * len(results) + index}
                scene |= {"fault": FAULTS[index // len(VICTIMS)], "victim": VICTIMS[index % len(VICTIMS)]}
                results[name].append(run_once(stage, client, servers, scene))
    print(f"Three servers, {options.mbit:g} Mbit/s and {options.rtt_ms:g} ms each; the reader's pause in ms.")
    print("The client was told nothing: it saw silence only. Every download ended with all bytes right.")
    head = ("", "runs", "median", "worst", "gap before", "owed KB", "all owed", "take-overs", "granted again")
    print(table(head, [row(name, runs) for name, runs in results.items()]))
    write_json(options.json, "failover", options, results)


if __name__ == "__main__":
    main()
