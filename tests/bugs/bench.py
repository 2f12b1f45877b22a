"""Bugs of the bench: each would show a figure that nobody measured, or pass a payout that is not exact."""

from tests.bugs import Mutant

BENCH, BENCH_LOAD = "tests/unit/test_bench.py", "tests/unit/test_bench_load.py"
FIGURES = [
    Mutant(
        "where smaller is better the target bounds from above",
        "loadtest/bench/result.py",
        "met = ratio <= at_most if at_most else",
        "met = ratio >= at_most if at_most else",
        (BENCH,),
    ),
    Mutant(
        "connections that broke fail a load",
        "loadtest/bench/load.py",
        "    if broken:\n",
        "    if False:\n",
        (BENCH,),
    ),
    Mutant(
        "a process born during a load is part of its cost",
        "loadtest/bench/hops.py",
        ".get(birth, 0.0)",
        ".get(birth, cpu_s)",
        (BENCH,),
    ),
    Mutant(
        "refused attempts are part of a success's cost",
        "loadtest/bench/cost.py",
        '(REFUSED_A_SUCCESS, us["loser"])',
        '(1.0, us["loser"])',
        (BENCH,),
    ),
    Mutant(
        "every rank of a packet is paid once",
        "loadtest/bench/bed.py",
        "assert sorted(win.rank for win in packet) == list(range(1, shares + 1))",
        "assert len(packet) == shares",
        (BENCH_LOAD,),
    ),
    Mutant(
        "a stream that leaves grabs unanswered fails",
        "loadtest/bench/stream_load.py",
        "None if self.answers == self.sent else",
        "None if self.answers else",
        (BENCH_LOAD,),
    ),
]
