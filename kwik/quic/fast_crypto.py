"""Protection of short-header packets (RFC 9001 §5.3, §5.4) without aioquic's copies of each packet.

The keys are aioquic's own objects and so are the bytes that come out. ChaCha20 is left to the stock code: its header
protection keeps state, and Kwik's sides agree on AES.
"""

from aioquic._crypto import AEAD, HeaderProtection
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import decode_packet_number
from cryptography.exceptions import InvalidTag

CONNECTION_ID_BYTES = 8
SHORTEST_BYTES = 1 + CONNECTION_ID_BYTES + 4 + 16
"""A packet with less has no sample for its header protection (RFC 9001 §5.4.2)."""
TAG_BYTES = 16
RESERVED_BITS = 0x18

_NUMBER_AT = 1 + CONNECTION_ID_BYTES
_SAMPLE_AT = _NUMBER_AT + 4

Opened = tuple[int, int, bytes]
"""Unprotected first byte, whole packet number, plain payload."""


def open_packet(data: bytes, keys: CryptoContext, expected: int) -> Opened | None:
    """Decrypt a 1-RTT packet of an eight-byte connection id, or None: no usual packet, or not a genuine one.

    Changes nothing, so that whoever gets None may hand the same packet to the stock code.
    """
    protection, aead = keys.hp, keys.aead
    if protection is None or aead is None or protection._is_chacha20:
        return None
    mask = protection._encryptor.update(data[_SAMPLE_AT : _SAMPLE_AT + 16])
    first = data[0] ^ (mask[0] & 0x1F)
    if first & RESERVED_BITS or (first & 4) >> 2 != keys.key_phase:
        return None
    length = (first & 3) + 1
    end = _NUMBER_AT + length
    shown = int.from_bytes(data[_NUMBER_AT:end], "big") ^ int.from_bytes(mask[1 : 1 + length], "big")
    number = decode_packet_number(shown, length * 8, expected)
    header = b"%c%b%b" % (first, data[1:_NUMBER_AT], shown.to_bytes(length, "big"))
    try:
        plain = aead._aead.decrypt((aead._iv ^ number).to_bytes(12, "big"), data[end:], header)
    except InvalidTag:
        return None
    return first, number, plain


class Sealer:
    """Protects the 1-RTT packets of one flush: keys, connection id and flags stay as they are for so long.

    Packet numbers are written in two bytes, as aioquic does.
    """

    __slots__ = ("_cid", "_encrypt", "_first", "_head", "_iv", "_mask")

    def __init__(self, aead: AEAD, protection: HeaderProtection, first: int, cid: bytes) -> None:
        self._encrypt, self._iv = aead._aead.encrypt, aead._iv
        self._mask = protection._encryptor.update
        self._first, self._cid = first, cid
        self._head = b"%c%b" % (first, cid)

    def seal(self, number: int, plain: bytes) -> bytes:
        """The datagram. `plain` has at least two bytes, else there is no sample."""
        shown = number & 0xFFFF
        sealed = self._encrypt((self._iv ^ number).to_bytes(12, "big"), plain, self._head + shown.to_bytes(2, "big"))
        mask = self._mask(sealed[2:18])
        shown ^= mask[1] << 8 | mask[2]
        return b"%c%b%b%b" % (self._first ^ (mask[0] & 0x1F), self._cid, shown.to_bytes(2, "big"), sealed)
