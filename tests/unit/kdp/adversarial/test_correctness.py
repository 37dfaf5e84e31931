"""What an application must never see: a splice, an early end, a second execution (SPEC §2, guarantees 1 to 3 and 8)."""

from __future__ import annotations

from kwik.kdp.replica_view import ViewState
from kwik.wire import frames
from kwik.wire.codec import encode, encode_data
from tests.unit.kdp.adversarial.driver import BLOCK, App, Net, content


def test_refused_after_data_is_never_continued_on_another_server() -> None:
    # Guarantees 1, 2 and 8. answers.py:_on_refused unanchors although bytes of this replica were delivered; the next
    # server's bytes are then appended without any comparison.
    net = Net()
    liar = net.server("liar", App)
    liar.accepts = False  # its data plane is silent; the test speaks for it
    honest = net.server("honest", lambda: App(content(4 * BLOCK)))
    link = net.connect(liar)
    stream = net.dial(b"GET")
    net.pump()
    number = next(iter(stream.views))
    net.say(link, encode_data(number, 0, 0, b"\xff" * 100), pipe=1)
    net.pump()
    net.say(link, encode(frames.Refused(number, 11, "overloaded")))
    net.connect(honest)
    net.pump()
    got = bytes(net.got[stream.key])
    assert got[100:] == b"", "bytes of a second server follow those of the first one without comparison"


def test_end_of_a_replica_that_has_not_taken_the_request_is_no_end() -> None:
    # Guarantee 3 (never a silent early end), SPEC §6.4. failover.py:_candidate passes 0 for the upstream's end unless
    # the application has half-closed: a replica whose application gave up early takes over and its end is shown.
    net = Net()
    good = content(40 * BLOCK)
    first = net.server("first", lambda: App(good, ends=False))
    broken = net.server("broken", lambda: App(b"", ends=True, reads=False))
    link = net.connect(first)
    net.connect(broken)
    first.accepts = True
    link.held |= {("down", 1), ("down", 2)}  # no data comes from the first server
    stream = net.dial(b"GET / HTTP/1.1\r\n\r\n", replicas=2)
    net.pump()
    assert stream.anchor is not None
    assert stream.anchor.address == "first"
    assert any(view.final == 0 for view in stream.views.values()), "the broken replica has ended at 0"
    net.session.on_instance_dead(first.instance)
    net.cut(link)
    net.wait(1.0)
    assert stream.key not in net.ended, "end of file at 0, though the request was never read by that replica"


def test_a_replica_that_ran_and_was_forgotten_is_not_opened_elsewhere() -> None:
    # Guarantee 8, SPEC §5.2. server.py:_on_attach answers known=0 for a number that lived here and is dead (linger
    # expired); answers.py:_on_unknown takes that for "never ran" and opens an anchored stream on a second server.
    net = Net(recovery_time_s=1000.0)
    first = net.server("first", lambda: App(content(100)), replicated=False, linger_s=1.0)
    second = net.server("second", lambda: App(content(100)), replicated=False)
    link = net.connect(first)
    link.held |= {("down", pipe) for pipe in range(5)}  # OPENED and what follows is lost
    net.dial(b"transfer 100 coins")
    net.pump()
    assert first.opened == 1
    net.connect(second)
    net.cut(link)
    net.wait(3.0)  # the linger time passes; the session stays
    net.connect(first)
    net.pump()
    assert first.opened + second.opened == 1, "the request runs on two servers"


def test_copy_judged_under_a_shorter_end_grows_again_under_the_next_anchor() -> None:
    # Guarantees 1 and 3 (hang for ever). reassembler.py:Copy.digest is kept although it was taken over the length that
    # the old anchor's end gave the block; Copy.add then refuses the rest of the block, even from the new anchor.
    net = Net()
    short, long = content(3 * BLOCK + 100), content(6 * BLOCK)
    truncated = net.server("truncated", lambda: App(short, ends=False))
    whole = net.server("whole", lambda: App(long[: 3 * BLOCK], ends=False))
    net.connect(truncated)
    net.connect(whole)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.05)  # a pause: the helper announces its three blocks, and agrees
    anchor = stream.anchor
    assert anchor is not None
    helper = next(view for view in stream.views.values() if view is not anchor)
    assert helper.agreement.has_agreed
    next(iter(truncated.apps.values())).ends = True
    net.pump()
    assert anchor.final == len(short)
    # The helper's copy of the last block, as far as it has come: it has the anchor's length and is judged with it.
    stream.down.parts.add(helper.number, 3 * BLOCK, long[3 * BLOCK : 3 * BLOCK + 100], lambda _block, _copy: True)
    stream.down.judge(3, anchor)
    app = next(iter(whole.apps.values()))
    app.output, app.ends = long, True  # it produces more: the anchor's end is refuted
    net.pump()
    net.reads = True
    net.wait(1.0)
    assert stream.anchor is helper
    assert bytes(net.got[stream.key]) == long
    assert stream.key in net.ended


def test_a_longer_replica_whose_first_run_reaches_beyond_the_anchors_end_refutes_it() -> None:
    # Guarantee 3 (silent early end). agreement.py:_compare_run waits for anchor digests that will never come, so the
    # longer replica has never agreed, and answers.py:compare drops it as divergent: the truncated output is the stream.
    net = Net()
    short, long = content(3 * BLOCK + 100), content(6 * BLOCK)
    truncated = net.server("truncated", lambda: App(short))
    whole = net.server("whole", lambda: App(long))
    net.connect(truncated)
    net.connect(whole)
    net.reads = False
    stream = net.dial(b"GET", replicas=2)
    net.wait(0.05)
    net.reads = True
    net.wait(1.0)
    assert bytes(net.got[stream.key]) == long


def test_another_output_than_the_new_anchors_is_no_lie() -> None:
    # Guarantee 3 (needless loss of a replica). answers.py:judge calls a replica a liar when its copy differs from the
    # digest of an anchor that took over after the copy had come; SPEC §6.2 wants 16 whole blocks in a row.
    net = Net()
    same = content(2 * BLOCK)
    one, other = same + b"\x01" * (2 * BLOCK), same + b"\x02" * (2 * BLOCK)
    a = net.server("a", lambda: App(one, ends=False))
    b = net.server("b", lambda: App(one, ends=False))
    c = net.server("c", lambda: App(other, ends=False))
    net.connect(a)
    net.connect(b)
    net.connect(c)
    net.reads = False
    stream = net.dial(b"GET", replicas=3)
    net.pump()
    views = {view.address: view for view in stream.views.values()}
    helper, next_anchor = views["b"], views["c"]
    anchor = stream.anchor
    assert anchor is not None
    stream.down.parts.drop_copy(2, anchor.number)
    stream.down.parts.add(helper.number, 2 * BLOCK, one[2 * BLOCK : 3 * BLOCK], lambda _block, _copy: True)
    stream.anchor = next_anchor
    next_anchor.announced.digests.clear()
    stream.down.rejudge(next_anchor, lambda _order, _block: True)
    digest = stream.down.algorithm(other[2 * BLOCK : 3 * BLOCK]).digest()  # type: ignore[misc]
    link = next(link for link in net.links.values() if link.server is c)
    net.say(link, encode(frames.Digests(next_anchor.number, 2, (digest,))))
    net.pump()
    assert helper.state is ViewState.LIVE
