"""Seeds: what makes the shares of a packet, the commitment to it, and unbiased integers drawn from it. Pure.

The seed is HMAC-SHA256(platform key, "seed" 0x00 packet id): nobody chooses it. Before the first grab the commitment
SHA-256(algorithm 0x00 packet id 0x00 seed) is durable and known to the sender; the seed is published at the end.
A stream of random words is HMAC-SHA256(seed, counter), counter = 0, 1, 2, ... as 8 big-endian bytes, cut into
big-endian 32-bit words. An integer below n is the word modulo n, words of the last incomplete stretch rejected.
"""

import hashlib
import hmac
from collections.abc import Iterator
from struct import unpack

from actors.kernel.ports import KeyRing

_WORDS = 2**32


def seed_of(platform_key: bytes, packet_id: str) -> bytes:
    """Derive the 32-byte seed of a packet."""
    return hmac.digest(platform_key, b"seed\x00" + packet_id.encode(), "sha256")


def commitment_of(algorithm: str, packet_id: str, seed: bytes) -> bytes:
    """Return the 32-byte commitment that is told before the first grab."""
    return hashlib.sha256(b"\x00".join((algorithm.encode(), packet_id.encode(), seed))).digest()


class SeedCommitments:
    """The port `Fairness` on a key ring."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def commit(self, algorithm: str, packet_id: str) -> tuple[str, bytes]:
        """Return (key id, commitment) of a new packet."""
        key_id = self._keys.current
        return key_id, commitment_of(algorithm, packet_id, seed_of(self._keys.key(key_id), packet_id))


class Draw:
    """Unbiased integers from one seed, in a fixed order."""

    def __init__(self, seed: bytes) -> None:
        self._words = self._stream(seed)

    @staticmethod
    def _stream(seed: bytes) -> Iterator[int]:
        counter = 0
        while True:
            yield from unpack(">8I", hmac.digest(seed, counter.to_bytes(8, "big"), "sha256"))
            counter += 1

    def below(self, n: int) -> int:
        """Draw a uniform integer in [0, n), 1 <= n <= 2**32. n = 1 takes no word."""
        assert 1 <= n <= _WORDS, "a 32-bit word cannot be uniform over more"
        if n == 1:
            return 0
        limit = _WORDS - _WORDS % n
        while (word := next(self._words)) >= limit:
            pass
        return word % n
