"""What of a directory may be seen, and how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kwik.apps.files_tree import (
    CONTENT_TYPES,
    DEFAULT_TYPE,
    LISTED_MAX,
    Listing,
    MissingSlash,
    OpenFile,
    _walk,
    content_type,
    lookup,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "b.txt").write_bytes(b"in sub")
    (root / "a.txt").write_bytes(b"in root")
    (root / ".hidden").write_bytes(b"secret")
    (tmp_path / "outside.txt").write_bytes(b"outside")
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "x.txt").write_bytes(b"a name that begins as the root's does")
    return root


def content(root: Path, *segments: bytes) -> bytes:
    found = lookup(root, segments)
    if isinstance(found, Listing):
        return found.body
    try:
        return os.pread(found.fd, 10**6, 0)
    finally:
        os.close(found.fd)


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_are_found_below_the_root(root: Path):
    assert content(root, b"a.txt") == b"in root"
    assert content(root, b"sub", b"b.txt") == b"in sub"


def test_links_are_followed_inside_and_not_outside(root: Path):
    (root / "in").symlink_to("sub/b.txt")
    (root / "dir").symlink_to("sub")
    (root / "out").symlink_to("../outside.txt")
    (root / "near").symlink_to("../root-too/x.txt")
    (root / "too").mkdir()
    (root / "too" / "x.txt").write_bytes(b"another")
    (root / "far").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    (root / "hid").symlink_to(".hidden")
    assert content(root, b"in") == b"in sub"
    assert content(root, b"dir", b"b.txt") == b"in sub"
    for segments in [(b"out",), (b"near",), (b"far", b"passwd"), (b"far", b""), (b"loop",), (b"hid",)]:
        with pytest.raises(FileNotFoundError):
            lookup(root, segments)
    page = content(root, b"")
    assert b'href="in"' in page
    assert b'href="dir/"' in page
    for name in (b"out", b"near", b"far", b"loop", b"hid", b"hidden"):
        assert b'href="' + name not in page


def test_a_link_put_there_after_the_check_is_not_followed(root: Path):
    (root / "late").symlink_to("sub")
    (root / "late.txt").symlink_to("a.txt")
    top, before = os.fsencode(root), open_count()
    os.close(_walk(top, (b"sub", b"b.txt"), 0))
    for parts in [(b"late", b"b.txt"), (b"late.txt",)]:
        with pytest.raises(OSError, match=r"symbolic|directory"):
            _walk(top, parts, 0)
    assert open_count() == before


def test_the_root_may_itself_be_reached_by_a_link(root: Path):
    (root.parent / "alias").symlink_to(root)
    (root / "self").symlink_to(".")
    assert content(root.parent / "alias", b"a.txt") == b"in root"
    assert content(root, b"self", b"a.txt") == b"in root"
    assert content(root, b"self", b"") == content(root, b"").replace(b"Index of /", b"Index of /self/").replace(
        b"</th></tr>\n", b'</th></tr>\n<tr><td><a href="../">../</a></td><td>-</td></tr>\n'
    )


@pytest.mark.parametrize(
    "segments", [(b"none",), (b"a.txt", b""), (b"a.txt", b"x"), (b"sub", b"none", b""), (b"n" * 300,), (b"pipe",)]
)
def test_what_is_not_there(root: Path, segments: tuple[bytes, ...]):
    os.mkfifo(root / "pipe")  # opening one for reading would block until somebody writes
    before = open_count()
    with pytest.raises(FileNotFoundError):
        lookup(root, segments)
    assert open_count() == before


def test_a_directory_needs_its_slash(root: Path):
    before = open_count()
    with pytest.raises(MissingSlash):
        lookup(root, (b"sub",))
    assert open_count() == before


def test_index_html_stands_for_its_directory(root: Path):
    (root / "sub" / "index.html").write_bytes(b"<p>hello")
    assert content(root, b"sub", b"") == b"<p>hello"
    (root / "index.html").mkdir()
    assert b"Index of /" in content(root, b"")


def test_a_listing_is_the_same_whatever_the_order_of_creation(tmp_path: Path):
    names = [b"b", b"B", b"a b&<c>", "\u00e4".encode(), b"\xff", b"z" * 200]
    pages = []
    for number, order in enumerate((names, names[::-1])):
        root = tmp_path / str(number)
        root.mkdir()
        for name in order:
            Path(os.fsdecode(os.path.join(os.fsencode(root), name))).write_bytes(b"x" * len(name))
        (root / "dir").mkdir()
        pages.append(content(root, b""))
    assert pages[0] == pages[1]
    text = pages[0].decode()
    hrefs = [part.split('"')[0] for part in text.split('href="')[1:]]
    assert hrefs == ["B", "a%20b%26%3Cc%3E", "b", "dir/", "z" * 200, "%C3%A4", "%FF"]
    assert "a b&amp;&lt;c&gt;</a></td><td>7</td>" in text
    assert "<c>" not in text


def test_a_long_listing_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch):
    assert LISTED_MAX >= 1000
    monkeypatch.setattr("kwik.apps.files_tree.LISTED_MAX", 1)
    page = content(root, b"")
    assert b"a.txt" in page
    assert b"sub" not in page
    assert b"and 1 more" in page


def test_a_change_shows(root: Path):
    found = lookup(root, (b"a.txt",))
    assert isinstance(found, OpenFile)
    try:
        assert found.is_unchanged()
        os.truncate(root / "a.txt", 3)
        assert not found.is_unchanged()
    finally:
        os.close(found.fd)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.HTML", "text/html; charset=utf-8"),
        (b"big.iso", "application/octet-stream"),
        (b"a.tar.gz", "application/gzip"),
        (b"README", DEFAULT_TYPE),
        (b"a.", DEFAULT_TYPE),
        (b"html", DEFAULT_TYPE),
        (b"x.unheard-of", DEFAULT_TYPE),
    ],
)
def test_content_types(name: bytes, expected: str):
    assert content_type(name) == expected
    assert all(extension == extension.lower() for extension in CONTENT_TYPES)
