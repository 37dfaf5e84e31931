"""Several paths to one server: frames overtake each other and paths die with frames on them (SPEC §5.3 to §5.6)."""

from __future__ import annotations

from kwik.kdp.stream import Phase
from tests.unit.kdp.adversarial.driver import BLOCK, App, Net, content


def test_an_order_on_one_path_may_arrive_before_the_credit_told_on_another() -> None:
    # An honest client must not break LIMIT (SPEC §5.6). granting.py:_issue asks view.credit_told, which may have been
    # told on another path; the server then closes the path that carries the order.
    net = Net()
    data = content(300 * BLOCK)
    server = net.server("s", lambda: App(data))
    first = net.connect(server)
    net.reads = False
    stream = net.dial(b"GET")
    net.pump()
    second = net.connect(server)
    net.pump()
    assert len(next(iter(stream.views.values())).paths) == 2
    first.held |= {("up", 0)}  # control frames on the first path are slow
    net.reads = True
    net.pump()
    first.held.clear()
    net.wait(1.0)
    assert net.faults == []
    assert bytes(net.got[stream.key]) == data
    assert second.alive


def test_credit_that_died_with_its_path_is_told_again() -> None:
    # Hang (guarantee 3). failover.py:unbind leaves credit_told and floor_told as if the other path had carried them.
    net = Net(receive_window_bytes=8 * BLOCK, first_window_bytes=8 * BLOCK)
    data = content(300 * BLOCK)
    server = net.server("s", lambda: App(data))
    first = net.connect(server)
    net.reads = False
    stream = net.dial(b"GET")
    net.pump()
    second = net.connect(server)
    net.pump()
    first.held |= {("up", 0)}
    net.reads = True
    net.pump()
    net.cut(first)  # with the ACK on it
    net.wait(2.0)
    assert net.faults == []
    assert bytes(net.got[stream.key]) == data
    assert second.alive


def test_late_frames_on_a_replaced_path_are_no_fault() -> None:
    # An honest client must not cause a protocol error. server.py:_replica_for refuses frames of a replica that lives
    # but was moved away from this path by ATTACH (SPEC §5.3: it names the paths that it replaces).
    net = Net()
    data = content(200 * BLOCK)
    server = net.server("s", lambda: App(data))
    first = net.connect(server)
    net.reads = False
    stream = net.dial(b"GET")
    net.pump()
    first.hold_all()
    first.stuck_since = net.now
    net.reads = True
    net.wait(2.0)  # the application reads what is here; acknowledgements go onto the stuck path, which falls silent
    assert net.session.paths[first.id].is_silent
    net.connect(server)
    net.pump()
    first.held.clear()
    first.stuck_since = None
    net.wait(1.0)
    assert net.faults == []
    assert bytes(net.got[stream.key]) == data


def test_anchor_told_on_a_path_that_died_is_told_again() -> None:
    # Hang. failover.py:_probe sends ANCHOR once (announces_blocks) and unbind does not repeat it: the new anchor keeps
    # announcing runs, so that whole copies of helpers are never deliverable and yet count as held.
    net = Net()
    data = content(400 * BLOCK)
    old = net.server("old", lambda: App(data))
    new = net.server("new", lambda: App(data))
    helper = net.server("helper", lambda: App(data))
    link_old = net.connect(old)
    first, link_helper = net.connect(new), net.connect(helper)
    net.reads = False
    stream = net.dial(b"GET", replicas=3)
    net.wait(0.1)
    second = net.connect(new)
    net.pump()
    candidate = next(view for view in stream.views.values() if view.address == "new")
    assert len(candidate.paths) == 2
    first.held |= {("up", 0), ("down", 0)}
    second.held |= {("up", 0), ("down", 0)}
    link_helper.held |= {("up", 0)}
    net.session.paths[link_helper.id].is_draining = True  # so that "new" is the candidate
    net.session.on_instance_dead(old.instance)
    net.cut(link_old)
    net.pump()
    assert stream.takeover.candidate is candidate
    told_on = next(link for link in (first, second) if any(link.up.get(0, [])))
    net.cut(told_on)  # with ANCHOR and PROBE on it
    first.held.clear()
    second.held.clear()
    link_helper.held.clear()
    net.pump()
    net.reads = True
    net.wait(2.0)
    assert net.faults == []
    assert candidate.announced.digests or bytes(net.got[stream.key]) == data
    server_side = next(iter(new.data._ports.values()))[1]
    assert server_side.announcer is not None
    assert server_side.announcer.block_by_block, "the anchor announces runs only"
    assert bytes(net.got[stream.key]) == data


def test_news_of_a_replica_do_not_wait_for_its_newest_path() -> None:
    # Guarantee 4 (stall until the path is given up). A server announces, acknowledges and ends only on the path that
    # was attached last (replica.py:primary); when that one falls silent session.py:_set_silent asks for nothing.
    net = Net()
    data = content(20 * BLOCK)
    server = net.server("s", lambda: App(data[: 4 * BLOCK], ends=False))
    net.connect(server)
    stream = net.dial(b"GET")
    net.pump()
    newest = net.connect(server)
    net.pump()
    newest.hold_all()
    newest.stuck_since = net.now
    app = next(iter(server.apps.values()))
    app.output, app.ends = data, True
    net.wait(3.0, steps=30)
    assert net.session.paths[newest.id].is_silent
    assert bytes(net.got[stream.key]) == data
    assert stream.key in net.ended


def test_open_overtaken_by_attach_is_opened_again() -> None:
    # Hang for ever. answers.py:_on_unknown returns the stream to PENDING, but the instance stays in attempts, so the
    # only server is never asked again; pending.give_up wants a refusal and there is none.
    net = Net()
    data = content(5 * BLOCK)
    server = net.server("s", lambda: App(data))
    first = net.connect(server)
    first.held |= {("up", 0)}  # OPEN is lost again and again
    stream = net.dial(b"GET")
    net.pump()
    net.connect(server)  # a second path: ATTACH arrives first, the number is dead from now on
    net.pump()
    first.held.clear()
    net.wait(2.0)
    assert net.faults == []
    assert stream.phase is not Phase.PENDING
    assert bytes(net.got[stream.key]) == data


def test_a_replica_whose_path_died_goes_on_on_another_path_that_is_there() -> None:
    # Guarantee 3. session.py:on_path_gone never attaches a replica to the paths that the instance still has; it waits
    # for a new one, though up to 4 are open (and no more than 4 may be).
    net = Net()
    data = content(200 * BLOCK)
    server = net.server("s", lambda: App(data), replicated=False)
    first = net.connect(server)
    second = net.connect(server)
    net.reads = False
    stream = net.dial(b"GET")
    net.pump()
    used = next(iter(next(iter(stream.views.values())).paths))
    net.reads = True
    net.cut(first if first.id == used else second)
    net.wait(2.0)
    assert bytes(net.got[stream.key]) == data
