"""Maintenance: tasks of one stream that fall asleep between any two of their steps, while others write, sweep and read.

What a task does beside the journal takes many steps. Every test here lets somebody sleep at each of them in turn, lets
the stream be maintained meanwhile, and wakes the sleeper. Nobody may ever lack anything: the stream activates from
what is there, `verify` finds it whole, and what the sleeper leaves behind goes with the next tasks.
"""

import asyncio
import copy
import functools
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actors.kernel.errors import FencedOut
from actors.kernel.messages import AdoptSnapshot, Refused
from actors.kernel.ports import Position
from actors.refusals import Refusal
from actors.wallet.commands import CreditSandbox, ReadWallet
from actors.wallet.replies import WalletView
from cluster.config import Settings, load
from cluster.journal.codec import platform_codec
from cluster.journal.sealing import PartBounds
from cluster.offline.backup import CLAIM, NotRestorable, Places, make
from cluster.offline.stream_reader import Sources
from cluster.offline.verify import Verification, verify
from cluster.runtime.maintenance import maintain
from cluster.runtime.placement import hosts
from cluster.runtime.shards import machine_of
from tests.simulation.archive import MemoryArchive
from tests.simulation.loop import run, simulated
from tests.simulation.memory_journal import MemoryJournals, OperationName
from tests.simulation.system import KEYS, TENANT, System

STREAM = "wallet-000"
STEPS_MAX = 60
"""More than anything here takes."""


@functools.cache
def settings() -> Settings:
    return load(packet={"streams": 1}, wallet={"streams": 1}, bounds={"seal_elements_max": 3})


class Led:
    """A task that goes on by one operation of the store at a time, as the test says."""

    def __init__(self, journals: "Stepped", work: Coroutine[Any, Any, Any]) -> None:
        self._stopped = asyncio.Event()
        self._gate: asyncio.Future[None] | None = None
        self.task = asyncio.ensure_future(work)
        self.task.add_done_callback(lambda _: self._stopped.set())
        journals.led[self.task] = self

    async def pass_gate(self) -> None:
        """Wait, in the task, for its next turn."""
        self._gate = asyncio.get_running_loop().create_future()
        self._stopped.set()
        await self._gate

    async def go(self, steps: int = STEPS_MAX) -> bool:
        """Let it do so many operations, or all; tell whether it has ended."""
        await self._stopped.wait()
        while steps > 0 and not self.task.done():
            assert self._gate is not None
            self._stopped.clear()
            self._gate.set_result(None)
            await self._stopped.wait()
            steps -= 1
        return self.task.done()

    async def end(self) -> Any:
        """Let it do the rest; return what came of it."""
        assert await self.go(), "it takes more steps than anything here"
        return self.task.result()


class _Step:
    """One operation: it waits for its turn if its task is led."""

    def __init__(self, led: Led | None) -> None:
        self._led = led

    async def __aenter__(self) -> None:
        if self._led is not None:
            await self._led.pass_gate()

    async def __aexit__(self, *_: object) -> None:
        return


class Stepped(MemoryJournals):
    """The store of one system; operations of tasks that nobody leads happen at once."""

    def __init__(self) -> None:
        super().__init__(platform_codec())
        self.led: dict[Any, Led] = {}

    def operation(self, name: OperationName, stream: str, position: Position | None = None) -> Any:
        return _Step(self.led.get(asyncio.current_task()))


class Maintained:
    """A system whose one wallet stream is maintained: each user is an entry."""

    def __init__(self, *, seals: bool) -> None:
        self.journals = Stepped()
        self.archive = MemoryArchive(Random(0))
        self._seals = seals
        self.system = System(settings(), self.journals)
        self.users = 0

    @classmethod
    async def start(cls, *, seals: bool = True) -> "Maintained":
        """Start with two snapshots, and sealed parts if it `seals` (which costs ten times the rest)."""
        one = cls(seals=seals)
        await one.journals.create_system({"packet": {"": 1}, "wallet": {"": 1}})
        for host in hosts(settings()):
            one.system.replace(host)
        for _ in range(3):
            await one.grow()
            await one.maintain()
        await one.grow()
        return one

    async def grow(self) -> None:
        """Let another user come."""
        self.users += 1
        await self.system.service.wallets.ask(CreditSandbox(TENANT, f"u{self.users}", self.users))

    def maintain(self) -> Coroutine[Any, Any, Any]:
        archive = self.archive if self._seals else None
        return maintain(self.journals, self.system.directory, settings(), KEYS, STREAM, archive)

    def lead(self, work: Coroutine[Any, Any, Any]) -> Led:
        return Led(self.journals, work)

    async def tended_on(self) -> None:
        """Let others tend the stream, until what was newest is gone."""
        for _ in range(3):
            await self.maintain()
            await self.grow()

    async def verified(self) -> Verification:
        return await verify(Sources(self.journals, self.journals.codec, self.archive), [STREAM])

    async def check_whole(self) -> None:
        """Verify the stream; no task of this system leaves an index without its chunks."""
        verified = await self.verified()
        assert verified.whole, verified.streams
        assert not [what for what in verified.streams[0].left_over if what.startswith("index")]

    async def check(self) -> None:
        """Activate the stream from what is stored this instant, in a copy."""
        there = MemoryJournals(self.journals.codec)
        await there.create_system({"packet": {"": 1}, "wallet": {"": 1}})
        there.stored, there.books = copy.deepcopy(self.journals.stored), copy.deepcopy(self.journals.books)
        found = await there.open(STREAM).activate("another")
        machine = machine_of(STREAM, settings(), KEYS)
        if found.snapshot is not None:
            machine.restore(found.snapshot.state)
        for event in found.events:
            machine.apply(event)
        assert machine.members == self.users, "nobody is lost"

    async def check_cleared(self) -> None:
        """Check it, let it be maintained, and check it again: nothing is left over then."""
        await self.check()
        await self.check_whole()
        await self.tended_on()
        await self.check()
        [verified] = (await self.verified()).streams
        assert (verified.bad, verified.left_over, verified.snapshots) == (None, [], 2)
        self.system.replace("wallet-shard-0")
        last = await self.system.service.wallets.ask(ReadWallet(TENANT, f"u{self.users}"))
        assert last == WalletView(self.users, 0)


def steps_of(work: Callable[[Maintained], Coroutine[Any, Any, Any]], *, seals: bool = True) -> int:
    """Count the steps of something when nobody disturbs it."""

    async def count() -> int:
        one = await Maintained.start(seals=seals)
        led, steps = one.lead(work(one)), 0
        while not await led.go(1):
            steps += 1
        led.task.result()
        return steps + 1

    return run(count())


def test_two_tasks_that_sleep_anywhere_while_a_third_goes_by_leave_a_whole_stream() -> None:
    steps = steps_of(Maintained.maintain, seals=False)
    assert steps > 10, "there are steps to sleep between"

    async def sleepers(first: int, second: int) -> None:
        one = await Maintained.start(seals=False)
        a = one.lead(one.maintain())
        await a.go(first)
        await one.grow()
        await one.maintain()
        await one.grow()
        b = one.lead(one.maintain())  # which sweeps what stands before the third's snapshot
        await b.go(second)
        await one.grow()
        await a.end()
        await b.end()
        await one.check_cleared()

    for first in range(steps):
        for second in range(steps):
            run(sleepers(first, second))


def test_a_task_that_slept_anywhere_is_harmless_at_each_step_after_it_woke() -> None:
    async def sleeper(asleep_at: int) -> None:
        one = await Maintained.start()
        a = one.lead(one.maintain())
        await a.go(asleep_at)
        await one.grow()
        await one.tended_on()
        while not await a.go(1):
            await one.check()
        a.task.result()
        await one.check_cleared()

    for asleep_at in range(steps_of(Maintained.maintain)):
        run(sleeper(asleep_at))


@hypothesis_settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=20, max_size=80))
def test_tasks_that_take_turns_in_any_order_leave_a_whole_stream(turns: list[int]) -> None:
    async def all_at_once() -> None:
        one = await Maintained.start()
        tasks: dict[int, Led] = {}
        for turn in turns:
            if turn == 3:
                await one.grow()
            elif turn not in tasks or await tasks[turn].go(1):
                tasks[turn] = one.lead(one.maintain())
        for task in tasks.values():
            await task.end()
        await one.check_cleared()

    run(all_at_once())


async def backup(one: Maintained, folder: MemoryArchive | None = None) -> None:
    places = Places(one.journals, one.journals.codec, one.archive, folder or MemoryArchive(Random(0)))
    made = await make(places, KEYS.model_dump_json().encode(), PartBounds(3, 1_000_000), 60_000, lambda _: None)
    assert made.streams[STREAM].snapshot is not None


async def whole(one: Maintained) -> None:
    await one.check_whole()


async def loaded(one: Maintained) -> None:
    assert await one.journals.load_snapshot(STREAM) is not None


async def activated(one: Maintained) -> None:
    """Activate as a host would that does not know that another has the stream by now."""
    try:
        await one.journals.open(STREAM).activate("sleeper")
    except FencedOut:
        return


@pytest.mark.parametrize("reader", [loaded, whole, activated, backup])
def test_who_reads_and_sleeps_anywhere_meets_nothing_that_is_missing(reader: Callable[[Maintained], Any]) -> None:
    async def sleeper(asleep_at: int) -> None:
        one = await Maintained.start()
        reading = one.lead(reader(one))
        await reading.go(asleep_at)
        await one.tended_on()
        await reading.end()
        await one.check_cleared()

    for asleep_at in range(steps_of(reader)):
        run(sleeper(asleep_at))


def test_a_backup_that_sleeps_anywhere_is_held_for_until_it_is_done_whoever_else_makes_one() -> None:
    async def sleeper(asleep_at: int) -> None:
        one = await Maintained.start()
        sleeping = one.lead(backup(one))
        await sleeping.go(asleep_at)
        await backup(one)
        await one.tended_on()
        await sleeping.end()
        await one.check_cleared()

    for asleep_at in range(0, steps_of(backup), 2):
        run(sleeper(asleep_at))


@simulated
async def test_two_backups_never_write_into_one_folder() -> None:
    one, folder = await Maintained.start(), MemoryArchive(Random(0))
    first = one.lead(backup(one, folder))
    await first.go(3)
    with pytest.raises(NotRestorable, match="another backup is being written there"):
        await backup(one, folder)
    await first.end()
    assert CLAIM not in folder.files
    with pytest.raises(NotRestorable, match="there is a backup already"):
        await backup(one, folder)


@simulated
async def test_an_older_snapshot_does_not_set_back_what_a_stream_starts_from() -> None:
    one = await Maintained.start()
    shell = await one.system.members["wallet-shard-0"].shell(STREAM)
    newest, work = shell.snapshot_version, shell.snapshot_work
    older = AdoptSnapshot(1, 1, newest - 1, work - 1)
    [[reply]] = await one.system.directory.ask([(STREAM, [older])])
    assert reply == Refused(Refusal.OUT_OF_ORDER)
    assert (shell.snapshot_version, shell.snapshot_work) == (newest, work)
