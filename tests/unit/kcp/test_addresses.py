"""What a session remembers of each address."""

from __future__ import annotations

import random

from kwik.kcp.addresses import MAX_REMEMBERED, STEADY_S, AddressBook
from kwik.types import Address, Instance
from tests.unit.kcp.rig import START

A = Address("192.0.2.1", 443)
ANYBODY = Instance("a", bytes(16))


def wait_s(book: AddressBook, now: float = START) -> float:
    record = book.get(A)
    assert record is not None
    until = record.blocked_until(now)
    return 0.0 if until is None else until - now


def test_back_off_doubles_up_to_thirty_seconds_with_jitter():
    book = AddressBook(random.Random(5))
    waits = []
    for _ in range(12):
        book.on_failed(A, "refused", START)
        waits.append(wait_s(book))
    for number, wait in enumerate(waits):
        longest = min(30.0, 0.5 * 2**number)
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == 12


def test_a_fresh_sighting_ends_it_at_most_once_a_second():
    book = AddressBook(random.Random(5))
    book.on_fresh_sighting(A, START)
    for _ in range(9):
        book.on_failed(A, "refused", START)
    book.on_fresh_sighting(A, START)
    assert wait_s(book) == 0
    book.on_failed(A, "refused", START)
    book.on_fresh_sighting(A, START + 0.9)
    assert wait_s(book) > 0
    book.on_fresh_sighting(A, START + 1.0)
    assert wait_s(book) == 0


def test_who_speaks_for_another_service_is_not_hurried():
    book = AddressBook(random.Random(5))
    book.on_failed(A, "wrong service", START, hopeless=True)
    assert wait_s(book) >= 15
    book.on_fresh_sighting(A, START + 5)
    assert wait_s(book) >= 15
    book.on_admitted(A, ANYBODY)
    book.on_fresh_sighting(A, START + 5)
    assert wait_s(book) == 0


def test_a_long_life_clears_the_failures_and_a_short_one_adds_to_them():
    book = AddressBook(random.Random(5))
    for _ in range(4):
        book.on_failed(A, "refused", START)
    book.on_tried(A)
    book.on_admitted(A, ANYBODY)
    book.on_ended(A, "reset", STEADY_S / 2, START)
    record = book.get(A)
    assert record is not None
    assert record.failures == 5
    assert wait_s(book) >= 4
    book.on_draining(A, START + 500)
    assert wait_s(book) == 500
    book.on_ended(A, "reset", STEADY_S, START)
    assert (book.get(A) or record).failures == 1
    assert wait_s(book) == 0
    book.on_answered(A, ANYBODY, "not needed")
    record = book.get(A)
    assert record is not None
    assert (record.failures, record.last_answer) == (0, "not needed")


def test_measurements_need_a_round_trip():
    book = AddressBook(random.Random(5))
    book.on_measured(A, None, 1000)
    assert book.get(A) is None
    book.on_measured(A, 0.1, 1000)
    record = book.get(A)
    assert record is not None
    assert (record.smoothed_rtt_s, record.rate_bytes_s) == (0.1, 10_000.0)


def test_memory_is_bounded_and_the_longest_unused_goes_first():
    book = AddressBook(random.Random(5))
    for number in range(MAX_REMEMBERED):
        book.on_tried(Address("192.0.2.9", number))
    book.on_tried(Address("192.0.2.9", 0))
    book.on_tried(A)
    assert book.get(Address("192.0.2.9", 0)) is not None
    assert book.get(Address("192.0.2.9", 1)) is None
