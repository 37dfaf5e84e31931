"""What `kwik discover` makes of sightings and of its options; lists of addresses need no network."""

from __future__ import annotations

import json

import pytest

from kwik.cli import discover
from kwik.cli.discover import Found
from kwik.cli.main import main
from kwik.kcp.sighting import Sighting, SightingKind
from kwik.types import Address

SERVICE = "files.example:80"
A, B = Address("10.0.0.1", 4433), Address("10.0.0.2", 4433)


def sighting(kind: SightingKind, key: str, *addresses: Address) -> Sighting:
    return Sighting(kind, "test", SERVICE, addresses, key)


def test_found_follows_what_is_said():
    found = Found()
    found.on_sighting(sighting(SightingKind.FOUND, "a", A))
    found.on_sighting(sighting(SightingKind.FOUND, "b", B, A))
    assert found.addresses() == [A, B]
    found.on_sighting(sighting(SightingKind.GONE, "a"))
    found.on_sighting(sighting(SightingKind.GONE, "never seen"))
    assert list(found.sightings) == [("test", "b")]


def test_a_list(capsys: pytest.CaptureFixture[str]):
    assert main(["discover", SERVICE, "--server", "10.0.0.1", "--server", "10.0.0.2:99"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "10.0.0.1:4433  10.0.0.1:4433  (static)",
        "10.0.0.2:99  10.0.0.2:99  (static)",
        "asked static: 2 servers",
    ]


def test_a_list_as_json(capsys: pytest.CaptureFixture[str]):
    assert main(["discover", "FILES.example:80", "--server", "10.0.0.1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["service"] == SERVICE
    assert [each["addresses"] for each in answer["servers"]] == [["10.0.0.1:4433"]]
    assert answer["asked"] == [{"provider": "static", "state": "ok", "detail": ""}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--check"],
        ["--watch"],
        ["--server", "10.0.0.1"],
        ["--discovery", "none"],
        [SERVICE, "--check", "--watch"],
        [SERVICE, "--discovery", "static"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["discover", *arguments]) == 2
    assert capsys.readouterr().out == ""


def test_lines():
    drains = Sighting(SightingKind.FOUND, "mdns", SERVICE, (A, B), "key", server_id="one", region="here", state="drain")
    assert discover._line(drains) == "one  10.0.0.1:4433, 10.0.0.2:4433  (mdns, region here, drains)"
    assert discover._line(sighting(SightingKind.GONE, "key")) == "key  (test)"
