"""Fairness: what a packet's shares are drawn from, and the chain of its claims. Pure.

The share seed is the seed (`actors.transfers.seeds`), or with a sender's nonce HMAC-SHA256(seed, "nonce" 0x00 nonce):
neither side chose it.
A block of a crowd's packet has a seed of its own: HMAC-SHA256(share seed, "block" 0x00 number as 8 big-endian bytes).
"""

import hashlib
import hmac
from collections.abc import Sequence


def share_seed_of(seed: bytes, sender_nonce: str) -> bytes:
    """Return the 32 bytes that the shares are drawn from."""
    return hmac.digest(seed, b"nonce\x00" + sender_nonce.encode(), "sha256") if sender_nonce else seed


def block_seed_of(share_seed: bytes, block: int) -> bytes:
    """Return the 32 bytes that the shares of one block are drawn from."""
    return hmac.digest(share_seed, b"block\x00" + block.to_bytes(8, "big"), "sha256")


def linked(head: bytes, rows: bytes, users: Sequence[str]) -> bytes:
    """Return the head of a claim chain after one more link: SHA-256(head, size, rows, users joined by line feeds).

    A link is what was taken in one step; `size` is how many claims that are (u32, little-endian), `rows` 12 bytes for
    each, amount (u32) and stamp (u64), little-endian.
    """
    size = len(users).to_bytes(4, "little")
    return hashlib.sha256(b"".join((head, size, rows, "\n".join(users).encode()))).digest()


def chain_start_of(
    commitment: bytes, algorithm: str, total_fen: int, count: int, lo: int, hi: int, nonce: str
) -> bytes:
    """Return the head of a claim chain before the first link: it binds the commitment to the packet's terms.

    SHA-256(commitment, then algorithm, total, count, least and greatest share and nonce, joined by line feeds).
    """
    terms = "\n".join((algorithm, str(total_fen), str(count), str(lo), str(hi), nonce))
    return hashlib.sha256(commitment + terms.encode()).digest()
