"""Mutation score: how many small changes of comparisons, arithmetic and constants in `actors/` the tests notice.

`python -m tests.mutation_score [--mutants 120] [--seed 1]` draws changes from all that there are, tries each in a fork
(`tests.forks`) with the simulator and the unit tests that import the changed package, and prints what survived.
It is a measurement, not a test: many survivors are the same program. `tests.mutants` holds what must be caught.
"""

import argparse
import ast
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bugs.edits import Function, changed
from tests.forks import ROOT, Job, Planted, load, run_all

SEEDS = 20
"""Simulations of each change; the tests follow if these notice nothing."""

LIMIT_S = 60
"""Of a processor, for each; what takes longer has been noticed: it no longer ends."""

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


def tests_of(room: str) -> tuple[str, ...]:
    """Return the unit tests that import something of a package."""
    found = [path for path in sorted((ROOT / "tests/unit").glob("test_*.py")) if f"from {room}" in path.read_text()]
    return tuple(str(path.relative_to(ROOT)) for path in found)


def main() -> None:
    """Measure, and print the score."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mutants", type=int, default=120)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=2)
    asked = options.parse_args()
    os.chdir(ROOT)
    known = changes()
    drawn = random.Random(asked.seed).sample(known, min(asked.mutants, len(known)))
    load()
    noticed: Counter[str] = Counter()
    total = Counter(change.room for change in drawn)
    left = drawn
    for job_of in (_hunt, _test):
        jobs = {job_of(change): change for change in left}
        left = []
        for job, outcome in run_all(jobs, workers=asked.workers):
            noticed[jobs[job].room] += outcome.code != 0
            left += [jobs[job]] if outcome.code == 0 else []
    for change in sorted(left):
        line = change.path.read_text().splitlines()[change.line - 1].strip()
        print(f"survived  {change.path.relative_to(ROOT)}:{change.line} ({change.site}) {line[:90]}")
    for room in sorted(total):
        print(f"{room:24} {noticed[room]:4} of {total[room]:4}")
    print(f"{noticed.total()} of {total.total()} noticed; {len(known)} changes are possible; seed {asked.seed}")


def _hunt(change: Change) -> Job:
    return Job(seeds=SEEDS, planted=planted(change), limit_s=LIMIT_S)


def _test(change: Change) -> Job:
    return Job(tests=tests_of(change.room), planted=planted(change), limit_s=LIMIT_S)


if __name__ == "__main__":
    main()
