"""The processes of a benchmark: servers, emulated links, clients; each is asked by lines of JSON and dies with us.

`with Stage() as stage:` makes certificates in a temporary folder and ends every process at its end.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kwik.quic.certs import issue, make_ca, write_issued

ROOT = Path(__file__).parents[1]
HOST = "files.example"
SERVICE = f"{HOST}:80"
Endpoint = tuple[str, int]
Kind = TypeVar("Kind", bound="Program")


class Program:
    """One process of benchmarks.programs."""

    def __init__(self, role: str, options: dict[str, Any], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.programs", role, json.dumps(options)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.ready = self.read()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def tell(self, do: str, **request: Any) -> None:
        """Ask without waiting for the answer; `read` it later."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request | {"do": do}).encode() + b"\n")
        self._process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next line that it says. Raises RuntimeError with its last words when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of the benchmark ended: {self._errors.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """`tell`, then `read`."""
        self.tell(do, **request)
        return self.read()

    def resident_bytes(self) -> int:
        """Physical memory that it holds now."""
        return int(self._status("VmRSS")) * 1024

    def _status(self, field: str) -> str:
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return found[1]

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


class Server(Program):
    """A server, and where clients find it."""

    address: Endpoint
    server_id: str
    link: int | None = None


class Stage:
    """Everything that one benchmark runs."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kwik-bench-")
        self.folder = Path(self._folder.name)
        self._programs: list[Program] = []
        self._links: Program | None = None
        ca = make_ca()
        (self.folder / "ca.pem").write_bytes(ca.cert_pem)
        write_issued(issue(ca, [HOST]), self.folder / "leaf.pem", self.folder / "leaf.key")

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._programs:
            program.kill()
        self._folder.cleanup()

    @property
    def cafile(self) -> str:
        """Whom clients trust."""
        return str(self.folder / "ca.pem")

    @property
    def links(self) -> Program:
        """The process that holds all links."""
        if self._links is None:
            self._links = self._start(Program, "links", {})
        return self._links

    def server(self, role: str = "server", **options: Any) -> Server:
        """A running server, without a link; role "plain" is QUIC without Kwik's planes."""
        number = len(self._programs)
        files = {"certfile": str(self.folder / "leaf.pem"), "keyfile": str(self.folder / "leaf.key")}
        server = self._start(Server, role, {"service": SERVICE, "server_id": f"s{number}"} | files | options)
        server.address, server.server_id = tuple(server.ready["address"]), f"s{number}"
        return server

    def put_link(self, server: Server, *, mbit: float, rtt_ms: float, seed: int = 0) -> None:
        """Let clients reach it through a link of that rate (IP packets, each way) and round trip."""
        shape = {"rate_bps": mbit * 1e6, "delay_s": rtt_ms / 2000}
        # Room for 50 ms at least: Python's servers send in bursts.
        shape["queue_bytes"] = round(max(rtt_ms / 1000, 0.05) * mbit * 1e6 / 8)
        answer = self.links.ask("start", to=server.address, shape=shape, seed=seed)
        server.address, server.link = tuple(answer["address"]), answer["link"]

    def client(self) -> Program:
        """A client in a process of its own."""
        return self._start(Program, "client", {"service": SERVICE, "cafile": self.cafile})

    def _start(self, kind: type[Kind], role: str, options: dict[str, Any]) -> Kind:
        program = kind(role, options, self.folder / f"{len(self._programs)}.log")
        self._programs.append(program)
        return program


def cpu_seconds(program: Program) -> float:
    """User and system time that it has used."""
    fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
