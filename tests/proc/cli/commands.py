"""Runs `kwik` commands as processes for tests, and ends every one of them however a test ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Self

from kwik.cli.certs import ensure_ca, ensure_leaf

ROOT = Path(__file__).parents[3]
READY_LIMIT_S = 30
RUN_LIMIT_S = 45


def environment() -> dict[str, str]:
    """As ours, with the package on the path and without settings of the person who runs the tests."""
    # Each command would compile the whole package if it might not keep what it compiled.
    left_out = ("KWIK_", "PYTHONDONTWRITEBYTECODE")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


class Process:
    """One process in a session of its own; `end` ends it and all that it started there."""

    def __init__(
        self,
        command: list[str],
        cwd: Path,
        *,
        settings: dict[str, str] | None = None,
        to: IO[bytes] | None = None,
        **options: Any,
    ) -> None:
        self.popen = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment() | (settings or {}),
            stdout=subprocess.PIPE if to is None else to,
            stderr=subprocess.PIPE if to is None else to,
            start_new_session=True,
            **options,
        )

    def line(self, limit_s: float = READY_LIMIT_S) -> str:
        """The next line of its standard output."""
        assert self.popen.stdout is not None
        found, ends_at = b"", time.monotonic() + limit_s
        while not found.endswith(b"\n"):
            left_s = max(ends_at - time.monotonic(), 0)
            ready, _, _ = select.select([self.popen.stdout], [], [], left_s)
            data = os.read(self.popen.stdout.fileno(), 1) if ready else b""
            if not data:
                self.popen.kill()
                raise AssertionError(f"no line; so far {found!r}; {self.finish()}")
            found += data
        return found.decode()

    def ready(self) -> dict[str, Any]:
        """The ready line of a command with --json."""
        answer: dict[str, Any] = json.loads(self.line())
        assert answer["event"] == "ready"
        return answer

    def signal(self, number: int) -> None:
        """Send it."""
        self.popen.send_signal(number)

    def finish(self, limit_s: float = RUN_LIMIT_S) -> tuple[int, str, str]:
        """Wait for its end: code, rest of standard output, standard error."""
        out, err = self.popen.communicate(timeout=limit_s)
        return self.popen.returncode, out.decode(), err.decode()

    def end(self) -> None:
        """By force, children too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.kill()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        self.popen.wait()


class Commands:
    """Starts commands in one folder; leaving the `with` block ends what still runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.end()

    def start(self, *arguments: object, **options: Any) -> Process:
        """`kwik` with these arguments; `settings` are environment variables, `to` takes the output, others as Popen."""
        return self.start_any(sys.executable, "-m", "kwik", *arguments, **options)

    def start_any(self, *command: object, **options: Any) -> Process:
        """Any program."""
        process = Process([str(part) for part in command], self.folder, **options)
        self._processes.append(process)
        return process

    def run(self, *arguments: object, **options: Any) -> tuple[int, str, str]:
        """`kwik` with these arguments, to its end: code, standard output, standard error."""
        return self.start(*arguments, **options).finish()

    def certificate(self, *names: str) -> None:
        """As `kwik certs` makes it: certs/ca.pem, and certs/<first name>.pem and .key, in the folder."""
        _, ca = ensure_ca(self.folder / "certs")
        ensure_leaf(self.folder / "certs", ca, list(names))

    def serve(self, service: str, *arguments: object, **options: Any) -> tuple[Process, str]:
        """A server of `service`, ready, and its address; needs `certificate` of the service's host."""
        host = service.rpartition(":")[0]
        process = self.start(
            *("serve", "--listen", "127.0.0.1:0", "--service", service, "--json"),
            *("--cert", f"certs/{host}.pem", "--key", f"certs/{host}.key"),
            *arguments,
            **options,
        )
        return process, process.ready()["listen"]
