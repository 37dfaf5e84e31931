"""`kwik certs` and the functions below it."""

import argparse
import datetime
import json
import stat

import pytest

from kwik.cli.certs import add_parser
from kwik.quic import ServerTls
from kwik.quic.certs import issue, make_ca, write_atomically, write_issued
from kwik.quic.tls import certificate_names


def kwik_certs(*words: object) -> int:
    parser = argparse.ArgumentParser(prog="kwik")
    add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["certs", *map(str, words)])
    return int(args.run(args))


def test_makes_authority_and_certificate(tmp_path, capsys):
    out = tmp_path / "certs"
    assert kwik_certs("files.example", "10.0.0.1", "::1", "--out", out) == 0
    text = capsys.readouterr().out
    assert f"--cafile {out / 'ca.pem'}" in text
    assert f"--cert {out / 'files.example.pem'} --key {out / 'files.example.key'}" in text
    for key in ("ca.key", "files.example.key"):
        assert stat.S_IMODE((out / key).stat().st_mode) == 0o600
    pair = ServerTls(certfile=out / "files.example.pem", keyfile=out / "files.example.key")
    assert certificate_names(pair.leaf) == ["files.example", "10.0.0.1", "::1"]
    assert pair.problems() == []
    assert sorted(path.name for path in out.iterdir()) == ["ca.key", "ca.pem", "files.example.key", "files.example.pem"]


def test_authority_is_reused_and_a_good_certificate_kept(tmp_path, capsys):
    assert kwik_certs("a.example", "--out", tmp_path) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert kwik_certs("A.example.", "--out", tmp_path, "--json") == 0
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    words = [each["what"] for each in json.loads(capsys.readouterr().out.splitlines()[-1])]
    assert words == ["kept", "kept"]
    assert kwik_certs("b.example", "--out", tmp_path) == 0
    assert (tmp_path / "ca.pem").read_bytes() == before[tmp_path / "ca.pem"]


def what_became(tmp_path, capsys, *words: str) -> str:
    assert kwik_certs(*words, "--out", tmp_path, "--name", "one", "--json") == 0
    return str(json.loads(capsys.readouterr().out)[1]["what"])


def test_replaced_only_for_a_reason_that_is_told(tmp_path, capsys):
    assert what_became(tmp_path, capsys, "a.example") == "made"
    assert what_became(tmp_path, capsys, "a.example", "b.example") == "replaced (it was for a.example)"
    assert what_became(tmp_path, capsys, "a.example", "b.example", "--force") == "replaced (--force)"
    old = make_ca()
    write_issued(issue(old, ["a.example"]), tmp_path / "one.pem", tmp_path / "one.key")
    assert "another authority" in what_became(tmp_path, capsys, "a.example")
    assert what_became(tmp_path, capsys, "a.example") == "kept"


def test_renewed_towards_its_end(tmp_path, capsys):
    from kwik.cli.certs import ensure_ca, ensure_leaf

    _, ca = ensure_ca(tmp_path)
    now = datetime.datetime.now(datetime.UTC)
    old = issue(ca, ["a.example"], validity=(now - datetime.timedelta(days=29), now + datetime.timedelta(days=1)))
    write_issued(old, tmp_path / "a.example.pem", tmp_path / "a.example.key")
    assert "it ends on" in ensure_leaf(tmp_path, ca, ["a.example"]).what


@pytest.mark.parametrize(
    "words",
    [(), ("a.example", "--ca-only"), ("a b",), ("a.example", "--name", "ca"), ("a.example", "--name", "../x")],
)
def test_wrong_usage_is_2_and_says_why(tmp_path, capsys, words):
    assert kwik_certs(*words, "--out", tmp_path) == 2
    assert capsys.readouterr().err.startswith("kwik certs: ")


def test_strange_files_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "a.example.key").write_text("precious")
    assert kwik_certs("a.example", "--out", tmp_path) == 2
    assert (tmp_path / "a.example.key").read_text() == "precious"
    (tmp_path / "ca.key").unlink()
    assert kwik_certs("b.example", "--out", tmp_path) == 2
    assert "ca.key" in capsys.readouterr().err
    assert not (tmp_path / "ca.key").exists()


def test_ca_only(tmp_path):
    assert kwik_certs("--ca-only", "--out", tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]


def test_a_folder_that_cannot_be_made_is_1(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert kwik_certs("a.example", "--out", tmp_path / "file" / "x") == 1
    assert "kwik certs: " in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, b"old", 0o600)
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes", 0o600)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
