"""Sightings merged by address, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwik.kcp.registry import MAX_CANDIDATES, MAX_RECORDS, MAX_RECORDS_PER_SOURCE, STALE_S, Registry
from kwik.kcp.sighting import MAX_ADDRESSES, SightingKind
from kwik.types import Address
from tests.unit.kcp.rig import SERVICE, START, sighting

A, B = Address("192.0.2.1", 443), Address("192.0.2.2", 443)


def far(number: int) -> Address:
    return Address(f"198.18.{number // 250}.{number % 250 + 1}", 443)


def test_records_of_several_sources_merge_by_address():
    registry = Registry(SERVICE)
    registry.on_sighting(sighting("r1", A, source="mdns", weight=10, state="drain"), START)
    registry.on_sighting(sighting("r2", A, B, source="dns", weight=50, server_id="a"), START)
    hint = registry.hint(A)
    assert hint is not None
    assert (hint.server_id, hint.weight, hint.draining, hint.sources) == ("a", 50, False, ("mdns", "dns"))
    assert registry.addresses() == [A, B]
    assert registry.addresses_of("a") == [A, B]
    assert registry.addresses_of("b") == []
    gone = sighting("r2", kind=SightingKind.GONE, source="dns")
    assert registry.on_sighting(gone, START) == (A, B)
    assert registry.on_sighting(gone, START) == ()
    assert registry.addresses() == [A]
    left = registry.hint(A)
    assert left is not None
    assert left.draining
    assert registry.hint(B) is None


def test_a_newer_record_replaces_the_older_one():
    registry = Registry(SERVICE)
    registry.on_sighting(sighting("r", A), START)
    registry.on_sighting(sighting("r", B), START)
    assert registry.addresses() == [B]


def test_other_services_are_not_ours():
    registry = Registry(SERVICE)
    assert registry.on_sighting(sighting("r", A, service="other:1"), START) == ()
    assert registry.addresses() == []


def test_a_record_without_news_goes_stale_and_then_away():
    registry = Registry(SERVICE)
    registry.on_sighting(sighting("r", A, ttl_s=10.0), START)
    assert registry.deadline() == START + 10.0
    registry.on_timeout(START + 10.0)
    hint = registry.hint(A)
    assert hint is not None
    assert hint.stale
    registry.on_sighting(sighting("r", A, ttl_s=10.0), START + 20.0)
    hint = registry.hint(A)
    assert hint is not None
    assert not hint.stale
    registry.on_timeout(START + 30.0)
    registry.on_timeout(START + 30.0 + STALE_S)
    assert registry.addresses() == []
    assert registry.deadline() is None


def test_one_source_cannot_fill_the_registry():
    registry = Registry(SERVICE)
    for number in range(MAX_RECORDS_PER_SOURCE + 5):
        registry.on_sighting(sighting(f"r{number}", far(number), source="flood"), START)
    assert len(registry.addresses()) == MAX_RECORDS_PER_SOURCE
    assert registry.dropped == 5
    assert registry.on_sighting(sighting("r", A, source="other"), START) == (A,)
    registry.on_sighting(sighting("r0", kind=SightingKind.GONE, source="flood"), START)
    assert registry.on_sighting(sighting("new", B, source="flood"), START) == (B,)


def test_all_sources_together_are_bounded_too():
    registry = Registry(SERVICE)
    for source in range(MAX_RECORDS // MAX_RECORDS_PER_SOURCE + 1):
        for number in range(MAX_RECORDS_PER_SOURCE):
            address = far(1000 * (number % 4) + source * 100 + number // 4)
            registry.on_sighting(sighting(f"r{number}", address, source=f"s{source}"), START)
    assert registry.dropped == MAX_RECORDS_PER_SOURCE
    crowd = Registry(SERVICE)
    for number in range(200):
        crowd.on_sighting(sighting(f"r{number}", *(far(20 * number + n) for n in range(20))), START)
    assert len(crowd.addresses()) == MAX_CANDIDATES
    first = crowd.hint(far(0))
    assert first is not None
    assert crowd.hint(far(MAX_ADDRESSES)) is None  # the seventeenth address of a record
    assert crowd.on_sighting(sighting("again", far(0), far(9000)), START) == (far(0),)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans(), st.integers(0, 4)), max_size=40))
def test_every_address_has_a_holder_and_every_holder_a_record(steps: list[tuple[int, int, bool, int]]):
    registry = Registry(SERVICE)
    model: dict[tuple[str, str], tuple[Address, ...]] = {}
    for key, source, found, first in steps:
        names = (f"s{source}", f"r{key}")
        addresses = (far(first), far(first + 1))
        kind = SightingKind.FOUND if found else SightingKind.GONE
        registry.on_sighting(sighting(names[1], *addresses, source=names[0], kind=kind), START)
        model.pop(names, None)
        if found:
            model[names] = addresses
        assert set(registry.addresses()) == {address for held in model.values() for address in held}
        for address in registry.addresses():
            hint = registry.hint(address)
            assert hint is not None
            assert set(hint.sources) == {name for (name, _), held in model.items() if address in held}
