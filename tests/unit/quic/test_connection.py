"""What differs from stock aioquic: credit, legal streams, private parts."""

import aioquic
import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream, QuicStreamReceiver, QuicStreamSender
from aioquic.tls import Context, Epoch

from kwik.quic import QuicLimits
from kwik.quic.adapter import EndKind
from kwik.quic.connection import PathConnection, check_aioquic
from kwik.quic.pipes import PipeReceiver
from tests.unit.quic.lab import Lab, client_tls

SMALL = QuicLimits(window_bytes=65_536)

PRIVATE = {
    QuicConnection: (
        "_alpn_handler _close_end _get_or_create_stream _get_or_create_stream_for_send _handle_connection_close_frame "
        "_handle_datagram_frame _handle_reset_stream_frame _handle_stop_sending_frame _handle_stream_frame "
        "_idle_timeout _on_connection_limit_delivery _on_max_stream_data_delivery _payload_received "
        "_probe_preferred_address _update_traffic_key _write_connection_limits _write_stream_limits"
    ),
    QuicStreamSender: "write",
    QuicStreamReceiver: "handle_frame starting_offset",
    QuicPacketPacer: "next_send_time update_after_send update_bucket update_rate",
}


def test_only_known_versions_are_accepted():
    check_aioquic(aioquic.__version__)
    check_aioquic("1.7")
    for version in ("1.6.0", "1.8.0", "1.70.0", "2.0"):
        with pytest.raises(ImportError, match=r"1\.7\.x"):
            check_aioquic(version)


@pytest.mark.parametrize("owner", PRIVATE, ids=lambda owner: owner.__name__)
def test_private_methods_are_there(owner):
    missing = [name for name in PRIVATE[owner].split() if not callable(getattr(owner, name, None))]
    assert not missing, f"aioquic {aioquic.__version__} has no {owner.__name__}.{missing}: adapt kwik/quic"


def test_private_attributes_are_there():
    limits = QuicLimits()
    connection = PathConnection(configuration=client_tls().configuration(limits), limits=limits)
    connection.connect(("192.0.2.9", 1), now=1.0)
    wanted = {
        connection: (
            "_close_at _close_event _close_pending _crypto_streams _cryptos _events _handshake_complete _is_client "
            "_local_max_data _local_max_streams_bidi _local_max_streams_uni _loss _max_datagram_size _network_paths "
            "_remote_preferred_address _spaces _state _streams tls"
        ),
        connection._loss: (
            "_cc _pacer _rtt_initialized _rtt_latest _rtt_min _rtt_smoothed _rtt_variance max_ack_delay "
            "congestion_window bytes_in_flight"
        ),
        connection._local_max_data: "frame_type sent used value",
        connection._network_paths[0]: "addr bytes_received bytes_sent is_validated",
        connection.tls: "_peer_certificate key_schedule",
        QuicPacketSpace(): "ack_eliciting_in_flight sent_packets",
        QuicStream(stream_id=2): (
            "max_stream_data_local max_stream_data_local_sent max_stream_data_remote receiver sender stream_id"
        ),
        QuicStreamSender(2, writable=True): "_pending buffer_is_empty",
        QuicStreamReceiver(2, readable=True): "_buffer_start _stream_id highest_offset is_finished",
        QuicPacketPacer(max_datagram_size=1200): "_max_datagram_size bucket_max bucket_time packet_time",
    }
    missing = [
        f"{type(owner).__name__}.{name}"
        for owner, names in wanted.items()
        for name in names.split()
        if not hasattr(owner, name)
    ]
    assert not missing, f"aioquic {aioquic.__version__} lacks {missing}: adapt kwik/quic"
    assert isinstance(connection._loss, QuicPacketRecovery)
    assert isinstance(connection.tls, Context)


def test_credit_does_not_grow_while_nobody_takes_the_bytes():
    lab = Lab(client_limits=SMALL).up()
    lab.client.dispatch = lambda now: []  # type: ignore[method-assign]
    lab.server.send(1, bytes(1_000_000))
    lab.pump(lab.server)
    lab.run(10)
    stream = lab.client.connection._streams[3 + 4]
    assert stream.receiver.highest_offset == SMALL.window_bytes
    assert lab.client.connection._local_max_data.value == SMALL.window_bytes


def test_credit_follows_received_bytes_and_never_doubles():
    lab = Lab(client_limits=SMALL).up()
    lab.server.send(1, bytes(1_000_000))
    lab.pump(lab.server)
    received = 0
    while received < 1_000_000:
        lab.step()
        received = len(lab.client_events.pipes.get(1, b""))
        credit = lab.client.connection._local_max_data.value
        assert credit <= received + SMALL.window_bytes
        stream = lab.client.connection._streams.get(3 + 4)
        assert stream is None or stream.max_stream_data_local <= received + SMALL.window_bytes


def test_lost_credit_updates_are_repeated():
    lab = Lab(client_limits=SMALL).up()
    lost = [0]

    def drops(sender, data):
        lost[0] += sender is lab.client
        return sender is lab.client and lost[0] % 2 == 0

    lab.drops = drops
    lab.server.send(1, bytes(400_000))
    lab.pump(lab.server)
    lab.run_until(lambda: len(lab.client_events.pipes.get(1, b"")) == 400_000)


def _bidi(connection):
    connection._remote_max_streams_bidi = 10
    connection._remote_max_stream_data_bidi_remote = 1000
    connection.send_stream_data(0, b"x")


def _sixth(connection):
    connection._remote_max_streams_uni = 10
    connection.send_stream_data(2 + 4 * 5, b"x")


def _stop(connection):
    connection.stop_stream(3, 9)


@pytest.mark.parametrize(
    ("offence", "kind"),
    [
        (_bidi, EndKind.ERROR),
        (_sixth, EndKind.ERROR),
        (lambda connection: connection.send_stream_data(2, b"", end_stream=True), EndKind.PIPE_RESET),
        (lambda connection: connection.reset_stream(2, 9), EndKind.PIPE_RESET),
        (_stop, EndKind.PIPE_RESET),
        (lambda connection: connection.send_datagram_frame(b"x"), EndKind.ERROR),
    ],
    ids=["bidi", "sixth pipe", "fin", "reset", "stop sending", "datagram"],
)
def test_illegal_streams_close_the_path_with_protocol(offence, kind):
    lab = Lab().up()
    lab.server.send(0, b"hello")
    lab.client.send(0, b"open")
    lab.pump(lab.server)
    lab.pump(lab.client)
    lab.run(0.2)
    offence(lab.client.connection)
    lab.pump(lab.client)
    lab.run(0.2)
    assert lab.server_events.end is not None
    assert (lab.server_events.end.kind, lab.server_events.end.code) == (kind, 1)
    assert lab.client_events.end is not None
    assert (lab.client_events.end.kind, lab.client_events.end.code) == (EndKind.CLOSED_BY_OTHER, 1)


def test_one_byte_far_ahead_costs_one_byte():
    lab = Lab().up()
    stream = lab.server.connection._get_or_create_stream(8, 2)
    assert isinstance(stream.receiver, PipeReceiver)
    lab.client.send(0, b"")
    sender = lab.client.connection._streams[2].sender
    sender._buffer_start = sender._buffer_stop = 16_000_000
    lab.client.send(0, b"x")
    lab.pump(lab.client)
    lab.run(0.1)
    assert stream.receiver.highest_offset == 16_000_001
    assert stream.receiver._pieces == [b"x"]
    assert len(stream.receiver._buffer) == 0


def test_more_than_the_credit_ends_the_path():
    lab = Lab(server_limits=SMALL).up()
    lab.client.connection._remote_max_data = lab.client.connection._remote_max_stream_data_uni = 1 << 30
    lab.client.send(1, bytes(200_000))
    lab.server.dispatch = lambda now: []  # type: ignore[method-assign]
    lab.pump(lab.client)
    lab.run_until(lambda: lab.client_events.end is not None)
    assert lab.client_events.end is not None
    assert lab.client_events.end.kind is EndKind.ERROR
    assert lab.client_events.end.code == 3  # FLOW_CONTROL_ERROR


def test_acks_wait_for_a_part_of_the_round_trip_after_a_while():
    lab = Lab(delay_s=0.016).up()
    client = lab.client.connection
    assert client._ack_delay == pytest.approx(0.001)
    lab.server.send(1, bytes(400_000))
    lab.pump(lab.server)
    lab.run(2.0)
    lab.client.ping(1)
    lab.pump(lab.client)
    lab.run(0.5)
    assert client._ack_delay == pytest.approx(0.004, rel=0.05)


def test_a_due_ack_alone_is_no_news():
    lab = Lab().up()
    client = lab.client.connection
    lab.server.send(0, b"hello")
    lab.pump(lab.server)
    lab.run_until(lambda: lab.client_events.got(0) == b"hello")
    due = lab.client.deadline()
    assert due == client._spaces[Epoch.ONE_RTT].ack_at
    assert due is not None
    assert not lab.client.owes_only_ack(due - 1e-4)
    assert lab.client.owes_only_ack(due + 1e-6)
    client._loss_at = due
    assert not lab.client.owes_only_ack(due + 1e-6)
    lab.client.deadline()
    client._pacing_at = due
    assert not lab.client.owes_only_ack(due + 1e-6)
    client._pacing_at = None
    lab.client.close(1, "", lab.now)
    assert not lab.client.owes_only_ack(due + 1e-6)
