"""How many servers the streams of a session could use, and how long a need counts."""

from __future__ import annotations

from kwik.kdp.wants import KEEP_S, Wants

NOW = 1000.0


def test_the_neediest_stream_counts():
    wants = Wants()
    assert wants.most() == 0
    wants.note(1, 2, NOW)
    wants.note(2, 5, NOW)
    assert wants.most() == 5
    wants.forget(2)
    assert wants.most() == 2


def test_a_need_is_kept_for_a_while_and_then_believed_to_be_less():
    wants = Wants()
    wants.note(1, 5, NOW)
    wants.note(1, 1, NOW + KEEP_S / 2)
    assert wants.most() == 5
    wants.note(1, 1, NOW + KEEP_S)
    assert wants.most() == 1


def test_each_time_it_is_felt_it_counts_anew():
    wants = Wants()
    wants.note(1, 5, NOW)
    wants.note(1, 5, NOW + KEEP_S / 2)
    wants.note(1, 1, NOW + KEEP_S)
    assert wants.most() == 5
    assert wants.ends_at(1) == NOW + 1.5 * KEEP_S


def test_a_need_that_is_felt_is_not_looked_at_again():
    wants = Wants()
    wants.note(1, 3, NOW)
    assert wants.ends_at(1) is None
    assert wants.ends_at(2) is None
