"""The parts of README.md that are made: the table of settings, and what the demo prints.

`python -m tests.proc.cli.readme --update` renews the table, `--demo` runs the demo and puts its output in.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from kwik.config import Config, ServerConfig

README = Path(__file__).parents[3] / "README.md"
SECTION = re.compile(r"(?<=<!-- config:begin -->\n).*?(?=<!-- config:end -->)", re.DOTALL)
DEMO = re.compile(r"(?<=<!-- demo:begin -->\n```text\n).*?(?=```\n<!-- demo:end -->)", re.DOTALL)
HIDDEN = frozenset({"service", "server_id", "replicated", "min_block_bytes"})
"""What `kwik serve` has options for, and what is for tests."""


def described(kind: type[Config | ServerConfig]) -> dict[str, str]:
    """The text under each field."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for before, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(before.target)] = " ".join(str(after.value.value).split())
    return found


def plain(name: str, value: object) -> str:
    """A default as people write it in the environment."""
    if name.endswith("_bytes") and isinstance(value, int) and value % 1024 == 0:
        return f"{value // 1024**2}M" if value % 1024**2 == 0 else f"{value // 1024}K"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table() -> str:
    """The settings of both kinds, with their defaults."""
    rows = ["| setting | default | what it is |", "| --- | --- | --- |"]
    for kind, prefix in ((Config, "KWIK_"), (ServerConfig, "KWIK_SERVER_")):
        texts = described(kind)
        for field in fields(kind):
            if field.name not in HIDDEN:
                rows.append(
                    f"| `{prefix}{field.name.upper()}` | {plain(field.name, field.default)} | {texts[field.name]} |"
                )
    return "\n".join(rows) + "\n"


def demo() -> str:
    """What a real run prints into a pipe."""
    return subprocess.run([sys.executable, "-m", "kwik", "demo"], check=True, capture_output=True, text=True).stdout


def renew(section: re.Pattern[str], text: str) -> None:
    """Replace that part of the page."""
    README.write_text(section.sub(lambda _: text, README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    if "--update" in sys.argv:
        renew(SECTION, table())
    if "--demo" in sys.argv:
        renew(DEMO, demo())
