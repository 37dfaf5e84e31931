"""The rules of tests/conftest.py work: a guard that guards nothing would not be missed."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.arch.tree import ROOT
from tests.conftest import folder_of

pytest_plugins = "pytester"

PROGRAM_TEST = """
import pytest

@pytest.mark.program("no-such-program-anywhere")
def test_with_program(): ...

def test_plain(): ...
"""
PART_TEST = """
import pytest

@pytest.fixture(autouse=True)
def nowhere(monkeypatch): ...

@pytest.mark.multicast
def test_with_multicast(): ...

def test_in_part(not_run):
    not_run("something else")
"""
PURE_TEST = """
import asyncio, socket, time
import pytest

def test_internet_socket():
    socket.socket(type=socket.SOCK_DGRAM)

def test_sleep():
    time.sleep(0)

def test_local_pair():
    left, right = socket.socketpair()
    with left, right:
        twin = socket.socket(fileno=left.detach())
        twin.close()

def test_loop():
    asyncio.run(asyncio.sleep(0))
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project under the same rules."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("KWIK_REQUIRE_PROGRAMS", raising=False)
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text("utf-8"))
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmarkers = ["program(name)", "multicast", "net", "proc"]')
    return pytester


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_missing_program_is_reported_before_the_last_line(project: pytest.Pytester, options: tuple[str, ...]):
    project.makepyfile(test_it=PROGRAM_TEST)
    result = project.runpytest_subprocess(*options)
    result.stdout.fnmatch_lines(
        ["NOT RUN: test_it.py::test_with_program needs no-such-program-anywhere", "*1 passed, 1 skipped*"]
    )
    assert result.ret == 0


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_missing_multicast_and_parts_are_reported_too(project: pytest.Pytester, options: tuple[str, ...]):
    conftest = project.path / "conftest.py"
    text = conftest.read_text("utf-8").replace("return asyncio.run(multicast_works", "return False and (")
    conftest.write_text(text, "utf-8")
    project.makepyfile(test_it=PART_TEST)
    result = project.runpytest_subprocess(*options)
    result.stdout.fnmatch_lines_random(
        [
            "NOT RUN: test_it.py::test_with_multicast needs multicast on 127.0.0.1",
            "NOT RUN: test_it.py::test_in_part needs something else",
        ]
    )
    result.assert_outcomes(passed=1, skipped=1)


def test_a_missing_program_can_be_made_to_fail(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KWIK_REQUIRE_PROGRAMS", "1")
    project.makepyfile(test_it=PROGRAM_TEST)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*needs no-such-program-anywhere: install it*"])


def test_pure_tests_are_guarded(project: pytest.Pytester):
    project.makepyfile(**{"unit/test_it": PURE_TEST, "net/test_it": PURE_TEST.replace("DGRAM)", "DGRAM).close()")})
    result = project.runpytest_subprocess("--import-mode=importlib", "unit")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*a pure test opened an Internet socket*"])
    project.runpytest_subprocess("--import-mode=importlib", "net").assert_outcomes(passed=4)


def test_folders_set_marks(project: pytest.Pytester):
    project.makepyfile(
        **{"net/test_a": "def test(): ...", "proc/test_b": "def test(): ...", "unit/test_c": "def test(): ..."}
    )
    project.runpytest_subprocess("-m", "net or proc").assert_outcomes(passed=2, deselected=1)


async def test_this_folder_is_not_guarded():
    assert folder_of(Path(__file__)) == "arch"
    time.sleep(0)  # noqa: ASYNC251  # waits for nothing: the guard would object all the same
    await asyncio.sleep(0)
