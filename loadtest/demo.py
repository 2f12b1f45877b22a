"""Demo: replays the minute 00:05 of 2016-01-01 on this machine and accounts for every fen of it.

In order: users, load for a bounded time, settlement drained, a day passes, refunds, late taps, audit; then what every
user was told is held against every packet and every wallet. Nothing is believed that was not checked over HTTP.

On a system that it did not start no day passes, unless it is asked for by name: other people's packets would expire.
Then packets that have shares left stay open, are compared as such, and are told.

It survives the death of shards and gateways: a client repeats with the same identity, and what stays unknown is asked
again before the day passes (sends) or read from the packet (grabs). Durations in seconds unless named otherwise.
"""

import asyncio
import secrets
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console

from cluster.client import BATCH_SIZE_MAX, ApiProblem, AuditAnswer, Client, GrabOrder, PacketAnswer, PacketOrder
from loadtest.display import Line, Rates
from loadtest.gather import gather
from loadtest.population import (
    ATTEMPTS_PER_OPEN,
    BALANCE_FEN,
    OPENS_PER_SEND,
    SEED,
    PacketPlan,
    plans,
    user_name,
)
from loadtest.record import PacketRecord, Record
from loadtest.result import Check, Figures, Outcome
from loadtest.target import TENANT, Target

DAY_MS = 24 * 3_600 * 1_000 + 60_000
"""A packet's lifetime and a minute."""

CHATS = 24
"""Chats that live at once: each sends a packet, lets its people tap, then sends the next."""

DRAIN_S = 30.0
POLL_S = 0.1
LAG_POLL_S = 1.0
ERRORS_SHARE_MAX = 0.01


class DemoFailed(Exception):
    """The demo could not be carried out; the sentence says what to look at."""


class Options(NamedTuple):
    """What a run is asked to be."""

    seconds: float = 30.0
    users: int = 1_000
    seed: int = SEED
    connections_max: int = 64
    deadline_s: float = 30.0
    advance_clock: bool = False
    """Also of a system that others use."""


class Replay:
    """One run of the minute against a target."""

    def __init__(self, target: Target, options: Options, console: Console) -> None:
        """Prepare a run; progress goes to `console`."""
        self._target = target
        self._options = options
        self._moves_clock = target.fresh or options.advance_clock
        self._console = console
        self._run = secrets.token_hex(4)
        self._record = Record()
        self._plans = plans(options.seed, options.users)
        self._people: list[Client] = []
        self._unsure_sends: list[PacketPlan] = []
        self._late: list[tuple[PacketRecord, int]] = []
        self._lag_ms = 0
        self._load_s = 0.0
        self._drained_s = 0.0
        self._rates = Rates()

    async def run(self) -> Outcome:
        """Carry the run out. Raises DemoFailed."""
        options = self._options
        async with (
            Client(
                self._target.url,
                self._target.operator_token,
                connections_max=options.connections_max,
                deadline_s=options.deadline_s,
            ) as operator,
            # The audit that feeds the progress line must not wait behind the crowd.
            Client(
                self._target.url, self._target.operator_token, connections_max=2, deadline_s=options.deadline_s
            ) as auditor,
        ):
            self._gateway = operator.acting(self._target.gateway_token)
            self._operator = operator
            self._auditor = auditor
            started = time.monotonic()
            with Line(self._console, self._words) as line:
                await line.during("users", None, self._create_users())
                await line.during("00:05", options.seconds, self._load())
                await line.during("settlement", None, self._drain())
                await line.during("unknown sends", None, self._ask_sends_again())
                if self._moves_clock:
                    await line.during("a day passes", None, self._pass_a_day())
                    await line.during("refunds", None, self._end_all())
                await line.during("packets", None, self._compare_packets())
                wallets_wrong = await line.during("wallets", None, self._compare_wallets())
                audit = await line.during("audit", None, self._audit())
            return self._outcome(audit, wallets_wrong, time.monotonic() - started)

    # Set-up and load

    async def _create_users(self) -> None:
        names = [user_name(self._run, index) for index in range(self._options.users)]

        async def create(name: str) -> Client:
            created = await self._operator.create_user(name, TENANT, BALANCE_FEN)
            if isinstance(created, ApiProblem):
                raise DemoFailed(
                    f"user {name} could not be created: {self._target.url} {created.told}; is it a sandbox?"
                )
            return self._operator.acting(created.token)

        self._people = await gather(create, names, self._options.connections_max)

    async def _load(self) -> None:
        """Keep all chats busy until the time is over; then let every crowd finish what it has begun."""
        started = time.monotonic()
        end = started + self._options.seconds
        watcher = asyncio.create_task(self._watch_lag())
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
            packet = await self._send(plan)
            if packet is None:
                continue
            if plan.batched:
                await self._tap_together(packet, plan)
            else:
                async with asyncio.TaskGroup() as crowd:
                    for person in plan.taps:
                        crowd.create_task(self._tap(packet, person))
            self._late.extend((packet, person) for person in plan.late)

    async def _send(self, plan: PacketPlan) -> PacketRecord | None:
        sent = await self._people[plan.sender].send(
            PacketOrder(plan.kind, plan.total_fen, plan.shares, greeting="恭喜发财"), key=f"{self._run}-{plan.number}"
        )
        if isinstance(sent, PacketAnswer):
            return self._record.told_packet(sent)
        if sent.unknown:
            self._unsure_sends.append(plan)
        else:
            self._record.errors[f"send: {sent.code}"] += 1
        return None

    async def _tap(self, packet: PacketRecord, person: int, *, late: bool = False) -> None:
        user = user_name(self._run, person)
        answer = await self._people[person].grab(packet.packet_id)
        self._record.taps += 1
        if not isinstance(answer, ApiProblem):
            if (answer.packet_id, answer.user) != (packet.packet_id, user):
                self._record.contradict(f"{user} asked for packet {packet.packet_id} and got {answer}")
            self._record.told_win(packet, user, answer.rank, answer.amount_fen, late=late)
        elif answer.unknown:
            self._record.told_nothing(packet, user)
        else:
            self._record.told_refusal(packet, user, answer.code)

    async def _tap_together(self, packet: PacketRecord, plan: PacketPlan) -> None:
        """Let the chat gateway ask for its people in one request."""
        users = [user_name(self._run, person) for person in plan.taps]
        assert len(users) <= BATCH_SIZE_MAX, "a crowd fits one batch"
        items = await self._gateway.grab_batch([GrabOrder(packet.packet_id, user) for user in users])
        self._record.taps += len(users)
        self._record.batched_taps += len(users)
        if isinstance(items, ApiProblem):
            for user in users:
                if items.unknown:
                    self._record.told_nothing(packet, user)
                else:
                    self._record.told_refusal(packet, user, items.code)
            return
        for user, item in zip(users, items, strict=True):
            if item.unknown:
                self._record.told_nothing(packet, user)
            elif item.code:
                self._record.told_refusal(packet, user, item.code)
            else:
                self._record.told_win(packet, user, item.rank, item.amount_fen)

    async def _watch_lag(self) -> None:
        while True:
            report = await self._auditor.audit()
            if isinstance(report, AuditAnswer):
                self._lag_ms = report.settlement_lag_ms
            await asyncio.sleep(LAG_POLL_S)

    # The end

    async def _drain(self) -> None:
        started = time.monotonic()
        await self._until("the settlement", lambda report: report.in_flight_fen == 0)
        self._drained_s = time.monotonic() - started

    async def _ask_sends_again(self) -> None:
        """A send whose answer was lost is repeated with its own key: it is told now, or proves never to have been."""
        plans_unsure, self._unsure_sends = self._unsure_sends, []
        self._record.unknown_sends = len(plans_unsure)
        await gather(self._send, plans_unsure, self._options.connections_max)

    async def _pass_a_day(self) -> None:
        """Move the clock until it is known to have moved. Moving it twice after a lost answer only makes it later."""
        end = time.monotonic() + DRAIN_S
        while (problem := await self._operator.advance_clock(DAY_MS)) is not None:
            if not problem.retryable or time.monotonic() >= end:
                raise DemoFailed(f"the sandbox clock could not be moved: {self._target.url} {problem.told}")
            await asyncio.sleep(POLL_S)

    async def _end_all(self) -> None:
        await gather(lambda tap: self._tap(tap[0], tap[1], late=True), self._late, self._options.connections_max)
        await self._until("the refunds", lambda report: report.remaining_fen == 0 and report.in_flight_fen == 0)

    async def _compare_packets(self) -> None:
        person_of = {user_name(self._run, index): person for index, person in enumerate(self._people)}

        async def compare(packet: PacketRecord) -> None:
            ended = await person_of[packet.sender].packet(packet.packet_id)
            if isinstance(ended, ApiProblem):
                self._record.contradict(f"packet {packet.packet_id} cannot be read: the platform {ended.told}")
            else:
                self._record.compare(packet, ended, may_be_open=not self._moves_clock)

        await gather(compare, list(self._record.packets.values()), self._options.connections_max)

    async def _compare_wallets(self) -> int:
        """Return how many wallets differ from what their owners' own answers add up to."""
        changes = self._record.wallet_changes()

        async def differs(index: int) -> bool:
            user = user_name(self._run, index)
            wallet = await self._people[index].wallet()
            expected_fen = BALANCE_FEN + changes.get(user, 0)
            if isinstance(wallet, ApiProblem):
                self._record.contradict(f"the wallet of {user} cannot be read: the platform {wallet.told}")
                return True
            if (wallet.available_fen, wallet.held_fen) == (expected_fen, 0):
                return False
            self._record.contradict(f"the wallet of {user} holds {wallet}, the answers add up to {expected_fen}")
            return True

        return sum(await gather(differs, range(self._options.users), self._options.connections_max))

    async def _audit(self) -> AuditAnswer:
        report = await self._auditor.audit()
        if isinstance(report, ApiProblem):
            raise DemoFailed(f"no audit: {self._target.url} {report.told}")
        self._lag_ms = report.settlement_lag_ms
        return report

    async def _until(self, what: str, done: Callable[[AuditAnswer], bool]) -> None:
        """Wait for the audit to say so; if it does not in time, go on: the checks will tell."""
        end = time.monotonic() + DRAIN_S
        while not done(report := await self._audit()):
            if time.monotonic() >= end:
                self._record.contradict(
                    f"{what} did not end within {DRAIN_S:.0f} s: {report.in_flight_fen} fen in flight, "
                    f"{report.remaining_fen} fen remaining"
                )
                return
            await asyncio.sleep(POLL_S)

    # The result

    def _words(self) -> str:
        """Say in one line what has happened so far; rates are of the load's last seconds, then of all of it."""
        record = self._record
        sends, taps = self._rates.of(len(record.packets), record.taps)
        return (
            f"{sends:,.0f} sends/s {taps:,.0f} grabs/s · {record.wins:,} won {record.refused:,} refused "
            f"{record.errors.total() + record.unknown_taps:,} errors · lag {self._lag_ms} ms"
        )

    def _outcome(self, audit: AuditAnswer, wallets_wrong: int, whole_s: float) -> Outcome:
        record = self._record
        figures = Figures(
            packets=len(record.packets),
            grabs_ok=record.wins,
            grabs_refused=record.refused,
            funded_fen=audit.funded_fen,
            paid_fen=audit.paid_fen,
            refunded_fen=audit.refunded_fen,
            remaining_fen=audit.remaining_fen,
            in_flight_fen=audit.in_flight_fen,
            difference_fen=audit.difference_fen,
            double_grabs=record.double_grabs,
            over_issued=record.over_issued,
            seconds=round(self._load_s, 3),
            grabs_per_second=round(record.wins / max(self._load_s, 1e-9), 1),
        )
        return Outcome(figures, record, audit, self._checks(audit, wallets_wrong), self._facts(whole_s))

    def _checks(self, audit: AuditAnswer, wallets_wrong: int) -> list[Check]:
        record = self._record
        paid_out = audit.paid_fen + audit.refunded_fen + audit.remaining_fen
        errors = record.errors.total()
        checks = [
            Check("every book sums to 0 and every pair of books agrees", audit.clean and audit.difference_fen == 0),
            Check("funded = paid + refunded + remaining", audit.funded_fen == paid_out),
            Check("nothing in flight", audit.in_flight_fen == 0),
            Check("nothing left in an ended packet", audit.remaining_fen == 0 or not self._moves_clock),
            Check("nobody grabbed twice", record.double_grabs == 0),
            Check("no packet gave more than it had", record.over_issued == 0),
            Check(f"all {self._options.users:,} wallets hold what their owners were told", wallets_wrong == 0),
            Check("no two answers contradict each other", record.contradictions == 0),
            Check("no send of unknown outcome is left", not self._unsure_sends),
            Check("people did get shares", record.wins > 0),
            Check("errors below 1 % of all requests", errors <= ERRORS_SHARE_MAX * (record.taps + len(record.packets))),
        ]
        if self._target.fresh:
            packets = record.packets.values()
            sent_fen = sum(packet.total_fen for packet in packets)
            won_fen = sum(win.amount_fen for packet in packets for win in packet.wins.values())
            told = (sent_fen, won_fen, sent_fen - won_fen)
            checks.append(
                Check(
                    "the platform's totals are the sums of what the users were told",
                    told == (audit.funded_fen, audit.paid_fen, audit.refunded_fen),
                )
            )
        return checks

    def _facts(self, whole_s: float) -> list[tuple[str, str]]:
        record = self._record
        sends, wins, load_s = max(len(record.packets), 1), max(record.wins, 1), max(self._load_s, 1e-9)
        singles = record.taps - record.batched_taps
        traffic = self._operator.transport
        return [
            ("seed", str(self._options.seed)),
            ("users", f"{self._options.users:,}"),
            ("packets sent", f"{len(record.packets):,}  ({len(record.packets) / load_s:,.0f}/s)"),
            ("grabs asked for", f"{record.taps:,}  ({record.taps / load_s:,.0f}/s)"),
            ("  one by one, by users", f"{singles:,}  ({100 * singles / max(record.taps, 1):.0f} %)"),
            ("  in batches, by a gateway", f"{record.batched_taps:,}"),
            ("successful", f"{record.wins:,}  ({record.wins / load_s:,.0f}/s)"),
            ("refused", f"{record.refused:,}  ({_counts(record.refusals)})"),
            ("repeated, same answer again", f"{record.replays:,}"),
            ("opens for each send", f"{wins / sends:.2f}  (that minute: {OPENS_PER_SEND})"),
            ("attempts for each open", f"{record.taps / wins:.2f}  (that time: {ATTEMPTS_PER_OPEN})"),
            (
                "packets that ended unfinished" if self._moves_clock else "packets left open, for a day at most",
                f"{record.wins_unfinished:,}",
            ),
            ("errors", f"{record.errors.total():,}  ({_counts(record.errors)})"),
            (
                "outcome unknown at first",
                f"{record.unknown_taps + record.unknown_sends:,}  ({record.learned_late:,} proved to be grabs)",
            ),
            (
                "HTTP requests",
                f"{traffic.requests:,}, {traffic.retries:,} of them repeats, {traffic.lost:,} unanswered",
            ),
            ("settlement drained after", f"{self._drained_s:.2f} s"),
            ("load / whole run", f"{self._load_s:.1f} s / {whole_s:.1f} s"),
        ]


def replay(target: Target, options: Options, console: Console) -> Outcome:
    """Run the demo against a target until its end, Ctrl-C or SIGTERM. Raises DemoFailed, KeyboardInterrupt."""

    async def main() -> Outcome:
        running = asyncio.current_task()
        assert running is not None, "inside asyncio.run"
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        return await Replay(target, options, console).run()

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "none"
