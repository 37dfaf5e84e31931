"""Who gets the short ways, what goes them, and that everything unusual is left to the stock code."""

import logging
from collections.abc import Callable

import aioquic
import pytest
from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection, QuicNetworkPath
from aioquic.quic.packet import pull_ack_frame, push_ack_frame
from aioquic.quic.rangeset import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from kwik.quic import QuicLimits, fast
from kwik.quic.adapter import EndKind
from kwik.quic.connection import PathConnection
from kwik.quic.fast_connection import FastConnection
from kwik.quic.fast_crypto import SHORTEST_BYTES, Sealer, open_packet
from kwik.quic.fast_frames import encode_ack, encode_number, parse, stream_header
from kwik.quic.fast_receive import ranges_of
from tests.unit.quic.lab import SERVER, Lab, client_tls

SMALL = QuicLimits(window_bytes=65_536)
PIPE = 3
"""The stream of the server's control pipe."""

# ---------------------------------------------------------------- who gets them


def test_the_known_version_gets_them(monkeypatch):
    monkeypatch.delenv(fast.SWITCH, raising=False)
    assert aioquic.__version__ == fast.KNOWN_AIOQUIC
    assert fast.connection_class() is FastConnection


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(fast.SWITCH, "0")
    assert fast.connection_class() is PathConnection
    monkeypatch.setenv(fast.SWITCH, "1")
    assert fast.connection_class() is FastConnection


def test_another_version_runs_stock_and_says_so_once(monkeypatch, caplog):
    monkeypatch.delenv(fast.SWITCH, raising=False)
    monkeypatch.setattr(aioquic, "__version__", "1.7.99")
    with caplog.at_level(logging.WARNING, "kwik.quic.fast"):
        assert [fast.connection_class() for _ in range(3)] == [PathConnection] * 3
    assert [record.message for record in caplog.records] == [
        "aioquic 1.7.99 is not 1.7.2: paths work, at twice the CPU time per packet"
    ]


def test_private_parts_that_only_they_use_are_there():
    limits = QuicLimits()
    connection = FastConnection(configuration=client_tls().configuration(limits), limits=limits)
    connection.connect(SERVER, now=1.0)
    wanted = (
        "_ack_delay _ack_eliciting_sent_since_receipt _configuration _datagrams_pending _handshake_confirmed "
        "_handshake_done_pending _host_cids _local_ack_delay_exponent _packet_number _peer_cid _ping_pending "
        "_probe_pending _quic_logger _remote_ack_delay_exponent _remote_max_data _remote_max_data_used "
        "_remote_max_idle_timeout _retire_connection_ids _spin_bit _spin_highest_pn _streams_blocked_pending "
        "_streams_queue"
    )
    assert [name for name in wanted.split() if not hasattr(connection, name)] == []
    assert callable(QuicConnection._on_ack_delivery)
    assert ranges_of(RangeSet([range(3, 5)])) == [range(3, 5)]


# ---------------------------------------------------------------- receiving


@pytest.fixture
def lab() -> Lab:
    """Both sides up, the server's control pipe open, everything acknowledged."""
    lab = Lab(kind=FastConnection, client_limits=SMALL).up()
    lab.server.send(0, b"hello")
    lab.pump(lab.server)
    lab.run(0.5)
    assert lab.client_events.got(0) == b"hello"
    return lab


def sides(lab: Lab) -> tuple[FastConnection, FastConnection]:
    client, server = lab.client.connection, lab.server.connection
    assert isinstance(client, FastConnection)
    assert isinstance(server, FastConnection)
    return client, server


def forged(lab: Lab, payload: bytes, *, bits: int = 0, number: int | None = None) -> bytes:
    """A packet with this payload, under the server's keys."""
    client, server = sides(lab)
    assert server._one_rtt is not None
    keys = server._one_rtt.keys
    assert keys.send.aead is not None
    assert keys.send.hp is not None
    first = 0x41 | keys.send.key_phase << 2 | bits
    if number is None:
        number, server._packet_number = server._packet_number, server._packet_number + 1
    return Sealer(keys.send.aead, keys.send.hp, first, client.host_cid).seal(number, payload)


def stream(data: bytes, offset: int = 5, number: int = PIPE) -> bytes:
    return stream_header(encode_number(number), offset, len(data)) + data


def receive(lab: Lab, datagram: bytes, address: tuple[str, int] = SERVER) -> bool:
    """Whether the client took it by the short way."""
    client, _ = sides(lab)
    before = client.fast_received
    lab.client.receive(datagram, address, lab.now)
    lab.client.dispatch(lab.now)
    return client.fast_received > before


@pytest.mark.parametrize(
    ("payload", "got"),
    [
        (stream(b"abc"), b"helloabc"),
        (stream(b"abc") + stream(b"de", 8), b"helloabcde"),
        (stream(b"de", 8), b"hello"),
        (stream(b"lo, you", 3), b"hello, you"),
        (stream(b"abc") + bytes(20), b"helloabc"),
        (b"\x02\x00\x00\x00\x00" + stream(b"abc"), b"helloabc"),
        (bytes(30), b"hello"),
        (stream(b"x" * 5, 65_531), b"hello"),
    ],
    ids=["one", "two", "a gap", "an overlap", "padding", "an ack", "only padding", "to the limit"],
)
def test_ordinary_packets_go_the_short_way(lab, payload, got):
    assert receive(lab, forged(lab, payload))
    assert lab.client_events.got(0) == got
    assert lab.client.connection.end() is None


@pytest.mark.parametrize(
    ("payload", "got"),
    [
        (b"\x01" + stream(b"abc"), b"helloabc"),
        (stream(b"abc") + b"\x01", b"helloabc"),
        (b"\x10\x40\x40" + stream(b"abc"), b"helloabc"),
        (b"\x0c\x03\x05abc", b"helloabc"),
        (b"\x0e\x03\x05\x03abc", b"helloabc"),
        (b"\x0e\x40\x03\x05\x40\x03abc", b"helloabc"),
        (b"\x40\x0e\x03\x05\x40\x03abc", b"helloabc"),
        (b"\x0e\x03\x05\x40\x00", b"hello"),
        (stream(b"xyz", 5, PIPE + 4), b"hello"),
        (b"\x02\x00\x00\x00\x00\x02\x00\x00\x00\x00", b"hello"),
    ],
    ids=["ping", "ping behind", "max data", "no length", "short length", "long id", "long type", "no bytes",
         "unknown pipe", "two acks"],
)  # fmt: skip
def test_unusual_but_legal_packets_are_left_to_stock(lab, payload, got):
    assert not receive(lab, forged(lab, payload))
    assert lab.client_events.got(0) == got
    assert lab.client.connection.end() is None


@pytest.mark.parametrize(
    ("payload", "kind", "code"),
    [
        (stream(b"x" * 6, 65_531), EndKind.ERROR, 3),
        (stream(b"x", 1 << 40), EndKind.ERROR, 3),
        (b"\x0f\x03\x05\x40\x03abc", EndKind.PIPE_RESET, 1),
        (stream(b"abc", 0, 3 + 4 * 20), EndKind.ERROR, 1),
        (stream(b"abc", 0, 2), EndKind.ERROR, 5),
        (b"\x0e\x03\x05\x40\x09abc", EndKind.ERROR, 7),
        (b"\x02\x00\x00\x00\x01", EndKind.ERROR, 7),
        (b"\x02\x40", EndKind.ERROR, 7),
        (b"\x3f\x3f\x3f", EndKind.ERROR, 7),
    ],
    ids=["beyond the limit", "far beyond", "fin", "far pipe", "our own pipe", "cut off", "ack below 0", "cut ack",
         "unknown frame"],
)  # fmt: skip
def test_illegal_packets_end_the_path_as_stock_does(lab, payload, kind, code):
    assert not receive(lab, forged(lab, payload))
    end = lab.client.connection.end()
    assert end is not None
    assert (end.kind, end.code) == (kind, code)
    assert lab.client_events.got(0) == b"hello"


def test_the_connection_has_a_limit_of_its_own(lab):
    client, _ = sides(lab)
    client._local_max_data.value = client._local_max_data.used + 2
    assert receive(lab, forged(lab, stream(b"ab")))
    assert not receive(lab, forged(lab, stream(b"c", 7)))
    end = client.end()
    assert end is not None
    assert end.code == 3


def test_each_pipe_has_a_limit_of_its_own(lab):
    client, _ = sides(lab)
    client._streams[PIPE].max_stream_data_local = 7
    assert receive(lab, forged(lab, stream(b"ab")))
    assert not receive(lab, forged(lab, stream(b"c", 7)))
    end = client.end()
    assert end is not None
    assert end.code == 3


def test_reserved_bits_end_the_path(lab):
    assert not receive(lab, forged(lab, stream(b"abc"), bits=0x08))
    end = lab.client.connection.end()
    assert end is not None
    assert end.code == 10  # PROTOCOL_VIOLATION


def test_a_packet_counts_once(lab):
    datagram = forged(lab, stream(b"abc"))
    assert receive(lab, datagram)
    assert not receive(lab, datagram)
    assert lab.client_events.got(0) == b"helloabc"
    assert lab.client.connection._local_max_data.used == 8


def test_damaged_packets_vanish(lab):
    datagram = forged(lab, stream(b"abc"))
    for at in range(len(datagram)):
        assert not receive(lab, datagram[:at] + bytes([datagram[at] ^ 0x20]) + datagram[at + 1 :])
    assert not receive(lab, datagram[:-1])
    assert not receive(lab, datagram[: SHORTEST_BYTES - 1])
    assert lab.client.connection.end() is None
    assert receive(lab, datagram)


def _closing(client: FastConnection) -> None:
    client.close(error_code=1, frame_type=None, reason_phrase="")


def _two_routes(client: FastConnection) -> None:
    client._network_paths.append(QuicNetworkPath(("192.0.2.77", 7)))


def _unvalidated(client: FastConnection) -> None:
    client._network_paths[0].is_validated = False
    client._network_paths[0].bytes_received = 100_000  # so that the amplification limit lets it speak


def _retired(client: FastConnection) -> None:
    client._host_cids.pop(0)


@pytest.mark.parametrize("change", [_closing, _two_routes, _unvalidated, _retired])
def test_in_unusual_states_packets_are_left_to_stock(lab, change: Callable[[FastConnection], None]):
    datagram = forged(lab, stream(b"abc"))
    change(sides(lab)[0])
    assert not receive(lab, datagram)


def test_strangers_are_left_to_stock(lab):
    assert not receive(lab, forged(lab, stream(b"abc")), ("192.0.2.66", 1))
    assert lab.client_events.got(0) == b"hello"


def test_a_new_key_phase_is_left_to_stock_once(lab):
    client, server = sides(lab)
    server.request_key_update()
    for number in range(3):
        lab.server.send(0, b"%d" % number)
        before = client.fast_received
        lab.pump(lab.server)
        lab.run(0.1)
        assert (client.fast_received > before) == (number > 0)
    assert lab.client_events.got(0) == b"hello012"


def test_a_log_of_secrets_keeps_the_stock_code():
    lab = Lab(kind=FastConnection)
    for path in (lab.client, lab.server):
        path.connection._configuration.secrets_log_file = object()  # type: ignore[assignment]
        path.connection.tls_secrets = None  # type: ignore[attr-defined]
    client = lab.client.connection
    assert isinstance(client, FastConnection)
    client._handshake_confirmed = True
    assert client._settle() is None


# ---------------------------------------------------------------- sending


def _sends(lab: Lab) -> tuple[list[bytes], int]:
    """What the client sends now, and how many of it by the short way."""
    client, _ = sides(lab)
    before = client.fast_sent
    datagrams = [data for data, _ in lab.client.flush(lab.now)]
    return datagrams, client.fast_sent - before


def test_pipe_data_and_acks_go_the_short_way(lab):
    lab.client.send(1, bytes(3000))
    datagrams, fast_sent = _sends(lab)
    assert [len(data) for data in datagrams][:2] == [1200, 1200]
    assert fast_sent == len(datagrams) == 3
    receive(lab, forged(lab, stream(b"abc")))
    assert _sends(lab) == ([], 0)
    lab.now += 0.001
    datagrams, fast_sent = _sends(lab)
    assert (len(datagrams), fast_sent) == (1, 1)


def _key_update(client: FastConnection) -> None:
    client.request_key_update()


def _challenge(client: FastConnection) -> None:
    client._network_paths[0].remote_challenges.append(bytes(8))


def _retire(client: FastConnection) -> None:
    client._retire_connection_ids.append(client._peer_cid_available.pop().sequence_number or 0)


def _new_id(client: FastConnection) -> None:
    client._host_cids[-1].was_sent = False


def _crypto(client: FastConnection) -> None:
    assert client._one_rtt is not None
    client._one_rtt.crypto.write(b"x")


def _credit(client: FastConnection) -> None:
    client.received_bytes += 60_000


def _stream_credit(client: FastConnection) -> None:
    client._streams[PIPE].max_stream_data_local_sent = 0


def _stop(client: FastConnection) -> None:
    client.stop_stream(PIPE, 1)


def _probe(client: FastConnection) -> None:
    client._probe_pending = True


def _datagram(client: FastConnection) -> None:
    client._datagrams_pending.append(b"x")


CHANGES = [
    _closing, _two_routes, _unvalidated, _key_update, _challenge, _retire, _new_id, _crypto, _credit, _stream_credit,
    _stop, _probe, _datagram, lambda client: client.send_ping(7),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_whatever_else_waits_is_sent_by_stock(lab, change: Callable[[FastConnection], None]):
    client, _ = sides(lab)
    lab.client.send(0, b"one")
    _sends(lab)
    lab.client.send(0, b"two")
    change(client)
    datagrams, fast_sent = _sends(lab)
    assert datagrams
    assert fast_sent == 0


def test_the_other_side_s_limits_are_kept(lab):
    client, server = sides(lab)
    client._remote_max_data = client._remote_max_data_used + 100
    lab.client.send(1, bytes(5000))
    lab.pump(lab.client)
    lab.run(0.2)
    assert len(lab.server_events.got(1)) == 100
    client._remote_max_data += 5000
    client._streams[2 + 4].max_stream_data_remote = 300
    lab.pump(lab.client)
    lab.run(0.2)
    assert len(lab.server_events.got(1)) == 300
    assert server.end() is None


def test_the_congestion_window_is_kept(lab):
    client, _ = sides(lab)
    client._loss._pacer.packet_time = None
    lab.client.send(1, bytes(100_000))
    datagrams, _ = _sends(lab)
    loss = client._loss
    assert sum(map(len, datagrams)) == loss.bytes_in_flight
    assert loss.congestion_window - 40 <= loss.bytes_in_flight <= loss.congestion_window


# ---------------------------------------------------------------- frames

numbers = st.sets(st.integers(0, 400), min_size=1, max_size=100)


@given(numbers, st.integers(0, 1 << 20))
def test_acks_are_written_and_read_as_aioquic_does(acknowledged, delay):
    ranges = RangeSet()
    for number in acknowledged:
        ranges.add(number)
    buf = Buffer(capacity=2000)
    push_ack_frame(buf, ranges, delay, 2000)
    assert encode_ack(list(ranges), delay) == b"\x02" + buf.data
    read, _ = pull_ack_frame(Buffer(data=buf.data))
    parsed = parse(b"\x02" + buf.data)
    if len(ranges) > 64:
        assert parsed is None
    else:
        assert parsed == ((list(read), delay), [])


@given(st.binary(max_size=40))
def test_any_bytes_are_parsed_or_not(payload):
    parsed = parse(payload)
    if parsed is not None:
        assert all(begin < end <= len(payload) and offset >= 0 for _, offset, begin, end in parsed[1])


@given(st.integers(0, (1 << 62) - 1))
def test_numbers_are_written_as_aioquic_does(value):
    buf = Buffer(capacity=8)
    buf.push_uint_var(value)
    assert encode_number(value) == buf.data


def test_without_keys_nothing_is_opened():
    limits = QuicLimits()
    connection = FastConnection(configuration=client_tls().configuration(limits), limits=limits)
    connection.connect(SERVER, now=1.0)
    keys = next(iter(connection._cryptos_initial.values())).recv
    keys.teardown()
    assert open_packet(bytes(100), keys, 0) is None
