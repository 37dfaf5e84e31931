"""The rules of tests/conftest.py work: a guard that guards nothing would not be missed."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.arch.tree import ROOT
from tests.conftest import folder_of

pytest_plugins = "pytester"

PLUGINS = ("-p", "no:asyncio", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:timeout")
"""Those that these runs need not load."""
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
    pytester.makepyprojecttoml(
        '[tool.pytest.ini_options]\nmarkers = ["program(name)", "multicast", "net", "proc", "slow"]'
    )
    return pytester


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_what_is_missing_is_reported_before_the_last_line(project: pytest.Pytester, options: tuple[str, ...]):
    conftest = project.path / "conftest.py"
    text = conftest.read_text("utf-8").replace("return asyncio.run(multicast_works", "return False and (")
    conftest.write_text(text, "utf-8")
    project.makepyfile(test_it=PROGRAM_TEST, test_part=PART_TEST)
    result = project.runpytest_subprocess(*PLUGINS, *options)
    lines = [
        "NOT RUN: test_it.py::test_with_program needs no-such-program-anywhere",
        "NOT RUN: test_part.py::test_with_multicast needs multicast on 127.0.0.1",
        "NOT RUN: test_part.py::test_in_part needs something else",
    ]
    result.stdout.fnmatch_lines_random(lines)
    assert "2 passed, 2 skipped" in result.outlines[-1], "they stand before the last line"
    assert result.ret == 0


def test_a_missing_program_can_be_made_to_fail(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KWIK_REQUIRE_PROGRAMS", "1")
    project.makepyfile(test_it=PROGRAM_TEST)
    result = project.runpytest_subprocess(*PLUGINS)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*needs no-such-program-anywhere: install it*"])


def test_pure_tests_are_guarded_and_folders_set_marks(project: pytest.Pytester):
    project.makepyfile(
        **{
            "unit/test_it": PURE_TEST,
            "net/test_it": PURE_TEST.replace("DGRAM)", "DGRAM).close()"),
            "proc/test_it": "def test(): ...",
        }
    )
    options = (*PLUGINS, "--import-mode=importlib")
    result = project.runpytest_subprocess(*options, "-m", "not (net or proc)")
    result.assert_outcomes(passed=2, failed=2, deselected=5)
    result.stdout.fnmatch_lines(["*a pure test opened an Internet socket*"])
    project.runpytest_subprocess(*options, "-m", "net or proc").assert_outcomes(passed=5, deselected=4)


LONG_TEST = """
import pytest

def test_a(): ...
def test_b(): ...
@pytest.mark.slow
def test_long_1(): ...
def test_c(): ...
@pytest.mark.timeout(99)
def test_long_2(): ...
"""


def test_the_longest_come_first_in_each_half(project: pytest.Pytester):
    project.makepyfile(test_it=LONG_TEST)
    result = project.runpytest_subprocess("-p", "no:randomly", "--collect-only", "-q")
    names = [line.rpartition("::")[2] for line in result.outlines if "::" in line]
    assert names == ["test_long_1", "test_a", "test_long_2", "test_b", "test_c"]


async def test_this_folder_is_not_guarded():
    assert folder_of(Path(__file__)) == "arch"
    time.sleep(0)  # noqa: ASYNC251  # waits for nothing: the guard would object all the same
    await asyncio.sleep(0)
