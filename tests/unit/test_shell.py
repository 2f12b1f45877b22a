"""Shell: durable first, then the answer. Driven over the memory journal with a machine that only counts."""

import asyncio
from typing import Any

import msgspec
import pytest

from actors.kernel.errors import FencedOut, JournalUnavailable
from actors.kernel.ports import Position
from actors.kernel.shell import Shell
from cluster.journal.codec import Codec
from cluster.journal.snapshot import read_verified
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault, MemoryJournals

STREAM = "packet-000"


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    number: int


class Counter:
    """A machine: how many, and the greatest number as its stamp."""

    def __init__(self) -> None:
        self.version = 0
        self.stamp_ms = 0
        self.numbers: list[int] = []

    def apply(self, event: Counted) -> None:
        self.version += 1
        self.stamp_ms = max(self.stamp_ms, event.number)
        self.numbers.append(event.number)

    def restore(self, state: bytes) -> None:
        self.numbers = msgspec.msgpack.decode(state)
        self.version = len(self.numbers)


class Bench:
    """One stream in a store, and shells upon it."""

    def __init__(self) -> None:
        self.journals = MemoryJournals(Codec(Counted))
        self.clock_ms = 0

    async def shell(self, host: str = "host", events_max: int = 100) -> Any:
        await self.journals.create_system({"packet": {"": 1}})
        machine: Any = Counter()
        shell = Shell(STREAM, machine, self.journals.open(STREAM), lambda: self.clock_ms, events_max)
        await shell.activate(host)
        return shell

    async def entries(self) -> list[list[int]]:
        """Return the numbers of every entry, fences left out."""
        found: list[Any] = [element async for element in read_verified(self.journals, self.journals.codec, STREAM)]
        return [[event.number for event in element.events] for element in found if element.position.seq]

    def done(self, name: str) -> list[str]:
        """Return the outcomes of the operations of that name."""
        return [operation.outcome for operation in self.journals.history if operation.name == name]


def waiter(shell: Shell, *numbers: int) -> "asyncio.Task[None]":
    """Stage numbers in one step and return who waits for them."""
    for number in numbers:
        shell.stage(Counted(number))
    return asyncio.ensure_future(shell.commit().durable())


async def turns(count: int = 20) -> None:
    """Let everybody who can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@simulated
async def test_everything_staged_during_one_append_leaves_as_one_entry(bench: Bench) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append")
    first = waiter(shell, 1)
    await gate.reached()
    rest = [waiter(shell, number) for number in (2, 3, 4)]
    gate.release()
    await asyncio.gather(first, *rest)
    assert await bench.entries() == [[1], [2, 3, 4]]


@simulated
async def test_what_is_decided_in_one_step_is_never_torn_apart(bench: Bench) -> None:
    shell = await bench.shell()
    await waiter(shell, 1, 2, 3)
    assert await bench.entries() == [[1, 2, 3]]


@pytest.mark.parametrize("applied", [False, True])
@simulated
async def test_no_answer_comes_before_its_append_is_acknowledged(bench: Bench, applied: bool) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append", applied=applied)
    first = waiter(shell, 1)
    await gate.reached()
    second = waiter(shell, 2)
    await turns()
    assert not first.done()
    assert not second.done()
    assert shell.durable_version == 0
    gate.release()
    await first
    assert shell.durable_version >= 1
    await second


@simulated
async def test_who_staged_nothing_waits_for_a_confirmation_that_began_after_he_asked(bench: Bench) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("confirm")
    first = waiter(shell)
    await gate.reached()
    later = waiter(shell)
    gate.release()
    await first
    assert not later.done(), "the confirmation under way began before he asked"
    await later
    assert bench.done("confirm") == ["ok", "ok"]
    assert await bench.entries() == []


@simulated
async def test_a_read_behind_an_append_waits_for_a_contact_of_its_own(bench: Bench) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append")
    write = waiter(shell, 1)
    await gate.reached()
    read = waiter(shell)
    gate.release()
    await write
    assert not read.done()
    await read
    assert bench.done("confirm") == ["ok"]


@simulated
async def test_an_idle_shell_leaves_the_store_alone(bench: Bench) -> None:
    shell = await bench.shell()
    await waiter(shell, 1)
    await turns()
    assert (bench.done("append"), bench.done("confirm")) == (["ok"], [])


@pytest.mark.parametrize(("fault", "found"), [(Fault.LOST_BEFORE, []), (Fault.LOST_AFTER, [[1]])])
@simulated
async def test_an_unknown_outcome_fails_every_waiter_and_nothing_more_is_appended(
    bench: Bench, fault: Fault, found: list[Any]
) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append")
    bench.journals.fail("append", fault)
    flying = waiter(shell, 1)
    await gate.reached()
    staged = [waiter(shell, 2), waiter(shell)]
    gate.release()
    outcomes = await asyncio.gather(flying, *staged, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JournalUnavailable] * 3
    assert shell.dead
    with pytest.raises(JournalUnavailable):
        shell.commit()
    with pytest.raises(AssertionError, match="dead"):
        shell.stage(Counted(3))
    await turns()
    assert await bench.entries() == found
    assert len(bench.done("append")) == 1


@simulated
async def test_a_lost_confirmation_ends_the_activation_too(bench: Bench) -> None:
    shell = await bench.shell()
    bench.journals.fail("confirm", Fault.LOST_AFTER)
    with pytest.raises(JournalUnavailable):
        await waiter(shell)
    assert shell.dead


@simulated
async def test_a_refusal_by_a_full_store_holds_the_same_bytes_and_refuses_meanwhile(bench: Bench) -> None:
    shell = await bench.shell()
    bench.journals.fail("append", Fault.FULL, times=3)
    gate = bench.journals.hold("append")
    held = [waiter(shell, 1), waiter(shell, 2)]
    await gate.reached()
    held.append(waiter(shell, 3))
    gate.release()
    for each in held:
        with pytest.raises(JournalUnavailable, match="the store is full"):
            await each
    assert shell.full
    assert shell.refusing
    assert not shell.dead
    assert await bench.entries() == []
    await asyncio.sleep(1)
    assert not shell.full
    assert await bench.entries() == [[1, 2], [3]]
    await waiter(shell)
    positions = {o.position for o in bench.journals.history if o.name == "append"}
    assert positions == {Position(1, 1), Position(1, 2)}, "the very same entry, again and again"
    assert bench.done("append") == ["JournalFull"] * 3 + ["ok"] * 2


@simulated
async def test_a_full_store_that_then_loses_the_append_ends_the_activation(bench: Bench) -> None:
    shell = await bench.shell()
    bench.journals.fail("append", Fault.FULL)
    bench.journals.fail("append", Fault.LOST_AFTER)
    with pytest.raises(JournalUnavailable):
        await waiter(shell, 1)
    await asyncio.sleep(1)
    assert shell.dead


@simulated
async def test_of_two_owners_the_later_fence_wins_and_the_older_can_say_nothing_more(bench: Bench) -> None:
    old = await bench.shell("old")
    await waiter(old, 1)
    new = await bench.shell("new")
    assert (old.epoch, new.epoch) == (1, 2)
    assert new.machine.numbers == [1]
    with pytest.raises(FencedOut):
        await waiter(old, 2)
    assert old.dead
    await waiter(new, 3)
    assert await bench.entries() == [[1], [3]]


@simulated
async def test_a_zombie_that_only_reads_is_fenced_out_too(bench: Bench) -> None:
    old = await bench.shell("old")
    await bench.shell("new")
    with pytest.raises(FencedOut):
        await waiter(old)


@simulated
async def test_a_rival_that_comes_while_an_append_is_under_way_leaves_no_false_answer(bench: Bench) -> None:
    old = await bench.shell("old")
    gate = bench.journals.hold("append")
    flying, staged = waiter(old, 1), None
    await gate.reached()
    staged = waiter(old, 2)
    new = await bench.shell("new")
    gate.release()
    outcomes = await asyncio.gather(flying, staged, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [FencedOut, FencedOut]
    assert new.machine.numbers == []
    assert await bench.entries() == []


@simulated
async def test_a_waiter_that_goes_away_breaks_nobody_else(bench: Bench) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append")
    first, gone = waiter(shell, 1), waiter(shell, 2)
    await gate.reached()
    later, gone_too = waiter(shell, 3), waiter(shell, 4)
    gone.cancel()
    gone_too.cancel()
    gate.release()
    await asyncio.gather(first, later)
    assert await bench.entries() == [[1, 2], [3, 4]], "what was decided stays decided"


@simulated
async def test_shard_time_never_runs_behind_the_journal(bench: Bench) -> None:
    shell = await bench.shell()
    bench.clock_ms = 1_000
    assert shell.now_ms() == 1_000
    await waiter(shell, 5_000)
    bench.clock_ms = 2_000
    assert shell.now_ms() == 5_000
    assert (await bench.shell("next")).now_ms() == 5_000
    bench.clock_ms = 6_000
    assert shell.now_ms() == 6_000


@simulated
async def test_too_much_on_the_open_commit_is_refused_until_it_leaves(bench: Bench) -> None:
    shell = await bench.shell(events_max=2)
    gate = bench.journals.hold("append")
    first = waiter(shell, 1)
    await gate.reached()
    assert not shell.refusing
    second = waiter(shell, 2, 3)
    assert shell.refusing
    gate.release()
    await first
    assert not shell.refusing
    await second


@simulated
async def test_an_ended_activation_answers_everybody_with_a_failure(bench: Bench) -> None:
    shell = await bench.shell()
    gate = bench.journals.hold("append")
    flying = waiter(shell, 1)
    await gate.reached()
    staged = waiter(shell, 2)
    shell.discard()
    gate.release()
    outcomes = await asyncio.gather(flying, staged, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [JournalUnavailable] * 2
    await turns()
    assert await bench.entries() == []


@simulated
async def test_an_activation_rebuilds_exactly_what_was_durable(bench: Bench) -> None:
    old = await bench.shell("old")
    await waiter(old, 1, 2)
    bench.journals.fail("append", Fault.LOST_AFTER)
    with pytest.raises(JournalUnavailable):
        await waiter(old, 3)
    bench.journals.fail("append", Fault.LOST_BEFORE)
    new = await bench.shell("new")
    with pytest.raises(JournalUnavailable):
        await waiter(new, 4)
    last = await bench.shell("last")
    assert last.machine.numbers == [1, 2, 3]
    assert last.durable_version == 3
