"""Never a splice: bytes of another server only as whole blocks whose digests are the anchor's (SPEC §2)."""

import pytest

from kwik.sim.apps import FLIP, Twist
from kwik.sim.scenario import server
from tests.sim.runs import assert_complete, run, truth, two


def late(**more):
    """A server that is found when the stream is open already becomes a helper."""
    return server(sighted_s=0.1, **more)


@pytest.mark.parametrize("lie", ["data", "digests", "withhold", "probe"])
@pytest.mark.parametrize("at", [0, 20_001])
def test_a_lying_helper_changes_nothing(lie, at):
    outcome = run(two(servers=(server(), late(lie=lie, lie_at=at))))
    assert outcome.world.watch.anchors == {0: ["s0"]}
    assert_complete(outcome)


def test_a_liar_between_honest_servers():
    servers = (server(), late(lie="data"), late(), late(lie="digests"))
    outcome = run(two(servers=servers))
    liar = outcome.world.places[1].liar
    assert liar is not None
    assert liar.told > 0
    assert_complete(outcome)


def test_a_helper_that_ends_early_does_not_end_the_stream():
    outcome = run(two(servers=(server(), late(lie="final"))))
    assert_complete(outcome)


def test_what_a_lying_anchor_sends_is_not_mixed_with_the_truth():
    """Its own bytes are the stream: all that can be promised is that no other server's bytes follow a lie."""
    outcome = run(two(servers=(server(lie="data", lie_at=10_000), late())))
    received = bytes(outcome.world.client.streams[0].received)
    honest = truth(outcome)
    lie = next(at for at, byte in enumerate(received) if byte != honest[at])
    assert lie >= 10_000
    assert all(byte == honest[lie + at] ^ FLIP for at, byte in enumerate(received[lie:]))
    # It contradicts what it announced, and is caught at the end of the block.
    assert len(received) <= (lie // 64 + 1) * 64
    assert outcome.world.client.streams[0].seen == "reset"


@pytest.mark.parametrize("block", [0, 100])
def test_a_block_that_differs_comes_from_the_anchor(block):
    twist = Twist(kind="one-block", at=64 * block, size=64)
    assert_complete(run(two(servers=(server(), late(twist=twist)))))
