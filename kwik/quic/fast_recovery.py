"""Taking an ACK frame in proportion to what it newly acknowledges.

aioquic lists all packets in flight for each ACK and reports each packet's data to its stream on its own. Here packets
are taken from the front, where they lie, and data that adjoins is reported at once. The state after it is the same,
to the bit: `QuicPacketRecovery.on_ack_received` of aioquic 1.7.2 (RFC 9002 §5, §6.1, appendix A.7) is what it follows.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.recovery import QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender

_DATA_DELIVERY = QuicStreamSender.on_data_delivery
_ACKED = QuicDeliveryState.ACKED


def acknowledge(
    loss: QuicPacketRecovery, space: QuicPacketSpace, ranges: Sequence[range], delay_s: float, now: float
) -> None:
    """`ranges` ascend and do not touch; `delay_s` is what the other side says that it waited."""
    largest = ranges[-1].stop - 1
    space.largest_acked_packet = max(space.largest_acked_packet, largest)
    newly = _take(space.sent_packets, ranges)
    if not newly:
        return
    eliciting = 0
    on_packet_acked = loss._cc.on_packet_acked
    for packet in newly:
        eliciting += packet.is_ack_eliciting
        if packet.in_flight:
            on_packet_acked(packet=packet, now=now)
    space.ack_eliciting_in_flight -= eliciting
    _report(newly)
    last = newly[-1]
    if last.packet_number == largest and eliciting and last.sent_time is not None:
        _sample(loss, now - last.sent_time, min(delay_s, loss.max_ack_delay), now)
    _detect_loss(loss, space, now)
    if loss.peer_completed_address_validation:
        loss._pto_count = 0


def _take(sent: dict[int, QuicSentPacket], ranges: Sequence[range]) -> list[QuicSentPacket]:
    """Remove and return the packets with these numbers, in the order of sending."""
    numbers = _numbers_below(ranges[-1].stop, sent)
    if numbers and (len(ranges) > 1 or numbers[0] < ranges[0].start):
        cuts = [(bisect_left(numbers, each.start), bisect_left(numbers, each.stop)) for each in ranges]
        numbers = [number for start, stop in cuts for number in numbers[start:stop]]
    return [sent.pop(number) for number in numbers]


def _numbers_below(stop: int, ascending: Iterable[int]) -> list[int]:
    numbers: list[int] = []
    for number in ascending:
        if number >= stop:
            break
        numbers.append(number)
    return numbers


def _report(packets: Iterable[QuicSentPacket]) -> None:
    """Call the delivery handlers; neighbouring data of one stream is reported as one piece."""
    held: Callable[..., None] | None = None
    start = stop = 0
    for packet in packets:
        for handler, arguments in packet.delivery_handlers:
            if getattr(handler, "__func__", None) is not _DATA_DELIVERY or arguments[2]:
                handler(_ACKED, *arguments)
            elif held == handler and arguments[0] == stop:
                stop = arguments[1]
            else:
                if held is not None:
                    held(_ACKED, start, stop, False)
                held, (start, stop, _) = handler, arguments
    if held is not None:
        held(_ACKED, start, stop, False)


def _sample(loss: QuicPacketRecovery, latest_s: float, delay_s: float, now: float) -> None:
    """RFC 9002 §5.3, with aioquic's variance (from the smallest round trip) and its floor of 1 ms."""
    adjusted = max(latest_s, 0.001)
    loss._rtt_min = min(loss._rtt_min, adjusted)
    if adjusted > loss._rtt_min + delay_s:
        adjusted -= delay_s
    loss._rtt_latest = adjusted
    if not loss._rtt_initialized:
        loss._rtt_first_sample_time = now
        loss._rtt_initialized = True
        loss._rtt_variance, loss._rtt_smoothed = latest_s / 2, latest_s
    else:
        loss._rtt_variance = 3 / 4 * loss._rtt_variance + 1 / 4 * abs(loss._rtt_min - adjusted)
        loss._rtt_smoothed = 7 / 8 * loss._rtt_smoothed + 1 / 8 * adjusted
    loss._cc.on_rtt_measurement(now=now, rtt=latest_s)
    loss._pacer.update_rate(congestion_window=loss._cc.congestion_window, smoothed_rtt=loss._rtt_smoothed)


def _detect_loss(loss: QuicPacketRecovery, space: QuicPacketSpace, now: float) -> None:
    """As stock; when nothing older than what was acknowledged is in flight, nothing can be lost."""
    oldest = next(iter(space.sent_packets), None)
    if oldest is None or oldest > space.largest_acked_packet:
        space.loss_time = None
    else:
        loss._detect_loss(now=now, space=space)
