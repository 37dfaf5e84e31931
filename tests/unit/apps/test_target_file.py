"""A file that appears when it is whole, and what was there before until then."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from kwik.apps.target_file import TargetFile


def test_it_appears_when_it_is_committed(tmp_path: Path):
    with TargetFile(tmp_path / "new") as file:
        file.write(b"one ")
        file.write(b"two")
        (partial,) = tmp_path.iterdir()
        assert partial.name.startswith(".new.")
        file.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new").read_bytes() == b"one two"


def test_without_commit_nothing_changes(tmp_path: Path):
    (tmp_path / "old").write_text("old")
    with TargetFile(tmp_path / "old") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_after_an_error_nothing_changes(tmp_path: Path, error: type[BaseException]):
    def fail() -> None:
        with TargetFile(tmp_path / "new") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    with TargetFile(tmp_path / "link") as file:
        file.write(b"new")
        file.commit()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"


def test_what_is_no_file_is_written_directly(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with TargetFile(pipe) as file:
        file.write(b"through the pipe")
        file.commit()
    reader.join()
    assert read == [b"through the pipe"]
    assert pipe.is_fifo()


def test_a_long_name_is_possible(tmp_path: Path):
    with TargetFile(tmp_path / ("x" * 250)) as file:
        file.commit()
    assert [len(path.name) for path in tmp_path.iterdir()] == [250]


def test_a_folder_that_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError), TargetFile(tmp_path / "none" / "file"):
        pass
