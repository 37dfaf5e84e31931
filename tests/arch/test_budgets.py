"""The house's hard limits on size. An exception needs a dated line in annex A of SPEC.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.arch.tree import ROOT, sources

FILE_LINES = 600
FUNCTION_LINES = 60
PUBLIC_METHODS = 15
INIT_ATTRIBUTES = 18
ARGUMENTS = 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[Path, Function]]:
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def argument_count(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len(named) - bool(named and named[0].arg in ("self", "cls"))


def attributes_set(function: Function) -> set[str]:
    return {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name) and node.value.id == "self"
    }  # fmt: skip


def public_methods(kind: ast.ClassDef) -> set[str]:
    """Without properties, which are read as attributes are."""
    methods = [item for item in kind.body if isinstance(item, Function) and not item.name.startswith("_")]
    return {method.name for method in methods if not any(map(is_property, method.decorator_list))}


def is_property(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).split(".")[-1] in {"property", "cached_property", "setter", "deleter"}


def test_files_are_short():
    lengths = {path: (ROOT / path).read_text("utf-8").count("\n") for path in sources()}
    assert {str(path): lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_functions_are_short():
    lengths = {f"{path}:{f.name}": (f.end_lineno or 0) - f.lineno + 1 for path, f in functions()}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_functions_take_few_arguments():
    counts = {f"{path}:{f.name}": argument_count(f) for path, f in functions()}
    assert {name: count for name, count in counts.items() if count > ARGUMENTS} == {}


def test_objects_have_few_attributes():
    counts = {f"{path}:{f.lineno}": len(attributes_set(f)) for path, f in functions() if f.name == "__init__"}
    assert {name: count for name, count in counts.items() if count > INIT_ATTRIBUTES} == {}


def test_classes_have_few_public_methods():
    over = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and len(public_methods(node)) > PUBLIC_METHODS:
                over[f"{path}:{node.name}"] = len(public_methods(node))
    assert set(over) == exceptions("public methods")


def exceptions(what: str) -> set[str]:
    """Names in backquotes on the dated lines of annex A that speak of this limit."""
    annex = (ROOT / "SPEC.md").read_text("utf-8").split("## Annex A")[1]
    lines = [line for line in annex.splitlines() if what in line and re.search(r"20\d\d-\d\d-\d\d", line)]
    return {name for line in lines for name in re.findall(r"`(kwik/[^`]+:\w+)`", line)}


def test_the_measures_measure():
    text = "def f(self, a, /, b, *c, d=1, **e):\n    self.x = self.y.z = 1\n    self.u: int = 2"
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert argument_count(function) == 3
    assert attributes_set(function) == {"x", "u"}
    (kind,) = ast.parse("class A:\n def a(self): ...\n @property\n def b(self): ...\n def _c(self): ...").body
    assert isinstance(kind, ast.ClassDef)
    assert public_methods(kind) == {"a"}
