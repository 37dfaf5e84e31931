"""Makes hostile inputs: whole frames that are damaged, repeated, spliced and truncated, and bytes of no meaning."""

from collections.abc import Callable, Sequence
from random import Random

MAX_INPUT_BYTES = 40_000

INTERESTING = [
    bytes.fromhex(text)
    for text in (
        "00", "01", "3f", "7f", "80", "ff", "4000", "403f", "4040", "7fff", "80000000", "80004000", "80007fff",
        "80010000", "bfffffff", "c000000000000000", "ffffffffffffffff", "fffffffffffffffe", "c000000040000000",
    )
]  # fmt: skip
"""Integers at the borders of widths, of the skippable types, and of what an offset may be."""

Mutation = Callable[[Random, bytearray, Sequence[bytes]], None]


def _flip_bit(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(octets))
    octets[at] ^= 1 << random.randrange(8)


def _set_byte(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    octets[random.randrange(len(octets))] = random.randrange(256)


def _put_integer(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(octets))
    octets[at : at + random.choice((0, 1, 1, 2, 4, 8))] = random.choice(INTERESTING)


def _remove(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(octets))
    del octets[at : at + 1 + random.randrange(16)]


def _repeat(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(octets))
    part = octets[at : at + 1 + random.randrange(64)]
    octets[at:at] = part * (1 + random.randrange(4))


def _truncate(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    del octets[random.randrange(len(octets)) :]


def _splice(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    octets[random.randrange(len(octets)) :] = other[random.randrange(len(other) + 1) :]


def _append(random: Random, octets: bytearray, seeds: Sequence[bytes]) -> None:
    octets += random.choice(seeds)


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit, _set_byte, _put_integer, _put_integer, _remove, _repeat, _truncate, _splice, _append, _append,
)  # fmt: skip


def hostile(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One input: mostly a few seeds in a row with a few mutations, now and then random bytes."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    octets = bytearray(b"".join(random.choices(seeds, k=1 + random.randrange(3))))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 5, 8))):
        if not octets:
            break
        random.choice(MUTATIONS)(random, octets, seeds)
    return bytes(octets[:MAX_INPUT_BYTES])
