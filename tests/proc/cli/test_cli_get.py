"""`kwik get` as a process: the file and nothing but the whole file, its exit codes, its quietness."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.proc.cli.commands import Commands, Process

BIG = bytes(range(256)) * 8000
SHA256 = hashlib.sha256(BIG).hexdigest()
URL = "http://files.example/big.bin"


def get(files: Commands, server: str, *arguments: object) -> tuple[int, str, str]:
    return files.run("get", *arguments, "--server", server, "--cafile", "certs/ca.pem")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_name_comes_from_the_url(files: Commands, server: str):
    code, out, err = get(files, server, URL)
    assert (code, err) == (0, ""), "a pipe sees no progress"
    assert (files.folder / "big.bin").read_bytes() == BIG
    assert out.startswith("big.bin: 2.0 MB in ")
    assert out.endswith(" (one 100%)\n")


def test_json(files: Commands, server: str):
    code, out, _ = get(files, server, URL, "-o", "copy.bin", "--sha256", SHA256, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer.pop("seconds") > 0
    assert answer.pop("mbit_s") > 0
    (one,) = answer.pop("servers")
    assert answer == {"url": URL, "file": "copy.bin", "bytes": len(BIG), "sha256": SHA256}
    assert (one["id"], one["share"]) == ("one", 1.0)
    assert one["bytes"] >= len(BIG)  # the head of the answer counts too


def test_standard_output(files: Commands, server: str):
    command = ["get", URL, "-o", "-", "--server", server, "--cafile", "certs/ca.pem"]
    process = files.start(*command)
    out, err = process.popen.communicate(timeout=45)
    assert (process.popen.returncode, out, err) == (0, BIG, b"")


def test_a_reader_that_has_had_enough_is_no_news(files: Commands, server: str):
    command = ["get", URL, "-o", "-", "--server", server, "--cafile", "certs/ca.pem"]
    process = files.start(*command)
    assert process.popen.stdout is not None
    assert process.popen.stdout.read(1000) == BIG[:1000]
    process.popen.stdout.close()
    process.popen.stdout = None
    _, err = process.popen.communicate(timeout=45)
    assert (process.popen.returncode, err) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["http://files.example/none.bin", "-o", "old"], 1, "404 Not Found"),
        ([URL, "-o", "old", "--sha256", "0" * 64], 1, SHA256),
        (["http://other.example/big.bin", "-o", "old"], 3, "other.example"),
    ],
)
def test_after_a_failure_everything_is_as_before(
    files: Commands, server: str, arguments: list[str], code: int, text: str
):
    (files.folder / "old").write_text("as it was")
    before = names(files.folder)
    found, out, err = get(files, server, *arguments)
    assert (found, out) == (code, ""), err
    assert text in err
    assert names(files.folder) == before
    assert (files.folder / "old").read_text() == "as it was"


def slow_link(files: Commands, server: str) -> str:
    link = files.start("link", "--to", server, "--rate", "2mbit", "--delay", "5ms", "--json")
    listen: str = link.ready()["listen"]
    return listen


def started_writing(files: Commands, server: str, settings: dict[str, str] | None = None) -> Process:
    """A download that is under way, and slow."""
    options = ["--server", slow_link(files, server), "--cafile", "certs/ca.pem"]
    process = files.start("get", URL, "-v", "-o", "copy.bin", *options, settings=settings)
    assert process.popen.stderr is not None
    while b"%" not in process.popen.stderr.readline():
        assert process.popen.poll() is None
    assert any(name.endswith(".part") for name in names(files.folder))
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_download_leaves_nothing(files: Commands, server: str, number: int, code: int):
    (files.folder / "copy.bin").write_text("as it was")
    before = names(files.folder)
    process = started_writing(files, server)
    process.signal(number)
    process.popen.communicate(timeout=45)
    assert process.popen.returncode == code
    assert names(files.folder) == before
    assert (files.folder / "copy.bin").read_text() == "as it was"


def test_a_server_that_is_stopped_in_the_middle_is_an_error(files: Commands):
    process, address = files.serve("files.example:80", "--files", "files", "--drain", "0s")
    download = started_writing(files, address, {"KWIK_RECOVERY_TIME_S": "1"})
    process.signal(signal.SIGTERM)
    process.finish()
    code, _, err = download.finish()
    assert code in (1, 3), err
    assert "Traceback" not in err
    assert not (files.folder / "copy.bin").exists()


def test_nobody_is_there(files: Commands):
    code, _, err = files.run("get", URL, "--server", "127.0.0.1:9", "--cafile", "certs/ca.pem")
    assert code == 3
    assert "127.0.0.1:9" in err


def test_a_black_hole_takes_time(files: Commands):
    hole = files.start("link", "--to", "127.0.0.1:9", "--loss", "100%", "--json").ready()["listen"]
    code, _, err = files.run("get", URL, "--server", hole, "--cafile", "certs/ca.pem", "--timeout", "1s")
    assert code == 5, err
    assert hole in err


def test_a_stranger_is_not_believed(files: Commands, server: str):
    other = files.folder / "other"
    other.mkdir()
    subprocess.run(["mv", "certs", "other/"], cwd=files.folder, check=True)
    files.certificate("files.example")
    code, _, err = get(files, server, URL)
    assert code in (3, 4)
    assert "certificate" in err


def test_both_sides_log_their_tls_secrets_when_asked(files: Commands):
    _, server = files.serve("files.example:80", "--files", "files", "--keylog", "server.log")
    secrets = {"SSLKEYLOGFILE": str(files.folder / "client.log")}
    for options in (["--keylog-env"], []):
        command = ["get", URL, *options, "--server", server, "--cafile", "certs/ca.pem"]
        assert files.run(*command, settings=secrets)[0] == 0
    client, servers = ((files.folder / name).read_text("ascii").splitlines() for name in ("client.log", "server.log"))
    assert set(client) < set(servers), "the second download wrote nothing here"
    assert any(line.startswith("CLIENT_TRAFFIC_SECRET_0 ") for line in client)
