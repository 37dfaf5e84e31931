"""The processes of the demo. None outlives it: each ends when its standard input does, whatever becomes of us."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kwik.errors import KwikError

READY_LIMIT_S: Final = 30.0
"""How long a process has to start; a busy machine loads Python slowly."""
END_LIMIT_S: Final = 3.0
ERROR_LINES: Final = 5


class DemoError(KwikError):
    """The demo could not be set up; the message says what failed."""


class Child:
    """One `kwik` command in a process of its own."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.name = log.stem
        self._log = log
        self._line = b""
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kwik", "--exit-with-stdin", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for us, and we tell them
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ready(self, limit_s: float = READY_LIMIT_S) -> dict[str, Any]:
        """Wait for its ready line. Raises DemoError with the last lines of its log."""
        assert self._process.stdout is not None
        ends_at = time.monotonic() + limit_s
        while not self._line.endswith(b"\n"):
            left_s = max(ends_at - time.monotonic(), 0)
            if not select.select([self._process.stdout], [], [], left_s)[0]:
                raise DemoError(f"{self.name} was not ready within {limit_s:g} s{self._errors()}")
            data = os.read(self._process.stdout.fileno(), 4096)
            if not data:
                raise DemoError(f"{self.name} ended before it was ready{self._errors()}")
            self._line += data
        answer: dict[str, Any] = json.loads(self._line)
        return answer

    def kill(self) -> None:
        """kill -9: no good-bye to anybody."""
        self._process.kill()
        self._process.wait()

    def tell_end(self) -> None:
        """Ask it to end, twice: now, and by the end of its standard input."""
        self._process.terminate()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait_end(self, limit_s: float) -> None:
        """Wait, then use force."""
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _errors(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-ERROR_LINES:]
        return f": {' | '.join(lines)}" if lines else ""


class Children:
    """All of them; leaving the `with` block ends them."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def start(self, arguments: list[str], log: Path) -> Child:
        """Start one more."""
        child = Child(arguments, log)
        self._children.append(child)
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.tell_end()
        ends_at = time.monotonic() + END_LIMIT_S
        for child in self._children:
            child.wait_end(max(ends_at - time.monotonic(), 0.1))


def reserve_ports(count: int) -> list[tuple[socket.socket, int]]:
    """UDP ports of 127.0.0.1 that are free, each held by a socket: close it just before somebody else binds it."""
    held: list[tuple[socket.socket, int]] = []
    for _ in range(count):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        holder.bind(("127.0.0.1", 0))
        held.append((holder, holder.getsockname()[1]))
    return held
