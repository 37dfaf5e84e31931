"""The vectors hold in both directions, cover every frame, and are only ever appended to."""

import hashlib
import json

import pytest

from kwik.errors import ErrorCode, RemoteProtocolError
from kwik.wire.codec import Decoder, encode
from kwik.wire.schema import BY_CLASS
from tests.strategies import SPECS, joined
from tests.vectors.vectors import entry_of, frame_of, load

FRAMES = load("frames.json")
REJECTED = load("rejected.json")

SEALED = 50
"""So many entries are published; `SEAL` is over them. New entries go behind them, then both may be raised."""

SEAL = "3e38f115696846539fdec2bc24106c9d6ad3be8d1e53d7ec4ff8e7fa6d193280"


def names(entries):
    return [entry["name"] for entry in entries]


@pytest.mark.parametrize("entry", FRAMES, ids=names(FRAMES))
def test_the_bytes_give_the_fields(entry):
    frame = frame_of(entry)
    spec = BY_CLASS[type(frame)]
    octets = bytes.fromhex(entry["hex"])
    decoder = Decoder(spec.sender, "data" if spec.pipe == "data" else "control")
    assert joined(decoder.feed(octets)) == [frame]
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("entry", FRAMES, ids=names(FRAMES))
def test_the_fields_give_the_bytes(entry):
    octets = bytes.fromhex(entry["hex"])
    if entry.get("canonical", True):
        assert encode(frame_of(entry)) == octets
        assert entry_of(entry["name"], frame_of(entry), octets) == entry
    else:
        assert len(encode(frame_of(entry))) < len(octets)


@pytest.mark.parametrize("entry", REJECTED, ids=names(REJECTED))
def test_what_must_be_refused_is_refused(entry):
    with pytest.raises(RemoteProtocolError) as caught:
        Decoder(entry["sender"], entry["pipe"]).feed(bytes.fromhex(entry["hex"]))
    error = caught.value
    place = (ErrorCode(error.code).name, error.frame, error.field, error.offset)
    assert place == (entry["code"], entry["frame"], entry["field"], entry["offset"])


def test_every_frame_has_a_vector():
    assert {entry["frame"] for entry in FRAMES} == {spec.name for spec in SPECS}


def test_names_are_given_once():
    for entries in (FRAMES, REJECTED):
        assert len(set(names(entries))) == len(entries)


def test_published_vectors_stay_as_they_are():
    published = json.dumps(FRAMES[:SEALED], sort_keys=True).encode()
    assert hashlib.sha256(published).hexdigest() == SEAL
