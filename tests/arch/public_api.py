"""What a user can call, as text: compared with public_api.txt, so that no signature changes unseen.

`python -m tests.arch.public_api` prints it, `--update` writes the file.
"""

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import kwik

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def render() -> str:
    """One line for each public name and for each public member that its class defines itself."""
    lines = [line for name in sorted(kwik.__all__) for line in _describe(name, getattr(kwik, name))]
    return "\n".join(lines) + "\n"


def _describe(name: str, thing: object) -> Iterator[str]:
    if isinstance(thing, ModuleType):
        yield f"module {name}"
        for member in sorted(getattr(thing, "__all__", ())):
            yield from (f"    {line}" for line in _describe(member, getattr(thing, member)))
    elif isinstance(thing, type):
        bases = ", ".join(base.__name__ for base in thing.__bases__)
        yield f"class {name}({bases})"
        yield from (f"    {line}" for line in _members(thing))
    elif callable(thing):
        prefix = "async def" if inspect.iscoroutinefunction(thing) else "def"
        yield f"{prefix} {name}{_signature(thing)}"
    else:
        yield f"{name}: {type(thing).__name__}"


def _members(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in kind)
        return
    if not issubclass(kind, BaseException) or "__init__" in vars(kind):
        yield f"__init__{_signature(kind)}"
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"{name}: property"
        elif isinstance(member, classmethod | staticmethod):
            yield f"{type(member).__name__} {name}{_signature(member.__func__)}"
        elif inspect.isfunction(member):
            yield from _describe(name, member)


def _signature(thing: object) -> str:
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    if "--update" in sys.argv[1:]:
        SNAPSHOT.write_text(render(), "utf-8")
    else:
        sys.stdout.write(render())
