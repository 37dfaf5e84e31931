"""KDP frames, one dataclass each: the single declaration of the data plane's wire format (SPEC §5, §6).

Encoder, decoder, bounds, the tables in SPEC.md, fuzz strategies and test vectors are all derived from these classes.
Type numbers are append-only. Annotations are evaluated when the classes are built, so this file must not use
``from __future__ import annotations``.
"""

from typing import Final

from kwik.wire.schema import (
    Blob,
    BlockRanges,
    Digest,
    DigestList,
    Extensions,
    Flag,
    OrderMarks,
    PathList,
    Payload,
    ReasonText,
    ServiceText,
    Uint,
    Uint8,
    frame,
)

MAX_DATA_PAYLOAD: Final = 16384
"""Largest payload of a DATA or UPSTREAM frame, bytes (SPEC §5.1)."""

MODE_FIRST: Final = 0
MODE_REPLAY: Final = 1
ROLE_HELPER: Final = 0
ROLE_ANCHOR: Final = 1
DIGEST_NONE: Final = 0
DIGEST_BLAKE3: Final = 1
PROBE_REACHED: Final = 0
PROBE_ENDED: Final = 1
UPSTREAM_FIN: Final = 1


@frame(0x20, sender="client", spec="§5.2")
class Open:
    """Start one replica of a stream on this server."""

    replica: Uint
    stream: Uint
    mode: Uint8
    role: Uint8
    service: ServiceText
    block_bytes: Uint
    digest: Uint8
    floor: Uint
    credit: Uint
    first_grant_blocks: Uint
    extensions: Extensions


@frame(0x21, sender="client", spec="§5.3")
class Attach:
    """Bind a living replica to this path, restating all control values."""

    replica: Uint
    role: Uint8
    floor: Uint
    credit: Uint
    replaces: PathList


@frame(0x22, sender="client", spec="§5.4")
class Anchor:
    """Tell a replica to announce digests block by block from ``first_block`` on."""

    replica: Uint
    epoch: Uint
    first_block: Uint


@frame(0x23, sender="client", spec="§5.5")
class Ack:
    """Move the floor and the downstream credit; both are absolute and monotone."""

    replica: Uint
    floor: Uint
    credit: Uint


@frame(0x24, sender="client", spec="§5.6")
class Grant:
    """A numbered order: send these blocks once, on this path."""

    replica: Uint
    order: Uint
    urgent: Flag
    blocks: BlockRanges


@frame(0x25, sender="client", spec="§5.6")
class Revoke:
    """Drop what is not yet sent of these orders, from the named block on."""

    replica: Uint
    orders: OrderMarks


@frame(0x26, sender="client", spec="§5.8")
class Probe:
    """Ask for chain and prefix hash at an offset."""

    replica: Uint
    probe: Uint
    offset: Uint


@frame(0x27, sender="client", spec="§5.7")
class AskDigests:
    """Ask a helper for the digests of single blocks."""

    replica: Uint
    first: Uint
    count: Uint8


@frame(0x28, sender="client", spec="§5.10")
class Close:
    """The client needs this replica no longer."""

    replica: Uint
    code: Uint


@frame(0x30, sender="server", spec="§5.2")
class Opened:
    """OPEN was accepted: the application has been reached."""

    replica: Uint
    cap_bytes: Uint
    replicated: Flag
    hashed: Flag


@frame(0x31, sender="server", spec="§5.2")
class Refused:
    """OPEN was refused before the application was touched."""

    replica: Uint
    code: Uint
    reason: ReasonText


@frame(0x32, sender="server", spec="§5.3")
class Attached:
    """Answer to ATTACH: what of the upstream has arrived, and what was produced."""

    replica: Uint
    known: Flag
    received: Uint
    taken: Uint
    credit: Uint
    produced: Uint


@frame(0x33, sender="server", spec="§5.9")
class UpstreamState:
    """How much of the upstream has arrived, was taken by the application, and may be sent."""

    replica: Uint
    received: Uint
    taken: Uint
    credit: Uint


@frame(0x34, sender="server", spec="§5.5")
class Produced:
    """How far the replica's output has got."""

    replica: Uint
    produced: Uint


@frame(0x35, sender="server", spec="§5.7")
class Digests:
    """Digests of consecutive whole blocks (the last block of a stream may be shorter)."""

    replica: Uint
    first: Uint
    digests: DigestList


@frame(0x36, sender="server", spec="§5.7")
class Run:
    """Run digest over ``count`` consecutive blocks."""

    replica: Uint
    first: Uint
    count: Uint8
    digest: Digest


@frame(0x37, sender="server", spec="§5.8")
class Probed:
    """Answer to PROBE."""

    replica: Uint
    probe: Uint
    offset: Uint
    status: Uint8
    chain: Digest
    prefix: Digest


@frame(0x38, sender="server", spec="§5.6")
class Revoked:
    """Confirms REVOKE: per order, the block from which on nothing more will be sent."""

    replica: Uint
    orders: OrderMarks


@frame(0x39, sender="server", spec="§5.6")
class Busy:
    """The order waits for the application, which has produced this far."""

    replica: Uint
    order: Uint
    produced: Uint


@frame(0x3A, sender="server", spec="§5.10")
class Fin:
    """The application ended its output at ``final``."""

    replica: Uint
    final: Uint


@frame(0x3B, sender="server", spec="§5.10")
class Reset:
    """The application aborted, or the server gives the replica up, after ``offset`` bytes of output."""

    replica: Uint
    offset: Uint
    code: Uint


@frame(0x3C, sender="server", spec="§5.10")
class Closed:
    """Confirms CLOSE, or tells that the replica no longer exists."""

    replica: Uint


@frame(0x3D, sender="server", spec="§5.9")
class Diverged:
    """The client's mark at ``offset`` differs from this replica's own output; it is fed nothing more."""

    replica: Uint
    offset: Uint


@frame(0x40, sender="server", pipe="data", spec="§5.1")
class Data:
    """Downstream bytes, sent because of ``order``."""

    replica: Uint
    order: Uint
    offset: Uint
    payload: Payload


@frame(0x41, sender="client", pipe="any", spec="§5.9")
class Upstream:
    """Upstream bytes, with the mark under which they were written."""

    replica: Uint
    offset: Uint
    after: Uint
    flags: Uint8
    chain: Blob
    prefix: Blob
    payload: Payload
