"""`kwik discover`: which servers of a service there are, who says so, and whether they answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kwik.cli.codes import NOT_FOUND, OK
from kwik.cli.options import Subparsers, add_command, add_output, add_sources, seconds, sources_of, start_logging, typed
from kwik.errors import ConfigError
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address, ServiceName, parse_service, service_address

if TYPE_CHECKING:
    from kwik.apps.check import Checked
    from kwik.discovery.provider import DiscoveryProvider
    from kwik.discovery.supervisor import Discovery, ProviderReport

EXAMPLES = """\
examples:
  kwik discover                                         every service on the local network
  kwik discover files.example:80                        its servers, as a dial would find them
  kwik discover files.example:80 --check --cafile certs/ca.pem
  kwik discover files.example:80 --watch                each change as it comes, until Ctrl-C
  kwik discover files.example:80 --json --timeout 1s

What is found is a hint. --check shakes hands with each server and asks who it is; no application notices.
Exit code 0: somebody was found (with --check: at least one is right); 3: nobody.
"""


@dataclass(slots=True)
class Found:
    """What the providers said until now."""

    sightings: dict[tuple[str, str], Sighting] = field(default_factory=dict)

    def on_sighting(self, sighting: Sighting) -> None:
        """Take it in."""
        key = (sighting.source, sighting.key)
        if sighting.kind is SightingKind.GONE:
            self.sightings.pop(key, None)
        else:
            self.sightings[key] = sighting

    def addresses(self) -> list[Address]:
        """All of them, each once, in a stable order."""
        every = [address for sighting in self.sightings.values() for address in sighting.addresses]
        return sorted(dict.fromkeys(every))


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its options."""
    text = "show the servers of a service, and who says so"
    parser = add_command(subparsers, "discover", text, description=text.capitalize() + ".", examples=EXAMPLES)
    parser.add_argument(
        "service", nargs="?", type=typed(parse_service), metavar="SERVICE", help="host:port (default: list services)"
    )
    parser.add_argument("--timeout", type=seconds, default=3.0, metavar="TIME", help="how long to listen (default: 3s)")
    parser.add_argument("--check", action="store_true", help="shake hands with each server and ask who it is")
    parser.add_argument("--watch", action="store_true", help="go on and print each change")
    add_sources(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look and print. Returns 0 or 3; raises KwikError and OSError."""
    start_logging(args.verbose)
    if args.service is None:
        if args.check or args.watch or args.server or set(args.discovery or ["mdns"]) != {"mdns"}:
            raise ConfigError("only mDNS can list services, once: name a SERVICE for everything else")
        return asyncio.run(_list_services(args))
    if args.check and args.watch:
        raise ConfigError("--check looks once: leave out --watch")
    return asyncio.run(_watch(args) if args.watch else _look(args))


async def _list_services(args: argparse.Namespace) -> int:
    from kwik.cli.services import list_services

    found = await list_services(args.mdns_interface, args.timeout)
    if args.json:
        print(json.dumps([{"service": name, "servers": servers} for name, servers in found.items()]))
    for name, servers in found.items() if not args.json else ():
        print(f"{name}  {len(servers)} {'server' if len(servers) == 1 else 'servers'}: {', '.join(servers)}")
    if not found and not args.json:
        print("no Kwik server announces itself on the local network")
    return OK if found else NOT_FOUND


async def _look(args: argparse.Namespace) -> int:
    found, through = Found(), asyncio.Event()

    def on_report(_: ProviderReport) -> None:
        if all(map(_is_through, providers, discovery.reports())):
            through.set()

    providers = _providers(args)
    discovery = _discovery(args.service, providers, found.on_sighting, on_report=on_report)
    discovery.start()
    try:
        async with asyncio.timeout(args.timeout):
            await through.wait()
    except TimeoutError:
        pass
    await asyncio.sleep(0)  # a report comes before the last sighting is passed on
    reports = discovery.reports()
    await discovery.close()
    checked = await _check(args, found) if args.check else {}
    _print(args, found, reports, checked)
    good = any(each.ok for each in checked.values()) if args.check else bool(found.sightings)
    return OK if good else NOT_FOUND


async def _check(args: argparse.Namespace, found: Found) -> dict[Address, Checked]:
    from kwik.apps.check import check_all
    from kwik.quic import ClientTls

    tls = ClientTls(server_name=service_address(args.service).host, cafile=args.cafile)
    return {each.address: each for each in await check_all(found.addresses(), args.service, tls, args.timeout)}


async def _watch(args: argparse.Namespace) -> int:
    def on_sighting(sighting: Sighting) -> None:
        if args.json:
            print(json.dumps({"event": sighting.kind.value} | _as_json(sighting, {})), flush=True)
        else:
            print(f"{sighting.kind.value:5}  {_line(sighting)}", flush=True)

    def on_report(report: ProviderReport) -> None:
        if not args.json:
            print(_report_line(report), flush=True)

    discovery = _discovery(args.service, _providers(args), on_sighting, on_report=on_report)
    discovery.start()
    try:
        await asyncio.Event().wait()  # until Ctrl-C
    finally:
        await discovery.close()
    return 0


def _providers(args: argparse.Namespace) -> list[DiscoveryProvider]:
    """Those that a dial with the same options would ask."""
    from kwik.engine.sources import SourceSpec, build_providers

    sources = sources_of(args)
    service: ServiceName = args.service
    return build_providers(SourceSpec(sources.servers, sources.discovery), service, 0.0)


def _discovery(
    service: str,
    providers: Sequence[DiscoveryProvider],
    on_sighting: Callable[[Sighting], None],
    *,
    on_report: Callable[[ProviderReport], None],
) -> Discovery:
    from kwik.discovery.supervisor import Discovery

    return Discovery(service, providers, on_sighting, random.Random(), on_report=on_report)


def _is_through(provider: DiscoveryProvider, report: ProviderReport) -> bool:
    """mDNS may always bring more; a list that was answered has nothing to add."""
    if provider.name == "mdns":
        return report.state == "failed"
    servers = getattr(getattr(provider, "inner", provider), "servers", ())
    return report.answers >= len(servers) or report.state in ("degraded", "failed")


def _print(
    args: argparse.Namespace, found: Found, reports: Sequence[ProviderReport], checked: dict[Address, Checked]
) -> None:
    ordered = sorted(found.sightings.values(), key=lambda each: (each.source, each.addresses, each.key))
    if args.json:
        asked = [{"provider": each.name, "state": each.state, "detail": each.detail} for each in reports]
        result = {"service": args.service, "servers": [_as_json(each, checked) for each in ordered], "asked": asked}
        print(json.dumps(result))
        return
    for sighting in ordered:
        print(_line(sighting))
        for address in sighting.addresses if checked else ():
            print(f"    {address}: {_check_text(checked[address])}")
    if not ordered:
        print(f"no server of {args.service} was found")
    for report in reports:
        print(_report_line(report))


def _line(sighting: Sighting) -> str:
    name = sighting.server_id or sighting.key
    addresses = ", ".join(map(str, sighting.addresses))
    drains = ", drains" if sighting.state == "drain" else ""
    region = f", region {sighting.region}" if sighting.region else ""
    return f"{name}  {addresses}  ({sighting.source}{region}{drains})" if addresses else f"{name}  ({sighting.source})"


def _report_line(report: ProviderReport) -> str:
    count = f"{report.answers} {'server' if report.answers == 1 else 'servers'}"
    return f"asked {report.name}: {count}{f', {report.state}: {report.detail}' if report.detail else ''}"


def _check_text(checked: Checked) -> str:
    if not checked.ok:
        return checked.detail
    took = "" if checked.handshake_s is None else f", handshake {checked.handshake_s * 1000:.0f} ms"
    return f"ok, {checked.instance}, {'replicated' if checked.replicated else 'anchored'}{took}"


def _as_json(sighting: Sighting, checked: dict[Address, Checked]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": sighting.server_id,
        "addresses": [str(address) for address in sighting.addresses],
        "source": sighting.source,
        "state": sighting.state,
        "region": sighting.region,
        "weight": sighting.weight,
    }
    if checked:
        result["checks"] = [
            {
                "address": str(address),
                "ok": checked[address].ok,
                "detail": checked[address].detail,
                "handshake_s": checked[address].handshake_s,
            }
            for address in sighting.addresses
        ]
    return result
