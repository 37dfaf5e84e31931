"""`kwik serve`: one server of a service, with the files of a directory or an unaware application behind it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwik.cli.options import (
    Subparsers,
    add_command,
    add_keylog,
    add_mdns_interface,
    add_output,
    existing_file,
    keylog_of,
    seconds,
    start_logging,
    typed,
)
from kwik.errors import ConfigError
from kwik.types import Address, ServiceName, parse_service, service_address

if TYPE_CHECKING:
    from kwik.aio import Server
    from kwik.apps.gateway import Upstream
    from kwik.discovery.provider import Announcer

EXAMPLES = """\
examples:
  kwik serve --listen 0.0.0.0:4433 --service files.example:80 --files /srv/files \\
             --cert certs/files.example.pem --key certs/files.example.key --announce
  kwik serve --listen 0.0.0.0:4433 --service app.example:80 --upstream 127.0.0.1:8080 --cert ... --key ...
  kwik serve --listen [::]:4433 --service app.example:80 --upstream unix:/run/app.sock --cert ... --key ...

Run one such server on each of several machines: clients of the service use them together. `kwik certs` makes
certificates for trying it out; each must name the host of the service.

--files: the same directory content on every server. Answers are then identical, and any server can help or take over.
--upstream: an application that knows nothing of Kwik. Each stream is carried to it over TCP, on this server only.
--upstream with --replicated: say so only if every server's application gives the same answer to the same request, and
  if doing a request twice does no harm: Kwik sends what a client wrote to several servers, and again after a failure.

SIGTERM or SIGINT: take nothing new, finish what is under way (at most --drain seconds), end with code 0; a second one
ends at once. SIGHUP is ignored: restart the server to have new certificates read.
The first line on standard output says that the server is ready, and where.
"""
REPLICATED_WARNING = (
    "kwik serve: --replicated: requests may run on several servers at once and again after a failure;"
    " only right if answers are equal everywhere and doing a request twice does no harm"
)


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its options."""
    text = "serve a directory, or an application that does not know Kwik"
    parser = add_command(subparsers, "serve", text, description=f"One server of a service: {text}.", examples=EXAMPLES)
    listen = typed(Address.parse)
    parser.add_argument(
        "--listen", type=listen, required=True, metavar="HOST:PORT", help="UDP address; port 0: any free one"
    )
    parser.add_argument(
        "--service", type=typed(parse_service), required=True, metavar="NAME:PORT", help="what clients dial"
    )
    parser.add_argument("--cert", type=existing_file, required=True, metavar="FILE", help="certificate chain, PEM")
    parser.add_argument("--key", type=existing_file, metavar="FILE", help="private key, PEM (default: in --cert)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--files", type=Path, metavar="DIR", help="serve this directory over HTTP (implies --replicated)"
    )
    source.add_argument(
        "--upstream", type=typed(_upstream), metavar="HOST:PORT", help="the application, over TCP, or unix:PATH"
    )
    parser.add_argument(
        "--replicated", action="store_true", help="streams may run on several servers, requests more than once"
    )
    parser.add_argument("--id", metavar="ID", help="name of this server (default: host name and port)")
    parser.add_argument("--announce", action="store_true", help="announce the server on the local network by mDNS")
    parser.add_argument(
        "--advertise", type=listen, action="append", metavar="HOST:PORT", help="announce this address instead"
    )
    add_mdns_interface(parser)
    parser.add_argument("--drain", type=seconds, metavar="TIME", help="most time for a graceful stop (default: 30s)")
    add_keylog(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0; raises KwikError and OSError for what keeps it from serving."""
    if args.files is not None and not args.files.is_dir():
        raise ConfigError(f"--files {args.files}: not a directory")
    if (args.advertise or args.mdns_interface) and not args.announce:
        raise ConfigError("--advertise and --mdns-interface need --announce")
    _check_certificate(args.cert, args.key, args.service)
    start_logging(args.verbose)
    if args.replicated and args.upstream is not None:
        print(REPLICATED_WARNING, file=sys.stderr, flush=True)
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    stop, stop_now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, stop_now)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
    server = await _start(args)
    try:
        print(_ready_line(args, server), flush=True)
        await stop.wait()
        await _drain(server, stop_now)
    finally:
        await server.close()


def _on_signal(stop: asyncio.Event, stop_now: asyncio.Event) -> None:
    (stop_now if stop.is_set() else stop).set()


async def _start(args: argparse.Namespace) -> Server:
    from kwik import aio
    from kwik.apps.files import serve_files
    from kwik.settings import server_config

    options: dict[str, Any] = {"certfile": args.cert, "keyfile": args.key, "announce": _announcers(args)}
    options["keylog"] = keylog_of(args)
    if args.drain is not None:
        said = {"service": args.service, "server_id": args.id or _default_id(args.listen), "drain_s": args.drain}
        options["config"] = server_config(said)
    options |= {"service": args.service, "server_id": args.id, "replicated": args.replicated or args.files is not None}
    if args.files is not None:
        return await aio.start_server(partial(serve_files, args.files.resolve()), args.listen, **options)
    return await aio.start_server(None, args.listen, connect=args.upstream.connect, **options)


def _check_certificate(certfile: str, keyfile: str | None, service: ServiceName) -> None:
    """Raises ConfigError for a certificate that every client of the service would refuse."""
    from kwik.quic.tls import ServerTls, certificate_names, normal_name

    tls = ServerTls(certfile=certfile, keyfile=keyfile)
    names, host = certificate_names(tls.leaf), normal_name(service_address(service).host)
    parent = host.partition(".")[2]
    # A wildcard for all of a top-level domain is believed by nobody (RFC 6125 §7.2).
    if host not in names and not ("." in parent and f"*.{parent}" in names):
        known = ", ".join(names) or "nothing"
        raise ConfigError(f"{certfile} is for {known}: clients of {service} want a certificate for {host}")


def _announcers(args: argparse.Namespace) -> list[Announcer]:
    if not args.announce:
        return []
    from kwik.apps.advertise import AdvertisedAt
    from kwik.discovery.mdns import MdnsProvider

    provider = MdnsProvider(args.mdns_interface)
    return [AdvertisedAt(provider, args.advertise) if args.advertise else provider]


async def _drain(server: Server, stop_now: asyncio.Event) -> None:
    """Until drained, or until told to stop at once."""
    waits = [asyncio.ensure_future(server.drain()), asyncio.ensure_future(stop_now.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each


def _ready_line(args: argparse.Namespace, server: Server) -> str:
    listen, name = str(server.addresses[0]), server.instance.id
    announced = [str(each) for each in args.advertise or server.addresses] if args.announce else []
    if args.json:
        return json.dumps(
            {
                "event": "ready",
                "service": args.service,
                "listen": listen,
                "id": name,
                "incarnation": server.instance.incarnation.hex(),
                "announced": announced,
                "pid": os.getpid(),
            }
        )
    told = f", announced as {', '.join(announced)}" if announced else ""
    return f"ready: serving {args.service} on {listen}, id {name}{told}"


def _default_id(listen: Address) -> str:
    return f"{socket.gethostname()[:40]}-{listen.port or os.getpid()}"


def _upstream(text: str) -> Upstream:
    from kwik.apps.gateway import Upstream

    return Upstream.parse(text)
