"""The line that shows how a download goes."""

from __future__ import annotations

import io

from kwik.apps.download import Progress
from kwik.cli.progress import ProgressLine
from kwik.kdp.snapshots import ShareSnapshot


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def share(name: str, delivered_bytes: int) -> ShareSnapshot:
    return ShareSnapshot(name, f"{name}:4433", "helper", delivered_bytes, None, None, "open")


def test_a_pipe_gets_a_line_every_two_seconds():
    stream, clock = Stream(False), Clock()
    line = ProgressLine(stream, monotonic=clock)
    for second in range(1, 6):
        clock.now += 1
        line.show(
            Progress(10_000_000, second * 1_000_000, (share("a", second * 250_000), share("b", second * 750_000)))
        )
    line.clear()
    assert stream.getvalue().splitlines() == [
        " 20%  of 10.0 MB  8.0 Mbit/s  8.0 s left  [a 2.0 Mbit/s, b 6.0 Mbit/s]",
        " 40%  of 10.0 MB  8.0 Mbit/s  6.0 s left  [a 2.0 Mbit/s, b 6.0 Mbit/s]",
    ]


def test_a_terminal_gets_one_line_that_renews_itself():
    stream, clock = Stream(True), Clock()
    line = ProgressLine(stream, monotonic=clock)
    clock.now += 1
    line.show(Progress(None, 1_000_000))
    line.clear()
    assert stream.getvalue() == "\r\x1b[K1.0 MB  8.0 Mbit/s\r\x1b[K"


def test_no_progress_at_all():
    stream, clock = Stream(True), Clock()
    ProgressLine(stream, monotonic=clock).show(Progress(1000, 0))
    assert stream.getvalue() == "\r\x1b[K  0%  of 1.0 kB  0 bit/s"
