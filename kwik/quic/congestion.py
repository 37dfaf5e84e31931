"""Congestion controllers behind aioquic's interface: its own ones, with the losses counted."""

from collections.abc import Iterable

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket


class CountingCubic(CubicCongestionControl):
    """CUBIC (RFC 9438) as aioquic has it; `lost_packets` counts what it was told was lost."""

    lost_packets: int = 0

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """Count, then react."""
        lost = list(packets)
        self.lost_packets += len(lost)
        super().on_packets_lost(now=now, packets=lost)


class CountingReno(RenoCongestionControl):
    """NewReno (RFC 9002 §7) as aioquic has it; `lost_packets` counts what it was told was lost."""

    lost_packets: int = 0

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """Count, then react."""
        lost = list(packets)
        self.lost_packets += len(lost)
        super().on_packets_lost(now=now, packets=lost)


def lost_packets(controller: QuicCongestionControl) -> int:
    """Packets that this controller was told were lost; 0 for one that does not count."""
    return controller.lost_packets if isinstance(controller, CountingCubic | CountingReno) else 0


def controller_name(name: str) -> str:
    """The name under which aioquic finds our variant of the controller `name`."""
    return f"kwik-{name}"


register_congestion_control(controller_name("cubic"), CountingCubic)
register_congestion_control(controller_name("reno"), CountingReno)
