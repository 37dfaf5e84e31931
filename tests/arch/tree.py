"""The files of the project, read once, for the tests of its architecture."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kwik"


@cache
def sources() -> dict[Path, ast.Module]:
    """Every module of the package, parsed; paths are relative to the root."""
    return {path.relative_to(ROOT): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    """`kwik.base.ranges` for kwik/base/ranges.py, `kwik.base` for kwik/base/__init__.py."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is or could be committed, relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    if listing.returncode == 0:
        names = (Path(name) for name in listing.stdout.split("\0") if name)
        return tuple(sorted(name for name in names if (ROOT / name).is_file()))
    hidden = {".git", ".venv", "__pycache__"}
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if not hidden.intersection(path.parts)))


def read_text(path: Path) -> str | None:
    """The file's text, None for a binary file."""
    try:
        return (ROOT / path).read_text("utf-8")
    except UnicodeDecodeError:
        return None
