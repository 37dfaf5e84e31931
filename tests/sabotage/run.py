"""Do the tests notice? Breaks guarantee-critical code on purpose, one line at a time; the named tests must then fail.

The list stands in sabotages.toml; this works on copies of the package and never on the tree. Ends with 0 only if every
sabotage was caught: one that survives shows a missing test, one whose text is gone is stale and must be renewed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("sabotages.toml")
COPIED = ("kwik", "tests", "pyproject.toml")
RUN_S = 60.0
"""Tests that take longer than this hang; a hang is a catch."""
BASELINE_S = 300.0
PYTEST = (
    "-m", "pytest", "-q", "--tb=no", "--timeout=30", "--hypothesis-seed=0",
    "-p", "no:cacheprovider", "-p", "no:randomly",
)  # fmt: skip
TESTS_FAILED = 1
"""pytest's exit code when tests ran and some failed; anything above means that they did not run as they should."""
WRONG_USAGE = 4
"""pytest's exit code when a test that was asked for is not there, among other things."""


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One way to break a guarantee (number of SPEC §2), and the tests of which at least one must notice."""

    name: str
    guarantee: int
    file: str
    old: str
    """Must occur exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    """Test files or node ids."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one sabotage."""

    name: str
    caught: bool
    text: str
    took_s: float = 0.0


class StaleError(Exception):
    """The text to be replaced is not there, or not only once: the list must be brought up to date."""


# ---------------------------------------------------------------- the list


def load(path: Path = LIST) -> list[Sabotage]:
    """Read the list. Raises ValueError that names the entry if one is malformed."""
    entries = tomllib.loads(path.read_text("utf-8"))["sabotage"]
    names = {field.name for field in fields(Sabotage)}
    found: list[Sabotage] = []
    for entry in entries:
        label = entry.get("name", "an entry without a name")
        if set(entry) != names:
            raise ValueError(f"{label}: the keys must be {', '.join(sorted(names))}")
        if any(label == other.name for other in found):
            raise ValueError(f"{label}: the name is taken")
        if not 1 <= entry["guarantee"] <= 8 or not entry["tests"] or entry["old"] == entry["new"]:
            raise ValueError(f"{label}: a guarantee from 1 to 8, at least one test and a change are needed")
        found.append(Sabotage(**{**entry, "tests": tuple(entry["tests"])}))
    return found


def sabotaged(source: str, sabotage: Sabotage) -> str:
    """The source with the sabotage in it. Raises StaleError; SyntaxError if what comes out is no Python."""
    count = source.count(sabotage.old)
    if count != 1:
        raise StaleError(f"the text occurs {count} times in {sabotage.file}")
    broken = source.replace(sabotage.old, sabotage.new)
    compile(broken, sabotage.file, "exec", dont_inherit=True)
    return broken


def names_test(named: str, node_id: str) -> bool:
    """Whether a file or node id of the list stands for that test."""
    return node_id == named or node_id.startswith((f"{named}::", f"{named}["))


# ---------------------------------------------------------------- copies of the package


class Copy:
    """A copy of the package and its tests in which one sabotage at a time may be at work."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        for name in COPIED:
            source, target = ROOT / name, folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        # By content, not by time: two texts of one length within a second must not be taken for the same.
        self._python("-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "kwik")
        seen = Path(self._python("-c", "import kwik; print(kwik.__file__)").strip())
        if not seen.is_relative_to(folder.resolve()):
            raise RuntimeError(f"the copy is not what is imported: {seen} is")

    def pytest(self, arguments: Iterable[str], limit_s: float) -> tuple[int | None, str]:
        """Run tests; (exit code, output), with None for one that had to be killed after `limit_s`."""
        return self._children.run([sys.executable, *PYTEST, *arguments], self.folder, limit_s)

    @contextlib.contextmanager
    def broken(self, sabotage: Sabotage) -> Iterator[None]:
        """The sabotage is at work inside. Raises StaleError."""
        path = self.folder / sabotage.file
        original = path.read_text("utf-8")
        path.write_text(sabotaged(original, sabotage), "utf-8")
        try:
            yield
        finally:
            path.write_text(original, "utf-8")

    def _python(self, *arguments: str) -> str:
        code, output = self._children.run([sys.executable, *arguments], self.folder, RUN_S)
        if code != 0:
            raise RuntimeError(f"python {' '.join(arguments)} failed: {output}")
        return output


class Children:
    """The processes that run now, so that none is left when this one ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_over = False

    def run(self, command: Sequence[str], folder: Path, limit_s: float) -> tuple[int | None, str]:
        """Run to the end or to the limit; the whole process group is killed then."""
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
        with self._lock:
            if self._is_over:
                return None, ""
            child = subprocess.Popen(
                command, cwd=folder, env=environment, text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            self._running.add(child)
        try:
            output, _ = child.communicate(timeout=limit_s)
            return child.returncode, output
        except subprocess.TimeoutExpired:
            _kill(child)
            return None, child.communicate()[0]
        finally:
            with self._lock:
                self._running.discard(child)

    def stop(self) -> None:
        """Kill what runs and start nothing more."""
        with self._lock:
            self._is_over = True
            for child in self._running:
                _kill(child)


def _kill(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


# ---------------------------------------------------------------- verdicts


def failures(output: str) -> list[str]:
    """Node ids of the failed tests in pytest's summary."""
    lines = (line.partition(" ") for line in output.splitlines() if line.startswith(("FAILED ", "ERROR ")))
    return [rest.partition(" - ")[0] for _, _, rest in lines if "not found: " not in rest]


def missing(output: str) -> list[str]:
    """What pytest was asked for and did not find: full paths with node ids."""
    marks = ("ERROR: not found: ", "ERROR: file or directory not found: ")
    return [line.removeprefix(mark) for line in output.splitlines() for mark in marks if line.startswith(mark)]


def judge(sabotage: Sabotage, code: int | None, output: str, took_s: float) -> Verdict:
    """What pytest's answer says about the sabotage."""
    if code is None:
        return Verdict(sabotage.name, True, "caught by a hang", took_s)
    if code == TESTS_FAILED:
        first = next(iter(failures(output)), "a failure without a name")
        return Verdict(sabotage.name, True, f"caught by {first}", took_s)
    if code == 0:
        return Verdict(sabotage.name, False, "SURVIVED", took_s)
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    return Verdict(sabotage.name, False, f"NOT TRIED: pytest ended with {code}: {last}", took_s)


def attempt(copy: Copy, sabotage: Sabotage) -> Verdict:
    """Break, test, mend."""
    began = time.monotonic()
    try:
        with copy.broken(sabotage):
            code, output = copy.pytest(["-x", *sabotage.tests], RUN_S)
    except StaleError as error:
        return Verdict(sabotage.name, False, f"STALE: {error}")
    except (SyntaxError, OSError) as error:
        return Verdict(sabotage.name, False, f"NOT TRIED: {error}")
    return judge(sabotage, code, output, time.monotonic() - began)


def baseline(copy: Copy, sabotages: Sequence[Sabotage]) -> dict[str, str]:
    """Run all named tests once without any sabotage; names of the sabotages that cannot be tried, and why."""
    unusable: dict[str, str] = {}
    left = list(sabotages)
    code, output = _run_named(copy, left)
    if code == WRONG_USAGE:
        gone = [node.removeprefix(f"{copy.folder}/") for node in missing(output)]
        unusable = _blamed(left, gone, "is not there (any more)")
        left = [sabotage for sabotage in left if sabotage.name not in unusable]
        code, output = _run_named(copy, left)
    if code == TESTS_FAILED:
        unusable |= _blamed(left, failures(output), "fails without it")
    elif code:
        raise RuntimeError(f"the tests do not run without any sabotage (pytest ended with {code}):\n{output[-2000:]}")
    return unusable


def _run_named(copy: Copy, sabotages: Sequence[Sabotage]) -> tuple[int | None, str]:
    tests = sorted({test for sabotage in sabotages for test in sabotage.tests})
    return copy.pytest(tests, BASELINE_S) if tests else (0, "")


def _blamed(sabotages: Sequence[Sabotage], nodes: Sequence[str], what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for sabotage in sabotages:
        bad = [node for node in nodes if any(names_test(test, node) for test in sabotage.tests)]
        if bad:
            found[sabotage.name] = f"NOT TRIED: {bad[0]} {what}"
    return found


# ---------------------------------------------------------------- the run


def run(sabotages: Sequence[Sabotage], jobs: int) -> int:
    """Try them all, print a line for each, and give the exit code."""
    children = Children()
    try:
        with tempfile.TemporaryDirectory(prefix="kwik-sabotage-") as folder:
            return _run(sabotages, jobs, Path(folder), children)
    finally:
        children.stop()


def _run(sabotages: Sequence[Sabotage], jobs: int, folder: Path, children: Children) -> int:
    began = time.monotonic()
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    first = Copy(folder / "0", children)
    unusable = baseline(first, sabotages)
    print(f"without sabotage: the named tests {'pass' if not unusable else 'FAIL'}, {time.monotonic() - began:.0f} s")
    for number in range(1, jobs):
        copies.put(Copy(folder / str(number), children))
    copies.put(first)

    def work(sabotage: Sabotage) -> Verdict:
        if sabotage.name in unusable:
            return Verdict(sabotage.name, False, unusable[sabotage.name])
        copy = copies.get()
        try:
            return attempt(copy, sabotage)
        finally:
            copies.put(copy)

    width = max(len(sabotage.name) for sabotage in sabotages)
    missed = 0
    with ThreadPoolExecutor(jobs) as pool:
        todo: list[Future[Verdict]] = [pool.submit(work, sabotage) for sabotage in sabotages]
        try:
            for number, future in enumerate(as_completed(todo), 1):
                verdict = future.result()
                missed += not verdict.caught
                text = f"{verdict.name:{width}}  {verdict.took_s:5.1f} s  {verdict.text}"
                print(f"{number:3}/{len(todo)}  {text}", flush=True)
        except BaseException:
            children.stop()
            pool.shutdown(cancel_futures=True)
            raise
    print(f"all of it took {time.monotonic() - began:.0f} s")
    print(f"{len(sabotages) - missed} passed, {missed} failed")
    return 1 if missed else 0


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; 0 if every sabotage was caught."""
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="this one only; may be repeated")
    parser.add_argument("--list", action="store_true", help="print what would be tried, and end")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (default 2)")
    options = parser.parse_args(arguments)
    chosen = load()
    if options.only:
        unknown = set(options.only) - {sabotage.name for sabotage in chosen}
        if unknown:
            parser.error(f"there is no sabotage {', '.join(sorted(unknown))}; see --list")
        chosen = [sabotage for sabotage in chosen if sabotage.name in options.only]
    if options.list:
        for sabotage in chosen:
            print(f"{sabotage.guarantee}  {sabotage.name:42}  {sabotage.file}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(chosen, max(1, options.jobs))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
