"""Rules that hold for every test: what a folder may touch, which programs are needed, how examples are drawn."""

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache, partialmethod
from pathlib import Path

import hypothesis
import pytest

TESTS = Path(__file__).parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C need the default.
    signal.signal(signal.SIGINT, signal.default_int_handler)

PURE_FOLDERS = frozenset({"unit", "contract", "sim", "vectors"})
MARK_OF_FOLDER = {"net": "net", "proc": "proc"}
MISSING = "missing"
MULTICAST = "multicast on 127.0.0.1"

# No deadline: how long an example takes depends on who else uses the machine.
hypothesis.settings.register_profile("kwik", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kwik")


def folder_of(path: Path) -> str:
    """The folder directly under tests/ that holds the test."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


# ---------------------------------------------------------------- marks and programs


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        mark = MARK_OF_FOLDER.get(folder_of(item.path))
        if mark:
            item.add_marker(mark)
    yield  # -m chooses, and what is left is shuffled
    # The longest come first, or one process would be busy with the last of them while the others have nothing left.
    # Two processes get a half each (xdist's worksteal), and so does half of the long ones.
    first = [item for item in items if any(item.get_closest_marker(name) for name in ("slow", "timeout"))]
    rest = set(items) - set(first)
    then = [item for item in items if item in rest]
    half = len(items) // 2 - len(first[::2])
    items[:] = [*first[::2], *then[:half], *first[1::2], *then[half:]]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("multicast") and not multicast_is_there():
        item.user_properties.append((MISSING, MULTICAST))
        pytest.skip(f"needs {MULTICAST}")
    missing = [name for mark in item.iter_markers("program") for name in mark.args if shutil.which(name) is None]
    if not missing:
        return
    if os.environ.get("KWIK_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"needs {', '.join(missing)}: install it, or unset KWIK_REQUIRE_PROGRAMS", pytrace=False)
    # On the report, because the process that runs the test is not the one that prints the summary.
    item.user_properties.extend((MISSING, name) for name in missing)
    pytest.skip(f"needs {', '.join(missing)}")


@cache
def multicast_is_there() -> bool:
    """Whether a datagram to the mDNS group comes back on loopback."""
    from kwik.discovery.mdns_net import multicast_works

    return asyncio.run(multicast_works("127.0.0.1", 2.0))


@pytest.fixture
def not_run(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """For a test that has to leave a part of itself out: name what that needs, and it is reported, not forgotten."""
    return lambda needs: request.node.user_properties.append((MISSING, needs))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = dict.fromkeys(
        (report.nodeid, needs)
        for outcome in ("skipped", "passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for key, needs in getattr(report, "user_properties", ())
        if key == MISSING
    )
    for name, needs in told:
        terminalreporter.write_line(f"NOT RUN: {name} needs {needs}")


# ---------------------------------------------------------------- guards of the pure tests


def _guarded_init(
    self: socket.socket,
    family: int = -1,
    type: int = -1,
    proto: int = -1,
    fileno: int | None = None,
    *,
    real: Callable[..., None],
) -> None:
    # A descriptor that exists already is half of a socket pair, as asyncio makes them.
    if fileno is None and family in (-1, socket.AF_INET, socket.AF_INET6):
        pytest.fail("a pure test opened an Internet socket: simulate the network, or move the test to tests/net")
    real(self, family, type, proto, fileno)


def _no_sleep(seconds: float) -> None:
    pytest.fail(f"a pure test slept {seconds} s: hand in a later `now`, or move the test to tests/net")


@pytest.fixture(autouse=True)
def _pure_tests_touch_nothing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if folder_of(request.node.path) in PURE_FOLDERS:
        monkeypatch.setattr(socket.socket, "__init__", partialmethod(_guarded_init, real=socket.socket.__init__))
        monkeypatch.setattr(time, "sleep", _no_sleep)
