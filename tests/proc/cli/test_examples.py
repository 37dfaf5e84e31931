"""Every example runs as its first lines say."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proc.cli.commands import ROOT, Commands, environment

EXAMPLES = ROOT / "examples"
CAFILE = "certs/ca.pem"


def run(commands: Commands, name: str, *arguments: object) -> tuple[int, str, str]:
    return commands.start_any(sys.executable, EXAMPLES / name, *arguments).finish()


def test_echo(commands: Commands):
    commands.certificate("echo.example")
    cert = ["certs/echo.example.pem", "certs/echo.example.key"]
    server = commands.start_any(sys.executable, EXAMPLES / "echo_server.py", "127.0.0.1:0", *cert)
    address = server.line().removeprefix("listening on ").strip()
    client = commands.start_any(sys.executable, EXAMPLES / "echo_client.py", CAFILE, address, stdin=subprocess.PIPE)
    text = b"hello, hello\n" * 100_000
    out, err = client.popen.communicate(text, timeout=45)
    assert (client.popen.returncode, err) == (0, b"")
    assert out == text


def test_http_client(files: Commands):
    _, server = files.serve("files.example:80", "--files", "files", "--id", "one")
    code, out, err = run(files, "http_client.py", "files.example", "/big.bin", CAFILE, server)
    digest = hashlib.sha256((files.folder / "files" / "big.bin").read_bytes()).hexdigest()
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"200 OK {digest}"
    assert second.startswith("one: ")
    assert second.endswith("anchor")


def test_asyncio_download(files: Commands):
    (files.folder / "files" / "small.txt").write_text("small")
    _, server = files.serve("files.example:80", "--files", "files")
    code, out, err = run(files, "asyncio_download.py", "files.example", CAFILE, server, "/big.bin", "/small.txt")
    assert (code, out, err) == (0, "/big.bin: 2048000 bytes\n/small.txt: 5 bytes\n", "")


@pytest.mark.program("nginx")
def test_gateway_nginx(commands: Commands):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kwik = commands.folder / "bin" / "kwik"
    kwik.parent.mkdir()
    kwik.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kwik "$@"\n')
    kwik.chmod(0o755)
    path = f"{kwik.parent}:{environment()['PATH']}:/usr/sbin"
    code, out, err = commands.start_any(EXAMPLES / "gateway_nginx.sh", port, settings={"PATH": path}).finish()
    assert code == 0, err
    assert out.splitlines()[-1] == "hello from nginx"


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_example_is_short_and_run_here(path: Path):
    assert len(path.read_text("utf-8").splitlines()) <= 40
    assert f'"{path.name}"' in Path(__file__).read_text("utf-8")
