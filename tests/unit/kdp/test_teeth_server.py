"""Rules of the server that only show when several things come together (SPEC §4.2, §5.3, §5.10)."""

from __future__ import annotations

from kwik.errors import ErrorCode
from kwik.kdp.actions import PortReset
from kwik.kdp.order_queue import MAX_ORDERS
from kwik.kdp.server import MAX_PATH_ORDERS
from kwik.types import PathId
from kwik.wire import frames
from tests.unit.kdp.server_rig import BLOCK, P1, P2, ServerRig, grant

P3 = PathId(3)


def test_a_path_that_was_replaced_keeps_no_replica_alive():
    """The replaced path may be open for long, for its client is gone; the linger time runs without it."""
    rig = ServerRig()
    key = rig.serve()
    rig.server.client_path = {P1: 11, P2: 12}.get
    rig.path(P2)
    rig.tell(frames.Attach(1, frames.ROLE_ANCHOR, 0, 1000, (11,)), P2)
    rig.gone(P2)
    assert rig.deadline() == rig.now + 120.0
    rig.now += 120.0
    rig.server.on_timeout(rig.now)
    assert rig.find(PortReset).key == key


def test_a_session_cannot_take_the_path_of_another_with_equal_numbers():
    """Path and replica numbers are each client's own: both sessions have a path 11 and a replica 1."""
    rig = ServerRig()
    key = rig.serve()
    rig.server.client_path = {P1: 11, P2: 11, P3: 12}.get
    rig.path(P2, b"t" * 16)
    rig.open(1, P2)
    rig.path(P3, b"t" * 16)
    rig.tell(frames.Attach(1, frames.ROLE_ANCHOR, 0, 1000, (11,)), P3)
    rig.tell(grant(1, (0, 1)))
    rig.write(key, bytes(BLOCK))
    assert rig.hear_only(frames.Data) == [frames.Data(1, 1, 0, bytes(BLOCK))]


def test_orders_of_one_path_are_given_on_no_other():
    rig = ServerRig()
    key = rig.serve()
    rig.tell(grant(1, (0, 1)))
    rig.path(P2)
    rig.tell(frames.Attach(1, frames.ROLE_ANCHOR, 0, 1000, ()), P2)
    rig.write(key, bytes(BLOCK))
    assert rig.hear_only(frames.Data, P2) == []
    assert len(rig.hear_only(frames.Data, P1)) == 1


def test_the_orders_of_a_path_are_limited_over_all_its_replicas():
    rig = ServerRig()
    full, rest = divmod(MAX_PATH_ORDERS, MAX_ORDERS)
    assert rest == 0
    for replica in range(1, full + 2):
        rig.serve(replica)
    for replica in range(1, full + 1):
        for number in range(MAX_ORDERS):
            rig.tell(grant(number, (0, 1), replica=replica))
    assert rig.fault(grant(1, (0, 1), replica=full + 1)) == ErrorCode.LIMIT
