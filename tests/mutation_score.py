"""Mutation score: how many small changes of comparisons, arithmetic and constants in `actors/` the tests notice.

`python -m tests.mutation_score [--mutants 120] [--seed 1]` draws changes from all that there are, tries each in a fork
(`tests.forks`) with the simulator and the unit tests that import the changed module, and prints what survived.
It is a measurement, not a test: many survivors are the same program. `tests.mutants` holds what must be caught.
"""

import argparse
import ast
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bugs.edits import Function, changed
from tests.forks import ROOT, Job, Planted, load, run_all

SEEDS = 20
"""Simulations of each change; the tests follow if these notice nothing."""

SOUND_LIMIT_S = 600
"""Of a processor, for what must pass without a change."""

TIMES, MORE_S = 3, 20
"""What takes so many times as long with a change, and so many seconds more, has been noticed: it has no end."""

FLIPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


class Change(NamedTuple):
    """One change: of the site of that number in the function `name` of a file."""

    path: Path
    name: str
    site: int
    line: int

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts)

    @property
    def room(self) -> str:
        """The package."""
        return self.module.rpartition(".")[0]


def sites(function: Function) -> Iterator[tuple[ast.AST, Callable[[], None]]]:
    """Yield what can be changed in a function's body, and how; nothing within an assertion."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assert):
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in FLIPS:
            yield node, lambda node=node: node.ops.__setitem__(0, FLIPS[type(node.ops[0])]())  # type: ignore[misc]
        elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in FLIPS:
            yield node, lambda node=node: setattr(node, "op", FLIPS[type(node.op)]())  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield node, lambda node=node: setattr(node, "value", node.value + 1)  # type: ignore[misc]
        waiting += reversed(list(ast.iter_child_nodes(node)))


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Yield the functions of a module and of its classes, with their names."""
    for node in getattr(tree, "body", []):
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def changes() -> list[Change]:
    """Return all that there are."""
    found = []
    for path in sorted((ROOT / "actors").rglob("*.py")):
        for name, function in functions(ast.parse(path.read_text())):
            found += [Change(path, name, site, node.lineno) for site, (node, _) in enumerate(sites(function))]  # type: ignore[attr-defined]
    return found


def planted(change: Change) -> Planted:
    """Return the function's code with the change."""

    def edit(function: Function) -> None:
        list(sites(function))[change.site][1]()

    return Planted(change.module, change.name, changed(change.path, change.name, edit))


def tests_of(module: str) -> tuple[str, ...]:
    """Return the unit tests that import a module, or else its package."""
    files = {path: path.read_text() for path in sorted((ROOT / "tests/unit").glob("test_*.py"))}
    for named in (f"from {module} import", f"from {module.rpartition('.')[0]}."):
        found = tuple(str(path.relative_to(ROOT)) for path, text in files.items() if named in text)
        if found:
            return found
    raise ValueError(f"no test imports {module}, nor its package")


def main() -> str | None:
    """Measure, and print the score; return what is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mutants", type=int, default=120)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=2)
    asked = options.parse_args()
    os.chdir(ROOT)
    known = changes()
    drawn = random.Random(asked.seed).sample(known, min(asked.mutants, len(known)))
    load()
    limits_s: dict[Sequence[str], float] = {}
    sound = {Job(tests_of(change.module), limit_s=SOUND_LIMIT_S) for change in drawn}
    for job, outcome in run_all([Job(seeds=SEEDS, limit_s=SOUND_LIMIT_S), *sorted(sound)], workers=asked.workers):
        if outcome.code != 0:
            print(outcome.output)
            return "the tests fail without any change"
        limits_s[job.tests] = TIMES * outcome.seconds + MORE_S
    noticed: set[Change] = set()
    for tests in (False, True):
        jobs = {_job(change, limits_s, tests=tests): change for change in drawn if change not in noticed}
        for job, outcome in run_all(jobs, workers=asked.workers):
            noticed |= {jobs[job]} if outcome.code != 0 else set()
            print(".", end="", flush=True)
    print()
    left = [change for change in drawn if change not in noticed]
    for change in sorted(left):
        line = change.path.read_text().splitlines()[change.line - 1].strip()
        print(f"survived  {change.path.relative_to(ROOT)}:{change.line} ({change.site}) {line[:90]}")
    total, seen = Counter(change.room for change in drawn), Counter(change.room for change in noticed)
    for room in sorted(total):
        print(f"{room:24} {seen[room]:4} of {total[room]:4}")
    print(f"{len(noticed)} of {len(drawn)} noticed; {len(known)} changes are possible; seed {asked.seed}")
    return None


def _job(change: Change, limits_s: dict[Sequence[str], float], *, tests: bool) -> Job:
    """Return the tests of a change, or its simulations; what takes much longer than without it has no end."""
    if tests:
        return Job(near := tests_of(change.module), planted=planted(change), limit_s=limits_s[near])
    return Job(seeds=SEEDS, planted=planted(change), limit_s=limits_s[()])


if __name__ == "__main__":
    sys.exit(main())
