"""Reads the vectors: SPEC's frames as bytes and as fields, for this implementation and for any other.

`frames.json` is a list, append-only, of `{name, frame, hex, fields}`: octets are written in hexadecimal, pairs and
lists as lists. An entry with `"canonical": false` is only read: a sender writes it shorter. `rejected.json` lists
bytes that must be refused, with sender, pipe, error code, frame, field and the offset of the error in the pipe.
"""

import json
from pathlib import Path

from kwik.wire import kinds
from kwik.wire.codec import Frame
from kwik.wire.schema import BY_CLASS, REGISTRY

FOLDER = Path(__file__).parent
BY_NAME = {spec.name: spec for spec in REGISTRY.values()}

OCTETS = (kinds.Octets, kinds.OptionalOctets, kinds.Rest)


def load(name: str) -> list[dict[str, object]]:
    """All entries of one file."""
    entries: list[dict[str, object]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return entries


def to_json(kind: kinds.Kind, value: object) -> object:
    """A field's value as it stands in the file."""
    if isinstance(kind, OCTETS):
        assert isinstance(value, bytes)
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def _plain(entry: object) -> object:
    if isinstance(entry, bytes):
        return entry.hex()
    return [_plain(part) for part in entry] if isinstance(entry, tuple) else entry


def from_json(kind: kinds.Kind, value: object) -> object:
    """The field's value that `to_json` wrote."""
    if isinstance(kind, OCTETS):
        return bytes.fromhex(str(value))
    if not isinstance(value, list):
        return value
    if isinstance(kind, kinds.OctetsList):
        return tuple(bytes.fromhex(entry) for entry in value)
    if isinstance(kind, kinds.TypedEntries):
        return tuple((number, bytes.fromhex(content)) for number, content in value)
    return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)


def frame_of(entry: dict[str, object]) -> Frame:
    """The frame that an entry of `frames.json` describes."""
    spec = BY_NAME[str(entry["frame"])]
    fields = entry["fields"]
    assert isinstance(fields, dict)
    assert list(fields) == [field.name for field in spec.fields]
    made: Frame = spec.cls(**{field.name: from_json(field.kind, fields[field.name]) for field in spec.fields})
    return made


def entry_of(name: str, frame: Frame, octets: bytes) -> dict[str, object]:
    """A new entry for `frames.json`."""
    spec = BY_CLASS[type(frame)]
    fields = {field.name: to_json(field.kind, getattr(frame, field.name)) for field in spec.fields}
    return {"name": name, "frame": spec.name, "hex": octets.hex(), "fields": fields}
