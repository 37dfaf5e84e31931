"""Both cores offer exactly what the bridge and the owner of the paths may call."""

from __future__ import annotations

import inspect

import pytest

from kwik.core.client import ClientCore
from kwik.core.port import BytePort, FactsView, PathPort
from kwik.core.server import ServerCore


def calls_of(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


@pytest.mark.parametrize("core", [ClientCore, ServerCore])
@pytest.mark.parametrize("protocol", [BytePort, PathPort])
def test_a_core_can_be_called_as_the_protocol_says(core: type, protocol: type):
    for name in calls_of(protocol):
        wanted = inspect.signature(getattr(protocol, name)).parameters
        offered = inspect.signature(getattr(core, name)).parameters
        assert [(p.name, p.kind) for p in offered.values()] == [(p.name, p.kind) for p in wanted.values()], name


def test_facts_are_asked_for_by_path_and_time():
    assert list(inspect.signature(FactsView.__call__).parameters) == ["self", "path", "now"]
