"""What remained, or was new, when the data plane was read a second time (SPEC §2, guarantees 1, 3, 4 and 5)."""

from __future__ import annotations

from kwik.errors import ErrorCode
from kwik.kdp import granting
from kwik.wire import frames
from kwik.wire.codec import encode
from tests.unit.kdp.adversarial.driver import BLOCK, SESSION, App, Net, content
from tests.unit.kdp.adversarial.test_server import NOW, PATH, make_open, make_server


def test_a_paused_reader_is_not_reset_while_a_candidate_has_answered() -> None:
    # Guarantee 3 (needless reset). failover.py:_give_up_late counts the time of a candidacy that only waits for the
    # reader: its answer for the offset at which delivery will stand is here.
    net = Net(recovery_time_s=2.0)
    data = content(100 * BLOCK)
    first = net.server("first", lambda: App(data, ends=False))
    second = net.server("second", lambda: App(data))
    link = net.connect(first)
    net.connect(second)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    net.session.on_instance_dead(first.instance)
    net.cut(link)
    net.wait(10.0, steps=50)  # the application pauses for longer than recovery_time_s
    assert net.resets == {}
    net.reads = True
    net.wait(1.0)
    assert bytes(net.got[stream.key]) == data


def test_a_stalled_candidate_does_not_keep_others_from_being_recruited() -> None:
    # Guarantee 3, SPEC §6.4 ("if nobody may take over one is recruited by replay"). While any candidate runs
    # failover.py:_recover is never called, the stream does not become RECOVERING, and nobody is recruited.
    net = Net(recovery_time_s=5.0)
    data = content(60 * BLOCK)
    first = net.server("first", lambda: App(data[: 20 * BLOCK], ends=False))
    stalled = net.server("stalled", lambda: App(data[: 2 * BLOCK], ends=False))
    honest = net.server("honest", lambda: App(data))
    link = net.connect(first)
    net.connect(stalled)
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    assert stream.down.delivered == 20 * BLOCK
    net.connect(honest)
    link.hold_all()
    link.stuck_since = net.now
    net.wait(4.0, steps=40)  # the anchor is silent, not dead
    assert net.resets == {}
    assert bytes(net.got[stream.key]) == data


def test_credit_that_a_lost_path_brought_still_counts_for_announcements() -> None:
    # An honest server is called a liar (and dropped). replica_view.py:forget_told lowers credit_told, which
    # answers.py:_check_announced takes for all that the server may know; it may know what the lost path had brought.
    net = Net()
    server = net.server("s", lambda: App(content(4 * BLOCK), ends=False))
    first = net.connect(server)
    stream = net.dial(b"GET")
    net.pump()
    second = net.connect(server)
    net.pump()
    view = next(iter(stream.views.values()))
    view.note_told(first.id, stream.credit + BLOCK)  # the reader took a block, and only the first path heard of it
    net.cut(first)
    last = stream.credit // BLOCK
    net.session.on_frame(second.id, frames.Digests(view.number, last, (b"d" * 32,)), net.now)


def test_news_come_although_the_server_has_not_noticed_the_end_of_its_newest_path() -> None:
    # Guarantee 4. session.py:_move_to_others leaves a replica alone that has another path already, but the server may
    # still take the lost one for alive, and it says its news on the one attached last.
    net = Net()
    data = content(20 * BLOCK)
    server = net.server("s", lambda: App(data[: 4 * BLOCK], ends=False))
    net.connect(server)
    stream = net.dial(b"GET")
    net.pump()
    newest = net.connect(server)
    net.pump()
    net.cut(newest, quiet_server=True)
    net.pump()
    app = next(iter(server.apps.values()))
    app.output, app.ends = data, True
    net.wait(3.0, steps=30)
    assert stream.key in net.ended
    assert bytes(net.got[stream.key]) == data


def test_one_liar_cannot_take_an_honest_end_back() -> None:
    # Guarantee 3 (needless reset). failover.py:_refute drops the anchor as soon as an agreeing helper says that it has
    # produced more; if that one then answers no PROBE, the complete stream ends in a reset.
    net = Net(recovery_time_s=5.0)
    data = content(40 * BLOCK + 7)
    honest = net.server("honest", lambda: App(data))
    liar = net.server("liar", lambda: App(data[: 40 * BLOCK], ends=False))
    net.connect(honest)
    link = net.connect(liar)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.1)
    helper = next(view for view in stream.views.values() if view.address == "liar")
    assert helper.agreement.has_agreed
    link.held |= {("up", 0)}
    net.say(link, encode(frames.Produced(helper.number, len(data) + 1)))
    net.pump()
    net.reads = True
    net.wait(20.0, steps=100)
    assert net.resets == {}
    assert bytes(net.got[stream.key]) == data
    assert stream.key in net.ended


def test_a_helper_that_ended_before_the_delivered_bytes_is_no_candidate() -> None:
    # Guarantee 3. answers.py:compare looks at a helper's final size only when it announces something; when delivery
    # has passed it, takeover.py:_may_take_over still lets it run, and PROBE after PROBE is answered "ended before".
    net = Net(recovery_time_s=5.0)
    data = content(60 * BLOCK)
    first = net.server("first", lambda: App(data, ends=False))
    short = net.server("short", lambda: App(data[: 10 * BLOCK]))
    link = net.connect(first)
    net.connect(short)
    link.held |= {("down", 1), ("down", 2)}
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.02)
    link.held.clear()
    net.wait(0.5)
    assert stream.down.delivered > 10 * BLOCK
    probes = 0
    send = net.session.send

    def count(path: object, frame: object) -> None:
        nonlocal probes
        probes += isinstance(frame, frames.Probe)
        send(path, frame)  # type: ignore[arg-type]

    net.session.send = count  # type: ignore[method-assign]
    net.session.on_instance_dead(first.instance)
    net.cut(link)
    net.wait(1.0, steps=20)
    assert probes <= 2


def test_numbers_used_at_another_server_leave_no_limit_to_run_into() -> None:
    # An honest client must not break LIMIT. Numbers are drawn per session, over all servers: at one of them every
    # second one may be missing. server.py:_kill_number then closes the path once 1024 streams have ended.
    server = make_server(memory_bytes=1 << 34)
    for number in range(1, 3000, 2):
        server.on_frame(PATH, make_open(number), NOW)
        server.accepted(server.ports()[-1])
        server.on_frame(PATH, frames.Close(number, ErrorCode.STREAM_ABORTED), NOW)
        while server.room(PATH, 65536, NOW):
            pass
    server.draining = True
    server.on_frame(PATH, make_open(3001), NOW)
    session = server._sessions[SESSION]
    assert len(session.dead) <= 1100
    assert len(session.ran) <= 1100


def test_many_streams_may_end_at_once() -> None:
    # An honest client must not break LIMIT. server.py:on_frame counts CLOSED, which nobody waits for: when more than
    # 1024 streams end in one turn their path is closed, and the rest of their CLOSEs is lost.
    server = make_server(memory_bytes=1 << 34)
    for number in range(1500):
        server.on_frame(PATH, make_open(number), NOW)
        server.accepted(server.ports()[-1])
        if number % 250 == 249:  # fewer than may be unanswered
            while server.room(PATH, 65536, NOW):
                pass
    for number in range(1500):
        server.on_frame(PATH, frames.Close(number, ErrorCode.NO_ERROR), NOW)
    assert server.ports() == []


def test_reaching_a_block_that_nobody_was_asked_for_is_a_matter_of_decision() -> None:
    # Hang (seeds 0x1b58 and 0x1b96). A reader's progress alone touches no stream unless credit is due
    # (granting.py:is_credit_due), and without a touch no clock runs for a head of the line that is not on order.
    net = Net()
    server = net.server("s", lambda: App(content(4 * BLOCK), ends=False))
    net.connect(server)
    net.reads = False
    stream = net.dial(b"GET")
    net.pump()
    stream.down.book.unassigned.add(1, 2)
    view = stream.peek()
    assert view is not None
    size = len(view)
    view.release()
    stream.consume(size, net.now)
    assert stream.down.delivered == BLOCK
    assert granting.is_credit_due(stream)
