"""The window: doubling, adding, halving."""

from kwik.sim.congestion import Congestion


def test_slow_start_doubles_in_a_round_trip():
    window = Congestion(100)
    for _ in range(10):
        window.on_acknowledged(100, 1001.0, is_window_used=True)
    assert window.window_bytes == 2000


def test_an_idle_window_does_not_grow():
    window = Congestion(100)
    window.on_acknowledged(100, 1001.0, is_window_used=False)
    assert window.window_bytes == 1000


def test_one_halving_per_round_trip_then_one_packet_more_each():
    window = Congestion(100)
    window.on_lost(1000.0, 1001.0)
    window.on_lost(1000.5, 1001.1)
    assert window.window_bytes == 500
    for _ in range(5):
        window.on_acknowledged(100, 1002.0, is_window_used=True)
    assert 590 <= window.window_bytes <= 600
    for loss in range(10):
        window.on_lost(1003.0 + loss, 1003.5 + loss)
    assert window.window_bytes == 200
