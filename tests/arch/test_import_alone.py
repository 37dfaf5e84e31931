"""Every module can be the first that is imported, without a warning and without the package's `__init__`."""

import json
import subprocess
import sys

from tests.arch.tree import PACKAGE, ROOT, module_name, sources

# What stands on the public names may import the package itself.
NEEDS_PACKAGE = ("kwik.cli", "kwik.apps", "kwik.patch")

# One interpreter for all: before each import whatever belongs to Kwik is forgotten, and an empty package stands in for
# kwik/__init__.py, which would import most of the others first.
SCRIPT = """
import importlib, json, sys, traceback, types

folder, names, real = json.load(sys.stdin)
for name in names:
    for known in [known for known in sys.modules if known.split(".")[0] == "kwik"]:
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
"""


def test_every_module_imports_alone():
    names = [name for name in map(module_name, sources()) if name != "kwik" and not name.endswith("__main__")]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        input=json.dumps([str(PACKAGE), names, NEEDS_PACKAGE]),
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert result.stdout + result.stderr == ""
    assert result.returncode == 0
