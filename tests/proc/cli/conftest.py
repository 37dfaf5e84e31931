"""What the tests of commands share."""

import shutil
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
    furnish(commands)
    return commands


def furnish(commands: Commands) -> None:
    """What `files` promises."""
    commands.certificate("files.example")
    (commands.folder / "files").mkdir()
    (commands.folder / "files" / "big.bin").write_bytes(bytes(range(256)) * 8000)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """For tests that do no harm to it: a server of files.example with id one; its folder and its address."""
    with Commands(tmp_path_factory.mktemp("shared")) as made:
        furnish(made)
        yield made.folder, made.serve("files.example:80", "--files", "files", "--id", "one")[1]


@pytest.fixture
def server(files: Commands, shared: tuple[Path, str]) -> str:
    """Its address; the certificates in the folder of `files` are its own."""
    folder, address = shared
    shutil.copytree(folder / "certs", files.folder / "certs", dirs_exist_ok=True)
    return address
