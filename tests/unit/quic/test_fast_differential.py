"""The short ways against the stock code as oracle: the same packets at the same instants, the same state after them."""

from collections.abc import Iterable
from typing import Any

import aioquic.quic.connection
import pytest

from kwik.quic.connection import PathConnection
from kwik.quic.fast_connection import FastConnection
from tests.unit.quic.chaos import Chaos

SEEDS = range(24)
MANY_SEEDS = range(1000, 1400)


class Exact(FastConnection):
    """Asks the pacer in vain as well, as stock does: then nothing at all may differ."""

    def _has_plain_data(self) -> bool:
        return True


class InOrder(dict[Any, None]):
    """For `set` in aioquic's loop over streams: theirs iterates by address in memory, no two runs alike."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None


@pytest.fixture(autouse=True)
def ordered(monkeypatch):
    monkeypatch.setattr(aioquic.quic.connection, "set", InOrder, raising=False)


def lived(kind: type[PathConnection], seed: int) -> Chaos:
    chaos = Chaos(kind, seed)
    chaos.live(12, mischief=seed % 3 == 0)
    return chaos


def assert_same(exact: Chaos, stock: Chaos) -> None:
    for number, (ours, theirs) in enumerate(zip(exact.wire, stock.wire, strict=False)):
        assert ours == theirs, f"datagram {number}"
    assert len(exact.wire) == len(stock.wire)
    for ours, theirs in zip(exact.seen, stock.seen, strict=True):
        assert ours[:4] == theirs[:4]
        for name, value in theirs[4].items():
            assert ours[4][name] == value, f"{name} at {theirs[0]}"
    for mine, other in ((exact.client_events, stock.client_events), (exact.server_events, stock.server_events)):
        assert mine.pipes == other.pipes


def assert_sound(chaos: Chaos) -> None:
    for (by_client, pipe), data in chaos.sent.items():
        got = chaos.got_by(by_client, pipe)  # with last words and offences behind it, perhaps
        common = min(len(got), len(data))
        assert got[:common] == data[:common]
    assert chaos.is_complete or chaos.client_events.end is not None or chaos.server_events.end is not None


def compare(seed: int) -> tuple[int, int]:
    stock, exact = lived(PathConnection, seed), lived(Exact, seed)
    assert_sound(stock)
    assert_same(exact, stock)
    sides = [exact.client.connection, exact.server.connection]
    assert all(isinstance(side, FastConnection) for side in sides)
    return sum(side.fast_received for side in sides), sum(side.fast_sent for side in sides)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_packets_and_states_are_those_of_stock(seed):
    received, sent = compare(seed)
    assert received > 0
    assert sent > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS[:8])
def test_what_is_delivered_is_what_was_sent(seed):
    fast, stock = lived(FastConnection, seed), lived(PathConnection, seed)
    assert_sound(fast)
    assert fast.sent == stock.sent
    if stock.is_complete and stock.client_events.end is None:
        assert fast.is_complete
        assert fast.client_events.end is None


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_many_seeds():
    for seed in MANY_SEEDS:
        compare(seed)
