"""`kwik get`: download one file from a service, over several of its servers at once."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from kwik.apps.download import Downloaded, DownloadError, Progress, Sink, Target, bytes_by_server, download
from kwik.apps.figures import bit_rate, rate_text, size_text, time_text
from kwik.apps.target_file import TargetFile
from kwik.cli.options import (
    Subparsers,
    add_command,
    add_keylog,
    add_output,
    add_sources,
    keylog_of,
    seconds,
    sources_of,
    start_logging,
)
from kwik.cli.progress import ProgressLine
from kwik.errors import ConfigError

if TYPE_CHECKING:
    from kwik.conn import Conn

EXAMPLES = """\
examples:
  kwik get http://files.example/big.iso --cafile certs/ca.pem
  kwik get http://files.example/big.iso -o /tmp/copy.iso --server 10.0.0.1 --server 10.0.0.2:4433
  kwik get http://files.example/big.iso --sha256 9f86d081... --json
  kwik get http://files.example/list.txt -o - | sort

The file appears under its name only when it is whole and, with --sha256, right; after a failure there is nothing new,
and a file that was there before is as it was. The URL says http because the service speaks HTTP; on the way Kwik
encrypts everything, and checks that each server may speak for the service.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its options."""
    text = "download one file over several servers at once"
    parser = add_command(subparsers, "get", text, description=text.capitalize() + ".", examples=EXAMPLES)
    parser.add_argument("url", metavar="URL", help="http://SERVICE[:PORT]/PATH")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to; - is standard output (default: the URL's name)"
    )
    parser.add_argument("--sha256", metavar="HEX", type=_sha256, help="what the file's SHA-256 must be")
    parser.add_argument("--timeout", metavar="TIME", type=seconds, help="fail when nothing comes for so long")
    add_sources(parser)
    add_keylog(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Download. Returns 0; raises KwikError and OSError for what went wrong."""
    start_logging(args.verbose)
    target = Target.parse(args.url)
    path = _path(args.output, target)
    if path is None and args.json:
        raise ConfigError("--json and -o - both want standard output: give a file")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_terminate)
    if path is None:
        done = _fetch(args, target, _Binary(sys.stdout.buffer))
        sys.stdout.buffer.flush()
    else:
        with TargetFile(path) as file:
            done = _fetch(args, target, file)
            file.commit()
    _report(args, path, done)
    return 0


def _fetch(args: argparse.Namespace, target: Target, sink: Sink) -> Downloaded:
    from kwik.blocking import dial as kwik_dial

    sources, keylog = sources_of(args), keylog_of(args)

    def dial(service: str) -> Conn:
        conn = kwik_dial(
            service,
            servers=sources.servers,
            discovery=sources.discovery,
            cafile=sources.cafile,
            keylog=keylog,
            timeout=args.timeout,
        )
        conn.settimeout(args.timeout)
        return conn

    shown = bool(args.verbose) or sys.stderr.isatty()
    line = ProgressLine(sys.stderr) if shown and not args.json else None
    try:
        done = download(target, dial, sink, on_progress=_ignore if line is None else line.show)
    finally:
        if line is not None:
            line.clear()
    if args.sha256 is not None and done.sha256 != args.sha256:
        raise DownloadError(f"the SHA-256 is {done.sha256}, not {args.sha256}: this is not the file that you want")
    return done


def _report(args: argparse.Namespace, path: Path | None, done: Downloaded) -> None:
    rate_bps = bit_rate(done.received_bytes, done.duration_s)
    delivered = bytes_by_server(done.shares)
    total = sum(delivered.values()) or 1
    if args.json:
        addresses = {share.server_id: share.address for share in done.shares}
        servers = [
            {"id": name, "address": addresses[name], "bytes": count, "share": round(count / total, 4)}
            for name, count in delivered.items()
        ]
        result: dict[str, Any] = {
            "url": args.url,
            "file": str(path),
            "bytes": done.received_bytes,
            "seconds": round(done.duration_s, 3),
            "mbit_s": round(rate_bps / 1e6, 3),
            "sha256": done.sha256,
            "servers": servers,
        }
        print(json.dumps(result))
    elif path is not None or args.verbose:
        parts = [f"{name} {count / total:.0%}" for name, count in delivered.items()]
        told = f" ({', '.join(parts)})" if parts else ""
        text = f"{path}: {size_text(done.received_bytes)} in {time_text(done.duration_s)}, {rate_text(rate_bps)}{told}"
        print(text, file=sys.stdout if path is not None else sys.stderr)


class _Binary:
    """Standard output as a Sink."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        """See Sink."""
        self._file.write(data)


def _path(output: str | None, target: Target) -> Path | None:
    if output == "-":
        return None
    path = Path(output if output is not None else target.name)
    if output is not None and path.is_dir():
        path /= target.name
    if not target.name and (output is None or path.is_dir()):
        raise ConfigError("the URL names no file: say with -o where to write")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {output}: there is no directory {path.parent}")
    return path


def _sha256(text: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text) is None:
        raise argparse.ArgumentTypeError("must be 64 hexadecimal digits")
    return text.lower()


def _ignore(_: Progress) -> None:
    pass


def _on_terminate(number: int, _frame: FrameType | None) -> NoReturn:
    """So that the temporary file is removed."""
    raise SystemExit(128 + number)
