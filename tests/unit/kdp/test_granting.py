"""Credit, orders, copies and revokes: what is authorised, never too much, nobody waits in vain (SPEC §5.6, §6.6)."""

from __future__ import annotations

import pytest

from kwik.base.ranges import RangeSet
from kwik.errors import ErrorCode
from kwik.kdp import granting
from kwik.kdp import replica as server_replica
from kwik.kdp.granting import (
    COPY_SHARE_SMALL,
    MAX_ORDERS_USED,
    MAX_PATH_ORDERS_USED,
    MAX_RANGES,
    MAX_REVOKES,
    guarantee_bytes,
)
from kwik.kdp.order_queue import MAX_ORDERS
from kwik.kdp.orders import Order
from kwik.kdp.sending import MAX_MARKS_AHEAD
from kwik.kdp.server import MAX_PATH_ORDERS
from kwik.kdp.takeover import MAX_OPEN_PROBES
from kwik.kdp.upstream_sink import MAX_MARKS
from kwik.types import OrderId, PathId
from kwik.wire import frames
from tests.unit.kdp.session_rig import BLOCK, P1, P2, P3, TEXT, SessionRig


@pytest.fixture
def rig() -> SessionRig:
    return SessionRig()


def test_what_this_side_uses_is_within_what_the_other_allows():
    assert MAX_ORDERS_USED < MAX_ORDERS
    assert MAX_PATH_ORDERS_USED < MAX_PATH_ORDERS
    assert MAX_MARKS_AHEAD < MAX_MARKS
    assert MAX_OPEN_PROBES <= server_replica.MAX_PROBES
    assert MAX_REVOKES <= server_replica.MAX_REVOKES


class TestCredit:
    def test_it_is_the_window_and_moves_with_the_reader(self, rig: SessionRig):
        key, replica = rig.live()
        assert rig.stream(key).credit == 64 * BLOCK
        rig.supply(replica, P1, TEXT[: 16 * BLOCK])
        assert rig.stream(key).credit == 64 * BLOCK
        rig.read(key, 5 * BLOCK)
        assert rig.stream(key).credit == 69 * BLOCK

    def test_what_is_on_order_and_held_never_exceeds_the_credit(self, rig: SessionRig):
        key, replica = rig.live()
        for _ in range(20):
            assert max(rig.granted(replica, P1), default=0) < rig.stream(key).credit // BLOCK
            rig.supply(replica, P1)
        assert rig.granted(replica, P1) == []
        assert rig.stream(key).down.parts.held_bytes == 64 * BLOCK
        rig.read(key, 20 * BLOCK)
        assert max(rig.granted(replica, P1)) == 83

    def test_a_reader_that_took_nothing_for_a_second_gets_none(self, rig: SessionRig):
        key, replica = rig.live()
        rig.supply(replica, P1, TEXT[: 16 * BLOCK])
        rig.read(key, BLOCK)
        rig.wait(0.5)
        stream = rig.stream(key)
        before = stream.credit
        rig.session.pool.total_bytes *= 2
        assert rig.session.pool.room_bytes > 0
        rig.wait(1.0)
        assert stream.credit == before

    def test_streams_share_the_budget_and_a_newcomer_finds_room(self):
        rig = SessionRig(memory_bytes=64 * BLOCK)
        rig.path()
        for _ in range(12):
            key, replica = rig.live()
            assert rig.stream(key).credit >= guarantee_bytes(BLOCK)
            rig.supply(replica, P1)
            rig.read(key)
            assert rig.session.pool.used_bytes <= 64 * BLOCK

    def test_what_was_read_goes_back_to_the_pool(self):
        rig = SessionRig(memory_bytes=64 * BLOCK)
        key, replica = rig.live()
        for _ in range(5):
            rig.supply(replica, P1)
            rig.read(key)
        held = rig.session.pool.used_bytes
        assert held > guarantee_bytes(BLOCK)
        rig.close(key, aborted=True)
        assert rig.session.pool.used_bytes == 0

    def test_the_guarantee_is_a_block_and_a_little_more(self):
        assert guarantee_bytes(16384) == 16384 + 16384
        assert guarantee_bytes(65536) == 65536 + 16384


class TestOrders:
    def test_an_order_reaches_no_further_than_the_credit_told_before_it(self, rig: SessionRig):
        key, replica = rig.live()
        told = 64 * BLOCK
        for _ in range(30):
            for frame in rig.hear():
                if isinstance(frame, frames.Ack):
                    told = max(told, frame.credit)
                if isinstance(frame, frames.Grant):
                    assert max(first + count for first, count in frame.blocks) * BLOCK <= told
                    assert len(frame.blocks) <= MAX_RANGES
            rig.supply(replica, P1)
            rig.read(key, 3 * BLOCK)

    def test_order_numbers_are_not_used_twice_on_a_path(self, rig: SessionRig):
        key, replica = rig.live()
        numbers = [0]
        for _ in range(10):
            rig.supply(replica, P1)
            rig.read(key)
            numbers += [grant.order for grant in rig.hear_only(frames.Grant)]
        assert len(numbers) == len(set(numbers))

    def test_an_anchor_gets_whatever_is_wanted(self, rig: SessionRig):
        _key, replica = rig.live()
        assert rig.granted(replica, P1) == list(range(64))

    def test_a_helper_gets_nothing_on_which_it_has_not_agreed(self, rig: SessionRig):
        _key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2, first=2, count=2)
        rig.hush(P1)
        assert rig.granted(helper, P2) == [2, 3]

    def test_a_helper_that_has_not_answered_gets_nothing(self, rig: SessionRig):
        rig.path(P1, "a")
        rig.path(P2, "b")
        rig.live(P1, replicas=2)
        helper = rig.hear_only(frames.Open, P2)[-1].replica
        rig.hush(P1)
        assert rig.granted(helper, P2) == []

    def test_many_scattered_blocks_make_several_orders(self, rig: SessionRig):
        _key, anchor, helper = rig.pair()
        rig.session.paths[P2].start_up.last_round_bytes = 1 << 20
        rig.announce(anchor, P1, count=64)
        for first in range(0, 64, 2):
            rig.announce_run(helper, P2, first=first, count=1)
        rig.hush(P1)
        assert rig.granted(helper, P2) == list(range(0, 64, 2))
        grants = rig.hear_only(frames.Grant, P2)
        assert all(len(grant.blocks) <= MAX_RANGES for grant in grants)

    def test_orders_outstanding_on_a_path_are_limited(self, rig: SessionRig):
        _key, anchor, helper = rig.pair()
        rig.session.order_counts[P2] = MAX_PATH_ORDERS_USED
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        rig.hush(P1)
        assert rig.granted(helper, P2) == []

    def test_what_the_reader_waits_for_is_urgent(self, rig: SessionRig):
        _key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        rig.hush(P1)
        urgent = {grant.blocks[0][0]: grant.urgent for grant in rig.hear_only(frames.Grant, P2)}
        assert urgent[0]
        assert not any(is_urgent for first, is_urgent in urgent.items() if first)

    def test_nothing_beyond_the_end_is_ordered(self, rig: SessionRig):
        key, replica = rig.live()
        rig.supply(replica, P1, TEXT[: 20 * BLOCK], below=20)
        rig.tell(frames.Fin(replica, 20 * BLOCK))
        rig.hear()
        rig.read(key)
        rig.wait(0.1)
        assert rig.stream(key).down.book.orders() == []
        assert rig.hear_only(frames.Grant) == []


class TestCopies:
    def test_a_late_head_is_ordered_elsewhere_too_and_once(self, rig: SessionRig):
        key, _anchor, helper = self._late(rig)
        rig.wait(5.0)
        assert 0 in rig.granted(helper, P2)
        rig.wait(5.0)
        assert rig.granted(helper, P2).count(0) == 1
        rig.supply(helper, P2)
        assert rig.read(key)[:BLOCK] == TEXT[:BLOCK]

    def test_a_copy_that_is_not_needed_any_more_is_revoked(self, rig: SessionRig):
        key, anchor, helper = self._late(rig)
        rig.wait(5.0)
        assert 0 in rig.granted(helper, P2)
        rig.supply(anchor, P1, below=1)
        assert [mark for revoke in rig.hear_only(frames.Revoke, P2) for mark in revoke.orders] != []
        assert rig.read(key)[:BLOCK] == TEXT[:BLOCK]

    def test_copies_have_a_budget(self):
        rig = SessionRig()
        key, _anchor, _helper = self._late(rig, produced=BLOCK)
        rig.wait(0.5)
        copied = rig.stream(key).counters.copied_bytes
        assert 0 < copied <= rig.session.config.first_window_bytes // 4 + COPY_SHARE_SMALL * BLOCK

    def test_nothing_is_late_that_is_not_produced(self):
        rig = SessionRig()
        _key, _anchor, helper = self._late(rig, produced=0)
        rig.wait(5.0)
        assert 0 not in rig.granted(helper, P2)

    @pytest.mark.parametrize(("left_s", "is_copied"), [(2.0, True), (0.015, False)])
    def test_a_window_that_stands_is_not_left_to_a_slow_path(self, rig: SessionRig, left_s: float, is_copied: bool):
        """Nothing else can be ordered, and an idle path would bring the block in half the time until it is late."""
        key, _anchor, helper = self._late(rig)
        while rig.supply(helper, P2):
            pass
        assert not rig.stream(key).down.book.unassigned
        assert not rig.session.paths[P2].outstanding_bytes
        (order,) = rig.stream(key).down.book.awaited(0)
        order.first_due = rig.now + left_s
        rig.session.touch_all()
        rig.settle()
        assert (0 in rig.granted(helper, P2)) is is_copied

    @staticmethod
    def _late(rig: SessionRig, *, produced: int = 1000 * BLOCK) -> tuple[int, int, int]:
        """All blocks are on order at the anchor; its path is heard and brings nothing."""
        key, anchor, helper = rig.pair()
        rig.announce(anchor, P1)
        rig.announce_run(helper, P2)
        for replica, path in ((anchor, P1), (helper, P2)):
            rig.tell(frames.Produced(replica, produced), path)
        return key, anchor, helper


class TestEndGame:
    def test_an_idle_path_brings_the_last_blocks_too_if_it_is_quicker(self, rig: SessionRig):
        key, anchor, helper = rig.pair()
        end = 60 * BLOCK
        rig.session.paths[P1].start_up.last_round_bytes = 1 << 20  # so much may be on order there
        for first in range(0, 60, 15):
            rig.announce(anchor, P1, TEXT[:end], first=first, count=15)
            rig.announce_run(helper, P2, TEXT[:end], first=first, count=15)
        rig.session.paths[P2].received_bytes = 100
        rig.tell(frames.Fin(anchor, end))
        rig.tell(frames.Fin(helper, end), P2)
        copies = rig.granted(helper, P2)
        assert copies
        assert min(copies) >= 40
        rig.supply(helper, P2, TEXT[:end])
        rig.supply(anchor, P1, TEXT[:end])
        assert rig.read(key) == TEXT[:end]


class TestRebalance:
    def test_what_one_path_cannot_bring_soon_is_taken_back_for_an_idle_one(self, rig: SessionRig):
        _key, anchor, helper = rig.pair()
        for path in (P1, P2):
            rig.session.paths[path].start_up.is_over = True
        for first in range(0, 64, 16):
            rig.announce(anchor, P1, first=first)
            rig.announce_run(helper, P2, first=first)
        rig.facts(P1, smoothed_rtt_s=0.0001)
        rig.facts(P2, smoothed_rtt_s=0.0001)
        rate = rig.session.paths[P1].rate
        for step in range(4):
            rate.on_delivered(200, rig.now + 0.02 * step)
        rig.wait(0.1)
        rig.session.touch_all()
        rig.settle()
        revoked = rig.hear_only(frames.Revoke, P1)
        assert revoked
        (order, block), *_ = revoked[0].orders
        assert block > 0
        rig.tell(frames.Revoked(anchor, ((order, block),)), P1)
        assert set(rig.granted(helper, P2)) <= set(range(block, 64))
        assert rig.granted(helper, P2)


class TestThreeServers:
    """Whatever the plan, together they bring every byte, in order, once."""

    END = 150 * BLOCK

    def test_every_byte_comes_once(self, rig: SessionRig):
        for path, server in ((P1, "a"), (P2, "b"), (P3, "c")):
            rig.path(path, server)
        key, anchor = rig.live(P1, replicas=3)
        servers = [(anchor, P1), *((rig.hear_only(frames.Open, path)[-1].replica, path) for path in (P2, P3))]
        for replica, path in servers:
            rig.opened(replica, path)
            rig.tell(frames.Produced(replica, self.END), path)
        read = b""
        for _ in range(40):
            self.announce_all(rig, key, servers)
            for replica, path in reversed(servers):
                rig.supply(replica, path, TEXT[: self.END])
            rig.wait(0.05)
            read += rig.read(key)
        rig.tell(frames.Fin(anchor, self.END))
        rig.wait(1.0)
        assert read == TEXT[: self.END]
        assert sum(view.delivered_bytes for view in rig.stream(key).views.values()) == self.END
        assert rig.at_end(key)

    def announce_all(self, rig: SessionRig, key: int, servers: list[tuple[int, PathId]]) -> None:
        """Everything that the credit allows, again and again."""
        for first in range(0, 150, 10):
            for replica, path in servers:
                view = rig.stream(key).views[replica]
                if (first + 10) * BLOCK <= view.credit_told:
                    tell = rig.announce if view is rig.stream(key).anchor else rig.announce_run
                    tell(replica, path, TEXT[: self.END], first=first, count=10)


def test_an_order_of_a_closed_replica_is_nobodys(rig: SessionRig):
    _key, anchor, helper = rig.pair()
    rig.announce(anchor, P1)
    rig.announce_run(helper, P2)
    rig.hush(P1)
    assert rig.session.paths[P2].outstanding_bytes > 0
    rig.tell(frames.Reset(helper, 9999, ErrorCode.STREAM_ABORTED), P2)
    assert rig.session.paths[P2].outstanding_bytes == 0
    assert rig.session.order_counts[P2] == 0


def test_what_cannot_be_taken_back_now_is_not_asked_back(rig: SessionRig):
    """A server takes 256 unanswered REVOKEs of a replica on a path (SPEC §7); each answer makes room for one."""
    key, anchor = rig.live()
    stream = rig.stream(key)

    def take_back(number: int) -> Order:
        order = Order(OrderId(number), anchor, P1, RangeSet(), rig.now, rig.now, 1e6)
        granting.revoke(stream, order, 0)
        return order

    orders = [take_back(1000 + number) for number in range(MAX_REVOKES + 1)]
    assert [order.is_revoked for order in orders] == [True] * MAX_REVOKES + [False]
    assert len(rig.hear_only(frames.Revoke)) == MAX_REVOKES
    rig.tell(frames.Revoked(anchor, ((1000, 0),)))
    assert take_back(1000 + MAX_REVOKES).is_revoked
    assert not take_back(3000).is_revoked
