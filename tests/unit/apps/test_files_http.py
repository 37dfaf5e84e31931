"""Requests, ranges and conditions as pure functions of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwik.apps.files_http import (
    BODY_MAX_BYTES,
    HEAD_MAX_BYTES,
    HEADERS_MAX,
    LINE_MAX_BYTES,
    HttpError,
    Request,
    answer_head,
    body_length,
    decode_path,
    find_head,
    names_tag,
    parse_head,
    parse_range,
)


def status_of(call, *args, **kwargs) -> int:
    with pytest.raises(HttpError) as caught:
        call(*args, **kwargs)
    return caught.value.status


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def verdict(data: bytes) -> int | str:
    try:
        found = find_head(data)
    except HttpError as error:
        return f"error {error.status}"
    return "more" if found is None else found


def test_a_head_is_parsed():
    data = head(
        "GET /a%20b?q=1 HTTP/1.1", "Host: x", "X-Empty:", "Range:  bytes=0-1 \t", "Connection: Keep-Alive, Close"
    )
    assert find_head(data + b"GET next") == len(data)
    request = parse_head(data)
    assert (request.method, request.target, request.minor) == ("GET", "/a%20b?q=1", 1)
    assert request.values("range") == ["bytes=0-1"]
    assert request.values("x-empty") == [""]
    assert request.is_last


def test_http_1_0_needs_no_host_and_ends_the_stream():
    assert parse_head(head("GET / HTTP/1.0")).is_last
    assert not parse_head(head("GET / HTTP/1.1", "Host: x")).is_last


pieces = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1", b"a: b", b"x" * 4000, b"y" * 8191, b"\0"]
)


@given(st.lists(pieces, max_size=12).map(b"".join), st.data())
def test_the_verdict_does_not_depend_on_how_the_bytes_were_cut(data: bytes, draw: st.DataObject):
    whole = verdict(data)
    cut = draw.draw(st.integers(0, len(data)))
    assert verdict(data[:cut]) in ("more", whole)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_request_or_an_error(data: bytes):
    status = None
    try:
        length = find_head(data + b"\r\n\r\n")
        assert length is not None
        request = parse_head((data + b"\r\n\r\n")[:length])
        body_length(request)
        decode_path(request.target)
    except HttpError as error:
        status = error.status
    assert status in (None, 400, 413, 501, 505)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\n\n", "error 400"),
        (b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n", "error 400"),
        (b"G" * (LINE_MAX_BYTES + 2), "error 414"),
        (b"G" * LINE_MAX_BYTES + b"\r", "more"),
        (b"G" * LINE_MAX_BYTES + b"\r\n", "more"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000, "error 431"),
        (b"G\r\n" + b"h" * (HEAD_MAX_BYTES - 7) + b"\r\n\r\n", HEAD_MAX_BYTES),
        (b"G\r\n" + b"h" * (HEAD_MAX_BYTES - 6) + b"\r\n\r\n", "error 431"),
        (b"", "more"),
    ],
)
def test_limits_of_the_head(data: bytes, expected: int | str):
    assert verdict(data) == expected


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET /",), 400),
        (("GET  / HTTP/1.1", "Host: x"), 400),
        (("GET /\x80 HTTP/1.1", "Host: x"), 400),
        (("GET / HTTP/1.10", "Host: x"), 400),
        (("G\u00e4T / HTTP/1.1", "Host: x"), 400),
        (("GET / http/1.1", "Host: x"), 400),
        (("GET / HTTP/1.1",), 400),
        (("GET / HTTP/1.1", "Host: x", "Host: x"), 400),
        (("GET / HTTP/1.1", "Host: x", "A : b"), 400),
        (("GET / HTTP/1.1", "Host: x", " folded"), 400),
        (("GET / HTTP/1.1", "Host: x", "A: \0"), 400),
        (("GET / HTTP/1.1", "Host: x", "A: b\rc"), 400),
        (("GET / HTTP/1.1", "Host: x", ": b"), 400),
        (("GET / HTTP/2.0", "Host: x"), 505),
        (("PRI * HTTP/2.0",), 505),
        (("GET / HTTP/1.1", "Host: x", *["a: b"] * HEADERS_MAX), 431),
    ],
)
def test_malformed_heads(lines: tuple[str, ...], status: int):
    assert status_of(parse_head, head(*lines)) == status


def test_as_many_headers_as_allowed():
    assert len(parse_head(head("GET / HTTP/1.1", "Host: x", *["a: b"] * (HEADERS_MAX - 1))).headers) == HEADERS_MAX


def with_headers(*headers: tuple[str, str]) -> Request:
    return Request("GET", "/", 1, headers)


def test_body_lengths():
    assert body_length(with_headers()) == 0
    assert body_length(with_headers(("content-length", "0017"))) == 17
    assert body_length(with_headers(("content-length", str(BODY_MAX_BYTES)))) == BODY_MAX_BYTES


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("content-length", str(BODY_MAX_BYTES + 1))], 413),
        ([("content-length", "9" * 9000)], 413),
        ([("content-length", "-1")], 400),
        ([("content-length", "+1")], 400),
        ([("content-length", "\xb2")], 400),
        ([("content-length", "")], 400),
        ([("content-length", "1, 1")], 400),
        ([("content-length", "1"), ("content-length", "1")], 400),
        ([("transfer-encoding", "chunked"), ("content-length", "1")], 501),
        ([("transfer-encoding", "identity")], 501),
    ],
)
def test_refused_bodies(headers: list[tuple[str, str]], status: int):
    assert status_of(body_length, with_headers(*headers)) == status


@pytest.mark.parametrize(
    ("target", "segments"),
    [
        ("/", (b"",)),
        ("/a", (b"a",)),
        ("/a/b/", (b"a", b"b", b"")),
        ("/a%20b%FF?x=/../y", (b"a b\xff",)),
        ("http://host:80/a?b", (b"a",)),
        ("HTTP://host", (b"",)),
        ("http://host?x/y", (b"",)),
        ("/..", None),
        ("/%2e%2e/etc/passwd", None),
        ("/a/../b", None),
        ("/a/./b", None),
        ("/.git/config", None),
        ("/a/.hidden", None),
        ("/a%2fb", None),
        ("//host/a", None),
        ("/a//b", None),
    ],
)
def test_paths(target: str, segments: tuple[bytes, ...] | None):
    assert decode_path(target) == segments


@pytest.mark.parametrize(
    "target", ["*", "a", "host:80", "ftp://host/a", "http:///a", "/%", "/%4", "/%zz", "/a%00b", "/a#b"]
)
def test_targets_that_are_no_path(target: str):
    assert status_of(decode_path, target) == 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=90-", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=5-1000", (5, 100)),
        ("BYTES= 5-6 ", (5, 7)),
        ("bytes=0-" + "9" * 5000, (0, 100)),
        ("bytes=000000000000000000000005-6", (5, 7)),
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes 0-1", None),
        ("", None),
    ],
)
def test_ranges_of_100_bytes(value: str, expected: tuple[int, int] | None):
    assert parse_range([value], 100) == expected


@pytest.mark.parametrize(
    ("value", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=" + "9" * 5000 + "-", 100)]
)
def test_ranges_that_cannot_be_had(value: str, size: int):
    assert status_of(parse_range, [value], size) == 416


def test_no_range_at_all():
    assert parse_range([], 100) is None
    assert parse_range(["bytes=0-1", "bytes=2-3"], 100) is None
    assert parse_range(["bytes=-5"], 0) is None


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_a_range_is_never_empty_nor_outside(first: int, last: int, size: int):
    try:
        found = parse_range([f"bytes={first}-{last}"], size)
    except HttpError:
        assert first >= size
    else:
        assert found == (None if last < first else (first, min(last + 1, size)))


@pytest.mark.parametrize(
    ("values", "weak", "strong"),
    [
        (['"t"'], True, True),
        (["*"], True, True),
        (['"x", "t"'], True, True),
        (['"x"', '"t"'], True, True),
        (['W/"t"'], True, False),
        (['"x"'], False, False),
        (["t"], False, False),
        ([], False, False),
    ],
)
def test_entity_tags(values: list[str], weak: bool, strong: bool):
    assert names_tag(values, '"t"', weakly=True) is weak
    assert names_tag(values, '"t"', weakly=False) is strong


def test_an_answer_head_has_the_given_order():
    assert (
        answer_head(200, [("B", "1"), ("A", "2")], close=True)
        == b"HTTP/1.1 200 OK\r\nB: 1\r\nA: 2\r\nConnection: close\r\n\r\n"
    )
