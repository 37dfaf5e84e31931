"""Programs are functions of their upstream; twists change what they should and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.sim.apps import Twist, content, make_program, reference

UPSTREAM = b"GET 500 a\nGET 300 b\nBYE\n"


def test_content_is_the_same_for_the_same_seed():
    assert content(7, 100) == content(7, 100) != content(8, 100)


@given(st.lists(st.integers(1, 40)), st.lists(st.integers(1, 90)), st.sampled_from(["answer", "echo"]))
def test_the_cut_of_input_and_output_does_not_matter(pieces, limits, kind):
    program = make_program(kind, 50 if kind == "answer" else 0, None)
    out, at = b"", 0
    for size in pieces:
        program.feed(UPSTREAM[at : at + size])
        at += size
        out += program.take(limits[0] if limits else 10)
    program.feed(UPSTREAM[at:])
    program.feed_eof()
    for limit in limits:
        out += program.take(limit)
    out += program.take(1 << 30)
    whole = reference(kind, 50 if kind == "answer" else 0, None, UPSTREAM, eof=True)
    assert out == whole.data
    assert whole.ended
    assert program.available == 0


def test_an_answer_depends_on_every_line_before_it():
    one = reference("answer", 0, None, b"GET 10 a\nGET 10 b\n", eof=False)
    other = reference("answer", 0, None, b"GET 10 x\nGET 10 b\n", eof=False)
    assert one.data[10:] != other.data[10:]
    assert not one.ended


@pytest.mark.parametrize(
    ("twist", "same", "length"),
    [
        (Twist(kind="one-byte", at=100), set(range(800)) - {100}, 800),
        (Twist(kind="one-block", at=64, size=64), set(range(800)) - set(range(64, 128)), 800),
        (Twist(kind="from", at=700), set(range(700)), 800),
        (Twist(kind="shorter", at=100), set(range(100)), 100),
        (Twist(kind="abort", at=0), set(), 0),
        (Twist(kind="longer", size=9), set(range(800)), 809),
    ],
)
def test_twists(twist, same, length):
    honest = reference("answer", 0, None, UPSTREAM, eof=True)
    bent = reference("answer", 0, twist, UPSTREAM, eof=True)
    assert len(honest.data) == 800
    assert len(bent.data) == length
    assert {at for at in range(min(800, length)) if honest.data[at] == bent.data[at]} == same
    assert bent.ended
    assert bent.aborted == (twist.kind == "abort")
