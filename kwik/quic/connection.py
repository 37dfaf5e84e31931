"""aioquic's QuicConnection, bent to the rules of a Kwik path (SPEC §3).

What differs from stock: receive credit follows the bytes that were received and never doubles; only unidirectional
streams that never end are legal; the traffic secrets give a binding; the server's certificate is checked for its
purpose as well; the end of a path is told at once and not after the draining time; pacing works in quanta.
All knowledge of aioquic's private parts is here, in `pacer.py` and in `pipes.py`; `check_aioquic` guards it.
"""

import hmac
import logging
import re
from collections.abc import Callable
from typing import NoReturn

import aioquic
from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.base import K_GRANULARITY
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream, QuicStreamSender

from kwik.errors import ErrorCode
from kwik.kdp.facts import PathFacts
from kwik.quic.congestion import lost_packets
from kwik.quic.ends import LONGEST_DETAIL, EndKind, PathEnd
from kwik.quic.limits import QuicLimits
from kwik.quic.pacer import QuantumPacer, batch_time
from kwik.quic.pipes import PipeReceiver
from kwik.quic.trust import refuse_other_purpose

BINDING_KEY = b"kwik/1 binding"
CRYPTO_ERRORS = range(QuicErrorCode.CRYPTO_ERROR, QuicErrorCode.CRYPTO_ERROR + 256)
PACKET_OVERHEAD_BYTES = 40
"""Short header, STREAM frame header and AEAD tag, rounded up: a datagram carries its size less this."""

ACK_DELAY_SHARE = 8
"""An ACK may wait for this part of the round trip: each one costs both sides as much as a packet of data."""
LONGEST_ACK_DELAY_S = 0.005
LATE_TIMER_S = 0.1
"""A timer of loss detection that is this late says that the process did not run, not how long the path is."""
QUICK_PACKETS = 256
"""So many packets are acknowledged after aioquic's millisecond, so that slow start is not held back."""

# aioquic reports hostile packets as warnings; without a configured log they must not reach the terminal.
logging.getLogger("quic").addHandler(logging.NullHandler())


def check_aioquic(version: str) -> None:
    """Raise ImportError unless this aioquic is one whose private parts are known (1.7.x)."""
    if re.match(r"1\.7(\.|$)", version) is None:
        raise ImportError(f"kwik.quic knows aioquic 1.7.x, this is {version}: install aioquic>=1.7.2,<1.8")


check_aioquic(aioquic.__version__)


class PathConnection(QuicConnection):
    """One QUIC connection of a path. Sans I/O; `now` is a monotonic instant that never runs backwards."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        limits: QuicLimits,
        original_destination_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration, original_destination_connection_id=original_destination_connection_id
        )
        self.binding: bytes | None = None
        """32 bytes from the first 1-RTT secrets, equal on both sides; None until this side may send in 1-RTT."""
        self.last_packet_at: float | None = None
        self.packet_bytes = 0
        """Content of all authenticated packets, in whatever order they came."""
        self.received_bytes = 0
        """Contiguous pipe bytes handed up so far: raised by whoever takes the events, and turned into credit."""
        self._limits = limits
        self._secrets: dict[str, bytes] = {}
        self._own_fault: EndKind | None = None
        self._ended_by_other = False
        self._senders: list[QuicStreamSender] = []
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = 0
        pipes = 1 + limits.max_data_pipes
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = pipes
        self._loss._pacer = QuantumPacer(max_datagram_size=self._max_datagram_size, controller=self._loss._cc)

    # ------------------------------------------------------------ state

    @property
    def is_client(self) -> bool:
        """True on the side that dialled."""
        return self._is_client

    @property
    def is_started(self) -> bool:
        """Server: True once a genuine first packet was received, so that the state is worth keeping."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT and bool(self._network_paths)

    @property
    def is_complete(self) -> bool:
        """True once TLS is done on this side (server: the client's Finished was verified)."""
        return self._handshake_complete

    @property
    def has_in_flight(self) -> bool:
        """True while something sent awaits its acknowledgement."""
        return self._loss.bytes_in_flight > 0

    @property
    def is_gone(self) -> bool:
        """True when nothing is left to send or to wait for."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def can_write(self) -> bool:
        """True when pipe data may be handed over: 1-RTT keys and the other side's limits are known."""
        return self.binding is not None and (self._handshake_complete or not self._is_client)

    def end(self) -> PathEnd | None:
        """How the path ended, as soon as that is certain; None while it lives."""
        event = self._close_event
        if event is None:
            return None
        code, reason = event.error_code, event.reason_phrase
        if self._own_fault is not None:
            return PathEnd(self._own_fault, code, reason)
        if event.frame_type is None:
            kind = EndKind.CLOSED_BY_OTHER if self._ended_by_other else EndKind.CLOSED_BY_US
            return PathEnd(kind, code, reason)
        if code in CRYPTO_ERRORS:
            alert = tls.AlertDescription(code - 256) if code - 256 in set(tls.AlertDescription) else code - 256
            name = alert.name if isinstance(alert, tls.AlertDescription) else f"alert {alert}"
            return PathEnd(EndKind.REFUSED_TLS, int(alert), f"{name}: {reason}" if reason else name)
        if code == QuicErrorCode.APPLICATION_ERROR and self._ended_by_other:
            return PathEnd(EndKind.CLOSED_BY_OTHER, None, reason or "closed before the handshake was complete")
        return PathEnd(EndKind.ERROR, code, reason or f"QUIC error {code:#x}")

    def facts(self, unsent_bytes: int) -> PathFacts:
        """Present measurements; `unsent_bytes` as `unsent()` says."""
        loss = self._loss
        known = loss._rtt_initialized
        return PathFacts(
            last_packet_at=self.last_packet_at,
            oldest_unacked_at=self._oldest_unacked_at(),
            smoothed_rtt_s=loss._rtt_smoothed if known else None,
            rtt_variance_s=loss._rtt_variance if known else 0.0,
            min_rtt_s=loss._rtt_min if known else None,
            latest_rtt_s=loss._rtt_latest if known else None,
            max_ack_delay_s=loss.max_ack_delay,
            unsent_bytes=unsent_bytes,
            congestion_window=loss.congestion_window,
            bytes_in_flight=loss.bytes_in_flight,
            lost_packets=lost_packets(loss._cc),
            received_bytes=self.packet_bytes,
        )

    def _oldest_unacked_at(self) -> float | None:
        space = self._spaces.get(tls.Epoch.ONE_RTT)
        if space is None or not space.ack_eliciting_in_flight:
            return None
        # In the order of sending; what precedes the first one are a few pure acknowledgements.
        return next((packet.sent_time for packet in space.sent_packets.values() if packet.is_ack_eliciting), None)

    @property
    def patience_s(self) -> float:
        """A small part of the round trip: what may be added to it for the sake of fewer turns. 0 on short paths."""
        return batch_time(self._loss._rtt_min) if self._loss._rtt_initialized else 0.0

    def owes_only_ack(self, now: float) -> bool:
        """True when, of all the timers, that of an ACK alone has passed; directly after `get_timer`."""
        if not self._handshake_confirmed or self._state is not QuicConnectionState.CONNECTED or self._close_pending:
            return False
        at = self._spaces[tls.Epoch.ONE_RTT].ack_at
        others = (self._close_at, self._loss_at, self._pacing_at, self._path_validation_deadline())
        return at is not None and at <= now and not any(other is not None and other <= now for other in others)

    # ------------------------------------------------------------ sending

    def write(self, pipe: int, data: bytes) -> None:
        """Append to pipe `pipe` (0 is the control pipe), opening it and those below it if need be."""
        first = 2 if self._is_client else 3
        while len(self._senders) <= pipe:
            stream = self._get_or_create_stream_for_send(first + 4 * len(self._senders))
            self._senders.append(stream.sender)
        self._senders[pipe].write(data)

    def unsent(self) -> int:
        """Pipe bytes that wait for a packet, those of lost packets included."""
        total = 0
        for sender in self._senders:
            if not sender.buffer_is_empty:
                for piece in sender._pending:
                    total += piece.stop - piece.start
        return total

    def room(self, unsent_bytes: int) -> int:
        """Bytes that may be handed over now (see QuicPath.room)."""
        if not self.can_write or self._close_event is not None:
            return 0
        loss = self._loss
        window = max(0, loss.congestion_window - loss.bytes_in_flight)
        payload = self._max_datagram_size - PACKET_OVERHEAD_BYTES
        if not self._handshake_complete:
            return max(0, self._unvalidated_window(window) - unsent_bytes)
        if loss._rtt_initialized:
            window += int(self._limits.ahead_s * loss.congestion_window / max(loss._rtt_smoothed, 1e-3))
        room = window - unsent_bytes
        return max(room, payload) if not unsent_bytes else max(room, 0)

    def _unvalidated_window(self, window: int) -> int:
        """What a server may still send to an address that has not proved itself, after its handshake flight."""
        route = self._network_paths[0]
        if not route.is_validated:
            window = min(window, 3 * route.bytes_received - route.bytes_sent)
        crypto = sum(
            piece.stop - piece.start for stream in self._crypto_streams.values() for piece in stream.sender._pending
        )
        return window - crypto - 4 * PACKET_OVERHEAD_BYTES if crypto else window - PACKET_OVERHEAD_BYTES

    def fail(self, kind: EndKind, code: int, reason: str) -> None:
        """End the path for a fault found on this side; the other side is told `code` and `reason`."""
        if self._close_event is None:
            self._own_fault = kind
            self.close(error_code=code, frame_type=None, reason_phrase=reason)

    def vanish(self, kind: EndKind, reason: str) -> None:
        """End the path without telling the other side (time-outs, a refusing network)."""
        if self._close_event is None:
            self.fail(kind, ErrorCode.NO_ERROR, reason)
            self._close_pending = False
            self._close_end()

    def on_gap(self, now: float) -> None:
        """Nobody looked at this path for a while. Before the next datagram is taken: was that against our own timers?

        If so the process did not run, and what is read now may have come at any time of the sleep. It does not revive a
        path whose idle time-out has passed: the other side has heard nothing for as long (RFC 9000 §10.1). And it tells
        nothing about the round trip: whatever is in flight counts as sent later by the time that we were late.
        """
        if self._expire(now) or self._loss_at is None or now - self._loss_at <= LATE_TIMER_S:
            return
        late_s = now - self._loss_at
        for space in self._loss.spaces:
            for packet in space.sent_packets.values():
                if packet.sent_time is not None:
                    packet.sent_time += late_s

    def _expire(self, now: float) -> bool:
        """Whether the idle time-out has passed: the path is over then."""
        if self._close_event is not None or self._close_at is None or now < self._close_at:
            return False
        self.vanish(EndKind.IDLE, f"nothing received for {self._idle_timeout():.1f} s")
        return True

    # ------------------------------------------------------------ what aioquic calls

    def handle_timer(self, now: float) -> None:
        """As stock; an expired idle time-out is remembered as such."""
        if not self._expire(now):
            super().handle_timer(now)

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        self.last_packet_at = context.time
        self.packet_bytes += len(plain)
        return super()._payload_received(context, plain, crypto_frame_required)

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_ack_frame(context, frame_type, buf)
        self._follow_rtt()

    def _follow_rtt(self) -> None:
        """Let ACKs wait longer on a longer path, once slow start is over (RFC 9000 §13.2.2 leaves it to us)."""
        if self._handshake_confirmed and self._spaces[tls.Epoch.ONE_RTT].largest_received_packet >= QUICK_PACKETS:
            self._ack_delay = min(max(K_GRANULARITY, self._loss._rtt_min / ACK_DELAY_SHARE), LONGEST_ACK_DELAY_S)

    def _update_traffic_key(
        self, direction: tls.Direction, epoch: tls.Epoch, cipher_suite: tls.CipherSuite, secret: bytes
    ) -> None:
        if epoch is tls.Epoch.ONE_RTT:
            sending = direction is tls.Direction.ENCRYPT
            if sending and self._is_client:
                # The chain, the dates and the name were verified before; this is the last moment before keys exist.
                refuse_other_purpose(self.tls._peer_certificate)
            self._secrets.setdefault("client" if sending == self._is_client else "server", secret)
            if sending and not self._is_client:
                # The client's secret follows from the same transcript; TLS hands it out only after Finished.
                assert self.tls.key_schedule is not None
                self._secrets["client"] = self.tls.key_schedule.derive_secret(b"c ap traffic")
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)
        if len(self._secrets) == 2 and self.binding is None:
            self.binding = hmac.digest(BINDING_KEY, self._secrets["client"] + self._secrets["server"], "sha256")
            self._secrets = {}

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = self._streams.get(stream_id)
        if stream is None:
            if not stream_id & 2 or stream_id >> 2 > self._limits.max_data_pipes:
                self._violation(EndKind.ERROR, f"stream {stream_id} is no pipe of a path")
            stream = super()._get_or_create_stream(frame_type, stream_id)
            # Opening a stream opens those below it too.
            for number, opened in self._streams.items():
                if not isinstance(opened.receiver, PipeReceiver) and not opened.receiver.is_finished:
                    opened.receiver = PipeReceiver(number)
        return stream

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        try:
            super()._handle_crypto_frame(context, frame_type, buf)
        except (QuicConnectionError, BufferReadError):
            raise
        except Exception as error:  # odd certificates and hellos escape aioquic in many ways
            alert = tls.AlertDescription.bad_certificate if self._is_client else tls.AlertDescription.decode_error
            code = QuicErrorCode.CRYPTO_ERROR + alert
            raise QuicConnectionError(code, frame_type, str(error)[:LONGEST_DETAIL]) from error

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        if frame_type & 1:
            self._violation(EndKind.PIPE_RESET, "a pipe was finished")
        super()._handle_stream_frame(context, frame_type, buf)

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._violation(EndKind.PIPE_RESET, "a pipe was reset")

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._violation(EndKind.PIPE_RESET, "a pipe was refused")

    def _handle_datagram_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._violation(EndKind.ERROR, "DATAGRAM frames have no meaning on a path")

    def _handle_connection_close_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._ended_by_other = self._close_event is None
        super()._handle_connection_close_frame(context, frame_type, buf)

    def _violation(self, kind: EndKind, reason: str) -> NoReturn:
        if self._close_event is None:
            self._own_fault = kind
        # frame_type None makes it an application close, which stock annotates as impossible.
        raise QuicConnectionError(ErrorCode.PROTOCOL, None, reason)  # type: ignore[arg-type]

    def _probe_preferred_address(self) -> None:
        # A path stays at the address that was dialled; other addresses come from discovery.
        self._remote_preferred_address = None

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        limit.value = self._raised(limit.value, self.received_bytes)
        if limit.value != limit.sent:
            handler, args = self._on_connection_limit_delivery, (limit,)
            buf = builder.start_frame(limit.frame_type, CONNECTION_LIMIT_FRAME_CAPACITY, handler, args)
            buf.push_uint_var(limit.value)
            limit.sent = limit.value

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if not stream.max_stream_data_local:
            return
        credit = self._raised(stream.max_stream_data_local, stream.receiver.starting_offset())
        stream.max_stream_data_local = credit
        if credit != stream.max_stream_data_local_sent:
            handler: Callable[..., None] = self._on_max_stream_data_delivery
            frame_type = QuicFrameType.MAX_STREAM_DATA
            buf = builder.start_frame(frame_type, MAX_STREAM_DATA_FRAME_CAPACITY, handler, (stream,))
            buf.push_uint_var(stream.stream_id or 0)
            buf.push_uint_var(credit)
            stream.max_stream_data_local_sent = credit

    def _raised(self, credit: int, received: int) -> int:
        """Credit for `received` bytes: raised in steps of an eighth of the window, so that updates stay rare."""
        raised = received + self._limits.window_bytes
        return raised if raised - credit >= self._limits.window_bytes >> 3 else credit
