"""Bench: the platform beside its peers, in one run on one machine, with the same durability, A B A B.

`make bench`, or `python -m loadtest.bench.run --only http --rounds 1`. Figures are ratios of medians over the rounds;
every round checks that each system paid out exactly. Prints a table of rows and one of costs; `--json` writes the rows,
the costs and the points of the plot as JSON lines to the standard output.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.config import keys_at, load
from cluster.local import bootstrap
from cluster.screen import Screen
from loadtest.bench import cost
from loadtest.bench.hops import SERVERS
from loadtest.bench.result import BenchRow, target_words
from loadtest.target import own_system

if TYPE_CHECKING:
    from loadtest.bench.ground import Ground

ROUNDS = 3
LIMITS = {
    "HONGBAO_LIMITS__COUNT_MAX": "1000000",
    "HONGBAO_LIMITS__TOTAL_FEN_MAX": "200000000",
    "HONGBAO_TIMING__SNAPSHOT_EVENTS": "1000000000",
}
"""What the bench's configuration has beyond the product's: a packet of a million shares, and no snapshots meanwhile
(`loadtest.bench.recovery` measures those)."""
WIDTH = 170


async def measure(ground: "Ground", names: Sequence[str]) -> tuple[list[BenchRow], list[str]]:
    """Run groups of rows; return all rows, and the names of groups that failed: that costs no other group its rows."""
    from loadtest.bench.rows import group_of

    made: list[BenchRow] = []
    failed: list[str] = []
    await ground.begin()
    try:
        for name in names:
            began_s = time.monotonic()
            try:
                found = await group_of(name)(ground)
                made += found
                for row in found:  # a run that is cut short has said what it has
                    ground.say(f"  {row.name}: {row.ours:,g} / {row.peer:,g} {row.unit} = {row.ratio:g}")
            except Exception:
                ground.say(traceback.format_exc())
                failed.append(name)
            ground.say(f"{name}: {time.monotonic() - began_s:.0f} s")
    finally:
        await ground.end()
    return made, failed


def show_rows(rows: Sequence[BenchRow], console: Console) -> None:
    """Print the rows as a table."""
    table = Table(title="hongbao bench: medians, one run, one machine, fsync always")
    for column in ("what", "ours", "peer", "unit", "ratio", "target", "met", "note"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "ratio") else "left")
    for row in rows:
        met = Text("yes" if row.met else "NO", style="" if row.met else "bold red") if row.target else ""
        peer, ratio = (_number(row.peer), f"{row.ratio:.2f}") if row.peer else ("", "")
        table.add_row(row.name, _number(row.ours), peer, row.unit, ratio, target_words(row), met, row.note)
    console.print(table)


def show_costs(lines: Sequence[cost.CostRow], console: Console) -> None:
    """Print the cost model: microseconds a grab on each hop, cores at the field's peaks, and what was not measured."""
    if not lines:
        return
    table = Table(title="processor time a grab, in microseconds, and cores at the peaks of 2016 and 2017")
    table.add_column("grabs by")
    for column in (*SERVERS, "in all", *(f"cores at {rate // 1000} k/s" for rate in cost.RATES)):
        table.add_column(column, justify="right")
    for line in lines:
        hops = [f"{line.hops_us[hop]:,.1f}" for hop in SERVERS]
        table.add_row(line.name, *hops, f"{line.total_us:,.1f}", *(f"{line.cores[rate]:,.0f}" for rate in cost.RATES))
    console.print(table)
    console.print("not measured, and not in the model:", highlight=False)
    for words in cost.NOT_MEASURED:
        console.print(f"  - {words}", highlight=False)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:,.2f}"


def arguments_of(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    from loadtest.bench.rows import NAMES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="WORD", help=f"groups whose name has it: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each comparison (default {ROUNDS})")
    parser.add_argument("--json", action="store_true", help="rows, costs and points as JSON lines on standard output")
    parser.add_argument("--plot", type=Path, default=Path("build/bench.png"), help="where the picture goes")
    parser.add_argument("--recovery", action="store_true", help="then also loadtest.bench.recovery (about 8 minutes)")
    arguments = parser.parse_args(argv)
    arguments.names = [name for name in NAMES if not arguments.only or any(word in name for word in arguments.only)]
    if not arguments.names:
        parser.error(f"no group is named so; there are {', '.join(NAMES)}")
    return arguments


def run(names: Sequence[str], rounds: int, say: Callable[[str], None]) -> tuple[list[BenchRow], list[str], "Ground"]:
    """Measure on a system of its own, whose driver this process is; return rows, failed groups, and the ground."""
    os.environ.update(LIMITS)
    with own_system("bench", say) as record:
        os.environ.update(bootstrap.system_environment(record))
        import ray

        from loadtest.bench.ground import Ground

        ray.init(address=record.ray_address, namespace="hongbao", log_to_driver=False, logging_level="error")
        try:
            settings = load(record.config, store_url=record.store_url)
            ground = Ground(record, settings, keys_at(record.data / "keys.json"), rounds, say)
            return *asyncio.run(measure(ground, names)), ground
        finally:
            ray.shutdown()  # before the system ends: a driver whose Ray is gone waits a minute


def main() -> None:
    """Run the bench, print the tables, exit 1 if a target is missed."""
    arguments = arguments_of()
    err = Screen(stderr=True)

    def say(words: str) -> None:
        err.print(words, highlight=False)

    from loadtest.bench import load as loads

    began_s = time.monotonic()
    say(f"HTTP load from {loads.client_name()}")
    rows, failed, ground = run(arguments.names, arguments.rounds, say)
    lines = cost.table(ground.costs)
    if arguments.json:
        _print_json([("row", row._asdict()) for row in rows])
        _print_json([("cost", line._asdict()) for line in lines])
        _print_json([("measured_us", {"door": door, "rounds": found}) for door, found in ground.costs.items()])
        _print_json([("point", point._asdict()) for point in ground.points])
    console = Screen(stderr=arguments.json, plain_width=WIDTH)
    show_rows(rows, console)
    show_costs(lines, console)
    if ground.points:
        from loadtest.bench.plot import draw

        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(ground.points, arguments.plot)
        console.print(f"plot: {arguments.plot}", highlight=False)
    console.print(f"{time.monotonic() - began_s:.0f} s in all", highlight=False)
    if failed:
        console.print(f"failed: {', '.join(failed)} (why stands above)", style="bold red", highlight=False)
    all_met = not failed and all(row.met for row in rows)
    if arguments.recovery:
        sys.stdout.flush()
        command = [sys.executable, "-m", "loadtest.bench.recovery", *(["--json"] if arguments.json else [])]
        all_met = subprocess.run(command, check=False).returncode == 0 and all_met
    sys.exit(0 if all_met else 1)


def _print_json(lines: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Print lines that say what they are in their first field; a row's other fields are its contract."""
    for what, fields in lines:
        sys.stdout.write(msgspec.json.encode({"what": what, **fields}).decode() + "\n")


if __name__ == "__main__":
    main()
