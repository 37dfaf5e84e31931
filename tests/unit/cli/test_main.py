"""The frame of all commands: what is loaded, what is printed, and the exit code of every end."""

from __future__ import annotations

import argparse
import builtins
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kwik
from kwik import __version__
from kwik.cli import main as command_line
from kwik.errors import ConfigError, ConnectRefused, DialTimeout, KwikError, NoServers, StreamReset

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
Run = Callable[[argparse.Namespace], int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], int]:
    """Runs `kwik certs` with another body."""

    def with_body(run: Run) -> int:
        monkeypatch.setattr("kwik.cli.certs.run", run)
        return command_line.main(["certs", "files.example"])

    monkeypatch.delenv("KWIK_DEBUG", raising=False)
    return with_body


def raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        command_line.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"kwik {__version__}\n"


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        command_line.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for name in [*command_line.COMMANDS, "exit codes:", "130", "examples:"]:
        assert name in text


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        command_line.main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert f"examples:\n  kwik {name}" in text
    assert "--json" in text


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["get"], ["certs", "x", "--no-such-option"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        command_line.main(arguments)
    assert end.value.code == 2
    assert "usage: kwik" in capsys.readouterr().err


def test_only_the_command_that_is_asked_for_is_loaded():
    code = (
        "import sys; from kwik.cli.main import build_parser; build_parser([]); print('kwik.cli.certs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_command_s_own_code_is_the_exit_code(command: Callable[[Run], int]):
    assert command(lambda _: 0) == 0
    assert command(lambda _: 3) == 3


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KwikError("text"), 1),
        (StreamReset("text"), 1),
        (ConfigError("text"), 2),
        (NoServers("text"), 3),
        (ConnectRefused("text"), 4),
        (ConnectionRefusedError("text"), 4),
        (DialTimeout("text"), 5),
        (TimeoutError("text"), 5),
        (OSError("text"), 1),
        (ValueError("text"), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: Exception, code: int, command: Callable[[Run], int], capsys: pytest.CaptureFixture[str]
):
    assert command(raising(error)) == code
    assert capsys.readouterr() == ("", "kwik certs: text\n")


def test_the_readme_s_table_of_errors_is_true(command: Callable[[Run], int]):
    rows = re.findall(r"^\| `kwik\.(\w+)` \| `(\w+)` \| .* \| (\d) \|$", README, re.MULTILINE)
    assert len(rows) == 5
    for name, also, code in rows:
        error = getattr(kwik, name)
        assert issubclass(error, getattr(kwik, also, None) or getattr(builtins, also)), name
        assert issubclass(error, OSError)
        assert command(raising(error("text"))) == int(code), name


def test_the_readme_names_every_command():
    found = re.search(r"^The commands are (.*?)\. Each has `--help`", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert set(re.findall(r"`(\w+)`", found[1])) == set(command_line.COMMANDS)


def test_an_error_of_several_lines_becomes_one(command: Callable[[Run], int], capsys: pytest.CaptureFixture[str]):
    command(raising(KwikError("one\ntwo\n  three")))
    assert capsys.readouterr().err == "kwik certs: one two three\n"


def test_an_error_of_the_system_names_the_file(command: Callable[[Run], int], capsys: pytest.CaptureFixture[str]):
    assert command(raising(FileNotFoundError(2, "No such file", "some/file"))) == 1
    assert capsys.readouterr().err == "kwik certs: some/file: No such file\n"


def test_a_defect_says_that_it_is_one(command: Callable[[Run], int], capsys: pytest.CaptureFixture[str]):
    assert command(raising(KeyError("x"))) == 1
    error = capsys.readouterr().err
    assert "internal error: KeyError" in error
    assert "KWIK_DEBUG=1" in error
    assert "Traceback" not in error


def test_debugging_shows_where(command: Callable[[Run], int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KWIK_DEBUG", "1")
    with pytest.raises(StreamReset):
        command(raising(StreamReset("text")))


def test_interrupted(command: Callable[[Run], int], capsys: pytest.CaptureFixture[str]):
    assert command(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_a_broken_pipe_is_no_news(command: Callable[[Run], int], capfd: pytest.CaptureFixture[str]):
    kept = os.dup(1)
    try:
        assert command(raising(BrokenPipeError(32, "Broken pipe"))) == 1
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().err == ""
