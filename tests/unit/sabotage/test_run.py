"""The tool that breaks the code on purpose: its list, its substitution, and what it makes of pytest's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sabotage.run import (
    PYTEST,
    ROOT,
    Copy,
    Sabotage,
    StaleError,
    attempt,
    baseline,
    failures,
    judge,
    load,
    missing,
    names_test,
    sabotaged,
)

ENTRY = """
[[sabotage]]
name = "{name}"
guarantee = {guarantee}
file = "kwik/types.py"
old = '{old}'
new = '{new}'
tests = {tests}
"""
SOURCE = "def limit(size):\n    return min(size, 10)\n"


def entry(**values):
    return ENTRY.format(**{"name": "a", "guarantee": 5, "old": "x", "new": "y", "tests": '["tests/t.py"]', **values})


def sabotage(name="a", old="min(size, 10)", new="size", tests=("tests/t.py",)):
    return Sabotage(name, 5, "code.py", old, new, tests)


class FakeCopy:
    """Answers as pytest would, one answer after the other, and remembers what was asked."""

    def __init__(self, folder: Path, *answers):
        self.folder = folder
        self.answers = list(answers)
        self.asked: list[list[str]] = []
        (folder / "code.py").write_text(SOURCE)

    def pytest(self, arguments, limit_s):
        self.asked.append(list(arguments))
        return self.answers.pop(0)

    def broken(self, sabotage):
        return Copy.broken(self, sabotage)  # type: ignore[arg-type]


class TestList:
    def test_the_list_is_well_formed_and_long_enough(self):
        found = load()
        assert len(found) >= 30
        assert {one.guarantee for one in found} == set(range(1, 9))

    def test_it_names_files_that_exist(self):
        for one in load():
            assert (ROOT / one.file).is_file(), one.name
            for test in one.tests:
                assert (ROOT / test.partition("::")[0]).exists(), one.name

    def test_every_line_of_it_is_still_in_the_code(self):
        """A line that has moved on must take its entry along, in the same commit."""
        for one in load():
            sabotaged((ROOT / one.file).read_text("utf-8"), one)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (entry() + entry(), "taken"),
            (entry(guarantee=9), "guarantee"),
            (entry(tests="[]"), "test"),
            (entry(old="x", new="x"), "change"),
            (entry() + "more = 1\n", "keys"),
            ("[[sabotage]]\nguarantee = 1\n", "without a name"),
        ],
    )
    def test_a_malformed_entry_is_named(self, tmp_path, text, words):
        path = tmp_path / "list.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            load(path)


class TestSubstitution:
    def test_the_text_is_replaced(self):
        assert sabotaged(SOURCE, sabotage()) == "def limit(size):\n    return size\n"

    @pytest.mark.parametrize(("old", "count"), [("max", 0), ("size", 2)])
    def test_text_that_is_not_there_exactly_once_is_stale(self, old, count):
        with pytest.raises(StaleError, match=f"occurs {count} times"):
            sabotaged(SOURCE, sabotage(old=old))

    def test_what_is_no_python_is_no_sabotage(self):
        with pytest.raises(SyntaxError):
            sabotaged(SOURCE, sabotage(new="("))

    def test_it_is_undone_whatever_happens(self, tmp_path):
        copy = FakeCopy(tmp_path)
        code = tmp_path / "code.py"
        with pytest.raises(pytest.fail.Exception, match="return size"), copy.broken(sabotage()):
            pytest.fail(code.read_text())
        assert code.read_text() == SOURCE


class TestVerdicts:
    SUMMARY = "F\nFAILED tests/t.py::test_it[a name - with spaces] - assert 1 == 2\n1 failed in 0.1s\n"

    @pytest.mark.parametrize(
        ("code", "output", "caught", "text"),
        [
            (1, SUMMARY, True, "caught by tests/t.py::test_it[a name"),
            (None, "", True, "hang"),
            (0, "1 passed", False, "SURVIVED"),
            (4, "ERROR: not found: /x/tests/t.py::gone\n", False, "NOT TRIED: pytest ended with 4"),
            (2, "ERROR tests/t.py\nInterrupted: 1 error", False, "NOT TRIED: pytest ended with 2"),
            (5, "no tests ran", False, "NOT TRIED"),
        ],
    )
    def test_only_failed_tests_and_hangs_are_catches(self, code, output, caught, text):
        verdict = judge(sabotage(), code, output, 1.0)
        assert verdict.caught is caught
        assert text in verdict.text

    def test_a_stale_one_is_a_failure_and_runs_nothing(self, tmp_path):
        copy = FakeCopy(tmp_path)
        verdict = attempt(copy, sabotage(old="gone"))  # type: ignore[arg-type]
        assert (verdict.caught, copy.asked) == (False, [])
        assert verdict.text.startswith("STALE")

    def test_the_named_tests_run_and_stop_at_the_first_failure(self, tmp_path):
        copy = FakeCopy(tmp_path, (1, self.SUMMARY))
        assert attempt(copy, sabotage()).caught  # type: ignore[arg-type]
        assert copy.asked == [["-x", "tests/t.py"]]
        assert "no:cacheprovider" in PYTEST


class TestBaseline:
    def test_all_named_tests_run_once(self, tmp_path):
        copy = FakeCopy(tmp_path, (0, ""))
        some = [sabotage("a", tests=("t.py", "u.py")), sabotage("b", tests=("t.py",))]
        assert baseline(copy, some) == {}  # type: ignore[arg-type]
        assert copy.asked == [["t.py", "u.py"]]

    def test_only_those_whose_tests_fail_cannot_be_tried(self, tmp_path):
        copy = FakeCopy(tmp_path, (1, "FAILED t.py::test_x[1] - assert False\n"))
        some = [
            sabotage("file", tests=("t.py",)),
            sabotage("test", tests=("t.py::test_x",)),
            sabotage("other", tests=("t.py::test_xy",)),
        ]
        unusable = baseline(copy, some)  # type: ignore[arg-type]
        assert set(unusable) == {"file", "test"}
        assert all("fails without it" in text for text in unusable.values())

    def test_a_test_that_is_gone_is_told_and_the_rest_is_run(self, tmp_path):
        gone = f"ERROR: not found: {tmp_path}/t.py::test_gone\n(no match in any of [<Module t.py>])\n"
        copy = FakeCopy(tmp_path, (4, gone), (0, ""))
        some = [sabotage("a", tests=("t.py::test_gone",)), sabotage("b", tests=("t.py::test_there",))]
        unusable = baseline(copy, some)  # type: ignore[arg-type]
        assert list(unusable) == ["a"]
        assert "not there" in unusable["a"]
        assert copy.asked[1] == ["t.py::test_there"]

    def test_anything_else_ends_the_run(self, tmp_path):
        copy = FakeCopy(tmp_path, (3, "INTERNALERROR"))
        with pytest.raises(RuntimeError, match="ended with 3"):
            baseline(copy, [sabotage()])  # type: ignore[arg-type]


def test_names_of_tests():
    assert names_test("t.py", "t.py::TestA::test_x[1]")
    assert names_test("t.py::TestA", "t.py::TestA::test_x")
    assert names_test("t.py::test_x", "t.py::test_x[1]")
    assert not names_test("t.py::test_x", "t.py::test_xy")


def test_reading_pytests_summary():
    output = (
        "x\nFAILED t.py::test_a[b c] - why - not\nERROR u.py::test_b\n"
        "ERROR: not found: /w/v.py::x\nERROR: file or directory not found: w.py\n"
    )
    assert failures(output) == ["t.py::test_a[b c]", "u.py::test_b"]
    assert missing(output) == ["/w/v.py::x", "w.py"]
