"""The exit codes of every command."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
TIMED_OUT: Final = 5
INTERRUPTED: Final = 130
TERMINATED: Final = 143
