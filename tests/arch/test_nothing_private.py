"""Nothing that belongs to one machine or to one person is in the tree: private keys, home folders, paths."""

import re
from pathlib import Path

import pytest

from tests.arch.tree import ROOT, project_files, read_text

KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}")
HOME = re.compile(r"(?<![\w.~-])/(?:home|Users)/[A-Za-z]\w*|(?<![\w.~-])/root/")
# Deep enough not to be an ordinary word: a clone at the top of the disk says nothing.
HERE = re.compile(re.escape(str(ROOT)) + r"\b") if len(ROOT.parts) > 2 else None

FILES = [path for path in project_files() if path != Path(__file__).relative_to(ROOT)]


@pytest.mark.parametrize("pattern", [KEY, HOME, HERE], ids=["private key", "home folder", "this folder"])
def test_no_file_holds(pattern: re.Pattern[str] | None):
    wrong = [str(path) for path in FILES if pattern and pattern.search(read_text(path) or "")]
    assert wrong == []


def test_no_file_is_a_binary_key():
    assert [str(path) for path in FILES if path.suffix in {".key", ".p12", ".pfx", ".jks"}] == []
