"""Campaign: many runs with fresh seeds on all cores, and what a run that fails is reduced to. `make simulate` runs it.

A failure is told with its seed, the command that replays it, and the end of a shortened run: as few steps as still
fail, and every kind of fault switched off that it does not need.
"""

import argparse
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, NamedTuple

from cluster.local.processes import end_with_parent
from tests.simulation.faults import GAP_S
from tests.simulation.run import STEPS, Outcome, simulate

CHUNK = 10
"""Runs of one worker between two words of it."""

LINES = 40
"""Of the trace, the last ones, that are shown."""

LINE_CHARS = 220
SEED_BITS = 40
REPORT_EVERY_RUNS = 100


class Tally(NamedTuple):
    """What many runs gave."""

    runs: int
    lives: int
    cpu_s: float
    faults: Counter[str]
    answered: Counter[str]
    failed: int | None
    """The first seed that failed."""

    @classmethod
    def empty(cls) -> "Tally":
        """Return what no run gives."""
        return cls(0, 0, 0.0, Counter(), Counter(), None)

    def plus(self, other: "Tally") -> "Tally":
        """Add two tallies up."""
        return Tally(
            self.runs + other.runs,
            self.lives + other.lives,
            self.cpu_s + other.cpu_s,
            self.faults + other.faults,
            self.answered + other.answered,
            other.failed if self.failed is None else self.failed,
        )

    @property
    def lives_per_s(self) -> float:
        """Packet lives a second of one core."""
        return self.lives / self.cpu_s if self.cpu_s else 0.0

    def line(self) -> str:
        """Say it in a line."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.faults.most_common())
        speed = f"{self.lives_per_s:.0f} lives/s/core"
        return f"{self.runs} runs, {self.lives} packet lives, {speed}, {self.faults.total()} faults ({kinds})"

    def summary(self) -> dict[str, Any]:
        """Return what a program reads."""
        return {
            "runs": self.runs,
            "lives": self.lives,
            "lives_per_s_core": round(self.lives_per_s, 1),
            "faults": dict(self.faults),
            "answered": dict(self.answered),
            "failed_seed": self.failed,
        }


def play(seeds: Iterable[int], steps: int = STEPS) -> Tally:
    """Run seeds one after another, up to the first that fails."""
    tally, began_s = Tally.empty(), time.process_time()
    for seed in seeds:
        outcome = simulate(seed, steps)
        failed = seed if outcome.violation else None
        tally = tally.plus(Tally(1, outcome.lives, 0.0, outcome.faults, outcome.answered, failed))
        if failed is not None:
            break
    return tally._replace(cpu_s=time.process_time() - began_s)


def campaign(
    *, seconds: float | None, runs: int | None, steps: int, report: Callable[[Tally], None], first: int | None = None
) -> Tally:
    """Run fresh seeds (or those from `first` on) for that long, or that many, until one fails. All cores work."""
    tally = Tally.empty()
    chunks = _chunks(secrets.randbits(SEED_BITS) if first is None else first, runs)
    ends_s = None if seconds is None else time.monotonic() + seconds
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        under_way: set[Future[Tally]] = set()
        while True:
            open_still = tally.failed is None and (ends_s is None or time.monotonic() < ends_s)
            while open_still and len(under_way) < workers + 1 and (chunk := next(chunks, None)) is not None:
                under_way.add(pool.submit(play, chunk, steps))
            if not under_way:
                return tally
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                tally = tally.plus(future.result())
            report(tally)


def _chunks(first: int, runs: int | None) -> Iterator[range]:
    begin = first
    while runs is None or begin < first + runs:
        end = begin + CHUNK if runs is None else min(begin + CHUNK, first + runs)
        yield range(begin, end)
        begin = end


def shorten(failing: Outcome) -> Outcome:
    """Return a run that still fails, with as few steps and kinds of fault as were found."""
    best = _fewest_steps(failing)
    for kind in sorted(failing.faults):
        outcome = simulate(best.seed, best.steps, (*best.without, kind))
        if outcome.violation:
            best = outcome
    return _fewest_steps(best)


def _fewest_steps(failing: Outcome) -> Outcome:
    """Halve the distance between steps that do not fail and steps that do. (A run's beginning does not depend on its
    length, so mostly every longer one fails too.)
    """
    low, best = 0, failing
    while best.steps - low > 1:
        middle = (low + best.steps) // 2
        outcome = simulate(best.seed, middle, best.without)
        if outcome.violation:
            best = outcome
        else:
            low = middle
    return best


def command(outcome: Outcome) -> str:
    """Return the command that replays a run."""
    without = f" --without {','.join(outcome.without)}" if outcome.without else ""
    return f"python -m tests.simulation.campaign --seed {outcome.seed} --steps {outcome.steps}{without}"


def story(outcome: Outcome) -> str:
    """Tell how a run failed: what, the command that replays it, the last lines of its trace."""
    lines = [f"VIOLATION {outcome.violation}", f"replay: {command(outcome)}"]
    if outcome.trace:
        lines += [_line(facts) for facts in outcome.trace[-LINES:]]
    return "\n".join([*lines, outcome.where.rstrip()])


def _line(facts: tuple[Any, ...]) -> str:
    at_us, what, *others = facts
    text = f"{at_us / 1e6:10.6f} s  {what:9} " + " ".join(str(other) for other in others)
    return text if len(text) <= LINE_CHARS else text[: LINE_CHARS - 1] + "…"


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return what a program reads of one run."""
    return {
        "seed": outcome.seed,
        "steps": outcome.steps,
        "without": list(outcome.without),
        "violation": outcome.violation or None,
        "lives": outcome.lives,
        "faults": dict(outcome.faults),
        "asked": dict(outcome.asked),
        "answered": dict(outcome.answered),
        "virtual_ms": outcome.virtual_ms,
        "digest": outcome.digest,
    }


# The command


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate the platform under seeds, with faults.")
    parser.add_argument("--seed", type=int, help="replay this one; without it a fresh one, printed")
    parser.add_argument("--steps", type=int, default=STEPS, help="things that clients do in a run")
    parser.add_argument("--runs", type=int, help="so many runs on all cores, with fresh seeds")
    parser.add_argument("--seconds", type=float, help="runs for so long, on all cores")
    parser.add_argument("--without", default="", help="kinds of fault that are off, with commas between")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object in the last line")
    arguments = parser.parse_args(argv)
    arguments.without = tuple(kind for kind in arguments.without.split(",") if kind)
    if unknown := [kind for kind in arguments.without if kind not in GAP_S]:
        parser.error(f"--without: {', '.join(unknown)} is not a kind of fault; there are {', '.join(GAP_S)}")
    arguments.many = arguments.runs is not None or arguments.seconds is not None
    if arguments.many and arguments.without:
        parser.error("--without is for one run; leave out --runs and --seconds")
    return arguments


def _many(arguments: argparse.Namespace) -> Outcome | None:
    """Run a campaign; return the run that failed, shortened."""
    told = 0

    def tell(tally: Tally) -> None:
        nonlocal told
        if tally.runs - told >= REPORT_EVERY_RUNS:
            told = tally.runs
            print(f"Simulating: {tally.line()}", file=sys.stderr)

    tally = campaign(
        seconds=arguments.seconds, runs=arguments.runs, steps=arguments.steps, report=tell, first=arguments.seed
    )
    failing = None
    if tally.failed is not None:
        print(f"seed {tally.failed} fails; looking for a shorter run that does", file=sys.stderr)
        failing = shorten(simulate(tally.failed, arguments.steps))
    print(tally.line())
    if failing is not None:
        print(story(failing))
    if arguments.json:
        print(json.dumps(tally.summary() | {"violation": failing.violation if failing else None}))
    return failing


def main(argv: list[str] | None = None) -> int:
    """Run one seed, or many; return 1 if one fails."""
    arguments = _arguments(argv)
    if arguments.many:
        return int(_many(arguments) is not None)
    seed = secrets.randbits(SEED_BITS) if arguments.seed is None else arguments.seed
    outcome = simulate(seed, arguments.steps, arguments.without)
    print(
        f"seed {outcome.seed}, {outcome.steps} steps: {outcome.lives} packet lives, {outcome.asked.total()} requests, "
        f"{outcome.faults.total()} faults, {outcome.virtual_ms / 1000:.1f} s of virtual time, "
        f"trace {outcome.digest[:16]}"
    )
    if outcome.violation:
        print(story(outcome))
    if arguments.json:
        print(json.dumps(summary(outcome)))
    return int(bool(outcome.violation))


if __name__ == "__main__":
    sys.exit(main())
