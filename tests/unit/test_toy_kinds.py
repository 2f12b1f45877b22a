"""Toy kinds in a copy of the tree: all each takes is a folder, its routes, a section of configs/, and two names.

One name is in the registry of kinds, the other in the table of routes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_ANY_KIND = "commit_events_max = 20_000\nexpire_batch_max = 1_000\nsettle_batch_max = 5_000\ntick_ms = 100\n"
SECTIONS = f"""
[allowance]
streams = 2
hosts = 1
[allowance.rules]
pots_max = 1_000
lifetime_ms = 2_592_000_000
{OF_ANY_KIND}
[counter]
streams = 1
hosts = 1
[counter.rules]
count_max = 1_000
{OF_ANY_KIND}"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tree in which the platform has both toys."""
    for name in ("actors", "cluster", "configs", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for toy in ("allowance", "counter"):
        (tmp_path / "actors" / toy).mkdir()
        (tmp_path / "actors" / toy / "__init__.py").touch()
        shutil.copy(tmp_path / "tests" / "toys" / f"{toy}.py", tmp_path / "actors" / toy / "kind.py")
        gateway = tmp_path / "cluster" / "gateway" / toy
        gateway.mkdir()
        (gateway / "__init__.py").touch()
        shutil.copy(tmp_path / "tests" / "toys" / f"{toy}_routes.py", gateway / "routes.py")
    routing = tmp_path / "cluster" / "gateway" / "routing.py"
    text = routing.read_text()
    assert "(\n    *packet.ROUTES," in text
    for toy in ("allowance", "counter"):
        before = "from cluster.gateway.auth"
        text = text.replace(before, f"from cluster.gateway.{toy} import routes as {toy}\n{before}", 1)
        text = text.replace("    *packet.ROUTES,", f"    *{toy}.ROUTES,\n    *packet.ROUTES,", 1)
    routing.write_text(text)
    registry = tmp_path / "actors" / "kinds.py"
    text = registry.read_text()
    assert "registry(PACKET, WALLET)" in text
    imports = "from actors.allowance.kind import ALLOWANCE\nfrom actors.counter.kind import COUNTER\n"
    text = text.replace("from actors.packet.kind", imports + "from actors.packet.kind", 1)
    registry.write_text(text.replace("registry(PACKET, WALLET)", "registry(PACKET, WALLET, ALLOWANCE, COUNTER)"))
    with (tmp_path / "configs" / "local.toml").open("a") as config:
        config.write(SECTIONS)
    return tmp_path


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_toys_live_as_the_other_kinds_do(tree: Path) -> None:
    done = run(tree, "-m", "tests.toys.life")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "asked",
        "paid a fen a day over restarts and faults, snapshotted, sealed",
        "audited live and offline",
        "backed up and restored",
        "shown in top and metrics",
        "ended, and gave the rest back",
        "asked over HTTP",
    ]


@pytest.mark.parametrize(
    ("line", "bug"),
    [
        ("pot.left_fen -= event.run.amount_fen", "pot.left_fen -= event.run.amount_fen - 1"),
        ("self._state.treasury_fen -= event.amount_fen", "self._state.treasury_fen -= 0"),
        ("return move(pot, sent(", 'return move(pot, sent("x" + '),
        ("pot.paid_at_ms = event.at_ms", "pot.paid_at_ms = 0"),
    ],
)
def test_a_bug_that_is_put_into_a_toy_is_found(line: str, bug: str, tree: Path) -> None:
    kind = tree / "actors" / "allowance" / "kind.py"
    text = kind.read_text()
    assert line in text
    kind.write_text(text.replace(line, bug))
    assert run(tree, "-m", "tests.toys.life").returncode != 0


@pytest.mark.parametrize(
    ("file", "before", "after", "says"),
    [
        ("actors/kinds.py", "ALLOWANCE, COUNTER)", "ALLOWANCE, COUNTER, COUNTER)", "kind 'counter' is declared twice"),
        ("actors/counter/kind.py", 'tag="toy_counted"', 'tag="grabbed_many"', "event 'grabbed_many' is declared twice"),
        ("configs/local.toml", "[counter.rules]", "[counter.rules2]", "'rules2'"),
        ("configs/local.toml", "[counter]\n", "[moon]\n[counter]\n", "'moon' is neither a section nor a kind of actor"),
    ],
)
def test_what_is_declared_twice_or_unknown_stops_a_command_with_one_line_that_names_it(
    file: str, before: str, after: str, says: str, tree: Path
) -> None:
    text = (tree / file).read_text()
    assert before in text
    (tree / file).write_text(text.replace(before, after, 1))
    done = run(
        tree, "-c", "from cluster.cli import main; main()", "serve-config", "--store-url", "redis://127.0.0.1:1/0"
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
