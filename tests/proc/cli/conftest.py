"""What the tests of commands share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proc.cli.commands import Commands


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """`kwik` commands in a temporary folder."""
    with Commands(tmp_path) as made:
        yield made


@pytest.fixture
def files(commands: Commands) -> Commands:
    """The same, with a certificate for files.example and a folder files/ that holds big.bin (2 MB)."""
    commands.certificate("files.example")
    (commands.folder / "files").mkdir()
    (commands.folder / "files" / "big.bin").write_bytes(bytes(range(256)) * 8000)
    return commands
