"""Forks: runs tests, or hunts with the simulator, each job in a fork of one process that has imported all libraries.

Importing takes longer than finding most bugs. A fork may give one function another code: a deliberate bug, which exists
in that fork alone and in no file. What takes more of a processor's time than its limit is ended.
"""

import gc
import importlib
import inspect
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OURS = ("tests.simulation.run", "cluster.gateway.app", "cluster.cli")
LIBRARIES = ("pytest", "pytest_asyncio", "hypothesis", "httpx", "aiohttp", "ray", "ray.serve", "pyarrow.parquet")
PYTEST_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--tb=line", "-o", "timeout=200")
FIRST_SEED = 1_000
SEED = "simulation::seed "
FAILED = 1
"""Exit code of a job that found something."""


class Planted(NamedTuple):
    """Another code for one function: `name` within its module (`Class.function`)."""

    module: str
    name: str
    code: CodeType


class Job(NamedTuple):
    """One thing to run: pytest with these arguments, or, if there are none, so many seeds of the simulator."""

    tests: Sequence[str] = ()
    seeds: int = 0
    planted: Planted | None = None
    limit_s: float = 120


class Outcome(NamedTuple):
    """What became of a job: exit code (0: nothing found), what it printed, seconds of a processor."""

    code: int
    output: str
    seconds: float


def load() -> None:
    """Import what no job has to import again."""
    for name in (*LIBRARIES, *OURS):
        importlib.import_module(name)
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"


def run_all(jobs: Iterable[Job], *, workers: int) -> Iterator[tuple[Job, Outcome]]:
    """Run jobs, so many at a time; yield each as it ends."""
    waiting = iter(jobs)
    running: dict[int, tuple[Job, IO[bytes]]] = {}
    try:
        while True:
            while len(running) < workers and (job := next(waiting, None)) is not None:
                output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the fork has ended
                running[_fork(partial(_carry_out, job), output.fileno())] = job, output
            if not running:
                return
            pid, status, used = os.wait3(0)
            job, output = running.pop(pid)
            output.seek(0)
            told = output.read().decode(errors="replace")
            output.close()
            yield job, Outcome(os.waitstatus_to_exitcode(status), told, used.ru_utime + used.ru_stime)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


def _fork(carry_out: Callable[[], int], output: int) -> int:
    """Return the process in which something is carried out."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = carry_out()
    except BaseException as failure:
        print(f"{type(failure).__name__}: {failure}", flush=True)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _carry_out(job: Job) -> int:
    signal.setitimer(signal.ITIMER_PROF, job.limit_s)
    warnings.simplefilter("ignore")
    if job.planted is not None:
        plant(job.planted)
    if not job.tests:
        return _hunt(job.seeds)
    import pytest

    return int(pytest.main([*PYTEST_OPTIONS, *job.tests]))


def plant(planted: Planted) -> None:
    """Give a function its other code, in this process."""
    found: Any = importlib.import_module(planted.module)
    for part in planted.name.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "fget", None) or found
    found = inspect.unwrap(getattr(found, "__func__", found))
    found.__code__ = planted.code


def _hunt(seeds: int) -> int:
    from tests.simulation.run import simulate

    logging.disable(logging.WARNING)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        violation = simulate(seed).violation
        if violation:
            print(f"FAILED {SEED}{seed} - {' '.join(violation.split())[:90]}", flush=True)
            return FAILED
    return 0
