"""A file that appears under its name only when it is whole; until then, and after a failure, what was there stays."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


class TargetFile:
    """Writes beside the target and renames on `commit`; leaving the `with` block without it removes what was written.

    A symbolic link is followed, so that the file behind it is replaced. What is not a regular file (a terminal, a
    named pipe, /dev/null) is written directly, because renaming would destroy it. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._target = Path(os.path.realpath(path))
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._target.exists() and not self._target.is_file():
            self._file = self._target.open("wb", buffering=0)
            return self
        # A long name must not become too long by what is added to it.
        temporary = self._target.with_name(f".{self._target.name[:200]}.{secrets.token_hex(4)}.part")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._temporary = temporary
        self._file = open(descriptor, "wb", buffering=0)
        return self

    def write(self, data: bytes) -> None:
        """Add all of it."""
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def commit(self) -> None:
        """The file is whole: give it its name."""
        assert self._file is not None
        self._file.close()
        if self._temporary is not None:
            self._temporary.replace(self._target)
            self._temporary = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                self._temporary.unlink()
