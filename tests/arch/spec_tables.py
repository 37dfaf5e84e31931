"""Keep the frame tables of SPEC.md equal to the declarations: `python -m tests.arch.spec_tables --update SPEC.md`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the project's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kwik.wire import tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the file, or only compare: 0 if its tables are as declared, 1 on a difference."""
    parser = argparse.ArgumentParser(description="Rewrite or check the frame tables between the markers of a file.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--update", metavar="FILE", type=Path, help="rewrite the tables in FILE")
    mode.add_argument("--check", metavar="FILE", type=Path, help="exit with 1 if the tables in FILE are out of date")
    chosen = parser.parse_args(arguments)
    path: Path = chosen.update or chosen.check
    text = path.read_text(encoding="utf-8")
    wanted = tables.replace(text)
    if wanted == text:
        return 0
    if chosen.check:
        print(f"{path}: the frame tables are out of date; run python -m tests.arch.spec_tables --update {path}")
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
