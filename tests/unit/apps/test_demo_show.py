"""The demo as it goes, on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest

from kwik.apps.demo_show import Screen, ServerRow


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def rows(now: float) -> list[ServerRow]:
    return [ServerRow("server-1", "anchor", round(now * 1000)), ServerRow("server-2", "helper", round(now * 2000))]


def test_a_pipe_gets_a_line_every_two_seconds():
    stream = Stream(False)
    screen = Screen(stream)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        screen.show(rows(now), round(now * 3000), 12_000, 1000 + now)
    screen.say("a message")
    screen.clear()
    assert stream.getvalue().splitlines() == [
        "   50%  24.0 kbit/s  [server-1 8.0 kbit/s, server-2 16.0 kbit/s]",
        "  100%  24.0 kbit/s  [server-1 8.0 kbit/s, server-2 16.0 kbit/s]",
        "a message",
    ]


def test_a_terminal_gets_lines_that_renew_themselves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    stream = Stream(True)
    screen = Screen(stream)
    for now in (0.0, 1.0, 1.1, 2.0):
        screen.show(rows(now), round(now * 3000), 12_000, 1000 + now)
    screen.say("a message")
    first, second, last = stream.getvalue().split("\x1b[3A\x1b[J")
    assert first.splitlines() == [
        "  server-1   anchor   ##......................    1.0 kB    8%  8.0 kbit/s",
        "  server-2   helper   ####....................    2.0 kB   17%  16.0 kbit/s",
        "  all                 ######..................    3.0 kB   25%  24.0 kbit/s",
    ]
    assert second.count("\n") == 3
    assert last == "a message\n"


def test_no_stream_no_words():
    screen = Screen(None)
    screen.say("a message")
    screen.show(rows(1.0), 1, 1, 1000.0)
    screen.clear()
