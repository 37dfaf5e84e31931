"""A liar bends what it should and passes on everything else."""

from kwik.sim.apps import FLIP
from kwik.sim.lies import Liar
from kwik.types import PathId
from kwik.wire import codec, frames

PATH = PathId(3)
DIGEST = bytes(32)


def heard(data, sort):
    return codec.Decoder("server", sort).feed(data)


def test_bytes_from_an_offset_on():
    liar = Liar("data", 105)
    said = liar.alter(PATH, 1, codec.encode_data(7, 1, 100, b"abcdefghij"))
    (piece,) = heard(said, "data")
    assert bytes(piece.payload) == b"abcde" + bytes(byte ^ FLIP for byte in b"fghij")
    assert (piece.replica, piece.order, piece.offset) == (7, 1, 100)
    assert liar.told == 1


def test_a_frame_cut_in_two_is_bent_all_the_same():
    liar = Liar("data", 0)
    whole = codec.encode_data(7, 1, 0, b"abcdefghij")
    pieces = heard(liar.alter(PATH, 2, whole[:8]) + liar.alter(PATH, 2, whole[8:]), "data")
    assert b"".join(bytes(piece.payload) for piece in pieces) == bytes(byte ^ FLIP for byte in b"abcdefghij")


def test_what_is_withheld_never_comes():
    assert Liar("withhold", 0).alter(PATH, 1, codec.encode_data(7, 1, 0, b"abc")) == b""


def test_false_announcements():
    liar = Liar("digests", 0)
    said = codec.encode(frames.Digests(1, 0, (DIGEST, DIGEST))) + codec.encode(frames.Run(1, 0, 2, DIGEST))
    digests, run = heard(liar.alter(PATH, 0, said), "control")
    assert DIGEST not in digests.digests
    assert len(digests.digests) == 2
    assert run.digest != DIGEST


def test_a_false_end_and_a_false_probe():
    (fin,) = heard(Liar("final", 0).alter(PATH, 0, codec.encode(frames.Fin(1, 100))), "control")
    assert fin.final == 99
    probed = frames.Probed(1, 2, 64, frames.PROBE_REACHED, DIGEST, DIGEST)
    (answer,) = heard(Liar("probe", 0).alter(PATH, 0, codec.encode(probed)), "control")
    assert answer.prefix != DIGEST
    assert answer.chain == DIGEST


def test_the_rest_is_passed_on():
    liar = Liar("data", 0)
    said = codec.encode(frames.Produced(1, 5)) + codec.encode(frames.Fin(1, 5))
    assert liar.alter(PATH, 0, said) == said
    assert liar.told == 0
