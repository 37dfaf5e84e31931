"""The field tables of SPEC §9, rendered from the declarations, so that text and code cannot differ.

Pure: `tests/arch/spec_tables.py` does the reading and writing of the file.
"""

from collections.abc import Iterable
from typing import Final

from kwik.wire import frames, messages
from kwik.wire.kinds import Kind
from kwik.wire.schema import REGISTRY, FrameSpec

BEGIN: Final = "<!-- frames:begin -->"
END: Final = "<!-- frames:end -->"

_PIPES: Final = {"control": "control pipe", "data": "data pipes", "any": "any pipe"}


def render() -> str:
    """The tables of all frames in Markdown, from the marker `BEGIN` to the marker `END`."""
    specs = [REGISTRY[number] for number in sorted(REGISTRY)]
    kcp = [spec for spec in specs if spec.cls.__module__ == messages.__name__]
    kdp = [spec for spec in specs if spec.cls.__module__ == frames.__name__]
    parts = [BEGIN, "", *_kinds(specs), *_group("§9.2 KCP frames", kcp), *_group("§9.3 KDP frames", kdp), END]
    return "\n".join(parts)


def replace(text: str) -> str:
    """The text with everything between the markers rendered anew. Raises ValueError without exactly one such place."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text needs {BEGIN} and, behind it, {END}, once each")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + render() + after


def _kinds(specs: Iterable[FrameSpec]) -> list[str]:
    used: dict[str, Kind] = {field.kind.label: field.kind for spec in specs for field in spec.fields}
    lines = ["### §9.1 Field kinds", "", "| kind | encoding | bounds |", "| --- | --- | --- |"]
    lines += [f"| {label} | {kind.encoding} | {kind.bounds} |" for label, kind in used.items()]
    return [*lines, ""]


def _group(title: str, specs: Iterable[FrameSpec]) -> list[str]:
    lines = [f"### {title}", ""]
    for spec in specs:
        lines += [
            f"**{spec.number:#04x} {spec.name}** ({spec.sender}, {_PIPES[spec.pipe]}, {spec.section}, "
            f"body at most {spec.max_body_bytes} bytes). {_prose(spec.doc)}",
            "",
            "| field | kind | bounds |",
            "| --- | --- | --- |",
            *(f"| {field.name} | {field.kind.label} | {field.kind.bounds} |" for field in spec.fields),
            "",
        ]
    return lines


def _prose(doc: str) -> str:
    return " ".join(doc.replace("``", "`").split())
