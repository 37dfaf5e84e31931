"""The wire format, declared once (SPEC §3.2, §4, §5, §9).

`frames` and `messages` declare every frame; `schema` compiles encoder, decoder, size and bounds from a declaration out
of the field kinds of `kinds`; `codec` turns the bytes of a pipe into frames and back; `tables` prints SPEC §9.
Pure: no I/O, no clock, no randomness.
"""
