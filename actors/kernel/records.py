"""Records: which ids have left memory, so that an id that never did need not be looked up. Pure; part of a snapshot.

A Bloom filter that grows in layers, each twice as large as the one before. An id that was added is always found; one
that was not is found by mistake about once in a hundred times, which costs one lookup. Past the last layer the filter
stays as it is and mistakes become more frequent, so that its size is bounded whatever happens.
What it holds follows from the order of the ids alone: a replay makes the same.
"""

from hashlib import blake2b

import msgspec

LAYER_BYTES_MIN = 1_024
LAYERS_MAX = 13
"""Of one stream: 8 MiB in all, enough for six million ids."""
_BITS_PER_ID = 10
_PROBES = 7


class Departed(msgspec.Struct):
    """The ids of what has left the memory of one stream."""

    layers: list[bytearray] = []
    newest_count: int = 0
    """Ids in the newest layer."""

    def add(self, name: str) -> None:
        """Apply: it leaves."""
        layers = self.layers
        if not layers or (self.newest_count >= 8 * len(layers[-1]) // _BITS_PER_ID and len(layers) < LAYERS_MAX):
            layers.append(bytearray(LAYER_BYTES_MIN << len(layers)))
            self.newest_count = 0
        self.newest_count += 1
        newest, (at, step) = layers[-1], _places(name)
        mask = 8 * len(newest) - 1
        for _ in range(_PROBES):
            newest[(at & mask) >> 3] |= 1 << (at & 7)
            at += step

    def may_have(self, name: str) -> bool:
        """Tell whether it may have left: never False for one that has."""
        if not self.layers:
            return False
        at, step = _places(name)
        return any(_has(layer, at, step) for layer in self.layers)


def _has(layer: bytearray, at: int, step: int) -> bool:
    mask = 8 * len(layer) - 1
    for _ in range(_PROBES):
        if not layer[(at & mask) >> 3] & 1 << (at & 7):
            return False
        at += step
    return True


def _places(name: str) -> tuple[int, int]:
    """Return where the probes of a name begin, and how far they are apart."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
