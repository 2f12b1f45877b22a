"""Simulate command: runs the whole platform in one process under one seed, with faults; it needs a checkout.

The simulator is `tests/simulation`, beside this package in the repository, and no part of what is installed.
"""

import importlib
import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.commands.terminal import ANSWERED_BADLY, AsJson, Failure, out, print_json, progress

SEED_BITS = 40
REPORT_EVERY_RUNS = 100


def simulate(
    seed: Annotated[int | None, typer.Option(min=0, help="Replay this one; without it a fresh one, printed.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Things that clients do in a run.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="So many runs on all cores, with fresh seeds.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Runs for so long, on all cores.")] = None,
    without: Annotated[str, typer.Option(help="Kinds of fault that are off, with commas between.")] = "",
    as_json: AsJson = False,
) -> None:
    """Simulate the platform under a seed, faults and all; a violation ends with code 1 and the way to replay it."""
    sys.path.insert(0, str(checkout()))
    campaigns = importlib.import_module("tests.simulation.campaign")
    faults = importlib.import_module("tests.simulation.faults")
    off = tuple(kind for kind in without.split(",") if kind)
    unknown = [kind for kind in off if kind not in faults.GAP_S]
    if unknown:
        raise Failure(f"--without: {', '.join(unknown)} is no kind of fault; there are {', '.join(faults.GAP_S)}")
    if runs is not None or seconds is not None:
        if off:
            raise Failure("--without is for one run; leave out --runs and --seconds")
        _many(campaigns, seed, steps or campaigns.STEPS, runs, seconds, as_json)
        return
    number = secrets.randbits(SEED_BITS) if seed is None else seed
    outcome = campaigns.simulate(number, steps or campaigns.STEPS, off)
    _show(campaigns, outcome, as_json)
    if outcome.violation:
        raise typer.Exit(ANSWERED_BADLY)


def checkout() -> Path:
    """Return the folder that holds the simulator. Raises Failure."""
    folder = Path(__file__).resolve().parent.parent.parent
    if not (folder / "tests" / "simulation" / "campaign.py").is_file():
        raise Failure(f"the simulator is not in {folder}; run this command from a checkout of the repository")
    return folder


def _many(
    campaigns: Any, first: int | None, steps: int, runs: int | None, seconds: float | None, as_json: bool
) -> None:
    with progress("Simulating") as report:
        told = 0

        def tell(tally: Any) -> None:
            nonlocal told
            if tally.runs - told >= REPORT_EVERY_RUNS:
                told = tally.runs
                report(tally.line())

        tally = campaigns.campaign(seconds=seconds, runs=runs, steps=steps, report=tell, first=first)
        failing = None
        if tally.failed is not None:
            report(f"seed {tally.failed} fails; looking for a shorter run that does")
            failing = campaigns.shorten(campaigns.simulate(tally.failed, steps))
    out.print(tally.line(), highlight=False, soft_wrap=True)
    if failing is not None:
        out.print(campaigns.story(failing), highlight=False, soft_wrap=True)
    if as_json:
        print_json(tally.summary() | {"violation": failing.violation if failing else None})
    if failing is not None:
        raise typer.Exit(ANSWERED_BADLY)


def _show(campaigns: Any, outcome: Any, as_json: bool) -> None:
    out.print(
        f"seed {outcome.seed}, {outcome.steps} steps: {outcome.lives} packet lives, "
        f"{sum(outcome.asked.values())} requests, {sum(outcome.faults.values())} faults, "
        f"{outcome.virtual_ms / 1000:.1f} s of virtual time, trace {outcome.digest[:16]}",
        highlight=False,
        soft_wrap=True,
    )
    if outcome.violation:
        out.print(campaigns.story(outcome), highlight=False, soft_wrap=True)
    if as_json:
        print_json(campaigns.summary(outcome))
