"""Statistic: the few that fairness is judged by, in plain Python. Pure.

Source of Jain's index: Jain, Chiu, Hawe, "A quantitative measure of fairness" (DEC TR-301, 1984).
"""

import math
from collections.abc import Sequence


def chi_square_p(statistic: float, freedom: int) -> float:
    """Return the probability that a chi-square of so many degrees of freedom is at least that great.

    It is the regularized upper gamma Q(freedom / 2, statistic / 2), by Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1)
    from Q(1/2, x) = erfc(sqrt x) or Q(1, x) = e^-x. No freedom: 1, nothing can differ.
    """
    assert statistic >= 0, "a sum of squares"
    if freedom == 0 or statistic == 0:
        return 1.0
    x = statistic / 2
    a, q = (0.5, math.erfc(math.sqrt(x))) if freedom % 2 else (1.0, math.exp(-x))
    while a < freedom / 2:
        q += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(q, 1.0)


def chi_square(found: Sequence[float], expected: Sequence[float]) -> float:
    """Sum the squared differences over what was expected."""
    return sum((one - due) ** 2 / due for one, due in zip(found, expected, strict=True) if due)


def jain(portions: Sequence[float]) -> float:
    """Return Jain's index: 1 if all portions are equal, 1/n if one has everything."""
    squares = sum(portion * portion for portion in portions)
    return sum(portions) ** 2 / (len(portions) * squares) if squares else 1.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile of sorted numbers; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
