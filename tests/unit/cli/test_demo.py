"""The options of `kwik demo`; the demo itself is in tests/proc."""

from __future__ import annotations

import pytest

from kwik.cli.main import build_parser, main


def test_defaults():
    args = build_parser(["demo"]).parse_args(["demo"])
    assert (args.servers, args.size, args.rate, args.rtt) == (3, 60_000_000, 20e6, 0.04)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--servers", "0"],
        ["--servers", "9"],
        ["--servers", "x"],
        ["--rate", "unlimited"],
        ["--size", "0"],
        ["--rtt", "x"],
    ],
)
def test_options_that_cannot_be(arguments: list[str]):
    with pytest.raises(SystemExit) as end:
        main(["demo", *arguments])
    assert end.value.code == 2


def test_nobody_to_take_over(capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--servers", "1"]) == 2
    assert "--no-kill" in capsys.readouterr().err
