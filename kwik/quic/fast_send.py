"""Sending ACKs and pipe data without aioquic's general machinery: the same packets, a fraction of the work.

When anything else waits to be sent, or the connection is in any unusual state, the stock code of aioquic 1.7.2 sends;
the order of steps here is that of its `_write_application` and `_flush_builder`, and the packets are the same to the
byte. One thing is better: with nothing to send the pacer is not asked, so that it wakes nobody in vain.
"""

from aioquic import tls
from aioquic.quic.connection import NetworkAddress, QuicConnectionState
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryHandler, QuicSentPacket
from aioquic.quic.stream import QuicStream, QuicStreamSender

from kwik.quic.fast_crypto import CONNECTION_ID_BYTES, TAG_BYTES, Sealer
from kwik.quic.fast_frames import encode_ack, encode_number, stream_header
from kwik.quic.fast_receive import FastReceive, OneRtt, ranges_of

HEADER_BYTES = 1 + CONNECTION_ID_BYTES + 2
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES

_CONNECTED = QuicConnectionState.CONNECTED
_ONE_RTT, _SHORT = tls.Epoch.ONE_RTT, QuicPacketType.ONE_RTT
_NO_LOG: list[dict[str, object]] = []
"""Shared by all packets: it is written to only where there is a qlog, and then nothing is sent from here."""

Handlers = list[tuple[QuicDeliveryHandler, object]]


class FastSend(FastReceive):
    """A path's connection that sends ordinary packets by a short way."""

    fast_sent = 0
    """Packets that went the short way; for tests."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """As stock."""
        fixed = self._one_rtt or self._settle()
        if fixed is None or not self._is_plain(fixed) or self._pings_with_ack(fixed, now):
            return super().datagrams_to_send(now)
        self._pacing_at = None
        if not self._has_plain_data() and not _is_due(fixed, now):
            return []
        return self._send_plain(fixed, now)

    # ------------------------------------------------------------ what there is to send

    def _is_plain(self, fixed: OneRtt) -> bool:
        """True when nothing but an ACK and pipe data can be waiting, and keys and route are as usual."""
        routes, keys = self._network_paths, fixed.keys
        send = keys.send
        if (
            self._state is not _CONNECTED
            or self._close_pending
            or len(routes) != 1
            or not routes[0].is_validated
            or routes[0].remote_challenges
            or keys._update_key_requested
            or send.hp is None
            or send.hp._is_chacha20
            or len(self._peer_cid.cid) != CONNECTION_ID_BYTES
            or not fixed.crypto.buffer_is_empty
        ):
            return False
        return not (self._has_signals() or self._must_raise_credit())

    def _has_signals(self) -> bool:
        if (
            self._probe_pending
            or self._ping_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._datagrams_pending
            or self._remote_preferred_address is not None
        ):
            return True
        for each in self._host_cids:  # noqa: SIM110 - as below
            if not each.was_sent:
                return True
        return False

    def _must_raise_credit(self) -> bool:
        """Also True for a stream with something else to say, which no pipe ever has."""
        limit = self._local_max_data
        if self._raised(limit.value, self.received_bytes) != limit.sent:
            return True
        for stream in self._streams.values():
            receiver, sender, credit = stream.receiver, stream.sender, stream.max_stream_data_local
            if credit and self._raised(credit, receiver.starting_offset()) != stream.max_stream_data_local_sent:
                return True
            if receiver.stop_pending or sender.reset_pending or sender._buffer_fin is not None or stream.is_finished:
                return True
        return False

    def _pings_with_ack(self, fixed: OneRtt, now: float) -> bool:
        """True when stock would put a PING beside the ACK, to have old ranges forgotten."""
        return len(fixed.ack_ranges) > 1 and self._packet_number % 8 == 0 and _is_due(fixed, now)

    def _has_plain_data(self) -> bool:
        for stream in self._streams_queue:  # noqa: SIM110 - asked three times per packet, and twice as fast as any()
            if not (stream.sender.buffer_is_empty or stream.is_blocked):
                return True
        return False

    # ------------------------------------------------------------ sending it

    def _send_plain(self, fixed: OneRtt, now: float) -> list[tuple[bytes, NetworkAddress]]:
        loss, space, route = self._loss, fixed.space, self._network_paths[0]
        pacer, flight = loss._pacer, loss.congestion_window - loss.bytes_in_flight
        sealer = self._sealer(fixed)
        datagrams: list[tuple[bytes, NetworkAddress]] = []
        while self._has_plain_data() or _is_due(fixed, now):
            if space.ack_at is None or space.ack_at >= now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    break
            parts, handlers = self._ack_part(fixed, now)
            room = min(self._max_datagram_size, flight) - OVERHEAD_BYTES - sum(map(len, parts))
            has_data = self._add_pieces(parts, handlers, room)
            if not parts:
                break
            pacer.update_after_send(now=now)
            datagram = sealer.seal(self._packet_number, b"".join(parts))
            self._register(fixed, len(datagram), has_data, handlers, now)
            if has_data:
                flight -= len(datagram)
            route.bytes_sent += len(datagram)
            datagrams.append((datagram, route.addr))
        return datagrams

    def _sealer(self, fixed: OneRtt) -> Sealer:
        keys = fixed.keys
        send = keys.send
        assert send.aead is not None
        assert send.hp is not None
        return Sealer(send.aead, send.hp, 0x41 | self._spin_bit << 5 | keys.key_phase << 2, self._peer_cid.cid)

    def _ack_part(self, fixed: OneRtt, now: float) -> tuple[list[bytes], Handlers]:
        """The ACK frame if one is due, and who wants to hear of its delivery."""
        space = fixed.space
        if not _is_due(fixed, now):
            return [], []
        delay_s = now - (space.largest_received_time or now)
        space.ack_at = None
        frame = encode_ack(fixed.ack_ranges, int(delay_s * 1_000_000) >> self._local_ack_delay_exponent)
        return [frame], [(self._on_ack_delivery, (space, space.largest_received_packet))]

    def _add_pieces(self, parts: list[bytes], handlers: Handlers, room: int) -> bool:
        """Fill the packet's `room` from the pipes whose turn it is; False when there was nothing, or no room."""
        served: list[QuicStream] = []
        has_data = False
        for stream in self._streams_queue:
            sender = stream.sender
            if sender.buffer_is_empty or stream.is_blocked:
                continue
            highest = sender.highest_offset
            credit = min(highest + self._remote_max_data - self._remote_max_data_used, stream.max_stream_data_remote)
            piece = _next_piece(sender, encode_number(stream.stream_id or 0), room, credit)
            if piece is None:
                continue
            header, start, stop = piece
            first = sender._buffer_start
            parts += (header, bytes(sender._buffer[start - first : stop - first]))
            handlers.append((sender.on_data_delivery, (start, stop, False)))
            room -= len(header) + stop - start
            has_data = True
            if stop > highest:
                sender.highest_offset = stop
                self._remote_max_data_used += stop - highest
                served.append(stream)
        for stream in served:  # the next packet begins with the others
            if self._streams_queue[-1] is not stream:
                self._streams_queue.remove(stream)
                self._streams_queue.append(stream)
        return has_data

    def _register(self, fixed: OneRtt, size: int, has_data: bool, handlers: Handlers, now: float) -> None:
        """Remember the packet for its acknowledgement (RFC 9002 appendix A.5)."""
        loss, space, number = self._loss, fixed.space, self._packet_number
        packet = QuicSentPacket(_ONE_RTT, has_data, has_data, False, number, _SHORT, now, size, handlers, _NO_LOG)
        self._packet_number = number + 1
        self.fast_sent += 1
        space.sent_packets[number] = packet
        if not has_data:
            return
        space.ack_eliciting_in_flight += 1
        loss._time_of_last_sent_ack_eliciting_packet = now
        loss._cc.on_packet_sent(packet=packet)
        if not self._ack_eliciting_sent_since_receipt:
            self._close_at = now + max(fixed.idle_s, 3 * loss.get_probe_timeout())
            self._ack_eliciting_sent_since_receipt = True


def _is_due(fixed: OneRtt, now: float) -> bool:
    """Whether an ACK must leave now."""
    at = fixed.space.ack_at
    return at is not None and at <= now


def _next_piece(sender: QuicStreamSender, stream: bytes, room: int, credit: int) -> tuple[bytes, int, int] | None:
    """Take the next range that fits `room` with its frame's header and lies below `credit`: header, start, stop."""
    pending = ranges_of(sender._pending)
    if not pending:
        sender.buffer_is_empty = True
        return None
    first = pending[0]
    start = first.start
    overhead = 3 + len(stream) + (len(encode_number(start)) if start else 0)
    stop = min(first.stop, start + room - overhead, credit)
    if stop <= start:
        return None
    if stop == first.stop:
        del pending[0]
        sender.buffer_is_empty = not pending
    else:
        pending[0] = range(stop, first.stop)
    return stream_header(stream, start, stop - start), start, stop
