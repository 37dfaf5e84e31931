"""The processes of a test as the test sees them: started, asked, waited for, stopped, killed; never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0
"""For whatever must happen; generous, since a wait ends with what it waits for."""


class Child:
    """One process, and its control socket."""

    def __init__(self, spawner: Spawner, pid: int, control: socket.socket, log: Path) -> None:
        self.pid = pid
        self.log = log
        self.events: list[dict[str, Any]] = []
        self._spawner = spawner
        self._control = control
        self._rest = b""
        self._is_dead = False

    def ask(self, do: str, *, limit_s: float = LIMIT_S, **request: Any) -> dict[str, Any]:
        """Its answer to a request."""
        begin = len(self.events)
        self._control.sendall(json.dumps(request | {"do": do}).encode() + b"\n")
        answer = self.wait("reply", since=begin, limit_s=limit_s)
        if "error" in answer:
            raise AssertionError(f"{self.log.stem} could not {do}: {answer['error']}")
        return answer

    def wait(
        self,
        name: str,
        match: Callable[[dict[str, Any]], bool] | None = None,
        *,
        since: int = 0,
        limit_s: float = LIMIT_S,
    ) -> dict[str, Any]:
        """The first event of that name that matches, from the `since`-th event on."""
        ends_at = time.monotonic() + limit_s
        while True:
            for event in self.events[since:]:
                if event["event"] == name and (match is None or match(event)):
                    return event
            since = len(self.events)
            self._read(max(ends_at - time.monotonic(), 0.0), name)

    def told(self, name: str) -> list[dict[str, Any]]:
        """The events of that name that have come so far."""
        while not self._is_dead and select.select([self._control], [], [], 0)[0]:
            self._read(0.0, name)
        return [event for event in self.events if event["event"] == name]

    def _read(self, limit_s: float, wanted: str) -> None:
        if not select.select([self._control], [], [], limit_s)[0]:
            raise AssertionError(
                f"{self.log.stem} did not say {wanted!r} in time; it said {self.events[-5:]}{self.errors()}"
            )
        try:
            data = self._control.recv(65536)
        except ConnectionResetError:  # it was killed with a request unread
            data = b""
        if not data:
            raise AssertionError(f"{self.log.stem} ended before it said {wanted!r}{self.errors()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.events.extend(map(json.loads, lines))

    @property
    def is_dead(self) -> bool:
        """It was killed."""
        return self._is_dead

    def stop(self) -> None:
        """SIGSTOP; returns when all its threads have stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: self._states() == {"T"}, "all threads of the process have stopped")

    def go_on(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        if not self._is_dead:
            self._is_dead = True
            self._spawner.kill(self.pid)
            with contextlib.suppress(AssertionError):
                while True:  # what it said before
                    self._read(0.0, "")
            self._control.close()

    def errors(self) -> str:
        """What it complained about."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return f"\n{self.log.name}:\n{text[-4000:]}" if text else ""

    def resident_bytes(self) -> int:
        """Its present share of physical memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def _states(self) -> set[str]:
        threads = Path(f"/proc/{self.pid}/task").glob("*/status")
        return {state for each in threads for state in re.findall(r"State:\s+(\w)", each.read_text())}


class Spawner:
    """Starts processes by forking (see harness_spawn); one for a whole test run."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.proc.harness_spawn", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, role: str, log: Path, options: dict[str, Any]) -> Child:
        """One more process; returns without waiting until it is ready."""
        ours, theirs = socket.socketpair()
        with theirs:
            answer = self._request({"role": role, "log": str(log), "options": options}, [theirs.fileno()])
        return Child(self, answer["pid"], ours, log)

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait for the end."""
        self._request({"kill": pid}, [])

    def close(self) -> None:
        """Kill what is left."""
        self._requests.close()
        self._process.wait(LIMIT_S)

    def _request(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        socket.send_fds(self._requests, [json.dumps(request).encode()], descriptors)
        self._requests.settimeout(LIMIT_S * 2)  # the first answer comes when everything is imported
        answer: dict[str, Any] = json.loads(self._requests.recv(65536))
        return answer


def until(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until it is true, by asking: for conditions that nobody announces."""
    ends_at = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < ends_at, f"waited {limit_s:g} s in vain until {what}"
        time.sleep(0.002)
