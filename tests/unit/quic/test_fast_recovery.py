"""ACK frames in any order and shape leave the very state that aioquic leaves."""

from typing import Any

from aioquic import tls
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender
from hypothesis import given
from hypothesis import strategies as st

from kwik.quic.congestion import controller_name
from kwik.quic.fast_recovery import acknowledge
from kwik.quic.pacer import QuantumPacer

PACKETS = 40
PIECE = 100


class Sender:
    """Two streams in many packets, some of which carry an ACK only, or both streams."""

    def __init__(self, *, congestion: str) -> None:
        self.space = QuicPacketSpace(is_application_data=True)
        self.loss = QuicPacketRecovery(
            congestion_control_algorithm=controller_name(congestion),
            initial_rtt=0.1,
            max_datagram_size=1200,
            peer_completed_address_validation=True,
            send_probe=lambda: None,
        )
        self.loss.spaces = [self.space]
        self.loss._pacer = QuantumPacer(max_datagram_size=1200, controller=self.loss._cc)
        self.streams = [QuicStreamSender(number, writable=True) for number in (2, 6)]
        self.told: list[Any] = []
        for number in range(PACKETS):
            self._send(number)

    def _send(self, number: int) -> None:
        handlers: list[tuple[Any, Any]] = []
        if number % 5 == 0:
            handlers.append((lambda state, name: self.told.append((state, name)), (number,)))
        for stream in self.streams[number % 3 // 2 : number % 3 + 1] if number % 5 else ():
            stream.write(bytes(PIECE), end_stream=number >= PACKETS - 2)
            frame = stream.get_frame(PIECE)
            assert frame is not None
            end = frame.offset + len(frame.data)
            handlers.append((stream.on_data_delivery, (frame.offset, end, frame.fin)))
        eliciting = bool(number % 5)
        packet = QuicSentPacket(
            tls.Epoch.ONE_RTT,
            eliciting,
            eliciting,
            False,
            number,
            QuicPacketType.ONE_RTT,
            1 + number / 1e3,
            1200,
            handlers,
        )
        self.loss.on_packet_sent(packet=packet, space=self.space)

    @property
    def state(self) -> Any:
        plain = (int, float, bool, type(None))
        parts = (self.loss, self.loss._cc, self.loss._pacer, self.space)
        values = [{name: value for name, value in vars(part).items() if isinstance(value, plain)} for part in parts]
        streams = [
            (each._buffer_start, list(each._acked), list(each._pending), each.is_finished, bytes(each._buffer))
            for each in self.streams
        ]
        return values, streams, list(self.space.sent_packets), self.told


acks = st.lists(
    st.tuples(st.sets(st.integers(0, PACKETS - 1), min_size=1), st.floats(0, 0.05), st.floats(0.001, 0.3)), max_size=6
)


@given(acks, st.sampled_from(["cubic", "reno"]))
def test_every_ack_is_taken_as_stock_takes_it(acks, congestion):
    stock, fast = Sender(congestion=congestion), Sender(congestion=congestion)
    assert fast.state == stock.state
    now = 1.1
    for numbers, delay_s, passed_s in acks:
        now += passed_s
        ranges = RangeSet()
        for number in numbers:
            ranges.add(number)
        stock.loss.on_ack_received(ack_rangeset=ranges, ack_delay=delay_s, now=now, space=stock.space)
        acknowledge(fast.loss, fast.space, list(ranges), delay_s, now)
        assert fast.state == stock.state
