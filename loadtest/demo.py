"""Demo: replays the minute 00:05 of 2016-01-01 on this machine and accounts for every fen of it.

In order: users, load for a bounded time, what is unknown asked again, settlement drained, a day passes, late taps,
refunds; then every packet, wallet, statement and the audit are read, and the oracle holds them against every answer.

On a system that it did not start no day passes, unless it is asked for by name: other people's packets would expire.
Then packets that have shares left stay open, are compared as such, and are told.

It survives the death of shards and gateways: requests are repeated with the same identity, and what stays unknown is
asked again. Durations in seconds unless named otherwise.
"""

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console

from cluster.client import AuditAnswer, Client
from loadtest.display import ProgressLine, Rates, counts
from loadtest.finale import Ending, Finale
from loadtest.gather import gather
from loadtest.history import GrabAttempt, History, SendAttempt, wins_of
from loadtest.oracle import FinalState, Violation, check
from loadtest.population import ATTEMPTS_PER_OPEN, BALANCE_FEN, OPENS_PER_SEND, SEED, PacketPlan, plans, user_name
from loadtest.recorder import PlannedSend, Recorder, create_users
from loadtest.result import Check, DemoFigures, Outcome, promises
from loadtest.target import Target

DAY_MS = 24 * 3_600 * 1_000 + 60_000
"""A packet's lifetime and a minute."""

CHATS = 24
"""Chats that live at once: each sends a packet, lets its people tap, then sends the next."""

LAG_POLL_S = 1.0
ERRORS_SHARE_MAX = 0.01


class DemoOptions(NamedTuple):
    """What a run is asked to be."""

    seconds: float = 30.0
    users: int = 1_000
    seed: int = SEED
    connections_max: int = 64
    deadline_s: float = 30.0
    advance_clock: bool = False
    """Also of a system that others use."""


class MinuteReplay:
    """One run of the minute against a target."""

    def __init__(self, target: Target, options: DemoOptions, console: Console) -> None:
        """Prepare a run; progress goes to `console`."""
        self._target = target
        self._options = options
        self._moves_clock = target.fresh or options.advance_clock
        self._console = console
        self._run = secrets.token_hex(4)
        self._history = History()
        self._plans = plans(options.seed, options.users)
        self._tokens: dict[str, str] = {"operator": target.operator_token, "gateway": target.gateway_token}
        self._late: list[tuple[str, int]] = []
        self._packets: set[str] = set()
        self._taps = 0
        self._batched_taps = 0
        self._lag_ms = 0
        self._load_s = 0.0
        self._phase = ""
        self._rates = Rates()

    async def run(self) -> Outcome:
        """Carry the run out. Raises Failure."""
        options, url = self._options, self._target.url
        names = [user_name(self._run, index) for index in range(options.users)]
        recorder = Recorder(
            url,
            self._history,
            lambda user, scope: self._tokens[user],
            options.seed,
            connections_max=options.connections_max,
            patience_s=options.deadline_s,
        )
        async with (
            recorder,
            # The audit that feeds the progress line must not wait behind the crowd.
            Client(url, self._target.operator_token, connections_max=2) as auditor,
        ):
            self._recorder = recorder
            started = time.monotonic()
            balances = dict.fromkeys(names, BALANCE_FEN)
            with ProgressLine(self._console, self._words) as line:
                users = create_users(recorder.operator, balances, options.connections_max)
                self._tokens |= await line.during("users", None, users)
                await line.during("00:05", options.seconds, self._load(auditor))
                final = await line.during("the end", None, self._end(balances))
            return self._outcome(final, check(self._history.attempts, final), time.monotonic() - started)

    # Load

    async def _load(self, auditor: Client) -> None:
        """Keep all chats busy until the time is over; then let every crowd finish what it has begun."""
        started = time.monotonic()
        end = started + self._options.seconds
        watcher = asyncio.create_task(self._watch_lag(auditor))
        try:
            async with asyncio.TaskGroup() as chats:
                for _ in range(CHATS):
                    chats.create_task(self._chat(end))
        finally:
            watcher.cancel()
        self._load_s = time.monotonic() - started

    async def _chat(self, end: float) -> None:
        while time.monotonic() < end:
            plan = next(self._plans)
            sender, key = user_name(self._run, plan.sender), f"{self._run}-{plan.number}"
            sent = await self._recorder.send(PlannedSend(sender, key, plan.kind, plan.total_fen, plan.shares))
            if sent.outcome != "ok":
                continue
            self._packets.add(sent.packet_id)
            await self._crowd(sent.packet_id, plan)
            self._late.extend((sent.packet_id, person) for person in plan.late)

    async def _crowd(self, packet_id: str, plan: PacketPlan) -> None:
        """Let everybody tap: each by themselves, or all through the chat gateway in one request."""
        self._taps += len(plan.taps)
        if plan.batched:
            self._batched_taps += len(plan.taps)
            await self._recorder.batch([(packet_id, user_name(self._run, person)) for person in plan.taps])
            return
        async with asyncio.TaskGroup() as crowd:
            for person in plan.taps:
                crowd.create_task(self._recorder.grab(packet_id, user_name(self._run, person)))

    async def _watch_lag(self, auditor: Client) -> None:
        while True:
            report = await auditor.audit()
            if isinstance(report, AuditAnswer):
                self._lag_ms = report.settlement_lag_ms
            await asyncio.sleep(LAG_POLL_S)

    # The end

    async def _end(self, credited_fen: Mapping[str, int]) -> FinalState:
        passes_ms = DAY_MS if self._moves_clock else 0
        ending = Ending(passes_ms, alone=self._target.fresh, late=self._come_too_late)
        return await Finale(self._recorder, credited_fen, ending, self._say).run()

    async def _come_too_late(self) -> None:
        self._taps += len(self._late)

        async def tap(late: tuple[str, int]) -> None:
            await self._recorder.grab(late[0], user_name(self._run, late[1]))

        await gather(tap, self._late, self._options.connections_max)

    def _say(self, phase: str) -> None:
        self._phase = f" · {phase}"

    # The result

    def _words(self) -> str:
        """Say in one line what has happened so far; rates are of the load's last seconds, then of all of it."""
        outcomes = self._history.outcomes
        sends, taps = self._rates.of(len(self._packets), self._taps)
        return (
            f"{sends:,.0f} sends/s {taps:,.0f} grabs/s · {outcomes[GrabAttempt, 'ok']:,} won "
            f"{outcomes[GrabAttempt, 'refused']:,} refused {self._recorder.undecided.total():,} errors · "
            f"lag {self._lag_ms} ms{self._phase}"
        )

    def _outcome(self, final: FinalState, violations: list[Violation], whole_s: float) -> Outcome:
        audit, kinds = final.audit, Counter(violation.kind for violation in violations)
        attempts, wins = self._history.attempts, len(wins_of(self._history.attempts))
        refusals = Counter(
            each.code for each in attempts if isinstance(each, GrabAttempt) and each.outcome == "refused"
        )
        figures = DemoFigures(
            packets=len(final.packets),
            grabs_ok=wins,
            grabs_refused=refusals.total(),
            funded_fen=audit.funded_fen,
            paid_fen=audit.paid_fen,
            refunded_fen=audit.refunded_fen,
            remaining_fen=audit.remaining_fen,
            in_flight_fen=audit.in_flight_fen,
            difference_fen=audit.difference_fen,
            double_grabs=kinds["double_grab"],
            over_issued=kinds["over_issued"],
            seconds=round(self._load_s, 3),
            grabs_per_second=round(wins / max(self._load_s, 1e-9), 1),
        )
        errors_max = ERRORS_SHARE_MAX * (self._taps + len(final.packets))
        few = Check("errors below 1 % of all requests", self._recorder.undecided.total() <= errors_max)
        checks = [*promises(violations, final, wins), few]
        return Outcome(figures, audit, violations, checks, self._facts(final, wins, refusals, whole_s))

    def _facts(self, final: FinalState, wins: int, refusals: Counter[str], whole_s: float) -> list[tuple[str, str]]:
        taps, packets, load_s = self._taps, len(final.packets), max(self._load_s, 1e-9)
        singles, outcomes = taps - self._batched_taps, self._history.outcomes
        left = sum(packet is not None and packet.grabbed_count < packet.count for packet in final.packets.values())
        unknown = outcomes[GrabAttempt, "unknown"] + outcomes[SendAttempt, "unknown"]
        return [
            ("seed", str(self._options.seed)),
            ("users", f"{self._options.users:,}"),
            ("packets sent", f"{packets:,}  ({packets / load_s:,.0f}/s)"),
            ("grabs asked for", f"{taps:,}  ({taps / load_s:,.0f}/s)"),
            ("  one by one, by users", f"{singles:,}  ({100 * singles / max(taps, 1):.0f} %)"),
            ("  in batches, by a gateway", f"{self._batched_taps:,}"),
            ("successful", f"{wins:,}  ({wins / load_s:,.0f}/s)"),
            ("refused", f"{refusals.total():,}  ({counts(refusals)})"),
            ("repeated, same answer again", f"{outcomes[GrabAttempt, 'ok'] - wins:,}"),
            ("opens for each send", f"{wins / max(packets, 1):.2f}  (that minute: {OPENS_PER_SEND})"),
            ("attempts for each open", f"{taps / max(wins, 1):.2f}  (that time: {ATTEMPTS_PER_OPEN})"),
            (
                "packets that ended unfinished" if self._moves_clock else "packets left open, for a day at most",
                f"{left:,}",
            ),
            ("errors", f"{self._recorder.undecided.total():,}  ({counts(self._recorder.undecided)})"),
            ("answers unknown at first", f"{unknown:,}, each asked again"),
            ("attempts in all", f"{len(self._history.attempts):,}"),
            ("load / whole run", f"{self._load_s:.1f} s / {whole_s:.1f} s"),
        ]


def replay(target: Target, options: DemoOptions, console: Console) -> Outcome:
    """Run the demo against a target until its end, Ctrl-C or SIGTERM. Raises Failure, KeyboardInterrupt."""

    async def main() -> Outcome:
        running = asyncio.current_task()
        assert running is not None, "inside asyncio.run"
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        return await MinuteReplay(target, options, console).run()

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
