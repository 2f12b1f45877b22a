"""Split: a packet's total into shares, exactly, from its seed. Pure; fen only.

| algorithm | shares |
|---|---|
| `equal/1` | total / count each; it must divide |
| `double-mean/1` | the exact integer form of the double-mean rule (facts.md): every position has the same mean |
| `even/1` | `double-mean/1`, then shuffled (Fisher-Yates): every position has the same distribution |

Whatever the draw: every share is in [lo, hi] and they sum to the total. Source of the rule: the WeChat design talk
(InfoQ 2017), "uniform between 1 fen and twice the mean of what is left"; its naive integer form is biased, this is not.
"""

from actors.packet.fairness import Draw


def can_split(total_fen: int, count: int, lo: int, hi: int) -> bool:
    """Tell whether `count` shares of lo..hi fen can sum to the total."""
    return count >= 1 and lo * count <= total_fen <= hi * count


def split(algorithm: str, seed: bytes, total_fen: int, count: int, lo: int, hi: int) -> list[int]:
    """Return the shares in order of rank. The caller has checked `can_split`."""
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
