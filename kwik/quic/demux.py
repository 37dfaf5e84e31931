"""Server side: which path a datagram belongs to, and what is answered without keeping any state."""

import os
from dataclasses import dataclass

from aioquic._buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import ConnectionIdIssued, ConnectionIdRetired
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder

from kwik.quic.adapter import QuicPath
from kwik.quic.limits import SMALLEST_DATAGRAM_BYTES, QuicLimits

CONNECTION_ID_BYTES = 8
QUIC_VERSION = QuicProtocolVersion.VERSION_1


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A first packet that no path knows: the connection id that the client made up for the server."""

    destination_id: bytes
    source_id: bytes


class Demux:
    """Connection ids of all paths of one socket."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, QuicPath] = {}
        self._ids: dict[QuicPath, set[bytes]] = {}
        self._young: set[QuicPath] = set()

    @property
    def paths(self) -> list[QuicPath]:
        """All paths, oldest first."""
        return list(self._ids)

    def is_full(self, limits: QuicLimits) -> bool:
        """True when there is no place for one more path."""
        if len(self._ids) >= limits.max_paths:
            return True
        if len(self._young) >= limits.max_half_open:
            # Looked at only when it matters: grown-up paths are not crossed off one by one.
            self._young = {path for path in self._young if path in self._ids and not path.connection.is_complete}
        return len(self._young) >= limits.max_half_open

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, path: QuicPath) -> bool:
        return path in self._ids

    def add(self, path: QuicPath, *ids: bytes) -> None:
        """Packets to these connection ids belong to `path`."""
        if path not in self._ids:
            self._young.add(path)
        for connection_id in ids:
            self._by_id[connection_id] = path
        self._ids.setdefault(path, set()).update(ids)

    def remove(self, path: QuicPath) -> None:
        """Forget the path and all its ids."""
        self._young.discard(path)
        for connection_id in self._ids.pop(path, ()):
            if self._by_id.get(connection_id) is path:
                del self._by_id[connection_id]

    def apply(self, path: QuicPath, changes: list[ConnectionIdIssued | ConnectionIdRetired]) -> None:
        """Follow the ids that the path handed out and took back."""
        if path not in self._ids:
            return
        for change in changes:
            if isinstance(change, ConnectionIdIssued):
                self.add(path, change.connection_id)
            elif self._by_id.get(change.connection_id) is path:
                del self._by_id[change.connection_id]
                self._ids[path].discard(change.connection_id)

    def find(self, data: bytes) -> QuicPath | Newcomer | bytes | None:
        """The path of this datagram; a newcomer; an answer to send back; or None: ignore it.

        Short-header packets of unknown paths (a server that was restarted gets them) are ignored: the sender finds
        out by silence.
        """
        if not data:
            return None
        if not data[0] & 0x80:
            return self._by_id.get(data[1 : 1 + CONNECTION_ID_BYTES])
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_BYTES)
        except ValueError:
            return None
        path = self._by_id.get(header.destination_cid)
        if path is not None:
            return path
        if len(data) < SMALLEST_DATAGRAM_BYTES or header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return None
        return _judge_stranger(header)


def _judge_stranger(header: QuicHeader) -> Newcomer | bytes | None:
    if header.version != QUIC_VERSION:
        return encode_quic_version_negotiation(
            source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=[QUIC_VERSION]
        )
    # A client's first destination id has at least eight bytes (RFC 9000 §7.2).
    if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < CONNECTION_ID_BYTES:
        return None
    return Newcomer(header.destination_cid, header.source_cid)


def refusal(newcomer: Newcomer) -> bytes:
    """An Initial packet that says CONNECTION_REFUSED (RFC 9000 §20.1), smaller than what it answers."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=newcomer.destination_id, is_client=False, version=QUIC_VERSION)
    builder = QuicPacketBuilder(
        host_cid=os.urandom(CONNECTION_ID_BYTES),
        peer_cid=newcomer.source_id,
        version=QUIC_VERSION,
        is_client=False,
        max_datagram_size=SMALLEST_DATAGRAM_BYTES,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    reason = b"too many paths at this server"
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=32 + len(reason))
    buf.push_uint_var(QuicErrorCode.CONNECTION_REFUSED)
    buf.push_uint_var(QuicFrameType.PADDING)
    buf.push_uint_var(len(reason))
    buf.push_bytes(reason)
    datagrams, _ = builder.flush()
    return datagrams[0]
