"""`kwik link`: run an emulated UDP link between clients and one server until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from kwik.apps import exact
from kwik.apps.link import Address, Link
from kwik.apps.link_control import LinkControl
from kwik.apps.link_model import LinkShape
from kwik.apps.link_units import format_address, parse_address, parse_duration, parse_queue, parse_rate, parse_share

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

Value = TypeVar("Value")

_EXAMPLES = """\
examples:
  kwik link --to 127.0.0.1:4433 --rate 20mbit --delay 20ms
  kwik link --to 127.0.0.1:4433 --down-rate 50mbit --up-rate 5mbit --delay 15ms --jitter 2ms --queue 100kb
  kwik link --to 127.0.0.1:4433 --loss 1% --reorder 0.1% --seed 7 --control 127.0.0.1:9000
  echo '{"set": {"blackhole": "down"}}' | nc -N 127.0.0.1 9000
  echo '{"set": {"rate_bps": 5e6, "up_loss": 0.02, "blackhole": null}}' | nc -N 127.0.0.1 9000
  echo '{"rebind": true}' | nc -N 127.0.0.1 9000
  echo '{"stats": true}' | nc -N 127.0.0.1 9000

Rates and queues count IP packets: UDP payload plus 28 bytes (48 for IPv6). "up" is client to server.
The first line on standard output says where the link listens; SIGTERM or SIGINT ends it with exit code 0.
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the `link` command; the parsed namespace carries `run`."""
    parser = subparsers.add_parser(
        "link",
        help="emulate a network link (rate, delay, loss ...) in front of a server",
        description="Carry UDP between clients and one server over an emulated link.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    address, rate, share = _typed(parse_address), _typed(parse_rate), _typed(parse_share)
    parser.add_argument("--to", type=address, required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument(
        "--listen",
        type=address,
        default=("127.0.0.1", 0),
        metavar="HOST:PORT",
        help="where clients send to (127.0.0.1:0)",
    )
    parser.add_argument("--rate", type=rate, metavar="RATE", help="both ways: 20mbit, 800kbit, unlimited (default)")
    parser.add_argument("--up-rate", type=rate, metavar="RATE", default=argparse.SUPPRESS, help="client to server")
    parser.add_argument("--down-rate", type=rate, metavar="RATE", default=argparse.SUPPRESS, help="server to client")
    duration = _typed(parse_duration)
    parser.add_argument("--delay", type=duration, default=0.0, metavar="TIME", help="one-way delay: 20ms, 0.5s (0)")
    parser.add_argument("--jitter", type=duration, default=0.0, metavar="TIME", help="extra delay, 0 to this (0)")
    for name, text in (
        ("loss", "lost before the queue: 1%% or 0.01 (0)"),
        ("reorder", "held back, so that later packets overtake (0)"),
        ("duplicate", "sent twice (0)"),
        ("corrupt", "one byte changed (0)"),
    ):
        parser.add_argument(f"--{name}", type=share, default=0.0, metavar="SHARE", help=text)
    parser.add_argument(
        "--queue",
        type=_typed(parse_queue),
        metavar="SIZE",
        help="drop-tail queue: 100kb, 64KiB, or bdp = rate x 2 x delay (default)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all randomness (0)")
    parser.add_argument("--control", type=address, metavar="HOST:PORT", help="take changes here: JSON lines over TCP")
    parser.add_argument("--json", action="store_true", help="print the ready line, and statistics, as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="print statistics on standard error at the end")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the link until SIGTERM or SIGINT. Returns 0, or 1 after a message on standard error if it cannot start."""
    try:
        up, down = _shapes(args)
        exact.run(_run(args, up, down))
    except (OSError, ValueError) as error:
        print(f"kwik link: {error}", file=sys.stderr)
        return 1
    return 0


def _shapes(args: argparse.Namespace) -> tuple[LinkShape, LinkShape]:
    both = LinkShape(
        rate_bps=args.rate,
        delay_s=args.delay,
        jitter_s=args.jitter,
        loss=args.loss,
        reorder=args.reorder,
        duplicate=args.duplicate,
        corrupt=args.corrupt,
        queue_bytes=args.queue,
    )
    up = replace(both, rate_bps=getattr(args, "up_rate", args.rate))
    return up, replace(both, rate_bps=getattr(args, "down_rate", args.rate))


async def _run(args: argparse.Namespace, up: LinkShape, down: LinkShape) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await Link.start(args.to, listen=args.listen, up=up, down=down, seed=args.seed) as link:
        control = LinkControl(link)
        try:
            reached = await control.start(args.control) if args.control is not None else None
            print(_ready_line(link, reached, as_json=args.json), flush=True)
            await stop.wait()
        finally:
            await control.close()
        if args.verbose:
            print(_stats_text(link, as_json=args.json), file=sys.stderr, flush=True)


def _ready_line(link: Link, control: Address | None, *, as_json: bool) -> str:
    listen, to = format_address(*link.address), format_address(*link.server)
    reached = format_address(*control) if control is not None else None
    if as_json:
        return json.dumps({"event": "ready", "listen": listen, "to": to, "control": reached})
    return f"link ready: listen {listen} to {to}" + (f" control {reached}" if reached else "")


def _stats_text(link: Link, *, as_json: bool) -> str:
    stats = asdict(link.stats())
    if as_json:
        return json.dumps({"event": "stats"} | stats)
    rows = [f"{side}: " + " ".join(f"{name}={value}" for name, value in stats[side].items()) for side in ("up", "down")]
    rows.append(" ".join(f"{name}={stats[name]}" for name in ("clients", "rebinds", "unsent")))
    return "\n".join(rows)


def _typed(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse` as an argparse type: its own message reaches the user."""

    def convert(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
