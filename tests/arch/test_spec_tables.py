"""The frame tables in SPEC.md say what the declarations say."""

from pathlib import Path

import pytest

from kwik.wire import tables
from tests.arch import spec_tables

SPEC = Path(__file__).resolve().parents[2] / "SPEC.md"


def test_the_tables_in_spec_are_the_declarations():
    assert spec_tables.main(["--check", str(SPEC)]) == 0


def test_update_writes_what_check_accepts(tmp_path):
    copy = tmp_path / "SPEC.md"
    copy.write_text(f"# Title\n\n{tables.BEGIN}\nold\n{tables.END}\n\nmore\n", encoding="utf-8")
    assert spec_tables.main(["--check", str(copy)]) == 1
    assert spec_tables.main(["--update", str(copy)]) == 0
    assert spec_tables.main(["--check", str(copy)]) == 0
    text = copy.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nmore\n")
    assert "old" not in text


def test_a_file_without_the_markers_is_an_error(tmp_path):
    bare = tmp_path / "SPEC.md"
    bare.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="frames:begin"):
        spec_tables.main(["--check", str(bare)])
