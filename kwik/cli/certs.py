"""`kwik certs`: a development authority and server certificates, for trying things out without a real authority."""

import argparse
import datetime
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from kwik.errors import ConfigError
from kwik.quic.certs import Issued, issue, load_issued, make_ca, write_issued
from kwik.quic.tls import certificate_names, normal_name

EXAMPLES = """examples:
  kwik certs files.example                    a certificate for the service files.example:80
  kwik certs files.example 10.0.0.1 ::1       also valid when the service is dialled by these addresses
  kwik certs files.example --name mirror2     a second server of the same service, in files of its own
  kwik certs --ca-only                        only the authority

Clients trust the authority with --cafile certs/ca.pem. Never give ca.key away: whoever has it can pose as any
service towards every client that trusts ca.pem.
"""
RENEW_BELOW = 0.1
"""A certificate with less than this part of its life left is renewed."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one certificate."""

    certfile: Path
    keyfile: Path
    what: str
    expires: datetime.datetime


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command and its options."""
    parser = subparsers.add_parser(
        "certs",
        help="make certificates for development",
        description="Make a development certificate authority (once) and a server certificate for the given names.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME_OR_ADDRESS", nargs="*", help="DNS name or IP address of the service")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("certs"), help="folder (default: certs)")
    parser.add_argument("--days", type=_positive_days, default=30.0, help="validity of the certificate (default: 30)")
    parser.add_argument("--name", metavar="LABEL", help="name of the files (default: made from the first name)")
    parser.add_argument("--ca-only", action="store_true", help="make the authority and nothing else")
    parser.add_argument("--force", action="store_true", help="replace a certificate that is still good")
    parser.add_argument("--json", action="store_true", help="say it in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it. 0: done; 1: it could not be done; 2: wrong usage. Prints to stdout, errors to stderr."""
    try:
        if bool(args.names) == args.ca_only:
            raise ConfigError("give the names that the certificate is for, or --ca-only")
        authority, ca = ensure_ca(args.out)
        written = [authority]
        if not args.ca_only:
            written.append(ensure_leaf(args.out, ca, args.names, label=args.name, days=args.days, force=args.force))
    except ConfigError as error:
        print(f"kwik certs: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"kwik certs: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    _report(written, args)
    return 0


def ensure_ca(folder: Path) -> tuple[Written, Issued]:
    """The authority in `folder`, made if there is none. Raises ConfigError when half of it is missing or it expired."""
    certfile, keyfile = folder / "ca.pem", folder / "ca.key"
    what = "kept"
    if certfile.exists() or keyfile.exists():
        ca = load_issued(certfile, keyfile)
        if ca.certificate.not_valid_after_utc <= _now():
            raise ConfigError(f"the authority {certfile} has expired: move {folder} away and start anew")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        ca, what = make_ca(), "made"
        write_issued(ca, certfile, keyfile)
    return Written(certfile, keyfile, what, ca.certificate.not_valid_after_utc), ca


def ensure_leaf(
    folder: Path, ca: Issued, names: list[str], *, label: str | None = None, days: float = 30.0, force: bool = False
) -> Written:
    """A certificate for `names` in `folder`, as good as new.

    One that is there already is kept if it has the same names, comes from `ca` and is far from its end; otherwise it
    is replaced, and `what` says why. Files that hold something else are not touched without `force`: ConfigError.
    """
    stem = _stem(label if label is not None else _plain(names[0]))
    certfile, keyfile = folder / f"{stem}.pem", folder / f"{stem}.key"
    what = "made"
    if certfile.exists() or keyfile.exists():
        what = "replaced (--force)"
        if not force:
            old = load_issued(certfile, keyfile)
            reason = _why_replace(old, ca, names)
            if reason is None:
                return Written(certfile, keyfile, "kept", old.certificate.not_valid_after_utc)
            what = f"replaced ({reason})"
    leaf = issue(ca, names, days=days)
    write_issued(leaf, certfile, keyfile)
    return Written(certfile, keyfile, what, leaf.certificate.not_valid_after_utc)


def _why_replace(old: Issued, ca: Issued, names: list[str]) -> str | None:
    try:
        old.certificate.verify_directly_issued_by(ca.certificate)
    except Exception:  # noqa: BLE001 - several kinds, one meaning
        return "it came from another authority"
    before = certificate_names(old.certificate)
    if {_plain(name) for name in names} != set(before):
        return f"it was for {', '.join(before)}"
    life = old.certificate.not_valid_after_utc - old.certificate.not_valid_before_utc
    if old.certificate.not_valid_after_utc - _now() < life * RENEW_BELOW:
        return f"it ends on {old.certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def _plain(name: str) -> str:
    return "*." + normal_name(name[2:]) if name.startswith("*.") else normal_name(name)


def _stem(label: str) -> str:
    stem = label.replace("*", "wildcard").replace(":", "_").strip("[]")
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}", stem) is None or stem == "ca":
        raise ConfigError(f"{label!r} does not make a file name: choose another one with --name")
    return stem


def _report(written: list[Written], args: argparse.Namespace) -> None:
    if args.json:
        print(
            json.dumps(
                [
                    {
                        "cert": str(each.certfile),
                        "key": str(each.keyfile),
                        "what": each.what,
                        "expires": str(each.expires),
                    }
                    for each in written
                ]
            )
        )
        return
    for each in written:
        print(f"{each.certfile} and {each.keyfile.name}: {each.what}, valid until {each.expires:%Y-%m-%d}")
    ca = written[0]
    if len(written) > 1:
        leaf = written[1]
        print(f"server:  kwik serve --cert {leaf.certfile} --key {leaf.keyfile} ...")
    print(f"client:  --cafile {ca.certfile}   (keep {ca.keyfile} to yourself)")


def _positive_days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 36500")
    return days


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
