"""Split: a packet's total into shares, exactly, from its seed. Pure; fen only.

| algorithm | shares |
|---|---|
| `equal/1` | total / count each; it must divide |
| `double-mean/1` | the exact integer form of the double-mean rule (docs/facts.md): every position has the same mean |
| `even/1` | `double-mean/1`, then shuffled (Fisher-Yates): every position has the same distribution |

A packet for a crowd is made in blocks of BLOCK_COUNT_MAX ranks: each gets its part of the total by its ranks, rounded
so that the parts sum to it, and is a packet of its own with a seed of its own. So no step is long, and nobody waits for
shares that nobody takes yet.

Whatever the draw: every share is in [lo, hi] and they sum to the total. Source of the rule: the WeChat design talk
(InfoQ 2017), "uniform between 1 fen and twice the mean of what is left"; its naive integer form is biased, this is not.
"""

import msgspec

from actors.ledger.money import part_of
from actors.packet.fairness import block_seed_of
from actors.transfers.seeds import Draw

BLOCK_COUNT_MAX = 10_000
"""Ranks of one block: part of the published algorithms, so it never changes."""


def can_split(total_fen: int, count: int, lo: int, hi: int) -> bool:
    """Tell whether `count` shares of lo..hi fen can sum to the total."""
    return count >= 1 and lo * count <= total_fen <= hi * count


class Division(msgspec.Struct, frozen=True):
    """How a packet is divided: what its shares follow from, beside the seed. Amounts in fen."""

    algorithm: str
    total_fen: int
    count: int
    lo: int
    hi: int

    @property
    def blocks(self) -> int:
        """How many blocks it is made in."""
        return -(-self.count // BLOCK_COUNT_MAX)

    def block(self, share_seed: bytes, number: int) -> list[int]:
        """Return the shares of one block, from 0, in order of rank. The caller has checked `can_split`."""
        first = number * BLOCK_COUNT_MAX
        end = min(first + BLOCK_COUNT_MAX, self.count)
        part_fen = part_of(self.total_fen, first, end, self.count)
        seed = share_seed if self.blocks == 1 else block_seed_of(share_seed, number)
        return _shares(seed, msgspec.structs.replace(self, total_fen=part_fen, count=end - first))

    def page(self, share_seed: bytes, first: int, count_max: int) -> list[int]:
        """Return the shares of some ranks, from place `first` (from 0) on."""
        end = min(first + count_max, self.count)
        shares: list[int] = []
        for number in range(first // BLOCK_COUNT_MAX, -(-end // BLOCK_COUNT_MAX)):
            start = number * BLOCK_COUNT_MAX
            shares += self.block(share_seed, number)[max(first - start, 0) : end - start]
        return shares


def split(algorithm: str, share_seed: bytes, total_fen: int, count: int, lo: int, hi: int) -> list[int]:
    """Return all shares in order of rank. The caller has checked `can_split`."""
    assert can_split(total_fen, count, lo, hi), "limits are checked before the money moves"
    whole = Division(algorithm, total_fen, count, lo, hi)
    return [share for number in range(whole.blocks) for share in whole.block(share_seed, number)]


def _shares(seed: bytes, division: Division) -> list[int]:
    algorithm, count, lo, hi = division.algorithm, division.count, division.lo, division.hi
    total_fen = division.total_fen
    assert can_split(total_fen, count, lo, hi), "limits are checked before the money moves"
    if algorithm == "equal/1":
        assert total_fen % count == 0, "an equal packet divides"
        return [total_fen // count] * count
    draw = Draw(seed)
    shares = _double_mean(draw, total_fen, count, lo, hi)
    if algorithm == "even/1":
        _shuffle(draw, shares)
    else:
        assert algorithm == "double-mean/1", f"no such algorithm: {algorithm}"
    return shares


def _double_mean(draw: Draw, total_fen: int, count: int, lo: int, hi: int) -> list[int]:
    shares = []
    rest = total_fen
    for left in range(count, 1, -1):
        centre, over = divmod(rest, left)
        if over and draw.below(left) < over:
            centre += 1
        # The half-width keeps this share AND the mean of the later ones inside [lo, hi].
        half = min(centre - lo, hi - centre, hi * (left - 1) - (rest - centre), (rest - centre) - lo * (left - 1))
        share = centre - half + draw.below(2 * half + 1)
        shares.append(share)
        rest -= share
    shares.append(rest)
    return shares


def _shuffle(draw: Draw, shares: list[int]) -> None:
    for last in range(len(shares) - 1, 0, -1):
        other = draw.below(last + 1)
        shares[last], shares[other] = shares[other], shares[last]
