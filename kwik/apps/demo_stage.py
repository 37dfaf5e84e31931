"""Sets the demo's stage: certificates, a file, and servers of one service, each behind a link of its own."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kwik.apps.demo_children import Child, Children, reserve_ports
from kwik.discovery.mdns_net import multicast_works
from kwik.quic.certs import issue, make_ca, write_issued

LOOPBACK: Final = "127.0.0.1"
FILE_NAME: Final = "random.bin"
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What is to be shown."""

    servers: int = 3
    size_bytes: int = 60_000_000
    rate_bps: float = 20e6
    """Of each server's link, each way, counted in IP packets."""
    rtt_s: float = 0.04
    kill: bool = True
    kill_share: float = 0.4
    """The part of the file after which the anchor is killed."""
    seed: int = 1

    @property
    def sample_bytes(self) -> int:
        """What one server delivers alone, before, for comparison; nothing if there is only one."""
        return self.size_bytes // 10 if self.servers > 1 else 0


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands on it."""

    service: str
    cafile: Path
    sha256: str
    addresses: tuple[str, ...]
    """Of the links."""
    servers: dict[str, Child]
    announced: bool
    """By mDNS on loopback; if not, clients need the list of addresses."""


def set_stage(plan: DemoPlan, folder: Path, children: Children) -> Stage:
    """Make and start everything; returns when all servers are ready. Raises DemoError, OSError."""
    # A name of its own for each run: two demos on one machine must not find each other's servers.
    host = f"files-{secrets.token_hex(3)}.demo.test"
    files, service = folder / "files", f"{host}:80"
    files.mkdir()
    cafile = _make_certificate(folder, host)
    announced = asyncio.run(multicast_works(LOOPBACK))
    held = reserve_ports(plan.servers)
    ports = [port for _, port in held]
    links = [children.start(_link(plan, port), folder / f"link-{n}.log") for n, port in enumerate(ports, 1)]
    digest = make_file(files / FILE_NAME, plan.size_bytes, plan.seed)  # while they start
    addresses = tuple(str(link.ready()["listen"]) for link in links)
    servers: dict[str, Child] = {}
    for number, ((holder, port), address) in enumerate(zip(held, addresses, strict=True), 1):
        name = f"server-{number}"
        arguments = ["serve", "--listen", f"{LOOPBACK}:{port}", "--service", service, "--files", str(files)]
        arguments += ["--cert", str(folder / "server.pem"), "--key", str(folder / "server.key"), "--id", name]
        arguments += ["--drain", "0s", "--json"]
        if announced:
            arguments += ["--announce", "--advertise", address, "--mdns-interface", LOOPBACK]
        holder.close()
        servers[name] = children.start(arguments, folder / f"{name}.log")
    for server in servers.values():
        server.ready()
    return Stage(service, cafile, digest, addresses, servers, announced)


def make_file(path: Path, size_bytes: int, seed: int) -> str:
    """Write so many random bytes, the same for the same seed; returns their SHA-256."""
    rng, digest, left = random.Random(seed), hashlib.sha256(), size_bytes
    with path.open("wb") as file:
        while left > 0:
            piece = rng.randbytes(min(left, _PIECE_BYTES))
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
    return digest.hexdigest()


def _link(plan: DemoPlan, port: int) -> list[str]:
    """A link with a queue of one bandwidth-delay product, which is the default of `kwik link`."""
    return [
        "link",
        "--to",
        f"{LOOPBACK}:{port}",
        "--rate",
        f"{plan.rate_bps / 1e3:.3f}kbit",
        "--delay",
        f"{plan.rtt_s / 2 * 1e3:.3f}ms",
        "--json",
    ]


def _make_certificate(folder: Path, host: str) -> Path:
    ca = make_ca("Kwik demo CA", days=1)
    cafile = folder / "ca.pem"
    cafile.write_bytes(ca.cert_pem)
    write_issued(issue(ca, [host], days=1), folder / "server.pem", folder / "server.key")
    return cafile
