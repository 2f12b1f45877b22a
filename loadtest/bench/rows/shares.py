"""Shares rows: how fast a packet's total becomes shares, in one process, of a packet for a group and of a great one."""

import statistics
import time

from actors.packet.split import split
from loadtest.bench.ground import Ground
from loadtest.bench.result import BenchRow, stated

ALGORITHMS = ("double-mean/1", "even/1")
COUNTS = (10, 10_000)
SHARES_A_ROUND = 200_000
SHARE_FEN, SHARE_FEN_MAX = 100, 20_000


def per_second(algorithm: str, count: int, round_: int, shares: int = SHARES_A_ROUND) -> float:
    """Split packets of `count` shares, about `shares` in all, each from a seed of its own; return shares a second."""
    packets = max(1, shares // count)
    seeds = [(round_ * packets + number).to_bytes(32, "big") for number in range(packets)]
    began_s = time.perf_counter()
    made = sum(len(split(algorithm, seed, count * SHARE_FEN, count, 1, SHARE_FEN_MAX)) for seed in seeds)
    seconds = time.perf_counter() - began_s
    assert made == packets * count, "every packet has all its shares"
    return made / seconds


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure both algorithms by turns."""
    ground.say("shares")
    cases = [(algorithm, count) for count in COUNTS for algorithm in ALGORITHMS]
    found = [[per_second(*case, turn) for case in cases] for turn in range(ground.rounds)]
    rates = [statistics.median(column) for column in zip(*found, strict=True)]
    return [
        stated(f"split by {algorithm}, {count:,} shares a packet", rate, "shares/s", f"{rate / count:,.1f} packets/s")
        for (algorithm, count), rate in zip(cases, rates, strict=True)
    ]
