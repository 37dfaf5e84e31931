"""Every rule of the data plane that a frame can break names the field that breaks it (SPEC §3.2)."""

import ast

from kwik.wire import frames as _frames  # noqa: F401 - fills the registry
from kwik.wire import messages as _messages  # noqa: F401
from kwik.wire.schema import REGISTRY
from tests.arch.tree import sources

PLANE = "kwik/kdp/"
NOT_FROM_A_FRAME = {"kwik/kdp/downstream.py"}
"""Raised when the application reads; the stream fails, no frame is to blame."""
FIELDS = {field.name for spec in REGISTRY.values() for field in spec.fields}


def breaches() -> dict[str, str | None]:
    """Where LocalProtocolError is raised in the data plane, and the field that is named."""
    found: dict[str, str | None] = {}
    for path, tree in sources().items():
        if not str(path).startswith(PLANE) or str(path) in NOT_FROM_A_FRAME:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "LocalProtocolError":
                named = [each.value for each in node.keywords if each.arg == "field"]
                value = named[0].value if named and isinstance(named[0], ast.Constant) else None
                found[f"{path}:{node.lineno}"] = value if isinstance(value, str) else None
    return found


def test_each_breach_names_a_field():
    assert len(breaches()) > 20
    assert {place: field for place, field in breaches().items() if field not in FIELDS} == {}
