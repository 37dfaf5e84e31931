"""A citation of the specification names a section that is there."""

import re
from pathlib import Path

import pytest

from tests.arch.tree import ROOT, project_files, read_text

CITATION = re.compile(
    r"\bSPEC(?:\.md)?,? §(\d+(?:\.\d+)*)|\bspec=\"§(\d+(?:\.\d+)*)\"|\bSPEC(?:\.md)?,? annex ([A-Z])\b"
)
SECTION = re.compile(r"^#{1,6} +§?(\d+(?:\.\d+)*)\.?(?: |$)|^#{1,6} +annex ([A-Z])\b", re.MULTILINE | re.IGNORECASE)
READERS = {".py", ".md", ".toml", ""}


def sections_of(spec: str) -> set[str]:
    return {number or letter.upper() for number, letter in SECTION.findall(spec)}


def citations_of(text: str) -> set[str]:
    return {next(filter(None, groups)) for groups in CITATION.findall(text)}


def test_cited_sections_exist():
    spec = ROOT / "SPEC.md"
    sections = sections_of(spec.read_text("utf-8")) if spec.exists() else set()
    wrong = []
    for path in project_files():
        if path.suffix in READERS and path != Path(__file__).relative_to(ROOT):
            wrong += [f"{path} cites §{name}" for name in sorted(citations_of(read_text(path) or "") - sections)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see SPEC §4.3.2.", {"4.3.2"}),
        ('@frame(0x04, spec="§4.3")', {"4.3"}),
        ("SPEC.md §7, SPEC annex B", {"7", "B"}),
        ("RFC 9000 §16 and SPECIAL §3", set()),
    ],
)
def test_citations_are_found(text: str, expected: set[str]):
    assert citations_of(text) == expected


def test_sections_are_found():
    assert sections_of("# Kwik\n## 1 Words\n### 1.2. Frames\n## Annex A: decisions\ntext ## 9 no") == {"1", "1.2", "A"}
