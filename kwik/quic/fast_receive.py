"""Receiving ordinary 1-RTT packets without aioquic's general machinery: the same state, a fraction of the work.

A packet is looked at without changing anything; if it and the connection are ordinary (the packet holds an ACK and
STREAM frames of known pipes within their credit, and so on) it is taken here, whole. Everything else, every error
included, goes to `receive_datagram` of aioquic 1.7.2, whose order of steps is followed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from aioquic import tls
from aioquic.quic.connection import NetworkAddress, QuicConnectionState
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender

from kwik.quic.connection import PathConnection
from kwik.quic.fast_crypto import CONNECTION_ID_BYTES, SHORTEST_BYTES, open_packet
from kwik.quic.fast_frames import Ack, Piece, parse
from kwik.quic.fast_recovery import acknowledge
from kwik.quic.pipes import MAX_PIECES, PipeReceiver

_RANGES = "_RangeSet__ranges"
_CID_END = 1 + CONNECTION_ID_BYTES
_CONNECTED = QuicConnectionState.CONNECTED


@dataclass(frozen=True, slots=True)
class OneRtt:
    """What stays the same from the confirmed handshake on, looked up once: keys change inside the pair."""

    keys: CryptoPair
    space: QuicPacketSpace
    ack_ranges: list[range]
    """The very list inside `space.ack_queue`."""
    crypto: QuicStreamSender
    """What TLS still has to say."""
    idle_s: float


class FastReceive(PathConnection):
    """A path's connection that takes ordinary packets by a short way."""

    _one_rtt: OneRtt | None = None
    fast_received = 0
    """Packets that went the short way; for tests."""

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        """As stock."""
        fixed = self._one_rtt or self._settle()
        if fixed is None or not self._is_ordinary(data, addr) or not self._take(fixed, data, now):
            super().receive_datagram(data, addr, now)

    def _settle(self) -> OneRtt | None:
        """Look up what no longer changes; None until it does not, and for ever when somebody wants every detail."""
        configuration = self._configuration
        if (
            not self._handshake_confirmed
            or self._quic_logger is not None
            or configuration.secrets_log_file is not None
            or configuration.connection_id_length != CONNECTION_ID_BYTES
            or self._cryptos[tls.Epoch.ZERO_RTT].recv.is_valid()
        ):
            return None
        space = self._spaces[tls.Epoch.ONE_RTT]
        remote = self._remote_max_idle_timeout
        self._one_rtt = OneRtt(
            keys=self._cryptos[tls.Epoch.ONE_RTT],
            space=space,
            ack_ranges=ranges_of(space.ack_queue),
            crypto=self._crypto_streams[tls.Epoch.ONE_RTT].sender,
            idle_s=configuration.idle_timeout if remote is None else min(configuration.idle_timeout, remote),
        )
        return self._one_rtt

    def _is_ordinary(self, data: bytes, addr: NetworkAddress) -> bool:
        """A short header, addressed as usual, on the only network path of a connection that lives."""
        routes = self._network_paths
        if (
            len(data) < SHORTEST_BYTES
            or data[0] & 0xC0 != 0x40
            or self._state is not _CONNECTED
            or self._close_pending
            or len(routes) != 1
            or not routes[0].is_validated
            or routes[0].addr != addr
        ):
            return False
        cid = data[1:_CID_END]
        if cid != self.host_cid and not self._is_client:
            return False  # the client may be moving
        return cid == self._host_cids[0].cid or any(cid == each.cid for each in self._host_cids)

    def _take(self, fixed: OneRtt, data: bytes, now: float) -> bool:
        """All of one packet, or nothing and False."""
        space = fixed.space
        opened = open_packet(data, fixed.keys.recv, space.expected_packet_number)
        if opened is None:
            return False
        first, number, plain = opened
        frames = parse(plain)
        if frames is None or number in space.received_packets:
            return False
        ack, pieces = frames
        if pieces and not self._are_usual(pieces):
            return False
        self.fast_received += 1
        self._note_packet(space, number, bool(first & 0x20))
        self.last_packet_at = now
        self.packet_bytes += len(plain)
        if ack is not None:
            self._take_ack(space, ack, now)
        for piece in pieces:
            self._take_piece(piece, plain)
        self._close_at = now + max(fixed.idle_s, 3 * self._loss.get_probe_timeout())
        self._ack_eliciting_sent_since_receipt = False
        self._owe_ack(fixed, number, bool(pieces), now)
        return True

    def _are_usual(self, pieces: Sequence[Piece]) -> bool:
        """Known pipes of the other side, within the credit of each and of the connection, far from too many pieces.

        A quarter of MAX_PIECES is far enough: filling all gaps doubles their number, and a packet holds few frames.
        """
        streams, fresh = self._streams, 0
        for stream_id, offset, begin, end in pieces:
            stream = streams.get(stream_id)
            if stream is None:
                return False
            receiver, stop = stream.receiver, offset + end - begin
            if (
                not isinstance(receiver, PipeReceiver)
                or stop > stream.max_stream_data_local
                or receiver.pieces > MAX_PIECES >> 2
            ):
                return False
            fresh += max(0, stop - receiver.highest_offset)
        limit = self._local_max_data
        return limit.used + fresh <= limit.value

    def _note_packet(self, space: QuicPacketSpace, number: int, spin: bool) -> None:
        # Yes, "greater": aioquic leaves the expected number alone when just that one comes.
        if number > space.expected_packet_number:
            space.expected_packet_number = number + 1
        if number > self._spin_highest_pn:
            self._spin_bit = spin != self._is_client
            self._spin_highest_pn = number

    def _take_ack(self, space: QuicPacketSpace, ack: Ack, now: float) -> None:
        ranges, delay = ack
        acknowledge(self._loss, space, ranges, (delay << self._remote_ack_delay_exponent) / 1_000_000, now)
        self._follow_rtt()

    def _take_piece(self, piece: Piece, plain: bytes) -> None:
        stream_id, offset, begin, end = piece
        receiver = cast("PipeReceiver", self._streams[stream_id].receiver)
        highest = receiver.highest_offset
        data = receiver.take(offset, plain[begin:end])
        self._local_max_data.used += receiver.highest_offset - highest
        if data:
            self._events.append(StreamDataReceived(data=data, end_stream=False, stream_id=stream_id))

    def _owe_ack(self, fixed: OneRtt, number: int, eliciting: bool, now: float) -> None:
        """Record the packet as received (RFC 9000 §13.2)."""
        space, ranges = fixed.space, fixed.ack_ranges
        if number > space.largest_received_packet:
            space.largest_received_packet = number
            space.largest_received_time = now
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            space.ack_queue.add(number)
            if len(ranges) > MAX_ACK_RANGES:
                space.ack_queue.shift()
        space.received_packets.add(number)
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay


def ranges_of(ranges: RangeSet) -> list[range]:
    """The list that a RangeSet keeps, not a copy."""
    return cast("list[range]", vars(ranges)[_RANGES])
