"""Mutants: deliberate bugs, each of which the tests named for it must catch. `python -m tests.mutants [word ...]`.

Each is an edit of one function (`tests.bugs.edits`), planted in a fork (`tests.forks`); no file changes. A bug that
survives, an anchor that is gone, or a test that fails without its bug too ends with code 1.
With words, only mutants whose promise or anchor contains one of them run.
"""

import os
import sys

from tests.bugs import HUNT, Mutant
from tests.bugs.edits import Gone, changed, path_of
from tests.bugs.hunted import HUNTED
from tests.bugs.tested import TESTED
from tests.forks import FAILED, FIRST_SEED, ROOT, SEED, Job, Outcome, Planted, load, run_all

MUTANTS = (*HUNTED, *TESTED)
WORKERS = 2
SEEDS = 300
"""Simulations in which a hunted bug must show."""

SOUND_LIMIT_S = 600
"""Time of a processor for what must pass without a bug."""


def planted(mutant: Mutant) -> Planted:
    """Return the function's code with the bug. Raises Gone."""
    module, _, name = mutant.anchor.partition(":")
    path = path_of(module, ROOT)
    if not path.exists():
        raise Gone(f"{module} is not there")
    return Planted(module, name, changed(path, name, mutant.edit))


def job_of(mutant: Mutant) -> Job:
    """Return what must find the bug. Raises Gone."""
    if mutant.tests == HUNT:
        return Job(seeds=SEEDS, planted=planted(mutant))
    return Job(tests=mutant.tests, planted=planted(mutant))


def said(outcome: Outcome) -> tuple[str, str]:
    """Return what became of a bug, and the test or seed that saw it."""
    if outcome.code == FAILED:
        failed = [line for line in outcome.output.splitlines() if line.startswith("FAILED ")]
        return "caught", failed[0].removeprefix("FAILED ").partition(" - ")[0]
    return ("SURVIVED", "") if outcome.code == 0 else ("ERROR", outcome.output.strip()[-300:])


def sound_jobs(witnesses: list[str]) -> list[Job]:
    """Return what must pass without a bug: the tests that saw one, and all seeds up to the last that did."""
    seeds = [int(name.removeprefix(SEED)) for name in witnesses if name.startswith(SEED)]
    tests = sorted({name for name in witnesses if not name.startswith(SEED)})
    parts = [tests[number::WORKERS] for number in range(WORKERS)]
    jobs = [Job(seeds=max(seeds) - FIRST_SEED + 1, limit_s=SOUND_LIMIT_S)] if seeds else []
    return [*jobs, *(Job(tests=part, limit_s=SOUND_LIMIT_S) for part in parts if part)]


def main(words: list[str]) -> int:
    """Try every mutant; return the exit code."""
    os.chdir(ROOT)
    chosen = [one for one in MUTANTS if not words or any(word in f"{one.promise} {one.anchor}" for word in words)]
    jobs: dict[Job, Mutant] = {}
    for mutant in chosen:
        try:
            jobs[job_of(mutant)] = mutant
        except Gone as gone:
            print(f"mutants: {mutant.promise}: {mutant.anchor}: {gone}")
    if len(jobs) < len(chosen) or not chosen:
        return 1
    load()
    witnesses = []
    for job, outcome in run_all(jobs, workers=WORKERS):
        word, by = said(outcome)
        witnesses += [by] if word == "caught" else []
        print(f"{word:8} {outcome.seconds:5.1f} s  {jobs[job].promise:72} {by.rpartition('::')[2]}", flush=True)
    for _, outcome in run_all(sound_jobs(witnesses), workers=WORKERS):
        if outcome.code != 0:
            print(outcome.output)
            print("mutants: what saw the bugs fails without them too")
            return 1
    print(f"{len(witnesses)} of {len(chosen)} mutants caught")
    return 0 if len(witnesses) == len(chosen) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
