"""A path in virtual time: what is told, when, and in how many packets."""

import random

import pytest

from kwik.errors import ErrorCode
from kwik.quic import QuicLimits, QuicPath, ServerTls
from kwik.quic.adapter import EndKind
from kwik.quic.certs import issue, make_ca
from kwik.quic.connection import PathConnection
from kwik.quic.fast_connection import FastConnection
from tests.unit.quic.lab import NAME, SERVER, START, Lab, authority

HALF_RTT = 0.025


def open_lab(**options) -> Lab:
    lab = Lab(**options)
    lab.server_events.at_writable = lambda path, now: path.send(0, b"HELLO")
    lab.client_events.at_writable = lambda path, now: path.send(0, b"OPEN")
    return lab


def test_hello_travels_with_the_handshake_and_open_with_finished():
    lab = open_lab()
    lab.run(4 * HALF_RTT - 0.001)

    assert lab.server_events.words == ["writable", "up", "data 0"]
    assert lab.server_events.when("writable") == pytest.approx(START + HALF_RTT)
    assert lab.client_events.words == ["writable", "up", "data 0"]
    assert lab.client_events.when("data 0") == pytest.approx(START + 2 * HALF_RTT)
    assert lab.server_events.when("data 0") == pytest.approx(START + 3 * HALF_RTT)
    # One datagram each: ClientHello; the whole server flight and HELLO; Finished and OPEN.
    flights = [(way, round((at - START) / HALF_RTT)) for at, way, _ in lab.wire][:3]
    assert flights == [("up", 0), ("down", 1), ("up", 2)]
    assert bytes(lab.client_events.pipes[0]) == b"HELLO"
    assert bytes(lab.server_events.pipes[0]) == b"OPEN"


def test_binding_is_common_to_both_ends_and_to_no_other_path():
    labs = [open_lab().up(), open_lab().up()]
    for lab in labs:
        assert len(lab.client_events.binding) == 32
        assert lab.client_events.binding == lab.server_events.binding
    assert labs[0].client_events.binding != labs[1].client_events.binding


def test_binding_survives_key_updates():
    lab = open_lab().up()
    before = lab.client.connection.binding
    for side in (lab.client, lab.server):
        side.connection.request_key_update()
        side.send(0, b"after")
        lab.pump(side)
        lab.run(0.5)
    assert lab.client.connection._cryptos[lab_epoch()].recv.key_phase == 0  # twice updated
    assert lab.client.connection.binding == lab.server.connection.binding == before
    assert bytes(lab.server_events.pipes[0]) == b"OPENafter"


def lab_epoch():
    from aioquic.tls import Epoch

    return Epoch.ONE_RTT


def test_pipes_are_numbered_in_the_senders_order_and_opened_from_below():
    lab = open_lab().up()
    lab.client.send(3, b"three")
    lab.client.send(1, b"one")
    lab.server.send(2, b"two")
    lab.pump(lab.client)
    lab.pump(lab.server)
    lab.run(0.2)
    assert bytes(lab.server_events.pipes[3]) == b"three"
    assert bytes(lab.server_events.pipes[1]) == b"one"
    assert bytes(lab.client_events.pipes[2]) == b"two"
    with pytest.raises(ValueError, match="pipes 0 to 4"):
        lab.client.send(5, b"x")


def test_a_client_takes_no_data_before_its_server_is_verified():
    lab = Lab()
    assert lab.client.room(lab.now) == 0
    with pytest.raises(RuntimeError, match="on_writable"):
        lab.client.send(0, b"early")


def test_a_server_has_room_within_the_amplification_limit_before_the_handshake_is_complete():
    lab = open_lab()
    seen = []
    lab.server_events.at_writable = lambda path, now: seen.append(path.room(now))
    lab.run(HALF_RTT + 0.001)
    assert 500 < seen[0] < 3 * 1200


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_bytes_arrive_whole_over_loss_and_reordering(loss):
    rng = random.Random(7)
    lab = open_lab().up()
    lab.drops = lambda sender, data: rng.random() < loss
    lab.extra_delay = lambda: rng.random() * 0.004
    payload = rng.randbytes(300_000)
    lab.server_events.to_send = payload
    lab.server.wants_room = True
    lab.pump(lab.server)
    lab.run_until(lambda: len(lab.client_events.pipes.get(1, b"")) == len(payload))
    assert bytes(lab.client_events.pipes[1]) == payload
    facts = lab.server.facts(lab.now)
    assert (facts.lost_packets > 0) or not loss


@pytest.mark.parametrize("seed", range(12))
def test_handshakes_survive_loss_and_disorder(seed):
    rng = random.Random(seed)
    lab = open_lab(delay_s=0.01)
    lab.drops = lambda sender, data: rng.random() < 0.3
    lab.extra_delay = lambda: rng.random() * 0.02
    lab.run_until(lambda: lab.client_events.got(0) == b"HELLO" and lab.server_events.got(0) == b"OPEN")
    assert lab.client_events.binding == lab.server_events.binding
    for events in (lab.client_events, lab.server_events):
        assert events.words.count("writable") == events.words.count("up") == 1
        assert events.words[0] == "writable"


def test_a_long_certificate_chain_does_not_keep_the_hello_back_for_ever():
    leaf, filler = issue(authority(), [NAME]), b"".join(make_ca(f"filler {n}").cert_pem for n in range(10))
    lab = open_lab(server=ServerTls(certdata=leaf.cert_pem + filler, keydata=leaf.key_pem))
    room = []

    def greet(path: QuicPath, now: float) -> None:
        room.append(path.room(now))
        path.send(0, b"HELLO")

    lab.server_events.at_writable = greet
    lab.run_until(lambda: lab.client_events.got(0) == b"HELLO" and lab.server_events.got(0) == b"OPEN")
    assert room == [0]
    assert lab.now < START + 6 * HALF_RTT


def test_room_follows_the_congestion_window_and_keeps_the_unsent_bytes_short():
    lab = open_lab().up()
    unsent = []
    lab.server_events.to_send = bytes(2_000_000)
    lab.server.wants_room = True
    lab.pump(lab.server)
    while lab.server_events.to_send:
        lab.step()
        facts = lab.server.facts(lab.now)
        assert facts.smoothed_rtt_s is not None
        ahead = 0.010 * facts.congestion_window / facts.smoothed_rtt_s
        unsent.append(facts.unsent_bytes)
        # Packet headers take their part of the window: a twentieth is more than enough for them.
        spare = facts.congestion_window - facts.bytes_in_flight + facts.congestion_window // 20
        assert facts.unsent_bytes <= spare + ahead + 1200
    assert min(lab.server_events.offers) >= lab.server.datagram_payload_bytes
    assert max(unsent) > 10_000


def test_room_is_one_datagram_when_nothing_is_unsent_and_none_when_full():
    lab = open_lab().up()
    lab.drops = lambda sender, data: sender is lab.server
    lab.server.send(1, bytes(100_000))
    assert lab.server.room(lab.now) == 0
    lab.pump(lab.server)
    assert lab.server.facts(lab.now).unsent_bytes > 0
    assert lab.server.room(lab.now) == 0


def test_room_is_offered_only_while_wanted():
    lab = open_lab().up()
    lab.server_events.to_send = b"x" * 10
    lab.pump(lab.server)
    assert lab.server_events.offers == []
    lab.server.wants_room = True
    lab.pump(lab.server)
    assert len(lab.server_events.offers) == 2  # taken once, then offered again and refused


def test_ping_is_answered_and_facts_are_filled():
    lab = open_lab().up()
    before = lab.client.facts(lab.now).received_bytes
    lab.client.ping(77)
    lab.pump(lab.client)
    facts = lab.client.facts(lab.now)
    assert facts.oldest_unacked_at == lab.now
    lab.run(0.2)
    facts = lab.client.facts(lab.now)
    assert lab.client_events.pongs == [77]
    assert facts.oldest_unacked_at is None
    assert facts.last_packet_at is not None
    assert facts.last_packet_at > START + 0.5
    assert facts.min_rtt_s == pytest.approx(2 * HALF_RTT, rel=0.05)
    assert facts.smoothed_rtt_s == pytest.approx(2 * HALF_RTT, rel=0.1)
    assert facts.max_ack_delay_s == pytest.approx(0.025)
    assert facts.congestion_window >= 12_000
    assert before is not None
    assert facts.received_bytes is not None
    assert before < facts.received_bytes < before + 200  # the acknowledgement


def test_a_close_is_told_to_both_sides_at_once():
    lab = open_lab().up()
    lab.client.close(12, "leaving", lab.now)
    lab.pump(lab.client)
    assert lab.client_events.end is not None
    assert (lab.client_events.end.kind, lab.client_events.end.code) == (EndKind.CLOSED_BY_US, 12)
    closed_at = lab.now
    lab.run_until(lambda: lab.server_events.end is not None)
    assert lab.now - closed_at == pytest.approx(HALF_RTT)
    assert lab.server_events.end is not None
    assert str(lab.server_events.end) == "closed_by_other 12: leaving"
    lab.run(5)
    assert lab.client.is_over
    assert lab.server.is_over
    lab.server.send(0, b"into the void")
    lab.server.ping(1)


def test_a_lost_close_is_repeated_to_late_packets():
    lab = open_lab().up()
    lab.drops = lambda sender, data: sender is lab.client
    lab.client.close(0, "", lab.now)
    lab.pump(lab.client)
    lab.drops = lambda sender, data: False
    lab.server.send(0, b"are you there?")
    lab.pump(lab.server)
    lab.run(2 * HALF_RTT + 0.001)
    assert lab.server_events.end is not None
    assert lab.server_events.end.kind == "closed_by_other"


def test_a_close_before_the_handshake_is_complete_is_a_close():
    lab = Lab()
    lab.server_events.at_writable = lambda path, now: path.close(11, "full", now)
    lab.run(1)
    assert lab.client_events.words == ["down"]
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.CLOSED_BY_OTHER


def test_silence_ends_a_path_by_the_idle_time_out():
    lab = open_lab(client_limits=QuicLimits(idle_timeout_s=5)).up()
    lab.drops = lambda sender, data: True
    last = lab.client.facts(lab.now).last_packet_at
    lab.run_until(lambda: lab.client_events.end is not None)
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.IDLE
    assert last is not None
    assert lab.now == pytest.approx(last + 5, abs=0.01)
    lab.run_until(lambda: lab.server_events.end is not None)


def asleep_with_a_datagram(lab: Lab, slept_s: float, *, speaker: QuicPath, asks_first: bool) -> None:
    """The client stops, something of the server's reaches its socket, and only later the client runs again."""
    waiting: list[bytes] = []

    def keep(sender: QuicPath, data: bytes) -> bool:
        if sender is lab.server:
            waiting.append(data)
        return sender is lab.server

    lab.drops = keep
    speaker.send(0, b"words")
    lab.pump(speaker)
    lab.run_until(lambda: bool(waiting))
    lab.now += slept_s
    lab.drops = lambda sender, data: False
    if asks_first:
        lab.client.ping(1)
        lab.pump(lab.client)
        lab.client.deadline()
    for data in waiting:
        lab.client.receive(data, SERVER, lab.now)
    lab.pump(lab.client)


ASKS_FIRST = pytest.mark.parametrize("asks_first", [False, True], ids=["reads first", "pings first"])


@ASKS_FIRST
def test_what_waited_in_the_socket_does_not_revive_a_path_whose_idle_time_out_has_passed(asks_first: bool):
    """The other side has heard nothing for as long, and has given the path up."""
    lab = open_lab(client_limits=QuicLimits(idle_timeout_s=5)).up()
    asleep_with_a_datagram(lab, 6.0, speaker=lab.server, asks_first=asks_first)
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.IDLE


@ASKS_FIRST
@pytest.mark.parametrize("kind", [PathConnection, FastConnection])
def test_a_sleep_is_no_round_trip(kind: type[PathConnection], asks_first: bool):
    lab = open_lab(kind=kind).up()
    before = lab.client.facts(lab.now)
    assert before.smoothed_rtt_s is not None
    asleep_with_a_datagram(lab, 4.0, speaker=lab.client, asks_first=asks_first)
    after = lab.client.facts(lab.now)
    assert after.smoothed_rtt_s is not None
    assert asks_first or after.bytes_in_flight == 0, "it was acknowledged"
    assert after.smoothed_rtt_s < 2 * before.smoothed_rtt_s
    assert after.rtt_variance_s < before.smoothed_rtt_s
    assert lab.client_events.end is None


def test_a_path_that_slept_asks_at_once_whether_anybody_is_there():
    lab = open_lab().up()
    lab.drops = lambda sender, data: True
    lab.client.send(0, b"ask")
    lab.pump(lab.client)
    lab.now += 4.0
    lab.wire.clear()
    lab.client.handle_timer(lab.now)
    lab.pump(lab.client)
    assert lab.wire
    unacked = lab.client.facts(lab.now).oldest_unacked_at
    assert unacked is not None
    assert lab.now - unacked < 1.0, "silence is counted from waking"


def test_a_handshake_that_takes_too_long_ends():
    lab = Lab(client_limits=QuicLimits(handshake_timeout_s=3))
    lab.drops = lambda sender, data: True
    lab.run_until(lambda: lab.client_events.end is not None)
    assert lab.client_events.words == ["down"]
    assert lab.client_events.end is not None
    assert "no handshake within 3.0 s" in str(lab.client_events.end)
    assert lab.now == pytest.approx(START + 3, abs=0.001)
    assert lab.client.is_over


def test_nothing_is_told_after_the_owner_closed():
    lab = open_lab().up()
    lab.client.send(0, b"first")
    lab.client.send(1, b"second")
    lab.pump(lab.client)
    lab.server_events.pipes.clear()
    lab.server_events.at_data = lambda path, pipe, data, now: path.close(1, "enough", now)
    lab.run(0.2)
    assert len(lab.server_events.pipes) == 1
    assert lab.server_events.words[-1] == "down"


def test_random_bytes_upset_nobody():
    rng = random.Random(3)
    lab = open_lab().up()
    for size in (1, 5, 20, 21, 100, 1200, 1500):
        for first in (0x40, 0xC0, 0xE0, 0x00):
            for path in (lab.client, lab.server):
                connection_id = path.connection.host_cid
                assert path.remote_address is not None
                path.receive(bytes([first]) + connection_id + rng.randbytes(size), path.remote_address, lab.now)
                lab.pump(path)
    assert lab.client_events.end is lab.server_events.end is None
    lab.client.send(0, b"!")
    lab.pump(lab.client)
    lab.run(0.2)
    assert bytes(lab.server_events.pipes[0]) == b"OPEN!"


def test_a_defect_of_the_stack_ends_the_path_and_nothing_else(monkeypatch, caplog):
    lab = open_lab().up()

    def broken(*args: object) -> None:
        raise IndexError("defect")

    monkeypatch.setattr(lab.server.connection, "receive_datagram", broken)
    lab.client.send(0, b"x")
    lab.pump(lab.client)
    lab.run(0.2)
    assert lab.server_events.end is not None
    assert (lab.server_events.end.kind, lab.server_events.end.code) == (EndKind.ERROR, ErrorCode.INTERNAL)
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.CLOSED_BY_OTHER
    assert "upset the QUIC stack" in caplog.text


def test_description_names_both_addresses():
    lab = open_lab().up()
    assert isinstance(lab.client, QuicPath)
    assert "192.0.2.2:4433" in lab.client.description
    assert "192.0.2.1:1111" in lab.client.description
    assert lab.client.is_client
    assert not lab.server.is_client
    assert NAME
