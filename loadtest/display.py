"""Display: shows a run of the demo while it goes on, and its result at the end. Decides nothing."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from actors.ledger.money import yuan
from loadtest.oracle import Violation
from loadtest.result import SENTENCES_MAX, Outcome

PLAIN_LINE_S = 5.0
REFRESH_S = 0.25
RATE_WINDOW_S = 3.0
WIDE = 110
"""Columns from which there is room for more than words."""

_T = TypeVar("_T")


class Rates:
    """How fast two counters have grown in the last seconds."""

    def __init__(self) -> None:
        """Start with no sample; at most one for every refresh in the window is kept."""
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=int(RATE_WINDOW_S / REFRESH_S))

    def of(self, first: int, second: int) -> tuple[float, float]:
        """Enter the counters as they stand and return their growth a second."""
        now = time.monotonic()
        self._samples.append((now, first, second))
        before_s, first_before, second_before = self._samples[0]
        passed_s = max(now - before_s, 1e-9)
        return (first - first_before) / passed_s, (second - second_before) / passed_s


class ProgressLine:
    """The live progress line: on a terminal redrawn, elsewhere a plain line every few seconds."""

    def __init__(self, console: Console, words: Callable[[], str]) -> None:
        """`words` is asked for the line's text at every refresh."""
        self._console = console
        self._words = words
        self._progress = Progress(
            *([SpinnerColumn(), BarColumn(bar_width=20)] if console.width >= WIDE else []),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "ProgressLine":
        """Show the line."""
        self._progress.start()
        return self

    def __exit__(self, *exc_details: object) -> None:
        """Take the line away."""
        self._progress.stop()

    async def during(self, phase: str, seconds: float | None, work: Awaitable[_T]) -> _T:
        """Await `work` while the line shows its phase; `seconds` is how long it is meant to take, None if unknown."""
        task = self._progress.add_task(phase, total=seconds, words="")
        ticker = asyncio.create_task(self._tick(phase, task))
        try:
            return await work
        finally:
            ticker.cancel()
            self._progress.remove_task(task)

    async def _tick(self, phase: str, task: TaskID) -> None:
        started = time.monotonic()
        next_line_s = PLAIN_LINE_S
        while True:
            elapsed_s = time.monotonic() - started
            words = self._words()
            if self._console.is_terminal:
                self._progress.update(task, completed=elapsed_s, words=words)
            elif elapsed_s >= next_line_s:
                next_line_s += PLAIN_LINE_S
                self._console.print(f"{phase} {elapsed_s:.0f} s: {words}", highlight=False, soft_wrap=True)
            await asyncio.sleep(REFRESH_S)


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables of a run and its verdict."""
    traffic = Table(title="The minute 00:05 of 2016-01-01, scaled to this machine", show_header=False)
    for name, value in outcome.facts:
        traffic.add_row(name, value)
    console.print(traffic)
    figures = outcome.figures
    money = Table(title="Every fen of it", show_header=False)
    for name, amount_fen in (
        ("funded", figures.funded_fen),
        ("paid", figures.paid_fen),
        ("refunded", figures.refunded_fen),
        ("remaining in packets", figures.remaining_fen),
        ("in flight", figures.in_flight_fen),
        ("difference", figures.difference_fen),
    ):
        money.add_row(name, f"¥ {yuan(amount_fen)}", f"{amount_fen:,} fen")
    console.print(money)
    for check in outcome.checks:
        console.print(judged(check.holds, check.sentence))
    show_violations(outcome.violations, console)
    verdict = "Clean: every fen is accounted for." if outcome.clean else "NOT CLEAN"
    console.print(verdict, style="green" if outcome.clean else "red")


def show_violations(violations: Sequence[Violation], console: Console) -> None:
    """Print the first broken promises, each with its sentence."""
    for violation in violations[:SENTENCES_MAX]:
        console.print(f"  {violation.kind}: {violation.sentence}", style="red", highlight=False, soft_wrap=True)
    if len(violations) > SENTENCES_MAX:
        console.print(f"  and {len(violations) - SENTENCES_MAX} more", style="red")


def counts(numbers: Mapping[str, int]) -> str:
    """Write numbers by name in one line."""
    return ", ".join(f"{name} {number:,}" for name, number in sorted(numbers.items())) or "none"


def judged(holds: bool, sentence: str) -> Text:
    """Return the line of one promise: whether it holds, and what it is."""
    return Text.assemble(("holds ", "green") if holds else ("BROKEN", "red"), " ", sentence)
