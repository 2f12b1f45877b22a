"""Hunt: runs fixed seeds until one fails; what a deliberate bug (`tests/mutants.py`) is looked for with.

`python -m tests.simulation.hunt RUNS` ends with 1 at the first violation, with 0 if there is none in so many runs.
"""

import logging
import sys

from tests.simulation.run import simulate

FIRST_SEED = 1_000


def main(runs: int) -> int:
    """Run seeds; return the exit code."""
    logging.disable(logging.WARNING)
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        outcome = simulate(seed)
        if outcome.violation:
            print(f"FAILED simulation::seed {seed}: {' '.join(outcome.violation.split())[:90]} - ")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
