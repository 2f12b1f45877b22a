"""Toys: a kind of which the kernel has never heard is hosted, durable, restarted, paused, snapshotted and audited."""

from typing import Any

import msgspec
import pytest

from actors import kinds
from actors.kernel.host import Host
from actors.kernel.kind import COMMANDS, DuplicateKind, UnknownKind, registry, tag_of
from actors.kernel.messages import Done, Refused
from actors.kernel.rules import Services
from actors.kernel.switches import ReadSwitches, SetSwitch, Switches
from actors.kinds import build_host
from actors.ledger.transfer import Acknowledge
from cluster.journal.codec import platform_codec
from cluster.journal.fold import fold
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import StepClock
from tests.toys.counter import COUNTER, COUNTS, Count, CounterMachine, CounterRules, CountTold, ReadCount
from tests.unit.samples import KEYS, TENANT

STREAM = "counter-000"
RULES = CounterRules(commit_events_max=3, expire_batch_max=1, settle_batch_max=1, tick_ms=50, count_max=5)
SERVICES = Services(KEYS, {"counter": {"": 1}})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the platform have the toy, as a name in `actors.kinds` would."""
    monkeypatch.setattr(kinds, "KINDS", registry(*kinds.KINDS.values(), COUNTER))


class Bench:
    """One store, and hosts upon it, one after another."""

    def __init__(self) -> None:
        self.journals = MemoryJournals(platform_codec())
        self.host = self.another()

    def another(self) -> Host:
        """Start a host in the place of the one before, which lives on."""
        self.host = build_host("counter-shard-0", COUNTER, [STREAM], self.journals, StepClock(), SERVICES, RULES)
        return self.host

    async def ask(self, *commands: Any) -> list[Any]:
        """Ask as a gateway does, in bytes."""
        payload = await self.host.handle(msgspec.msgpack.encode([(STREAM, commands)]))
        return list(kinds.reply_decoder().decode(payload)[0])


async def bench() -> Bench:
    made = Bench()
    await made.journals.create_system({"counter": {"": 1}})
    return made


def said(user: str) -> Count:
    return Count(TENANT, user)


async def test_a_kind_without_accounts_counts_durably_within_its_bounds() -> None:
    toy = await bench()
    assert await toy.ask(said("u1"), said("u2")) == [CountTold(1), CountTold(2)]
    zombie = toy.host
    toy.another()
    assert await toy.ask(ReadCount()) == [CountTold(2)]
    [refused] = await zombie.serve(STREAM, [said("u3")])
    assert isinstance(refused, Refused), "who lost the stream decides nothing durable"
    told = await toy.ask(*[said("u1")] * 5)
    assert told[:3] == [CountTold(3), CountTold(4), CountTold(5)]
    assert {reply.code for reply in told[3:]} == {"overloaded"}
    assert await toy.ask(said("u1"), ReadCount()) == [Refused("overloaded"), CountTold(5)]


async def test_its_switch_pauses_it_and_what_was_never_sent_cannot_be_acknowledged() -> None:
    toy = await bench()
    shell = await toy.host.shell(STREAM)
    assert await toy.ask(SetSwitch(COUNTS, True, "chen", shell.epoch, 0)) == [Done()]
    assert await toy.ask(said("u1")) == [Refused("paused")]
    [switches] = await toy.host.serve(STREAM, [ReadSwitches()])
    assert isinstance(switches, Switches)
    assert list(switches.switches) == [COUNTS]
    assert await toy.ask(Acknowledge("wallet-000", 1)) == [Refused("out_of_order")]


async def test_its_snapshot_is_folded_and_audits_read_an_empty_book() -> None:
    toy = await bench()
    await toy.ask(said("u1"), said("u2"))
    machine = CounterMachine(STREAM, RULES, SERVICES)
    record = await fold(toy.journals, toy.journals.codec, STREAM, machine)
    assert record is not None
    again = CounterMachine(STREAM, RULES, SERVICES)
    again.restore(record.state)
    assert (again.count, again.version) == (2, 2)
    [report] = await toy.host.report(audit=True)
    assert (report.members, report.balances_fen, report.destinations, report.received) == (2, {}, [], {})
    assert await toy.host.outgoing() == []


def test_what_its_streams_are_asked_follows_from_its_handlers() -> None:
    assert set(COUNTER.asked) == {Count, ReadCount}
    assert len({tag_of(command) for command in (*COMMANDS, *COUNTER.asked)}) == len(COMMANDS) + 2


def test_a_kind_that_is_declared_twice_is_refused_with_its_name() -> None:
    with pytest.raises(DuplicateKind, match="counter"):
        registry(COUNTER, COUNTER)


def test_a_stream_of_another_kind_is_hosted_by_nobody() -> None:
    with pytest.raises(UnknownKind, match="wallet-000"):
        build_host("counter-shard-0", COUNTER, ["wallet-000"], Bench().journals, StepClock(), SERVICES, RULES)
