"""What Kwik says besides the stream, and a plain connection that says as much at the same places."""

from kwik.sim.client_app import ClientPlan
from kwik.sim.factories import PlainCores
from kwik.sim.framing import FramingWatch, Remarks
from kwik.sim.link import LinkPlan
from kwik.sim.plain import HEAD_BYTES, PlainClient, PlainServer, Remark
from kwik.sim.scenario import Scenario, ServerPlan
from kwik.sim.world import World
from kwik.types import PathId

NOW = 1000.0
PATH = PathId(1)


def scenario():
    link = LinkPlan(rate_bytes_s=1e6, delay_s=0.05, queue_bytes=1 << 22)
    stream = ClientPlan(answers=(5000,), greeting_bytes=80)
    return Scenario(servers=(ServerPlan(up=link, down=link),), streams=(stream,), packet_bytes=1150, block_bytes=16384)


def test_remarks_are_everything_but_the_stream():
    watch = FramingWatch()
    outcome = World(scenario(), watch=watch).run()
    app, (port,) = outcome.world.client.streams[0], outcome.world.places[0].host.instances
    assert len(app.received) == 5080
    for remarks, sent, received in (
        (watch.client.all, len(app.written), 5080),
        (watch.server.all, 5080, len(port.upstream)),
    ):
        assert (remarks[0].received, remarks[0].sent) == (0, 0)
        assert max(remark.sent for remark in remarks) <= sent
        assert max(remark.received for remark in remarks) <= received
        assert [remark.sent for remark in remarks] == sorted(remark.sent for remark in remarks)
    assert all(100 < size < 700 for size in watch.sizes)
    # The client answers the greeting with credit before anything else has come.
    assert any(remark.received == 80 for remark in watch.client.all)


def test_a_plain_connection_with_remarks_carries_the_same_stream():
    watch = FramingWatch()
    World(scenario(), watch=watch).run()
    bare = World(scenario(), PlainCores()).run()
    framed = World(scenario(), PlainCores(watch.client.all, watch.server.all)).run()
    assert framed.world.client.streams[0].received == bare.world.client.streams[0].received
    carried = [site.down.sent_bytes for site in framed.world.network.sites.values()]
    assert sum(carried) > sum(site.down.sent_bytes for site in bare.world.network.sites.values())
    assert bare.took_s <= framed.took_s < bare.took_s + 0.01


def test_a_remark_is_said_where_it_was_said():
    client = PlainClient([Remark(0, 0, 5), Remark(0, 10, 7), Remark(3, 10, 9)])
    key = client.dial(NOW)
    client.on_path_writable(PATH, b"", NOW)
    client.on_app_bytes(key, b"x" * 30, NOW)
    opening, head = b"\xff" * HEAD_BYTES, (10).to_bytes(HEAD_BYTES, "big")
    assert client.on_room(PATH, 100, NOW) == [(0, bytes(5)), (key, opening + head + b"x" * 10)]
    # The third waits for what it answers; the stream waits for nothing.
    head = (20).to_bytes(HEAD_BYTES, "big")
    assert client.on_room(PATH, 100, NOW) == [(0, bytes(7)), (key, head + b"x" * 20)]
    assert not client.wants_room(PATH)
    client.on_path_data(PATH, key, (3).to_bytes(HEAD_BYTES, "big") + b"abc", NOW)
    assert client.on_room(PATH, 4, NOW) == [(0, bytes(4))]
    assert client.on_room(PATH, 100, NOW) == [(0, bytes(5))]
    assert not client.wants_room(PATH)


def test_a_remark_begins_no_stream():
    server = PlainServer([Remark(0, 0, 3)])
    server.on_path_writable(PATH, b"", None, NOW)
    assert server.on_room(PATH, 100, NOW) == [(0, bytes(3))]
    server.on_path_data(PATH, 0, bytes(20), NOW)
    assert server.on_room(PATH, 100, NOW) == []


def test_a_joined_remark_goes_along_with_the_stream():
    client = PlainClient([Remark(0, 1, 5, is_joined=True)])
    key = client.dial(NOW)
    client.on_path_writable(PATH, b"", NOW)
    client.on_app_bytes(key, b"x", NOW)
    assert client.on_room(PATH, 100, NOW) == [(key, b"\xff" * HEAD_BYTES + (1).to_bytes(HEAD_BYTES, "big") + b"x")]
    assert not client.wants_room(PATH)
    client.on_app_bytes(key, b"y", NOW)
    assert client.on_room(PATH, 100, NOW) == [(0, bytes(5)), (key, (1).to_bytes(HEAD_BYTES, "big") + b"y")]


def test_what_is_said_at_one_instant_with_the_stream_is_joined():
    remarks = Remarks()
    remarks.add(1.0, sent=0, received=0, size=7, stream_bytes=0)
    remarks.add(2.0, sent=0, received=9, size=8, stream_bytes=0)
    remarks.add(2.0, sent=0, received=9, size=110, stream_bytes=100)
    remarks.add(2.0, sent=100, received=9, size=HEAD_BYTES, stream_bytes=0)
    remarks.add(2.0, sent=100, received=9, size=60, stream_bytes=60)
    remarks.add(2.0, sent=160, received=9, size=3, stream_bytes=0)
    assert remarks.all == [
        Remark(0, 0, 7),
        Remark(9, 0, 8, is_joined=True),
        Remark(9, 0, 10 - HEAD_BYTES, is_joined=True),
        Remark(9, 160, 3),
    ]
