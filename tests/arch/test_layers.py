"""Who may import whom: the contracts in pyproject.toml, and two rules that they cannot state."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.arch.tree import ROOT, module_name, sources

PROGRAMS = ("kwik.apps.gateway", "kwik.apps.files", "kwik.apps.proxy")
FOR_PROGRAMS = ("kwik.aio", "kwik.apps", "kwik.config", "kwik.errors", "kwik.types")
MAY_IMPORT_SIM = ("kwik.sim", "kwik.cli", "kwik.apps.bench", "kwik.apps.simulate")


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported anywhere in the file; `from a import b` counts as `a.b` where that is a module."""
    modules = {module_name(path) for path in sources()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in modules else node.module for name in inner)


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, check=False, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_programs_use_what_a_user_could_use():
    wrong = [
        (str(path), name)
        for path, tree in sources().items()
        if module_name(path) in PROGRAMS
        for name in imported(tree)
        if name.startswith("kwik.") and not is_in(name, FOR_PROGRAMS)
    ]
    assert wrong == []


def test_nothing_real_stands_on_the_simulator():
    wrong = [
        str(path)
        for path, tree in sources().items()
        if not is_in(module_name(path), MAY_IMPORT_SIM) and any(is_in(name, ("kwik.sim",)) for name in imported(tree))
    ]
    assert wrong == []


def test_pure_tests_use_fakes_not_mocks():
    folders = [ROOT / "tests" / name for name in ("unit", "contract", "sim", "vectors")]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    wrong = [str(path.relative_to(ROOT)) for path in files if "unittest" in set(roots(path))]
    assert wrong == []


def roots(path: Path) -> Iterator[str]:
    return (name.split(".")[0] for name in imported(ast.parse(path.read_text("utf-8"))))
