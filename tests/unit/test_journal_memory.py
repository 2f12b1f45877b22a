"""Memory journal: the faults that tests request of it. Its contract is tested in tests/contract."""

import asyncio
from typing import Any

import msgspec
import pytest

from actors.kernel.errors import JournalFull, JournalUnavailable
from actors.kernel.ports import Journal, Position
from cluster.journal.codec import Codec
from tests.simulation.memory_journal import Fault, MemoryJournals, Operation

STREAM = "packet-000"


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    number: int


async def owned() -> tuple[MemoryJournals, Journal]:
    journals = MemoryJournals(Codec(Counted))
    await journals.create_system({"packet": {"": 1}})
    journal = journals.open(STREAM)
    await journal.activate("host")
    return journals, journal


async def append(journal: Journal, number: int) -> None:
    await journal.append(journal.seal([Counted(number)]))


async def numbers(journals: MemoryJournals) -> list[int]:
    events: list[Any] = list((await journals.open(STREAM).activate("reader")).events)
    return [event.number for event in events]


@pytest.mark.parametrize(("fault", "found"), [(Fault.LOST_BEFORE, []), (Fault.LOST_AFTER, [1]), (Fault.FULL, [])])
async def test_a_lost_append_looks_the_same_whether_it_was_applied_or_not(fault: Fault, found: list[int]) -> None:
    journals, journal = await owned()
    journals.fail("append", fault)
    with pytest.raises(JournalFull if fault is Fault.FULL else JournalUnavailable):
        await append(journal, 1)
    assert await numbers(journals) == found


async def test_faults_strike_the_named_stream_as_often_as_asked() -> None:
    journals, journal = await owned()
    journals.fail("append", Fault.FULL, stream="packet-999")
    journals.fail("append", Fault.FULL, stream=STREAM, times=2)
    sealed = journal.seal([Counted(1)])
    for _ in range(2):
        with pytest.raises(JournalFull):
            await journal.append(sealed)
    await journal.append(sealed)
    assert await numbers(journals) == [1]


async def test_an_activation_whose_answer_was_lost_has_still_fenced_the_owner_out() -> None:
    journals, _ = await owned()
    journals.fail("activate", Fault.LOST_AFTER)
    with pytest.raises(JournalUnavailable):
        await journals.open(STREAM).activate("rival")
    assert await journals.last_position(STREAM) == Position(2, 0)


@pytest.mark.parametrize("applied", [False, True])
async def test_a_slow_append_waits_at_its_gate(applied: bool) -> None:
    journals, journal = await owned()
    gate = journals.hold("append", applied=applied)
    appending = asyncio.create_task(append(journal, 1))
    await gate.reached()
    assert await journals.last_position(STREAM) == (Position(1, 1) if applied else Position(1, 0))
    assert not appending.done()
    gate.release()
    await appending
    assert await journals.last_position(STREAM) == Position(1, 1)


async def test_a_store_that_stops_while_an_append_waits_has_not_applied_it() -> None:
    journals, journal = await owned()
    gate = journals.hold("append")
    appending = asyncio.create_task(append(journal, 1))
    await gate.reached()
    journals.stop()
    gate.release()
    with pytest.raises(JournalUnavailable):
        await appending
    journals.start()
    assert await numbers(journals) == []


async def test_the_history_says_what_really_happened() -> None:
    journals, journal = await owned()
    journals.history.clear()
    await append(journal, 1)
    journals.fail("append", Fault.LOST_AFTER)
    with pytest.raises(JournalUnavailable):
        await append(journal, 2)
    assert list(journals.history) == [
        Operation("append", STREAM, Position(1, 1), "ok"),
        Operation("append", STREAM, Position(1, 2), "lost after"),
    ]
