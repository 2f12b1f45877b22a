"""Mutants: deliberate bugs, each of which the named tests must catch. `python -m tests.mutants [word ...]`.

The tree is copied to a temporary folder; there each bug is put in by replacing one exact text, and only the tests
named for it run. A bug that survives, a text that is no longer there (once), or tests that fail without a bug end
with code 1.
With words, only mutants whose promise contains one of them run.
"""

import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from cluster.local.processes import end_with_parent
from tests.bugs import HUNT, Mutant
from tests.bugs.bench import FIGURES
from tests.bugs.commands import COMMANDS
from tests.bugs.contract import DOCUMENT
from tests.bugs.crowd_hunt import HUNTED_CROWDS
from tests.bugs.crowds import CROWDS
from tests.bugs.fairness import FAIRNESS
from tests.bugs.gateway import GATEWAY
from tests.bugs.journals import JOURNALS
from tests.bugs.keys import WHOSE_KEYS
from tests.bugs.kinds import AUDIENCES
from tests.bugs.levers import PAUSES
from tests.bugs.lishi import LISHI
from tests.bugs.load import LOAD
from tests.bugs.overload import OVERLOAD
from tests.bugs.photos import PHOTO_PACKETS
from tests.bugs.proofs import PROOFS
from tests.bugs.shares import SHARES
from tests.bugs.sight import SIGHT
from tests.bugs.simulation import SIMULATION
from tests.bugs.stream import STREAMS
from tests.bugs.system import LOCAL
from tests.bugs.unit import UNIT

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("actors", "cluster", "configs", "loadtest", "tests", "pyproject.toml")
WORKERS = 2
LIMIT_S, SOUND_LIMIT_S = 120, 600
"""Of a processor's time, for one bug, and for all tests without one."""


HUNT_RUNS = 250
"""Simulations in which a bug must show."""

SOUND_RUNS = 40
"""Simulations of the sound tree, before."""

PYTEST_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--tb=line", "-o", "timeout=40")
MUTANTS = [
    *UNIT,
    *AUDIENCES,
    *LISHI,
    *CROWDS,
    *HUNTED_CROWDS,
    *PHOTO_PACKETS,
    *GATEWAY,
    *DOCUMENT,
    *JOURNALS,
    *SIMULATION,
    *PAUSES,
    *STREAMS,
    *LOAD,
    *FIGURES,
    *SHARES,
    *SIGHT,
    *OVERLOAD,
    *PROOFS,
    *FAIRNESS,
    *COMMANDS,
    *WHOSE_KEYS,
    *LOCAL,
]


def check_texts() -> list[str]:
    """Return a line for every mutant whose text is not in its file exactly once."""
    wrong = []
    for mutant in MUTANTS:
        found = (ROOT / mutant.file).read_text().count(mutant.old)
        if found != 1:
            wrong.append(f"{mutant.promise}: its text is in {mutant.file} {found} times, not once; write it anew")
    return wrong


def copy_tree(target: Path) -> None:
    """Copy what the tests need, compiled into bytecode that is held against its source's hash: bugs come and go."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "mutants.py", "bugs")
            )
        else:
            shutil.copy(source, target / name)
    hashed = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(target, quiet=2, invalidation_mode=hashed, workers=1)


class Forks:
    """A process that runs tests of trees, and hunts in them, in forks of itself: `tests.forks`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=end_with_parent,
        )

    def run(self, tree: Path, tests: Sequence[str], runs: int = 0, limit_s: int = LIMIT_S) -> tuple[int, str]:
        """Return the exit code (1: a test failed, a violation was found) and the output; `runs`: of a hunt."""
        wanted = {"runs": runs} if runs else {"tests": tests, "options": PYTEST_OPTIONS}
        asked = {"tree": str(tree), "limit_s": limit_s} | wanted
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        output = ""
        for line in self._process.stdout:
            if line.startswith("exit "):
                return int(line.split()[1]), output
            output += line
        return -1, output + "the process died"

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


class Ground(NamedTuple):
    """What one worker tries its mutants with."""

    tree: Path
    forks: Forks


def check_import(tree: Path) -> None:
    """Make sure that a tree's own code is what its tests import. Raises SystemExit."""
    probe = [sys.executable, "-c", "import actors, cluster, tests; print(actors.__file__, cluster.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(probe, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout.split()
    if not all(path.startswith(str(tree)) for path in found):
        raise SystemExit(f"mutants: {found} is imported instead of the copy")


def try_mutant(mutant: Mutant, grounds: "Queue[Ground]") -> tuple[str, str, float]:
    """Put one bug in, run its tests, take it out; return what became of it, its first failure, and seconds."""
    ground = grounds.get()
    file = ground.tree / mutant.file
    sound = file.read_text()
    began_s = time.monotonic()
    try:
        file.write_text(sound.replace(mutant.old, mutant.new))
        code, output = ground.forks.run(ground.tree, mutant.tests, HUNT_RUNS if mutant.tests == HUNT else 0)
    finally:
        file.write_text(sound)
        grounds.put(ground)
    seconds = time.monotonic() - began_s
    if code == 1:
        failed = [line for line in output.splitlines() if line.startswith("FAILED")]
        return "caught", failed[0].removeprefix("FAILED ").partition("::")[2].partition(" - ")[0], seconds
    if code == 0:
        return "SURVIVED", f"not seen by {', '.join(mutant.tests)}", seconds
    return "ERROR", output.strip()[-300:], seconds


def is_sound(tests: set[str], hunted: bool, grounds: list[Ground]) -> bool:
    """Tell whether nothing is found where there is no bug, each worker with its part of the tests; else say what is."""
    parts = [sorted(tests)[number :: len(grounds)] for number in range(len(grounds))]
    with ThreadPoolExecutor(len(grounds)) as pool:
        told = list(pool.map(lambda one, part: _run_sound(one, part), grounds, parts))
    if hunted and not any(code for code, _ in told):
        told.append(grounds[0].forks.run(grounds[0].tree, HUNT, SOUND_RUNS))
    for code, output in told:
        if code != 0:
            print(output)
            print("mutants: the tests fail without any bug")
            return False
    return True


def _run_sound(ground: Ground, tests: list[str]) -> tuple[int, str]:
    return ground.forks.run(ground.tree, tests, limit_s=SOUND_LIMIT_S) if tests else (0, "")


def main(words: list[str]) -> int:
    """Try every mutant; return the exit code."""
    wrong = check_texts()
    for line in wrong:
        print(f"mutants: {line}")
    if wrong:
        return 1
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.promise for word in words)]
    hunted = [mutant for mutant in chosen if mutant.tests == HUNT]
    tested = [mutant for mutant in chosen if mutant.tests != HUNT]
    grounds: Queue[Ground] = Queue()
    with tempfile.TemporaryDirectory(prefix="hongbao-mutants-") as folder, ExitStack() as ending:
        for number in range(WORKERS):
            ground = Ground(Path(folder).resolve() / str(number), Forks())
            ending.callback(ground.forks.end)
            ground.tree.mkdir()
            copy_tree(ground.tree)
            grounds.put(ground)
        check_import(ground.tree)
        if not is_sound({test for mutant in tested for test in mutant.tests}, bool(hunted), list(grounds.queue)):
            return 1
        survived = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for mutant, (outcome, by, seconds) in zip(
                chosen, pool.map(lambda one: try_mutant(one, grounds), chosen), strict=True
            ):
                survived += outcome != "caught"
                print(f"{outcome:8} {seconds:5.1f} s  {mutant.promise:58} {by}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants caught")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
