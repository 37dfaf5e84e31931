"""Where the CPU time of a client and of a server goes, layer by layer, for one transfer: over loopback, or over links.

Samples are taken by py-spy from outside, so nothing in the client is slowed down unevenly. A sample belongs to the
innermost frame of Kwik or aioquic; what runs below it (the socket, the ciphers) is listed apart.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.figures import arguments, table, write_json
from benchmarks.stage import ROOT, Program, Server, Stage, cpu_seconds

LAYERS = ("conn", "aio", "engine", "quic", "core", "kdp", "kcp", "wire", "base")
FRAME = re.compile(r"(?P<name>[^;]+?) \((?P<file>[^;():]+)(?::(?P<line>\d+))?\)")
RATE_HZ = 250
STOP_S = 20.0
GB = 1e9
SHOWN = 25


def sampler() -> str:
    """Path of py-spy; ends the program when there is none."""
    found = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if found is None:
        sys.exit("this benchmark samples with py-spy: install it (pip install py-spy)")
    return found


def layer_of(file: str) -> str | None:
    """The layer of a source file; None for the standard library and the benchmark itself."""
    if "aioquic" in file:
        return "aioquic"
    found = re.search(r"kwik/(\w+)(?:/|\.py)", file)
    return found[1] if found and found[1] in LAYERS else None


def read_stacks(text: str) -> list[tuple[list[tuple[str, str]], int]]:
    """(frames outermost first, samples) of each line of py-spy's raw format; a frame is (function, file)."""
    stacks = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [(match["name"], match["file"]) for match in FRAME.finditer(";" + stack)]
        stacks.append(([(name.lstrip(";"), file) for name, file in frames], int(count)))
    return stacks


def summary(text: str) -> tuple[Counter[str], Counter[str]]:
    """Samples per layer and per function of the innermost frame that belongs to a layer."""
    layers, functions = Counter[str](), Counter[str]()
    for frames, count in read_stacks(text):
        owner = next(((name, file, layer) for name, file in reversed(frames) if (layer := layer_of(file))), None)
        if owner is None:
            layers["event loop and the reader"] += count
            continue
        name, file, layer = owner
        layers[layer] += count
        functions[f"{layer}: {name} ({Path(file).name})"] += count
    return layers, functions


def sample(target: Program, client: Program, servers: list[Server], size: int, into: Path) -> tuple[str, float]:
    """Sample `target` (client or server) during one download; returns its stacks and its CPU seconds."""
    command = [sampler(), "record", "--pid", str(target.pid), "--format", "raw", "--output", str(into),
               "--rate", str(RATE_HZ), "--duration", "600"]  # fmt: skip
    quiet = subprocess.DEVNULL
    profiler = subprocess.Popen(command, cwd=ROOT, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        time.sleep(1.0)  # py-spy does not say when it has begun
        before = cpu_seconds(target)
        client.ask("fetch", servers=[server.address for server in servers], size=size, reads=False)
        used = cpu_seconds(target) - before
        profiler.send_signal(2)
        profiler.wait(STOP_S)
    finally:
        profiler.kill()
        profiler.wait()
    return into.read_text(), used


def main() -> None:
    """Run, print, keep."""
    options = arguments(
        __doc__ or "",
        mb=(60.0, "size of the download, MB"),
        servers=(1, "servers of the download"),
        mbit=(0.0, "rate of the link before each, Mbit/s of IP packets; 0: no links"),
        rtt_ms=(40.0, "round trip of each link"),
        replicated=(1, "1: the service may have replicas (answers are hashed); 0: it may not"),
    )
    size, kept = int(options.mb * 1e6), {}
    sampler()
    with Stage() as stage:
        servers = [stage.server(replicated=bool(options.replicated)) for _ in range(options.servers)]
        for server in servers if options.mbit else ():
            stage.put_link(server, mbit=options.mbit, rtt_ms=options.rtt_ms)
        client = stage.client()
        client.ask("fetch", servers=[server.address for server in servers], size=1_000_000, reads=False)
        for name, target in (("client", client), ("server", servers[0])):
            text, used = sample(target, client, servers, size, stage.folder / f"{name}.txt")
            layers, functions = summary(text)
            kept[name] = {"cpu_s": used, "layers": layers, "functions": functions}
            total = max(layers.total(), 1)
            print(f"\n{name}: {used / size * GB:.0f} CPU-s per GB")
            shares = [(layer, f"{n / total:.0%}", f"{n / total * used / size * GB:.1f}")
                      for layer, n in layers.most_common()]  # fmt: skip
            print(table(("layer", "share", "s/GB"), shares))
            print(table(("function", "share"), [(f, f"{n / total:.1%}") for f, n in functions.most_common(SHOWN)]))
    write_json(options.json, "cpu", options, kept)


if __name__ == "__main__":
    main()
