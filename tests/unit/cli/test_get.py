"""What `kwik get` makes of its options and of a result; the downloads are in tests/proc."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from kwik.apps.download import Downloaded
from kwik.cli import get
from kwik.cli.main import main
from kwik.kdp.snapshots import ShareSnapshot

URL = "http://files.example/big.bin"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["https://files.example/x"], "write http://"),
        (["files.example/x"], "write http://"),
        (["http://files.example/"], "names no file"),
        (["http://files.example/", "-o", "."], "names no file"),
        ([URL, "-o", "none/x"], "no directory none"),
        ([URL, "-o", "-", "--json"], "standard output"),
        ([URL, "--discovery", "static"], "--server"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str, here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["get", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("arguments", [[URL, "--sha256", "12"], [URL, "--cafile", "none"], [URL, "--timeout", "x"]])
def test_options_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["get", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().out == ""


def share(name: str, count: int) -> ShareSnapshot:
    return ShareSnapshot(name, f"{name}:4433", "helper", count, None, None, "open")


DONE = Downloaded(
    5_000_000, 2.0, "ab" * 32, (share("one", 3_000_000), share("two", 1_000_000), share("one", 1_000_000))
)


def arguments(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"url": URL, "json": False, "verbose": 0} | more)


def test_the_last_line(capsys: pytest.CaptureFixture[str]):
    get._report(arguments(), Path("big.bin"), DONE)
    assert capsys.readouterr() == ("big.bin: 5.0 MB in 2.0 s, 20.0 Mbit/s (one 80%, two 20%)\n", "")


def test_nothing_but_the_file_on_standard_output(capsys: pytest.CaptureFixture[str]):
    get._report(arguments(), None, DONE)
    assert capsys.readouterr() == ("", "")
    get._report(arguments(verbose=1), None, DONE)
    assert capsys.readouterr().out == ""


def test_json(capsys: pytest.CaptureFixture[str]):
    get._report(arguments(json=True), Path("big.bin"), DONE)
    assert json.loads(capsys.readouterr().out) == {
        "url": URL,
        "file": "big.bin",
        "bytes": 5_000_000,
        "seconds": 2.0,
        "mbit_s": 20.0,
        "sha256": "ab" * 32,
        "servers": [
            {"id": "one", "address": "one:4433", "bytes": 4_000_000, "share": 0.8},
            {"id": "two", "address": "two:4433", "bytes": 1_000_000, "share": 0.2},
        ],
    }
