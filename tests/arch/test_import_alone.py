"""Every module can be the first that is imported, without a warning and without the package's `__init__`."""

import json
import subprocess
import sys

from tests.arch.tree import PACKAGE, ROOT, module_name, sources

# What stands on the public names may import the package itself.
NEEDS_PACKAGE = ("kwik.cli", "kwik.apps", "kwik.patch")

# Lower layers first. They never import from above (test_layers) and were imported alone themselves by then, so that
# they may stay; whatever may stand in a circle with the module is loaded anew.
LOWER_LAYERS = (
    ("kwik.errors", "kwik.types", "kwik.config", "kwik.trace", "kwik.wire", "kwik.base"),
    ("kwik.kdp", "kwik.kcp", "kwik.core"),
    ("kwik.quic", "kwik.discovery", "kwik.observe", "kwik.sim"),
)

# One interpreter for all: before each import whatever is not of a lower layer is forgotten, and an empty package stands
# in for kwik/__init__.py, which would import most of the others first.
SCRIPT = """
import importlib, json, sys, traceback, types

folder, layers, real = json.load(sys.stdin)
kept = set()
for names in layers:
    for name in names:
        for known in [known for known in sys.modules if known.split(".")[0] == "kwik" and known not in kept]:
            del sys.modules[known]
        if not name.startswith(tuple(real)):
            package = types.ModuleType("kwik")
            package.__path__ = [folder]
            package.__version__ = "0"
            sys.modules["kwik"] = package
        try:
            importlib.import_module(name)
        except Exception:
            print(f"{name}: {traceback.format_exc(limit=-2)}")
    for name in names:
        importlib.import_module(name)
    kept.update(names)
"""


def layer_of(name: str) -> int:
    """Its place among LOWER_LAYERS; above all of them."""
    return next(
        (
            number
            for number, layer in enumerate(LOWER_LAYERS)
            if any(name == part or name.startswith(f"{part}.") for part in layer)
        ),
        len(LOWER_LAYERS),
    )


def test_every_module_imports_alone():
    names = [name for name in map(module_name, sources()) if name != "kwik" and not name.endswith("__main__")]
    layers = [[name for name in names if layer_of(name) == number] for number in range(len(LOWER_LAYERS) + 1)]
    assert all(layers)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        input=json.dumps([str(PACKAGE), layers, NEEDS_PACKAGE]),
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert result.stdout + result.stderr == ""
    assert result.returncode == 0
