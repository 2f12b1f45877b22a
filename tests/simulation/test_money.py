"""Money: whatever fails in whatever order, the journals alone explain every answer, and no fen is made or lost.

Hypothesis drives the real gateway service, hosts, shells and machines over the memory journal: many callers at once,
appends lost before or after they were applied, answers lost, rival hosts with zombies that go on being asked, gateways
that die between debit and opening, settlement delayed, repeated and cut off, snapshots, a clock in steps. Teardown asks
for liveness: once nothing fails any more, every packet can be taken or goes back, and everything is settled.
"""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.kernel.errors import OperatingFailure
from actors.kernel.messages import AdoptSnapshot, Done, Refused
from actors.kernel.names import User
from actors.kernel.timer import SLOT_MS
from actors.ledger.transfer import Acknowledge, Outgoing
from actors.packet.commands import Grab, View
from actors.packet.replies import Won
from actors.settlement.plan import acknowledgements, deliveries
from actors.settlement.task import settle
from actors.wallet.commands import CreditSandbox, ReadWallet, Send
from actors.wallet.replies import Funded
from actors.wallet.rules import WalletRules
from cluster.gateway.problems import Problem
from cluster.journal.fold import fold
from cluster.runtime.shards import machine_of
from tests.books import balances, book_sum
from tests.simulation.auditor import UNDECIDED, Auditor
from tests.simulation.grabbing import grab_each
from tests.simulation.loop import InstantLoop
from tests.simulation.marks import Mark
from tests.simulation.memory_journal import Fault
from tests.simulation.system import KEYS, TENANT, System

USERS = [f"u{number}" for number in range(5)]
BALANCE_FEN = 3_000
ZOMBIES_MAX = 4
OF_ANY_KIND = {"unsettled_max": 40, "settle_batch_max": 3, "commit_events_max": 30}
FAIR = {name: {"user": 100} for name in ("unsettled_max", "commit_events_max")}
SMALL = {
    "packet": {
        "hosts": 2,
        "rules": OF_ANY_KIND | {"opened_ahead_max": 2, "fair": FAIR | {"opened_ahead_max": {"user": 100}}},
    },
    "wallet": {"rules": OF_ANY_KIND | {"fair": FAIR}},
}
HOSTS = ["packet-shard-0", "packet-shard-1", "wallet-shard-0"]
STREAMS = ["packet-000", "packet-001", "wallet-000", "wallet-001"]

READ_ANYTHING = {"packet": View("a" * 32, TENANT), "wallet": ReadWallet(TENANT, "u0")}

users = st.sampled_from(USERS)
hosts = st.sampled_from(HOSTS)
streams = st.sampled_from(STREAMS)
turns = st.integers(0, 6)
losses = st.sampled_from([Fault.LOST_BEFORE, Fault.LOST_AFTER])


class Money(RuleBasedStateMachine):
    """One system, its callers and its misfortunes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = InstantLoop()
        self.system: System
        self.model: Auditor
        self.zombies: list[Any] = []
        self.running: list[asyncio.Task[None]] = []
        self.contradictions: list[BaseException] = []
        self.undelivered: list[Outgoing] = []
        self.packet_ids: list[str] = ["a" * 32]
        self.told: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.told_first: set[tuple[str, str]] = set()
        self.told_sent: dict[tuple[str, str], Any] = {}

    # Callers. Each checks its own answer in the very step that it arrives.

    def begin(self, caller: Coroutine[Any, Any, None], turns: int) -> None:
        """Start a caller and let everybody run for some turns."""
        task = self.loop.create_task(caller)
        task.add_done_callback(self._done)
        self.running.append(task)
        self.turn(turns)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self.running.remove(task)
        if not task.cancelled() and task.exception() is not None:
            self.contradictions.append(task.exception())  # type: ignore[arg-type]

    def turn(self, turns: int) -> None:
        """Let everybody run for some turns of the loop."""

        async def pass_turns() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pass_turns())

    def finish(self) -> None:
        """Let everybody run until all are answered."""

        async def all_answered() -> None:
            await asyncio.gather(*self.running, return_exceptions=True)

        self.loop.run_until_complete(all_answered())

    def told_grab(self, packet_id: str, user: str, reply: Any, since: Mark) -> None:
        self.model.explain_grab(packet_id, user, reply, since)
        if isinstance(reply, Won):
            share = reply.rank, reply.amount_fen, reply.at_ms
            assert self.told.setdefault((packet_id, user), share) == share, "the same request gives the same answer"
            if not reply.replayed:
                assert (packet_id, user) not in self.told_first, "a share is new once"
                self.told_first.add((packet_id, user))

    async def grab(self, packet_id: str, user: str, host: Any = None) -> None:
        since = self.model.mark(packet_id=packet_id)
        if host is None:
            [reply] = await grab_each(self.system.service, [(packet_id, user)], TENANT)
        else:
            [reply] = await host.serve(self.stream_of(packet_id), [Grab(packet_id, TENANT, user)])
        self.told_grab(packet_id, user, reply, since)

    async def grab_many(self, packet_id: str) -> None:
        since = self.model.mark(packet_id=packet_id)
        asked = [(packet_id, user) for user in (*USERS, *USERS[:2])]
        for (_, user), reply in zip(asked, await grab_each(self.system.service, asked, TENANT), strict=True):
            self.told_grab(packet_id, user, reply, since)

    async def send(self, user: str, key: str, wish: tuple[Any, ...]) -> None:
        since = self.model.mark((TENANT, user))
        answer: Any
        send = Send(TENANT, user, key, *wish)
        try:
            answer = await self.system.service.wallets.send(send)
            first = self.told_sent.setdefault((user, key), answer.funding)
            assert first == answer.funding, "the same key gives the same packet"
        except Problem as problem:
            answer = problem.code
        self.model.explain_send(send, answer, since)
        self.learn_packets()

    async def debit_only(self, user: str, key: str, wish: tuple[Any, ...], host: Any) -> None:
        stream = self.system.service.wallets.stream_of(User(TENANT, user))
        [reply] = await host.serve(stream, [Send(TENANT, user, key, *wish)])
        self.model.advance()
        if isinstance(reply, Funded):
            assert reply.funding in self.model.fundings[reply.funding.packet_id], "the journal holds the debit"
        self.learn_packets()

    async def read_wallet(self, user: str, host: Any = None) -> None:
        since = self.model.mark((TENANT, user))
        stream = self.system.service.wallets.stream_of(User(TENANT, user))
        [reply] = await (host or self.system.members["wallet-shard-0"]).serve(stream, [ReadWallet(TENANT, user)])
        self.model.explain_wallet((TENANT, user), reply, since)

    async def view(self, packet_id: str, host: Any = None) -> None:
        since = self.model.mark(packet_id=packet_id)
        stream = self.stream_of(packet_id)
        host = host or self.system.members[self.system.directory.host_of(stream)]
        [reply] = await host.serve(stream, [View(packet_id, TENANT)])
        self.model.explain_view(packet_id, reply if isinstance(reply, Refused) else [reply], since)

    async def settle_once(self, host: str) -> None:
        await settle(self.system.directory, [host], rounds_max=3, idle_rounds_max=1, pause_ms=100)

    async def deliver(self, batch: Outgoing) -> None:
        groups = deliveries([batch])
        for _, commands in acknowledgements(groups, await self.system.directory.ask(groups)):
            for stream in (batch.source,):
                await self.system.directory.ask([(stream, commands)])

    async def collect(self, host: Any) -> None:
        self.undelivered += await host.outgoing()

    async def snapshot(self, stream: str, steps: int) -> None:
        """Take a snapshot, dying after some of its steps."""
        journals, settings = self.system.journals, self.system.settings
        try:
            machine = machine_of(stream, settings, KEYS)
            record = await fold(journals, journals.codec, stream, machine)
            if record is None or steps < 1:
                return
            await journals.write_snapshot(record)
            if steps < 2:
                return
            adopt = AdoptSnapshot(record.position.epoch, record.position.seq, record.version, machine.work)
            [[reply]] = await self.system.directory.ask([(stream, [adopt])])
            if steps < 3 or not isinstance(reply, Done):
                return
            await journals.adopt_snapshot(stream, record.position)
        except OperatingFailure:
            return

    def stream_of(self, packet_id: str) -> str:
        funded = self.model.fundings.get(packet_id)
        return funded[0].packet_stream if funded else "packet-000"

    def packet(self, which: int) -> str:
        """Return the id of a packet, the newest first, among them one that does not exist."""
        return self.packet_ids[-1 - which % len(self.packet_ids)]

    def learn_packets(self) -> None:
        self.packet_ids += [packet_id for packet_id in self.model.fundings if packet_id not in self.packet_ids]

    # Rules.

    @initialize()
    def start(self) -> None:
        """Start a system with five users and two open packets."""

        async def begin() -> None:
            self.system = await System.start(**SMALL)
            for user in USERS:
                await self.system.service.wallets.ask(CreditSandbox(TENANT, user, BALANCE_FEN))

        self.loop.run_until_complete(begin())
        self.model = Auditor(self.system.journals, self.system.settings, reads=True)
        self.model.advance()
        for user, count in (("u0", 3), ("u1", 4)):
            self.begin(self.send(user, "first", ("lucky", 100 * count, count, "")), 0)
        self.finish()

    @rule(
        user=users,
        key=st.sampled_from(["a", "b"]),
        kind=st.sampled_from(["lucky", "equal"]),
        share=st.integers(1, 400),
        count=st.integers(1, 4),
        turns=turns,
    )
    def somebody_sends(self, user: str, key: str, kind: str, share: int, count: int, turns: int) -> None:
        self.begin(self.send(user, key, (kind, share * count, count, "")), turns)

    @rule(user=users, key=st.sampled_from(["a", "c"]), share=st.integers(1, 400), turns=turns, zombie=st.booleans())
    def a_gateway_dies_between_debit_and_opening(
        self, user: str, key: str, share: int, turns: int, zombie: bool
    ) -> None:
        owners = [z for z in self.zombies if z.name == "wallet-shard-0"]
        host = owners[-1] if zombie and owners else self.system.members["wallet-shard-0"]
        self.begin(self.debit_only(user, key, ("lucky", share * 3, 3, ""), host), turns)

    @rule(user=users, packet=st.integers(0, 9), turns=turns)
    def somebody_grabs(self, user: str, packet: int, turns: int) -> None:
        self.begin(self.grab(self.packet(packet), user), turns)

    @rule(user=users, packet=st.integers(0, 3), lost=losses, turns=turns, later=turns)
    def somebody_is_impatient_while_his_grab_is_lost(
        self, user: str, packet: int, lost: Fault, turns: int, later: int
    ) -> None:
        packet_id = self.packet(packet)
        stream = self.stream_of(packet_id)
        host = self.system.members[self.system.directory.host_of(stream)]
        self.system.journals.fail("append", lost, stream=stream)
        self.begin(self.grab(packet_id, user, host), turns)
        self.begin(self.grab(packet_id, user, host), 1)  # through another gateway, while the first is under way
        self.begin(self.view(packet_id), later)

    @rule(user=users, packet=st.integers(0, 3), lost=losses, turns=turns, later=turns)
    def settlement_looks_while_a_grab_is_lost(
        self, user: str, packet: int, lost: Fault, turns: int, later: int
    ) -> None:
        packet_id = self.packet(packet)
        stream = self.stream_of(packet_id)
        self.system.journals.fail("append", lost, stream=stream)
        self.begin(self.grab(packet_id, user), turns)
        self.begin(self.settle_once(self.system.directory.host_of(stream)), later)

    @rule(user=users, packet=st.integers(0, 3), turns=turns)
    def a_rival_goes_on_and_the_zombie_is_asked(self, user: str, packet: int, turns: int) -> None:
        packet_id = self.packet(packet)
        zombie = self.system.replace(self.system.directory.host_of(self.stream_of(packet_id)))
        self.zombies.append(zombie)
        del self.zombies[:-ZOMBIES_MAX]
        self.begin(self.grab(packet_id, user), 0)
        self.finish()
        self.begin(self.view(packet_id, zombie), turns)
        self.begin(self.grab(packet_id, "visitor", zombie), turns)

    @rule(user=users, key=st.sampled_from(["a", "b"]), turns=turns)
    def a_rival_pays_and_the_zombie_is_asked(self, user: str, key: str, turns: int) -> None:
        zombie = self.system.replace("wallet-shard-0")
        self.zombies.append(zombie)
        del self.zombies[:-ZOMBIES_MAX]
        self.begin(self.send(user, key, ("lucky", 300, 3, "")), 0)
        self.finish()
        self.begin(self.read_wallet(user, zombie), turns)
        self.begin(self.debit_only(user, key, ("lucky", 300, 3, ""), zombie), turns)

    @rule(packet=st.integers(0, 3), turns=turns)
    def a_crowd_grabs(self, packet: int, turns: int) -> None:
        self.begin(self.grab_many(self.packet(packet)), turns)

    @rule(user=users, turns=turns)
    def somebody_reads_his_wallet(self, user: str, turns: int) -> None:
        self.begin(self.read_wallet(user), turns)

    @rule(packet=st.integers(0, 9), turns=turns)
    def somebody_looks_at_a_packet(self, packet: int, turns: int) -> None:
        self.begin(self.view(self.packet(packet)), turns)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20))
    def an_answer_is_lost(self, which: int) -> None:
        self.running[which % len(self.running)].cancel()
        self.turn(1)

    @rule(
        operation=st.sampled_from(["append", "append", "append", "confirm", "activate", "read"]),
        fault=losses,
        stream=streams,
    )
    def the_store_will_lose_something(self, operation: Any, fault: Fault, stream: str) -> None:
        self.system.journals.fail(operation, fault, stream=stream)

    @rule(stream=streams, times=st.integers(1, 3))
    def the_store_will_be_full(self, stream: str, times: int) -> None:
        self.system.journals.fail("append", Fault.FULL, stream=stream, times=times)

    @rule(host=hosts, turns=turns)
    def a_rival_takes_over(self, host: str, turns: int) -> None:
        self.zombies.append(self.system.replace(host))
        del self.zombies[:-ZOMBIES_MAX]
        self.turn(turns)

    @precondition(lambda self: self.zombies)
    @rule(which=st.integers(0, 9), user=users, packet=st.integers(0, 3), turns=turns)
    def a_zombie_is_asked(self, which: int, user: str, packet: int, turns: int) -> None:
        zombie = self.zombies[which % len(self.zombies)]
        packet_id = self.packet(packet)
        if zombie.name == "wallet-shard-0":
            self.begin(self.read_wallet(user, zombie), turns)
        elif which % 2:
            self.begin(self.view(packet_id, zombie), turns)
        else:
            self.begin(self.grab(packet_id, user, zombie), turns)

    @rule(host=hosts, turns=turns)
    def settlement_runs(self, host: str, turns: int) -> None:
        self.begin(self.settle_once(host), turns)

    @rule(host=hosts, turns=turns, zombie=st.booleans())
    def settlement_reads_and_is_delayed(self, host: str, turns: int, zombie: bool) -> None:
        source = self.zombies[-1] if zombie and self.zombies else self.system.members[host]
        self.begin(self.collect(source), turns)

    @precondition(lambda self: self.undelivered)
    @rule(which=st.integers(0, 9), turns=turns)
    def a_delayed_delivery_arrives_perhaps_again(self, which: int, turns: int) -> None:
        self.begin(self.deliver(self.undelivered[which % len(self.undelivered)]), turns)

    @precondition(lambda self: self.zombies)
    @rule(which=st.integers(0, 9), number=st.integers(0, 9), turns=turns)
    def a_zombie_hears_an_acknowledgement(self, which: int, number: int, turns: int) -> None:
        zombie = self.zombies[which % len(self.zombies)]
        source, destination = ("wallet-000", "packet-000") if "wallet" in zombie.name else ("packet-000", "wallet-000")
        received = self.model.received.get((source, destination), {})
        known = next(n for n in range(len(received) + 1) if n + 1 not in received)
        command = Acknowledge(destination, min(number, known))

        async def tell() -> None:
            [reply] = await zombie.serve(source, [command])
            assert isinstance(reply, Done | Refused)

        self.begin(tell(), turns)

    @rule(stream=streams, steps=st.integers(0, 3), turns=turns)
    def a_snapshot_is_taken(self, stream: str, steps: int, turns: int) -> None:
        self.begin(self.snapshot(stream, steps), turns)

    @rule(ms=st.sampled_from([1, 999, 1_000, 60_000, 43_200_000, 86_400_000]), turns=turns, tick=st.booleans())
    def time_passes(self, ms: int, turns: int, tick: bool) -> None:
        self.system.clock.ms += ms
        if tick:
            self.begin(self.system.tick(), turns)

    @rule(turns=st.integers(1, 30))
    def everybody_runs(self, turns: int) -> None:
        self.turn(turns)

    @rule()
    def everybody_is_answered(self) -> None:
        self.finish()

    # What always holds.

    @invariant()
    def the_journals_explain_every_answer(self) -> None:
        if not hasattr(self, "model"):
            return
        if self.contradictions:
            raise self.contradictions[0]
        self.model.advance()
        self.model.check_conservation()

    # What holds in the end.

    def teardown(self) -> None:
        """Stop all faults and ask for everything that was promised."""
        try:
            if hasattr(self, "model"):
                self.calm()
                self.loop.run_until_complete(self.everything_ends_well())
                self.loop.run_until_complete(self.books_agree())
                self.the_journals_explain_every_answer()
        finally:
            self.loop.end()

    def calm(self) -> None:
        """End every fault; let everybody be answered."""
        self.system.journals._faults.clear()
        self.finish()
        self.loop.run_until_complete(self.one_owner_each())
        self.the_journals_explain_every_answer()

    async def one_owner_each(self) -> None:
        """End the zombies; a host that one of them has fenced out meets it once and is then the owner again."""
        for zombie in self.zombies:
            await zombie.stop()
        for stream in STREAMS:
            host = self.system.members[self.system.directory.host_of(stream)]
            for _ in range(3):  # a full store is asked again, a lost stream is activated again
                await asyncio.sleep(1)
                [reply] = await host.serve(stream, [READ_ANYTHING[stream.partition("-")[0]]])
            assert not (isinstance(reply, Refused) and reply.code in UNDECIDED), f"{stream} is not served"

    async def everything_ends_well(self) -> None:
        """Refusing everybody is not enough: what was promised is given, what is open is taken, or goes back."""
        system, model = self.system, self.model
        for (packet_id, user), share in self.told.items():
            [reply] = await grab_each(system.service, [(packet_id, user)], TENANT)
            assert isinstance(reply, Won), "a success, once told, never turns into a refusal"
            assert (reply.rank, reply.amount_fen, reply.at_ms, reply.replayed) == (*share, True)
        for (user, key), funding in self.told_sent.items():
            if system.clock.ms - funding.at_ms < system.settings.rules(WalletRules).idempotency_ms:
                wish = funding.kind, funding.total_fen, funding.count, funding.greeting
                again = await system.service.wallets.send(Send(TENANT, user, key, *wish))
                assert (again.funding, again.replayed) == (funding, True)
        system.clock.ms += system.settings.rules(WalletRules).relay_after_ms
        await system.settle()
        model.advance()
        assert set(model.packets) == set(model.fundings), "every packet that was paid for is opened"
        await system.tick()
        for packet_id, life in model.packets.items():
            [reply] = await grab_each(system.service, [(packet_id, "latecomer")], TENANT)
            wanted = "open" if life.state == "open" else life.state
            assert isinstance(reply, Won) if wanted == "open" else reply == Refused(wanted), "what is open can be taken"
        fresh = await system.service.wallets.ask(CreditSandbox(TENANT, "fresh", 1_000))
        assert fresh.available_fen == 1_000
        await system.service.wallets.send(Send(TENANT, "fresh", "k", "lucky", 1_000, 2, ""))
        system.clock.ms += system.settings.rules(WalletRules).sends.packet_lifetime_ms + SLOT_MS
        await system.tick()
        await system.settle()
        model.advance()
        assert {life.state for life in model.packets.values()} <= {"drained", "expired"}
        assert model.in_flight_fen() == 0, "settlement drains"

    async def books_agree(self) -> None:
        """Machines, journals replayed by the auditor's code, and this model tell the same."""
        system, model = self.system, self.model
        report = await system.audit()
        assert (report.difference_fen, report.in_flight_fen, report.fen("remaining_fen"), report.clean) == (
            0,
            0,
            0,
            True,
        )
        replayed: dict[Any, int] = {}
        for stream in STREAMS:
            book = await balances(system.journals, system.journals.codec, stream)
            assert book_sum(book) == 0, f"the book of {stream} does not sum to 0"
            replayed |= {(stream, *account): amount for account, amount in book.items()}
        for source in STREAMS:
            for destination in STREAMS:
                ends = (source, "sent", destination), (destination, "received", source)
                assert replayed.get(ends[0], 0) + replayed.get(ends[1], 0) == 0, "both ends of a transit agree"
        assert sum(history[-1] for history in model.balances.values()) == model.credited_fen
        for tenant, user in model.balances:
            stream = system.service.wallets.stream_of(User(tenant, user))
            [[view]] = await system.directory.ask([(stream, [ReadWallet(tenant, user)])])
            told = replayed.get((stream, "change", tenant, user), 0)
            assert view.available_fen == told == model.balance_fen((tenant, user))
        for stream in STREAMS:
            await self.fold_agrees(stream)

    async def fold_agrees(self, stream: str) -> None:
        """A stream folded from its very first entry and from its newest snapshot is the same."""
        journals = self.system.journals
        whole = machine_of(stream, self.system.settings, KEYS)
        books, journals.books = journals.books, {}
        record = await fold(journals, journals.codec, stream, whole)
        journals.books = books
        short = machine_of(stream, self.system.settings, KEYS)
        await fold(journals, journals.codec, stream, short)
        assert record is not None
        assert short.snapshot() == whole.snapshot(), "a snapshot changes nothing"


EXAMPLES = int(os.environ.get("HONGBAO_EXAMPLES", "200"))


@pytest.mark.parametrize("seeds", ["the same every time", "fresh"])
def test_whatever_fails_the_journals_alone_explain_every_answer_and_every_fen_is_accounted_for(seeds: str) -> None:
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            derandomize=seeds != "fresh",
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
