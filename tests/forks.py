"""Forks: runs tests of a tree, or hunts in it, each in a fork of one process that has imported all that is not ours.

Importing takes longer than finding most bugs (`tests.mutants`). It serves: a line of JSON on stdin is answered by lines
of output and then `exit CODE`. `{"tree", "limit_s", "tests", "options"}` runs pytest; `{"tree", "limit_s", "runs"}`
hunts: it runs fixed seeds of the simulation until one fails, code 1, or none does, code 0. The tree's own modules are
what a fork imports. What takes more of a processor's time than its limit is ended: code 155.
"""

import importlib
import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

FIRST_SEED = 1_000
OURS = ("actors", "cluster", "configs", "loadtest", "tests")
FOREIGN = ("pytest", "pytest_asyncio", "hypothesis", "httpx", "aiohttp", "ray", "ray.serve", "pyarrow.parquet")


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


def run_tests(tests: list[str], options: list[str]) -> int:
    """Run tests in the working folder; return pytest's exit code."""
    import pytest

    return int(pytest.main([*options, *tests]))


def carry_out(asked: dict[str, Any]) -> int:
    """Import a tree and do there what is asked. Never returns to the caller's modules: run it in a fork."""
    signal.setitimer(signal.ITIMER_PROF, asked["limit_s"])
    warnings.simplefilter("ignore")
    tree = asked["tree"]
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]
    sys.path.insert(0, tree)
    sys.dont_write_bytecode = True
    os.chdir(tree)
    there = importlib.import_module("tests.forks")
    assert str(there.__file__).startswith(tree), f"{there.__file__} was imported instead"
    if "runs" in asked:
        return int(there.hunt(asked["runs"]))
    return int(there.run_tests(asked["tests"], asked["options"]))


def serve() -> None:
    """Do as asked on stdin until it ends."""
    importlib.import_module("tests.simulation.run")
    for name in FOREIGN:
        importlib.import_module(name)
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 3
            try:
                code = carry_out(asked)
            except BaseException as failure:
                print(f"{type(failure).__name__}: {failure}", flush=True)
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        print(f"exit {128 + ended_by if ended_by else os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    assert Path.cwd() == Path(__file__).parents[1], "run it as a module, in the project's folder"
    serve()
