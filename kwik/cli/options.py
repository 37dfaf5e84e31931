"""The options that every command has, and what they mean for a dial."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from kwik.errors import ConfigError

if TYPE_CHECKING:
    from kwik.discovery.provider import DiscoveryProvider

Value = TypeVar("Value")
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a command looks for servers and whom it believes: the arguments of that name of `kwik.dial`."""

    servers: tuple[str, ...] | None
    discovery: tuple[DiscoveryProvider, ...] | None
    cafile: str | None


def add_command(
    subparsers: Subparsers, name: str, text: str, *, description: str, examples: str
) -> argparse.ArgumentParser:
    """A parser for one command, with its examples below its options."""
    return subparsers.add_parser(
        name,
        help=text,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """`--json` and `-v`."""
    parser.add_argument("--json", action="store_true", help="print results as JSON, for programs")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more, on standard error (-vv: much more)"
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Where to look for servers and whom to believe; read back by `sources_of`."""
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        action="append",
        help="a server to use, port 4433 if left out; may be repeated; then nobody else is asked without --discovery",
    )
    parser.add_argument(
        "--discovery",
        choices=("static", "mdns", "none"),
        action="append",
        help="whom to ask for servers, may be repeated: static (the --server list), mdns (the local network), none;"
        " default: mdns and the service's own host, or only --server where it is given",
    )
    add_mdns_interface(parser)
    parser.add_argument(
        "--cafile",
        metavar="FILE",
        type=existing_file,
        help="PEM file of the authorities to trust (default: those of the system)",
    )


def add_keylog(parser: argparse.ArgumentParser) -> None:
    """`--keylog` and `--keylog-env`; read back by `keylog_of`."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--keylog",
        metavar="FILE",
        help="append the TLS secrets to this file, for Wireshark: whoever has it can read the traffic",
    )
    chosen.add_argument(
        "--keylog-env", action="store_true", help="the same, to the file that SSLKEYLOGFILE in the environment names"
    )


def keylog_of(args: argparse.Namespace) -> str | None:
    """Read the options of `add_keylog`. The environment counts only when it was asked for. Raises ConfigError."""
    if not args.keylog_env:
        asked: str | None = args.keylog
        return asked
    named = os.environ.get("SSLKEYLOGFILE")
    if not named:
        raise ConfigError("--keylog-env: SSLKEYLOGFILE is not set; set it, or write --keylog FILE")
    return named


def add_mdns_interface(parser: argparse.ArgumentParser) -> None:
    """`--mdns-interface`."""
    parser.add_argument(
        "--mdns-interface",
        metavar="IF",
        action="append",
        help="interface for mDNS, by name or address; may be repeated (default: all)",
    )


def sources_of(args: argparse.Namespace) -> Sources:
    """Read the options of `add_sources`. Raises ConfigError when they contradict each other."""
    chosen: list[str] | None = args.discovery
    if args.mdns_interface and chosen is None:
        chosen = ["mdns"]
    if chosen is not None and "none" in chosen and len(set(chosen)) > 1:
        raise ConfigError("--discovery none goes with no other --discovery")
    if chosen is not None and "static" in chosen and not args.server:
        raise ConfigError("--discovery static needs a list: name the servers with --server")
    if args.mdns_interface and chosen is not None and "mdns" not in chosen:
        raise ConfigError("--mdns-interface needs --discovery mdns")
    servers = tuple(args.server) if args.server else None
    providers: tuple[DiscoveryProvider, ...] | None = None
    if chosen is not None:
        providers = (mdns(args.mdns_interface),) if "mdns" in chosen else ()
    return Sources(servers, providers, args.cafile)


def mdns(interfaces: Sequence[str] | None) -> DiscoveryProvider:
    """Discovery by mDNS; loading it takes a while, so only who uses it pays."""
    from kwik.discovery.mdns import MdnsProvider

    return MdnsProvider(interfaces or None)


def start_logging(verbose: int) -> None:
    """Log to stderr: warnings, with -v information, with -vv everything."""
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    if level > logging.DEBUG:
        logging.getLogger("quic").setLevel(logging.CRITICAL)  # it warns of what a stranger sent; our errors say it


def typed(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse` as an argparse type: the message of its ValueError or ConfigError reaches the user."""

    def convert(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def existing_file(text: str) -> str:
    """An argparse type: a file (or directory) that is there."""
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist")
    return text


def seconds(text: str) -> float:
    """An argparse type: a time such as 5, 0.5s or 200ms, in seconds, not negative."""
    from kwik.apps.link_units import parse_duration

    plain = text.replace(".", "", 1)
    try:
        return parse_duration(f"{text}s" if plain.isdecimal() and plain.isascii() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
