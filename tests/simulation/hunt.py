"""Hunt: runs fixed seeds until one fails; what a deliberate bug (`tests.mutants`) is looked for with.

It serves: a line `FOLDER RUNS` on stdin is answered by lines of output and then `exit CODE`: 1 at the first violation,
0 if there is none in so many runs. Each hunt is a fork of this process, which has imported all that is not ours:
importing takes ten times as long as finding most bugs. The folder's own tree is what the fork imports.
"""

import importlib
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

FIRST_SEED = 1_000
LIMIT_S = 120
"""A hunt that takes more of a processor's time is ended: code 155."""

OURS = ("actors", "cluster", "configs", "tests")


def hunt(runs: int) -> int:
    """Run seeds; return the exit code."""
    from tests.simulation.run import simulate

    logging.disable(logging.WARNING)
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        outcome = simulate(seed)
        if outcome.violation:
            print(f"FAILED simulation::seed {seed}: {' '.join(outcome.violation.split())[:90]} - ", flush=True)
            return 1
    return 0


def hunt_in(tree: Path, runs: int) -> int:
    """Import a tree and hunt in it. Never returns to the caller's modules: run it in a fork."""
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    warnings.simplefilter("ignore")
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    there = importlib.import_module("tests.simulation.hunt")
    assert str(there.__file__).startswith(str(tree)), f"{there.__file__} was imported instead"
    return int(there.hunt(runs))


def serve() -> None:
    """Hunt as asked on stdin until it ends."""
    importlib.import_module("tests.simulation.run")
    for line in sys.stdin:
        tree, _, runs = line.strip().rpartition(" ")
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = hunt_in(Path(tree), int(runs))
            except BaseException as failure:
                print(f"{type(failure).__name__}: {failure}", flush=True)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(f"exit {128 + ended_by if ended_by else os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    serve()
