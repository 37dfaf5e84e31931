"""Streams that stand still although somebody could go on (SPEC §2, guarantees 3 and 4)."""

from __future__ import annotations

from kwik.kdp.replica_view import ViewState
from kwik.wire import frames
from kwik.wire.codec import encode
from tests.unit.kdp.adversarial.driver import BLOCK, App, Net, content


def test_a_server_that_holds_little_is_told_the_floor_in_time() -> None:
    # Hang for ever. sending.py:acknowledge tells the floor in steps of an eighth of the client's window and ignores
    # OPENED.cap_bytes; a server short of memory (cap = one block + 16 KiB) then may not read its application any more.
    net = Net()
    data = content(200 * BLOCK)
    server = net.server("s", lambda: App(data), send_window_bytes=2 * BLOCK)
    net.connect(server)
    stream = net.dial(b"GET")
    net.pump(2000)
    net.wait(1.0)
    assert bytes(net.got[stream.key]) == data


def test_many_idle_streams_do_not_starve_another() -> None:
    # Hang for ever. Each idle stream keeps its first order (order 0) outstanding; with 240 of them granting.py:_lanes
    # gives no stream of the path another order, and beyond 256 server.py:_on_grant would close the path.
    net = Net(memory_bytes=64 << 20)
    data = content(40 * BLOCK)
    apps = [App(b"", ends=False) for _ in range(260)]
    server = net.server("s", lambda: apps.pop() if apps else App(data), memory_bytes=1 << 34)
    net.connect(server)
    for _ in range(260):
        net.dial()
    net.pump()
    stream = net.dial(b"GET")
    net.wait(1.0)
    assert net.faults == []
    assert bytes(net.got[stream.key]) == data


def test_bytes_that_the_floor_passed_are_not_waited_for() -> None:
    # Guarantee 4, and a leak. replica.py:next_data skips in silence what lies below the floor; the client's order then
    # waits for it for ever: the path looks busy (outstanding_bytes) and, as it owes produced bytes, silent.
    net = Net()
    data = content(40 * BLOCK)
    slow = net.server("slow", lambda: App(data))
    fast = net.server("fast", lambda: App(data))
    link = net.connect(slow)
    net.connect(fast)
    stream = net.dial(b"GET", replicas=2)
    link.held |= {("down", 1), ("down", 2)}
    server_room = slow.data.room

    def no_data(path: int, size: int, now: float) -> list[tuple[int, bytes]]:
        return server_room(path, 33, now)  # type: ignore[arg-type]

    slow.data.room = no_data  # type: ignore[method-assign]
    net.wait(3.0, steps=60)  # the slow server has no room for data: the other one's copies are delivered
    delivered = stream.down.delivered
    assert delivered > 0, "copies come from the other server"
    slow.data.room = server_room  # type: ignore[method-assign]
    link.held.clear()
    net.wait(3.0, steps=60)
    path = net.session.paths[link.id]
    assert bytes(net.got[stream.key]) == data
    assert stream.down.book.orders() == []
    assert path.outstanding_bytes == 0
    assert not path.is_silent


def test_a_candidate_that_never_answers_gives_way_to_another() -> None:
    # Guarantees 3 and 4. failover.py:_candidate keeps the first candidate for as long as its path lives: one stalled or
    # dishonest replica keeps an honest one from taking over for ever (not even recovery_time_s ends it).
    net = Net(recovery_time_s=5.0)
    data = content(60 * BLOCK)
    old = net.server("old", lambda: App(data[: 20 * BLOCK], ends=False))
    stalled = net.server("stalled", lambda: App(data[: 2 * BLOCK], ends=False))
    honest = net.server("honest", lambda: App(data))
    link = net.connect(old)
    net.connect(stalled)
    stream = net.dial(b"GET", replicas=3)
    net.wait(0.1)
    view = next(view for view in stream.views.values() if view.address == "stalled")
    assert stream.down.delivered == 20 * BLOCK
    net.session.on_instance_dead(old.instance)
    net.cut(link)
    net.pump()
    assert stream.takeover.candidate is view
    net.connect(honest)
    net.wait(4.0, steps=40)
    assert net.resets == {}
    assert bytes(net.got[stream.key]) == data


def test_a_helper_that_ended_before_an_offset_ahead_is_not_divergent() -> None:
    # Guarantee 3 (needless loss of the only successor). While the anchor drains, failover.py:_offset_ahead probes two
    # blocks ahead, perhaps beyond the end of the stream; answers.py:_on_probed calls the honest answer a divergence.
    net = Net()
    data = content(8 * BLOCK + 100)
    leaving = net.server("leaving", lambda: App(data[: 8 * BLOCK], ends=False))
    staying = net.server("staying", lambda: App(data))
    link = net.connect(leaving)
    net.connect(staying)
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    helper = next(view for view in stream.views.values() if view.address == "staying")
    assert helper.final == len(data)
    net.session.on_draining(leaving.instance)
    net.pump()
    assert helper.state is ViewState.LIVE
    net.cut(link)
    net.session.on_instance_dead(leaving.instance)
    net.wait(1.0)
    assert bytes(net.got[stream.key]) == data


def test_delivery_does_not_wait_for_a_candidate_that_has_not_produced() -> None:
    # Guarantee 4. While the anchor drains, takeover.py:stop_at holds delivery at a probed offset until the answer is
    # here, and a helper whose application stalls answers only when it gets there.
    net = Net()
    data = content(60 * BLOCK)
    leaving = net.server("leaving", lambda: App(data, ends=False))
    stalled = net.server("stalled", lambda: App(data[: 2 * BLOCK], ends=False))
    net.connect(leaving)
    net.connect(stalled)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    net.session.on_draining(leaving.instance)
    net.pump()
    net.reads = True
    net.wait(2.0)
    assert bytes(net.got[stream.key]) == data


def test_probes_of_one_candidacy_after_another_stay_within_the_limit() -> None:
    # An honest client must not break SPEC §7 (16 unanswered probes). takeover.py:begin forgets the probes of the
    # candidacy before, which the server still keeps.
    net = Net()
    data = content(60 * BLOCK)
    first = net.server("first", lambda: App(data, ends=False))
    slow = net.server("slow", lambda: App(data[:BLOCK], ends=False))
    link = net.connect(first)
    net.connect(slow)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    net.reads = True
    path = net.session.paths[link.id]
    for _ in range(30):  # the anchor's path falls silent and speaks again, and a little is read in between
        net.session._set_silent(path, net.now, silent=True)
        link.stuck_since = net.now - 10
        link.last_packet_at = net.now - 10
        net.session.settle(net.now)
        net.pump(1)
        link.stuck_since = None
        link.last_packet_at = net.now
        net.pump(3)
        view = stream.peek()
        del view
    assert net.faults == []


def test_digests_are_asked_for_within_the_limit() -> None:
    # An honest client must not break SPEC §7 (64 blocks asked for). agreement.py:compare asks for every run that
    # differs at once: a helper whose output differs gets its path closed, and all other streams on it suffer.
    net = Net(receive_window_bytes=400 * BLOCK, first_window_bytes=400 * BLOCK)
    a, b = content(300 * BLOCK), b"\x00" * (300 * BLOCK)
    anchor = net.server("anchor", lambda: App(a, ends=False))
    other = net.server("other", lambda: App(b, ends=False))
    link = net.connect(anchor)
    net.connect(other)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    link.held |= {("down", 0)}
    net.pump()
    link.held.clear()  # OPENED and all announcements of the anchor come at once
    net.pump()
    net.wait(0.1)
    assert net.faults == []
    assert any(view.state is ViewState.DIVERGENT for view in stream.views.values())


def test_a_server_with_its_default_memory_takes_more_than_a_hundred_streams() -> None:
    # Needless refusal. server.py:_reserve gives each newcomer a quarter of what is left and never takes any of it back:
    # with the default 256 MiB about 85 idle streams fill the process, and all others are refused (max_replicas: 4096).
    net = Net(memory_bytes=1 << 30, block_bytes=16384, receive_window_bytes=4 << 20)
    server = net.server("s", lambda: App(b"", ends=False))
    net.connect(server)
    for _ in range(200):
        net.dial()
    net.pump()
    assert server.opened == 200


def test_a_replica_that_broke_the_rules_is_not_asked_again_and_again() -> None:
    # Livelock (seed 0x163e9: 6600 paths in 300 s). Only the path is closed for a replica's contradictory frames; the
    # replica stays usable, is attached on the next path, contradicts itself again, and no deadline ever ends it.
    net = Net(recovery_time_s=5.0)
    data = content(20 * BLOCK)
    server = net.server("s", lambda: App(data, ends=False), replicated=False)
    stream = net.dial(b"GET")
    for _ in range(4):
        link = net.connect(server)
        net.pump()
        number = next(iter(stream.views))
        net.say(link, encode(frames.Fin(number, 10)))  # it has produced more
        net.pump()
        net.wait(2.0)
    assert net.resets
    assert len(net.faults) == 1
