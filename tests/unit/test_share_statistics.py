"""Share statistics: over 200,000 packets of each algorithm, no position is worth more than another.

Seeds are fixed, so that a bound of 4 standard errors either holds for ever or never did. With every set of parameters
every sum, floor and cap is checked in every packet.
"""

import math

import numpy as np
import pytest

from actors.packet.split import split
from loadtest.fairness.statistic import chi_square, chi_square_p

ALGORITHMS = ["double-mean/1", "even/1"]
GREAT_FEN = 3 * 2**30
"""A word modulo so much falls into the lowest third twice as often as into each of the others."""

SETS = {
    "two shares of a great sum": (GREAT_FEN, 2, 1, GREAT_FEN, 4_000),
    "nothing above the floor": (200, 5, 40, 20_000, 4_000),
    "everybody at the cap": (100, 5, 1, 20, 4_000),
    "floor and cap near the mean": (503, 5, 99, 102, 8_000),
    "a floor near the mean": (206, 5, 40, 20_000, 10_000),
    "a cap near the mean": (87, 5, 1, 20, 20_000),
    "a mean that is no whole number": (503, 5, 1, 20_000, 30_000),
    "ties are rare": (1_000_000, 5, 1, 1_000_000, 120_000),
}
"""(total_fen, count, lo, hi, packets)"""


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def split_all(algorithm: str, name: str) -> np.ndarray:
    """Return the shares, a packet in a row; exact and within floor and cap, or it fails."""
    total, count, lo, hi, packets = SETS[name]
    rows = [split(algorithm, seed(number), total, count, lo, hi) for number in range(packets)]
    shares = np.array(rows, dtype=np.int64)
    assert shares.shape == (packets, count)
    assert (shares.sum(axis=1) == total).all()
    assert shares.min() >= lo
    assert shares.max() <= hi
    return shares


def luckiest_positions(shares: np.ndarray) -> list[int]:
    """Count by position who has the most. Packets in which several have are left out: `argmax` would take the first."""
    greatest = shares.max(axis=1, keepdims=True)
    alone = (shares == greatest).sum(axis=1) == 1
    assert alone.mean() > 0.999, "the parameters are such that ties are rare"
    return [int(count) for count in np.bincount(shares[alone].argmax(axis=1), minlength=shares.shape[1])]


def p_of_equal(counts: list[int]) -> float:
    return chi_square_p(chi_square(counts, [sum(counts) / len(counts)] * len(counts)), len(counts) - 1)


def test_each_algorithm_is_tried_on_two_hundred_thousand_packets() -> None:
    assert sum(packets for *_, packets in SETS.values()) == 200_000


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_position_has_the_mean_of_the_packet(algorithm: str, name: str) -> None:
    total, count, _, _, packets = SETS[name]
    shares = split_all(algorithm, name)
    errors = shares.std(axis=0) / math.sqrt(packets)
    assert (np.abs(shares.mean(axis=0) - total / count) <= 4 * errors).all()
    if name == "ties are rare":
        p = p_of_equal(luckiest_positions(shares))
        if algorithm == "even/1":
            assert p > 0.001, "everybody is the luckiest equally often"
            assert shares.std(axis=0).max() / shares.std(axis=0).min() < 1.02
        else:
            assert p < 1e-9, "what the shuffle is for, and that so many packets show it"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_packet_of_ten_thousand_shares_is_exact_and_favours_no_part_of_the_crowd(algorithm: str) -> None:
    total, count, lo, hi, packets = 1_000_007, 10_000, 1, 400, 10
    shares = np.array([split(algorithm, seed(number), total, count, lo, hi) for number in range(packets)])
    assert (shares.sum(axis=1) == total).all()
    assert lo <= shares.min() <= shares.max() <= hi
    tenths = shares.reshape(packets, 10, count // 10).mean(axis=2)
    assert (np.abs(tenths.mean(axis=0) - total / count) <= 4 * tenths.std(axis=0, ddof=1) / math.sqrt(packets)).all()
