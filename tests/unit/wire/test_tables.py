"""The field tables for SPEC.md: complete, and put only between their markers."""

import pytest

from kwik.wire import tables
from tests.strategies import SPECS


def test_every_frame_and_every_field_is_listed():
    text = tables.render()
    for spec in SPECS:
        assert f"**{spec.number:#04x} {spec.name}** ({spec.sender}, " in text
        for field in spec.fields:
            assert f"| {field.name} | {field.kind.label} | {field.kind.bounds} |" in text


def test_frames_stand_in_the_order_of_their_numbers():
    text = tables.render()
    places = [text.index(f" {spec.name}** (") for spec in SPECS]
    assert places == sorted(places)
    assert text.index("KCP frames") < places[0] < text.index("KDP frames") < places[-1]


def test_rows_have_three_cells():
    rows = [line for line in tables.render().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}


def test_only_what_is_between_the_markers_is_replaced():
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.replace(text) == f"before\n{tables.render()}\nafter\n"
    assert tables.replace(tables.replace(text)) == tables.replace(text)


@pytest.mark.parametrize(
    "text", ["", tables.BEGIN, tables.END + tables.BEGIN, tables.BEGIN + tables.BEGIN + tables.END]
)
def test_text_without_one_such_place_is_refused(text):
    with pytest.raises(ValueError, match="frames:begin"):
        tables.replace(text)
