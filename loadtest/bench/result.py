"""Result: one comparison as a row, and what a run leaves behind as JSON lines.

A row is `{name, ours, peer, ratio, target, met, unit, at_most, note}`: medians of rounds, `ratio` of the medians. The
target bounds the ratio, from below unless `at_most` is set (milliseconds, bytes). A target of 0: none, always met.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class BenchRow(NamedTuple):
    """One line of the result. `unit` is of `ours` and `peer`."""

    name: str
    ours: float
    peer: float
    ratio: float
    target: float
    met: bool
    unit: str
    at_most: bool = False
    note: str = ""


def compare(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    unit: str,
    *,
    at_least: float = 0.0,
    at_most: float = 0.0,
    note: str = "",
) -> BenchRow:
    """Compare the medians of two sides over the rounds; at most one of the two bounds is given."""
    assert not (at_least and at_most), "a row has one target"
    left, right = statistics.median(ours), statistics.median(peer)
    ratio = left / right if right else float("inf")
    target = at_most or at_least
    met = ratio <= at_most if at_most else ratio >= at_least
    by_round = " ".join(f"{a / b:.2f}" for a, b in zip(ours, peer, strict=False) if b)
    if len(ours) > 1 and len(ours) == len(peer):
        note = f"{note}{'; ' if note else ''}by round {by_round}"
    return BenchRow(name, rounded(left), rounded(right), round(ratio, 3), target, met, unit, bool(at_most), note)


def bounded(name: str, found: float, bound: float, unit: str, note: str = "") -> BenchRow:
    """Hold a figure against a bound of its own unit: the ratio must be at most 1."""
    return BenchRow(name, rounded(found), bound, round(found / bound, 3), 1.0, found <= bound, unit, True, note)


def stated(name: str, found: float, unit: str, note: str = "") -> BenchRow:
    """State a figure that is compared with nothing."""
    return BenchRow(name, rounded(found), 0.0, 0.0, 0.0, True, unit, False, note)


def rounded(number: float) -> float:
    """Round to what is worth reading: whole numbers from 100 on, two decimals below."""
    return float(round(number)) if abs(number) >= 100 else round(number, 2)


def target_words(row: BenchRow) -> str:
    """Write a row's target, e.g. ">= 4"; empty if it has none."""
    if not row.target:
        return ""
    return f"{'<=' if row.at_most else '>='} {row.target:g}"
