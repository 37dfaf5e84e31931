"""One path's halves: what is put into packets, what is put into order, what is acknowledged."""

from kwik.sim.paths import Packet, PathRules, Receiver, Sender

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


def fly(sender, number, data, *, pings=()):
    packet = Packet(number, 1000.0, len(data), [(1, 10 * number, data)], pings, (), 0.0)
    sender.flight[number] = packet
    sender.flight_bytes += packet.size
    return packet


def test_a_probe_says_again_what_the_two_oldest_said_and_keeps_the_window():
    sender = Sender(RULES)
    window = sender.congestion.window_bytes
    packets = [fly(sender, number, b"%d" % number * 10, pings=(number,)) for number in range(3)]
    sender.probe()
    assert sender.fill_packet() == [(1, 0, b"0" * 10), (1, 10, b"1" * 10)]
    assert sorted(sender.pings) == [0, 1]
    assert (sender.congestion.window_bytes, sender.lost_packets, sender.flight_bytes) == (window, 0, 30)
    assert sender.oldest_full() is packets[2]
    # What is under way is as it was.
    assert packets[0].chunks == [(1, 0, b"0" * 10)]


def test_what_was_probed_is_acknowledged_or_lost_but_not_said_a_third_time():
    sender = Sender(RULES)
    fly(sender, 0, b"a" * 10)
    sender.probe()
    sender.fill_packet()
    sender.probe()
    assert sender.fill_packet() == []
    assert sender.oldest_full() is None
    packet = sender.remove(0)
    assert packet is not None
    sender.requeue(packet)
    assert (sender.fill_packet(), sender.flight_bytes) == ([], 0)
