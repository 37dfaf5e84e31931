"""What a replica announces: an anchor every block, a helper runs of at most 16 (SPEC §5.7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kwik.kdp.announcer import MAX_DIGESTS, PAUSE_S, Announcer
from kwik.kdp.digest import RUN_BLOCKS
from kwik.kdp.producer import Producer
from kwik.types import ReplicaId
from kwik.wire.frames import Digests, Run
from tests.unit.kdp.naive import BLAKE3, digests_of, naive_run, pattern

BLOCK = 16
NOW = 1000.0


def make(size: int, *, block_by_block: bool = False, first: int = 0, floor: int = 0) -> tuple[Announcer, Producer]:
    producer = Producer(BLOCK, BLAKE3, floor=floor, credit=1 << 30, cap_bytes=1 << 30)
    announcer = Announcer(ReplicaId(9), BLAKE3, first, block_by_block=block_by_block)
    if size:
        producer.append(pattern(size))
        announcer.on_output(NOW)
    return announcer, producer


def say(announcer: Announcer, producer: Producer, now: float = NOW) -> list[Digests | Run]:
    said = []
    while (frame := announcer.next_frame(producer, now)) is not None:
        said.append(frame)
    return said


class TestAnchor:
    def test_every_whole_block_at_once(self):
        announcer, producer = make(3 * BLOCK + 1, block_by_block=True)
        assert say(announcer, producer) == [Digests(9, 0, tuple(digests_of(pattern(3 * BLOCK), BLOCK)))]
        assert not announcer.is_pending(producer)
        assert announcer.deadline(producer) is None

    def test_a_frame_takes_64(self):
        announcer, producer = make(100 * BLOCK, block_by_block=True)
        frames = say(announcer, producer)
        assert [(f.first, len(f.digests)) for f in frames if isinstance(f, Digests)] == [(0, MAX_DIGESTS), (64, 36)]

    def test_the_shorter_last_block_at_the_end(self):
        announcer, producer = make(BLOCK + 1, block_by_block=True)
        say(announcer, producer)
        producer.finish()
        assert say(announcer, producer) == [Digests(9, 1, (digests_of(pattern(BLOCK + 1), BLOCK)[1],))]


class TestHelper:
    def test_a_full_run_at_once(self):
        announcer, producer = make((RUN_BLOCKS + 3) * BLOCK)
        assert say(announcer, producer) == [Run(9, 0, RUN_BLOCKS, naive_run(producer_bytes(19), 0, 16, BLOCK))]
        assert announcer.is_pending(producer)
        assert announcer.deadline(producer) == NOW + PAUSE_S

    def test_a_short_run_after_the_pause_and_not_before(self):
        announcer, producer = make(2 * BLOCK)
        assert say(announcer, producer, NOW + PAUSE_S - 1e-4) == []
        assert say(announcer, producer, NOW + PAUSE_S) == [Run(9, 0, 2, naive_run(producer_bytes(2), 0, 2, BLOCK))]
        assert announcer.deadline(producer) is None

    def test_more_output_puts_it_off(self):
        announcer, producer = make(2 * BLOCK)
        announcer.on_output(NOW + 0.009)
        assert say(announcer, producer, NOW + PAUSE_S) == []
        assert announcer.deadline(producer) == NOW + 0.009 + PAUSE_S

    def test_the_end_makes_it_due(self):
        announcer, producer = make(BLOCK + 3)
        producer.finish()
        assert say(announcer, producer) == [Run(9, 0, 2, naive_run(pattern(BLOCK + 3), 0, 2, BLOCK))]

    def test_output_that_stands_at_its_credit_makes_it_due(self):
        """Seed 0x118 (coarse): a client with a small window waited for the pause again and again."""
        announcer, producer = make(2 * BLOCK)
        producer.credit = 2 * BLOCK + 1
        assert say(announcer, producer) == []
        producer.credit = 2 * BLOCK
        assert say(announcer, producer) == [Run(9, 0, 2, naive_run(producer_bytes(2), 0, 2, BLOCK))]

    def test_nothing_is_due_without_output(self):
        announcer, producer = make(0)
        assert say(announcer, producer, NOW + 60) == []
        assert announcer.deadline(producer) is None
        assert not announcer.is_pending(producer)


class TestRestart:
    def test_a_new_role_announces_again_from_there(self):
        announcer, producer = make(4 * BLOCK)
        assert len(say(announcer, producer, NOW + 1)) == 1
        announcer.restart(2, block_by_block=True)
        assert say(announcer, producer) == [Digests(9, 2, tuple(digests_of(pattern(4 * BLOCK), BLOCK)[2:]))]

    def test_what_the_floor_has_passed_is_not_announced(self):
        announcer, producer = make(4 * BLOCK, block_by_block=True)
        producer.set_floor(3 * BLOCK)
        assert announcer.is_pending(producer)
        assert say(announcer, producer) == [Digests(9, 3, (digests_of(pattern(4 * BLOCK), BLOCK)[3],))]


@given(sizes=st.lists(st.integers(1, 6 * BLOCK), max_size=12), anchor=st.booleans(), pauses=st.integers(0, 2**12 - 1))
def test_every_block_is_announced_once_in_order_and_truthfully(sizes: list[int], anchor: bool, pauses: int):
    announcer, producer = make(0, block_by_block=anchor)
    now, total, said = NOW, 0, []
    for index, size in enumerate(sizes):
        producer.append(pattern(size, total))
        announcer.on_output(now)
        total += size
        now += 1.0 if pauses >> index & 1 else 0.001
        said += say(announcer, producer, now)
    producer.finish()
    said += say(announcer, producer, now)
    digests = digests_of(pattern(total), BLOCK)
    position = 0
    for frame in said:
        assert frame.first == position
        if isinstance(frame, Digests):
            assert anchor
            assert list(frame.digests) == digests[position : position + len(frame.digests)]
            position += len(frame.digests)
        else:
            assert not anchor
            assert 1 <= frame.count <= RUN_BLOCKS
            assert frame.digest == naive_run(pattern(total), position, frame.count, BLOCK)
            position += frame.count
    assert position == len(digests)


def producer_bytes(blocks: int) -> bytes:
    return pattern(blocks * BLOCK)
