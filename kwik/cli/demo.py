"""`kwik demo`: several servers, one stream, one server killed on the way; everything real but the links' length."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from kwik.apps.figures import parse_size
from kwik.apps.link_units import parse_rate
from kwik.cli.codes import FAILED, OK
from kwik.cli.options import Subparsers, add_command, seconds, start_logging, typed
from kwik.errors import ConfigError

EXAMPLES = """\
examples:
  kwik demo
  kwik demo --one                                       one server: a plain stream
  kwik demo --servers 5 --rate 10mbit --rtt 80ms
  kwik demo --size 20MB --no-kill --json
  kwik demo --keep-dir /tmp/demo                        look at the processes' logs afterwards

What happens: real `kwik serve` processes of one service start, each behind an emulated link (`kwik link`) of its own;
they are found by mDNS, or by a list where multicast does not work. Python's own http.client downloads a file through
kwik.dial(). At 40 % the anchor, the server whose stream it is, is killed with kill -9. Exit code 0 only if the file
arrives as it was. Nothing leaves this machine, and no process stays behind.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its options."""
    text = "three servers, one stream, one of them killed: see it go on"
    parser = add_command(subparsers, "demo", text, description=text.capitalize() + ".", examples=EXAMPLES)
    parser.add_argument("--one", action="store_true", help="one server, and nobody is killed")
    parser.add_argument("--servers", type=_count, default=3, metavar="N", help="how many servers (default: 3)")
    parser.add_argument("--size", type=typed(parse_size), default=60_000_000, help="of the file (default: 60MB)")
    parser.add_argument("--rate", type=typed(_rate), default=20e6, help="of each server's link (default: 20mbit)")
    parser.add_argument("--rtt", type=seconds, default=0.04, metavar="TIME", help="round trip (default: 40ms)")
    parser.add_argument("--no-kill", action="store_true", help="let all servers live")
    parser.add_argument("--keep-dir", type=Path, metavar="DIR", help="work in this new folder and leave it there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more, on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it. Returns 0 if the file arrived as it was, 1 if not; raises KwikError and OSError."""
    from kwik.apps.demo import run_demo
    from kwik.apps.demo_report import as_json, as_text
    from kwik.apps.demo_show import Screen
    from kwik.apps.demo_stage import DemoPlan

    servers = 1 if args.one else args.servers
    if servers == 1 and not args.one and not args.no_kill:
        raise ConfigError("with one server there is nobody to take over: add --no-kill or --one")
    start_logging(args.verbose)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_terminate)
    plan = DemoPlan(
        servers=servers,
        size_bytes=args.size,
        rate_bps=args.rate,
        rtt_s=args.rtt,
        kill=not args.no_kill and servers > 1,
    )
    seen = run_demo(plan, Screen(None if args.json else sys.stdout), args.keep_dir)
    print(json.dumps(as_json(seen), indent=2) if args.json else as_text(seen))
    return OK if seen.is_right else FAILED


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError("must be a number from 1 to 8")
    return int(text)


def _rate(text: str) -> float:
    rate_bps = parse_rate(text)
    if rate_bps is None:
        raise ValueError("the demo needs a rate: write 20mbit")
    return rate_bps


def _on_terminate(number: int, _frame: FrameType | None) -> NoReturn:
    """So that everything is put away."""
    raise SystemExit(128 + number)
