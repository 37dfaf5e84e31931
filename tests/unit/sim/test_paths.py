"""One path's halves: what is put into packets, what is put into order, what is acknowledged."""

from kwik.sim.paths import PathRules, Receiver, Sender

RULES = PathRules(packet_bytes=48)


def test_control_goes_first_and_packets_are_filled():
    sender = Sender(RULES)
    sender.write(1, b"d" * 60)
    sender.write(0, b"c" * 10)
    assert sender.unsent_bytes == 70
    assert sender.fill_packet() == [(0, 0, b"c" * 10), (1, 0, b"d" * 38)]
    assert sender.fill_packet() == [(1, 38, b"d" * 22)]
    assert sender.fill_packet() == []
    assert sender.unsent_bytes == 0


def test_pipes_are_in_order_each_for_itself():
    receiver = Receiver()
    assert receiver.take(1, 3, b"def") == b""
    assert receiver.take(2, 0, b"xyz") == b"xyz"
    assert receiver.take(1, 0, b"abc") == b"abcdef"
    assert receiver.take(1, 0, b"abc") == b""
    assert receiver.take(1, 3, b"def") == b""
    assert receiver.take(1, 6, b"ghi") == b"ghi"


def test_acknowledgements_repeat_the_last_ones():
    receiver = Receiver()
    receiver.on_packet(1, 1000.0)
    receiver.on_packet(2, 1000.5)
    assert receiver.take_acks(1001.0) == ((1, 2), 0.5)
    assert receiver.take_acks(1002.0) == ((), 0.0)
    receiver.on_packet(3, 1003.0)
    assert receiver.take_acks(1003.0) == ((1, 2, 3), 0.0)


def test_overhead_is_in_proportion():
    assert PathRules(packet_bytes=1200).overhead_bytes == 37
    assert PathRules(packet_bytes=8).overhead_bytes == 1
