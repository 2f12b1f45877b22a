"""Recount: shares, claim chains and places of packets, computed anew from what is published. Nothing of ours is used.

Amounts in fen, stamps in Unix ms.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from zlib import crc32

BLOCK_COUNT_MAX = 10_000
"""A packet of more shares is made in blocks, which no simulation has."""


def hash_of(tenant: str, user: str) -> int:
    """Return the 32 bits by which a user is placed."""
    return crc32(f"{tenant}\n{user}".encode())


def day_of(at_ms: int) -> int:
    """Return the day of an instant in China."""
    return (at_ms // 3_600_000 + 8) // 24


def committed_to(algorithm: str, packet_id: str, seed: bytes) -> bytes:
    """Return what was published before the first share."""
    return hashlib.sha256(algorithm.encode() + b"\0" + packet_id.encode() + b"\0" + seed).digest()


def first_head(commitment: bytes, algorithm: str, total_fen: int, count: int, lo: int, hi: int, nonce: str) -> bytes:
    """Return the head of a claim chain before the first share is taken."""
    terms = f"{algorithm}\n{total_fen}\n{count}\n{lo}\n{hi}\n{nonce}"
    return hashlib.sha256(commitment + terms.encode()).digest()


def next_link(head: bytes, users: list[str], amounts_fen: list[int], at_ms: int) -> bytes:
    """Return the head of a claim chain behind what was taken in one step."""
    rows = b"".join(amount_fen.to_bytes(4, "little") + at_ms.to_bytes(8, "little") for amount_fen in amounts_fen)
    return hashlib.sha256(head + len(users).to_bytes(4, "little") + rows + "\n".join(users).encode()).digest()


def shares_of(algorithm: str, seed: bytes, nonce: str, total_fen: int, count: int, lo: int, hi: int) -> list[int]:
    """Return the shares of a packet, in order of rank."""
    assert count <= BLOCK_COUNT_MAX
    if algorithm == "equal/1":
        return [total_fen // count] * count
    key = hmac.digest(seed, b"nonce\0" + nonce.encode(), "sha256") if nonce else seed
    words = _words(key)

    def below(n: int) -> int:
        return 0 if n == 1 else next(word for word in words if word < 2**32 // n * n) % n

    shares, rest = [], total_fen
    for m in range(count, 1, -1):
        c = rest // m
        c += rest % m > 0 and below(m) < rest % m
        w = min(c - lo, hi - c, hi * (m - 1) - (rest - c), rest - c - lo * (m - 1))
        shares.append(c - w + below(2 * w + 1))
        rest -= shares[-1]
    shares.append(rest)
    if algorithm == "even/1":
        for i in range(count - 1, 0, -1):
            j = below(i + 1)
            shares[i], shares[j] = shares[j], shares[i]
    return shares


def _words(key: bytes) -> Iterator[int]:
    counter = 0
    while True:
        yield from struct.unpack(">8I", hmac.digest(key, counter.to_bytes(8, "big"), "sha256"))
        counter += 1
