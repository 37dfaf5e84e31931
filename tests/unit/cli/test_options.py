"""The options that every command has."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from kwik.cli.options import Sources, add_keylog, add_sources, existing_file, keylog_of, seconds, sources_of, typed
from kwik.errors import ConfigError


def parse(*arguments: str) -> Sources:
    parser = argparse.ArgumentParser()
    add_sources(parser)
    return sources_of(parser.parse_args(arguments))


def test_by_default_nothing_is_said():
    assert parse() == Sources(None, None, None)


def test_servers_alone():
    assert parse("--server", "a:1", "--server", "b") == Sources(("a:1", "b"), None, None)


def test_static_is_the_list():
    assert parse("--server", "a:1", "--discovery", "static") == Sources(("a:1",), (), None)


def test_none_asks_nobody():
    assert parse("--discovery", "none") == Sources(None, (), None)
    assert parse("--discovery", "none", "--server", "a:1") == Sources(("a:1",), (), None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--discovery", "mdns"],
        ["--mdns-interface", "127.0.0.1"],
        ["--server", "a:1", "--discovery", "mdns", "--discovery", "static"],
    ],
)
def test_mdns(arguments: list[str]):
    found = parse(*arguments)
    assert found.discovery is not None
    assert [provider.name for provider in found.discovery] == ["mdns"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--discovery", "none", "--discovery", "mdns"], "none"),
        (["--discovery", "static"], "--server"),
        (["--discovery", "static", "--server", "a:1", "--mdns-interface", "lo"], "--discovery mdns"),
    ],
)
def test_contradictions(arguments: list[str], text: str):
    with pytest.raises(ConfigError, match=text):
        parse(*arguments)


@pytest.mark.parametrize(("text", "value"), [("5", 5.0), ("0.5", 0.5), ("0.5s", 0.5), ("200ms", 0.2), ("0", 0.0)])
def test_seconds(text: str, value: float):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "5h", "-1", "1.2.3", "\u0665"])
def test_what_is_no_time(text: str):
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


def test_typed_keeps_the_message():
    def parse_it(text: str) -> int:
        raise ConfigError(f"{text} is wrong")

    with pytest.raises(argparse.ArgumentTypeError, match="x is wrong"):
        typed(parse_it)("x")


def test_existing_file(tmp_path: Path):
    assert existing_file(str(tmp_path)) == str(tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match="does not exist"):
        existing_file(str(tmp_path / "none"))


class TestKeylog:
    def parse(self, *arguments: str) -> str | None:
        parser = argparse.ArgumentParser()
        add_keylog(parser)
        return keylog_of(parser.parse_args(arguments))

    def test_the_environment_counts_only_when_asked_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")
        assert self.parse() is None
        assert self.parse("--keylog", "other") == "other"
        assert self.parse("--keylog-env") == "/tmp/keys"

    def test_asked_for_it_must_be_there(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
        with pytest.raises(ConfigError, match="SSLKEYLOGFILE is not set"):
            self.parse("--keylog-env")
