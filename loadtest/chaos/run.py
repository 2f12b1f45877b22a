"""Chaos: breaks a running system again and again under its recorder, then proves that no answer was taken back.

`make chaos`, or `python -m loadtest.chaos.run`. A system of its own in a temporary folder, clients outside, one fault
after another in an order that the seed names; then every packet, wallet, statement and book is held against everything
that anybody was told. Prints a table and, as its last line, one JSON object. Exit code 0 only if nothing is wrong.
Bounded: whatever happens it ends within `--seconds`, of which the last `END_S` are kept for the proof. Ctrl-C ends
everything.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from cluster.local.bootstrap import system_environment
from cluster.screen import Screen
from cluster.tokens import mint
from loadtest.chaos.crowd import ChaosLoad
from loadtest.chaos.faults import DECK, Faults, deal
from loadtest.chaos.probes import PROBER, PROBER_FEN, NotServed, Prober
from loadtest.chaos.replay import Replayed, replay_journals
from loadtest.chaos.rival import DriverFailed
from loadtest.chaos.site import LIFETIME_MS, Site
from loadtest.finale import AT_ONCE, Ending, Finale
from loadtest.history import FaultLine, GrabAttempt, History, SendAttempt
from loadtest.oracle import FinalState, Violation, check
from loadtest.recorder import Recorder, create_users
from loadtest.target import TENANT, unmoved

FAULTS = 68
SECONDS = 600
SECONDS_MIN, SECONDS_MAX = 240, 86_400
END_S = 120.0
DOWN_S = 15.0
TOKEN_S = 7_200
BETWEEN_S = 0.5
STOP_S = 60.0
SHOWN_MAX = 20
COULD_NOT, INTERRUPTED = 2, 130

T = TypeVar("T")


class ChaosFigures(msgspec.Struct, frozen=True):
    """The last line. Counts of violations by what they mean; recovery in ms by kind of fault."""

    faults: int
    by_kind: dict[str, int]
    requests: int
    acknowledged: int
    unknown: int
    lost: int
    contradicted: int
    over_issued: int
    double_grabs: int
    difference_fen: int
    recovery_ms: dict[str, dict[str, int]]
    negative_balances: int
    wrong_totals: int
    unanswered: int
    not_recovered: int
    unclear: int
    activations: int
    snapshots: int
    sealed_parts: int
    passivated: int
    seed: int
    seconds: float


class Chaos:
    """One run over a running site."""

    def __init__(self, site: Site, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        """`folder`: where the history goes."""
        self._site = site
        self._seed = seed
        self._say = say
        self._history = History(folder / "history.ndjson")
        self.lines: list[FaultLine] = []
        self.unclear: list[str] = []
        self.replayed = Replayed()

    async def run(self, kinds: list[str], end_s: float) -> tuple[FinalState, list[Violation]]:
        """Break, end, read and check. Raises TimeoutError at `end_s` (of `time.monotonic`)."""
        keys, now_s = self._site.keys, int(time.time())

        def token_of(user: str, scope: str) -> str:
            tenant = "platform" if scope == "operator" else TENANT
            return mint(keys, user=user, tenant=tenant, scope=scope, now_s=now_s, ttl_s=TOKEN_S)

        try:
            async with (
                asyncio.timeout(end_s - time.monotonic()),
                Recorder(self._site.record.url, self._history, token_of, self._seed) as recorder,
            ):
                crowd = ChaosLoad(recorder, self._seed)
                credited_fen = crowd.credited_fen | {PROBER: PROBER_FEN}
                await create_users(recorder.operator, credited_fen, AT_ONCE)
                await self._break(recorder, crowd, kinds, end_s - END_S)
                ending = Ending(passes_ms=LIFETIME_MS + 1_000, asks_all_again=True, replay=self._replay)
                final = await Finale(recorder, credited_fen, ending, self._say).run()
        finally:
            self._history.close()
        return final, await asyncio.to_thread(check, self._history.attempts, final)

    async def _replay(self) -> dict[str, int]:
        self.replayed = await replay_journals(self._site.folder)
        return self.replayed.fen

    async def _break(self, recorder: Recorder, crowd: ChaosLoad, kinds: list[str], end_s: float) -> None:
        """Do fault after fault while the crowd asks on, none of them after `end_s`."""
        faults = Faults(self._site, recorder, crowd, Prober(recorder, self._site), self._seed)
        stop = asyncio.Event()
        load = asyncio.create_task(crowd.run(stop))
        try:
            for number, kind in enumerate(kinds, 1):
                if time.monotonic() >= end_s or load.done():
                    why = "the crowd has stopped" if load.done() else "the time is over"
                    self._say(f"{why} after {number - 1} faults")
                    break
                await self._one(faults, number, kind)
                await asyncio.sleep(BETWEEN_S)
            stop.set()
            await asyncio.wait_for(load, STOP_S)
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            await faults.close()
            self.unclear = faults.unclear

    async def _one(self, faults: Faults, number: int, kind: str) -> None:
        try:
            line = await faults.inject(kind)
        except (NotServed, DriverFailed, psutil.Error) as failure:
            line = FaultLine(kind=kind, at_us=self._history.now_us(), recovery_ms=None, note=f"not done: {failure}")
        self.lines.append(line)
        after = "not recovered" if line.recovery_ms is None else f"served again after {line.recovery_ms / 1_000:.1f} s"
        self._say(f"{number:3} {kind}: {after}{f' ({line.note})' if line.note else ''}")

    def figures(self, final: FinalState, violations: list[Violation], seconds: float) -> ChaosFigures:
        """Count."""
        attempts = self._history.attempts
        kinds = Counter(violation.kind for violation in violations)
        recovered: dict[str, list[int]] = defaultdict(list)
        for line in self.lines:
            if line.recovery_ms is not None:
                recovered[line.kind].append(line.recovery_ms)
        told = {(a.packet_id, a.user) for a in attempts if isinstance(a, GrabAttempt) and a.outcome == "ok"}
        sent = {(a.user, a.key) for a in attempts if isinstance(a, SendAttempt) and a.outcome == "ok"}
        return ChaosFigures(
            faults=len(self.lines),
            by_kind=dict(sorted(Counter(line.kind for line in self.lines).items())),
            requests=len(attempts),
            acknowledged=len(told) + len(sent),
            unknown=sum(attempt.outcome == "unknown" for attempt in attempts),
            lost=kinds["lost"],
            contradicted=kinds["contradicted"],
            over_issued=kinds["over_issued"],
            double_grabs=kinds["double_grab"],
            difference_fen=final.audit.difference_fen,
            recovery_ms={
                kind: {"p50": round(statistics.median(found)), "max": max(found)}
                for kind, found in sorted(recovered.items())
            },
            negative_balances=kinds["negative"],
            wrong_totals=kinds["wrong_total"] + kinds["wallet"],
            unanswered=kinds["unanswered"],
            not_recovered=sum(line.recovery_ms is None for line in self.lines),
            unclear=len(self.unclear),
            activations=self.replayed.activations,
            snapshots=self.replayed.snapshots,
            sealed_parts=self.replayed.sealed_parts,
            passivated=self.replayed.passivated,
            seed=self._seed,
            seconds=round(seconds, 1),
        )


def is_clean(figures: ChaosFigures) -> bool:
    """Tell whether nothing at all is wrong."""
    return not any(
        (
            figures.lost,
            figures.contradicted,
            figures.over_issued,
            figures.double_grabs,
            figures.difference_fen,
            figures.negative_balances,
            figures.wrong_totals,
            figures.unanswered,
            figures.not_recovered,
            figures.unclear,
        )
    )


def show(figures: ChaosFigures, sentences: list[str], console: Console) -> None:
    """Print what was done, how long clients waited, and what is wrong."""
    table = Table(title=f"hongbao chaos, seed {figures.seed}")
    for column in ("fault", "times", "served again, p50", "max"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for kind, times in figures.by_kind.items():
        recovery = figures.recovery_ms.get(kind)
        waits = [f"{recovery[which] / 1_000:.1f} s" for which in ("p50", "max")] if recovery else ["-", "-"]
        table.add_row(kind, str(times), *waits)
    console.print(table)
    console.print(
        f"{figures.faults} faults in {figures.seconds:.0f} s · {figures.requests:,} requests · "
        f"{figures.acknowledged:,} sends and grabs acknowledged · {figures.unknown:,} answers unknown at first",
        highlight=False,
    )
    console.print(
        f"meanwhile {figures.activations:,} activations, {figures.snapshots:,} snapshots, "
        f"{figures.sealed_parts:,} sealed parts, {figures.passivated:,} packets passivated",
        highlight=False,
    )
    for sentence in sentences[:SHOWN_MAX]:
        console.print(f"  {sentence}", style="red", highlight=False, soft_wrap=True)
    if len(sentences) > SHOWN_MAX:
        console.print(f"  and {len(sentences) - SHOWN_MAX} more", style="red")
    clean = is_clean(figures)
    verdict = "Clean: nothing that anybody was told is lost or contradicted." if clean else "NOT CLEAN"
    console.print(verdict, style="green" if clean else "red")


def chaos(arguments: argparse.Namespace, console: Console) -> int:
    """Carry a run out on a system of its own; return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="hongbao-chaos-"))
    began_s = time.monotonic()
    keep = True  # a failure is looked for in what the run has left

    def say(words: str) -> None:
        console.print(words, highlight=False, soft_wrap=True)

    say(f"chaos: seed {arguments.seed}, {arguments.faults} faults, data in {folder}")
    site = Site(folder, say)
    try:
        site.up()
        os.environ.update(system_environment(site.record))
        run = Chaos(site, folder, arguments.seed, say)
        end_s = began_s + arguments.seconds - DOWN_S
        kinds = deal(arguments.seed, arguments.faults, arguments.only)
        final, violations = asyncio.run(_cancelled_by_signals(run.run(kinds, end_s)))
        figures = run.figures(final, violations, time.monotonic() - began_s)
        sentences = [f"{violation.kind}: {violation.sentence}" for violation in violations] + run.unclear
        show(figures, sentences, console)
        clean = is_clean(figures)
        keep = arguments.keep or not clean
        (folder / "violations.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    except (KeyboardInterrupt, asyncio.CancelledError):
        keep = arguments.keep
        raise
    finally:
        # From here nothing interrupts: a half-ended system would stay for ever. `down` is bounded itself.
        _on_signals(unmoved)
        site.down()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        say(
            f"kept: {folder} (history.ndjson, violations.txt, logs, store); --seed {figures.seed} breaks the same again"
        )
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    return 0 if clean else 1


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # who starts us may ignore it: nohup, `&` in a script
            signal.signal(ending, handler)


async def _cancelled_by_signals(run: Coroutine[Any, Any, T]) -> T:
    """Await a run that a signal cancels: raised in the middle of a callback, an interrupt could be swallowed there."""
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(run)
    _on_signals(lambda number, frame: _end(loop, running))
    try:
        return await running
    finally:
        _on_signals(_interrupt)


def _end(loop: asyncio.AbstractEventLoop, running: "asyncio.Future[Any]") -> None:
    loop.call_soon_threadsafe(running.cancel)


def main() -> None:
    """Read the options, run, and end with 0 (clean), 1 (not clean), 2 (could not be carried out) or 130."""
    parser = argparse.ArgumentParser(description="Break a system of its own under load and hold it to its answers.")
    parser.add_argument("--seed", type=int, help="names the order of faults and the load (default: a fresh one)")
    parser.add_argument("--faults", type=int, default=FAULTS, help=f"how many (default {FAULTS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"bound of the whole run (default {SECONDS})")
    parser.add_argument("--only", choices=list(DECK), nargs="+", default=(), help="only these kinds")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder even if all is clean")
    arguments = parser.parse_args()
    if arguments.faults < 1 or not SECONDS_MIN <= arguments.seconds <= SECONDS_MAX:
        parser.error(f"--faults is at least 1, --seconds {SECONDS_MIN} to {SECONDS_MAX}")
    if arguments.seed is None:
        arguments.seed = secrets.randbelow(1_000_000)
    _on_signals(_interrupt)
    console: Any = Screen(stderr=True)
    try:
        sys.exit(chaos(arguments, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("chaos: interrupted; everything of it has ended")
        sys.exit(INTERRUPTED)
    except TimeoutError as failure:
        console.print(f"chaos: not over within {arguments.seconds:.0f} s {failure}".rstrip(), style="red")
        sys.exit(COULD_NOT)
    except (RuntimeError, OSError) as failure:
        console.print(f"chaos: {' '.join(str(failure).split())}", style="red", highlight=False)
        sys.exit(COULD_NOT)


if __name__ == "__main__":
    main()
