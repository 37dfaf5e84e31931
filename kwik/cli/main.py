"""`kwik COMMAND ...`: finds the command, runs it, and turns every end of it into an exit code and at most one line.

A command's module is loaded only when it is asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from kwik import __version__
from kwik.cli.codes import FAILED, INTERRUPTED, NOT_FOUND, REFUSED, TIMED_OUT, USAGE
from kwik.errors import ConfigError, ConnectRefused, KwikError, NoServers

COMMANDS: Final = {
    "serve": "serve a directory, or an application that does not know Kwik",
    "get": "download one file over several servers at once",
    "discover": "show the servers of a service, and who says so",
    "demo": "three servers, one stream, one of them killed: see it go on",
    "link": "emulate a network link (rate, delay, loss ...) in front of a server",
    "certs": "make certificates for development",
}

EPILOG: Final = """\
examples:
  kwik demo                                             see what it is about
  kwik certs files.example                              an authority and a certificate, in certs/
  kwik serve --listen 0.0.0.0:4433 --service files.example:80 --files /srv/files \\
             --cert certs/files.example.pem --key certs/files.example.key --announce
  kwik get http://files.example/big.iso --cafile certs/ca.pem
  kwik COMMAND --help                                   options and examples of one command

exit codes:
  0 done   1 failed   2 wrong usage   3 nobody offers the service   4 refused   5 out of time
  130 interrupted (Ctrl-C)   143 terminated

KWIK_DEBUG=1 in the environment shows where an error came from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see EPILOG). Prints at most one line about an error, on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(arguments).parse_args(arguments)
    if args.exit_with_stdin:
        from kwik.cli.parent import end_with_stdin

        end_with_stdin()
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("KWIK_DEBUG") == "1":
            raise
        return report(error, args.command)
    return code


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: only the command that they name is loaded, the others are there for --help."""
    parser = argparse.ArgumentParser(
        prog="kwik",
        description="One reliable byte stream to a service, over several independent servers at once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kwik {__version__}")
    parser.add_argument(
        "--exit-with-stdin",
        action="store_true",
        help="end when standard input ends: for programs that start this one and must not leave it behind",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((each for each in arguments if not each.startswith("-")), None)
    for name, text in COMMANDS.items():
        if name == wanted:
            importlib.import_module(f"kwik.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text)
    return parser


def report(error: Exception, command: str) -> int:
    """Say what went wrong in one line on stderr, unless nobody reads any more; return the exit code."""
    if isinstance(error, BrokenPipeError) and not isinstance(error, KwikError):
        # Whoever read our output has had enough. The interpreter must not try to flush it once more at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    print(f"kwik {command}: {describe(error)}", file=sys.stderr)
    return exit_code(error)


def describe(error: Exception) -> str:
    """The error's text for a person, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, KwikError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, (OSError, ValueError)):
        text = f"internal error: {type(error).__name__}: {text} (KWIK_DEBUG=1 shows where)"
    return text or type(error).__name__


def exit_code(error: Exception) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, NoServers):
        return NOT_FOUND
    if isinstance(error, (ConnectRefused, ConnectionRefusedError)):
        return REFUSED
    if isinstance(error, TimeoutError):
        return TIMED_OUT
    return USAGE if isinstance(error, ConfigError) else FAILED
