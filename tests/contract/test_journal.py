"""Journal: the promises that both adapters keep, each against a real store (the memory adapter is its own)."""

import asyncio
import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest

from actors.kernel.errors import FencedOut, JournalCorrupt, JournalFull, JournalUnavailable, NotHere
from actors.kernel.kind import UnknownKind
from actors.kernel.ports import Position
from cluster.journal.redis import RedisJournals
from cluster.journal.snapshot import Record, read_verified
from tests.contract.stores import (
    CODEC,
    LAYOUT,
    STREAM,
    STREAMS,
    Counted,
    Named,
    Store,
    Valkey,
    ValkeyStore,
    append,
    flipped,
    owner,
)


async def events_of(store: Store, stream: str = STREAM) -> list[object]:
    return list((await store.journals.open(stream).activate("reader")).events)


def counted(*numbers: int) -> list[Counted]:
    return [Counted(number) for number in numbers]


# Ownership.


async def test_a_new_stream_is_empty_and_its_first_epoch_is_1(store: Store) -> None:
    assert await store.journals.open(STREAM).activate("host") == (1, None, [], 0)


async def test_what_was_appended_is_found_by_the_next_owner_in_order(store: Store) -> None:
    journal = await owner(store)
    await append(journal, 1, 2)
    await journal.append(journal.seal([Named("韩梅梅"), Counted(3)]))
    found = await store.journals.open(STREAM).activate("host")
    assert found == (2, None, [Counted(1), Counted(2), Named("韩梅梅"), Counted(3)], 4)


async def test_a_zombies_append_is_refused_after_a_rival_activates(store: Store) -> None:
    zombie = await owner(store)
    await append(zombie, 1)
    rival = await owner(store)
    with pytest.raises(FencedOut):
        await append(zombie, 2)
    await append(rival, 3)
    assert await events_of(store) == counted(1, 3)


async def test_an_epoch_is_never_used_twice(store: Store) -> None:
    found = await asyncio.gather(*(store.journals.open(STREAM).activate(f"host-{i}") for i in range(20)))
    assert sorted(activation.epoch for activation in found) == list(range(1, 21))


async def test_of_two_rivals_the_later_fence_wins(store: Store) -> None:
    journals = [store.journals.open(STREAM) for _ in range(2)]
    epochs = [found.epoch for found in await asyncio.gather(*(journal.activate("host") for journal in journals))]
    earlier, later = journals if epochs[0] < epochs[1] else reversed(journals)
    with pytest.raises(FencedOut):
        await append(earlier, 1)
    with pytest.raises(FencedOut):
        await earlier.confirm()
    await later.confirm()
    await append(later, 2)
    assert await events_of(store) == counted(2)


async def test_a_repeated_append_is_refused(store: Store) -> None:
    journal = await owner(store)
    sealed = journal.seal(counted(1))
    await journal.append(sealed)
    with pytest.raises(FencedOut):
        await journal.append(sealed)
    assert await events_of(store) == counted(1)


async def test_an_entry_whose_answer_was_lost_is_found_by_the_next_owner(store: Store) -> None:
    journal = await owner(store)
    with pytest.raises(JournalUnavailable):
        await store.append_and_lose_the_answer(journal, journal.seal(counted(1)))
    assert await events_of(store) == counted(1)


async def test_activation_misses_nothing_that_an_earlier_owner_was_told_is_durable(store: Store) -> None:
    earlier = await owner(store)
    told: list[int] = []
    busy = asyncio.Event()

    async def write() -> None:
        for number in itertools.count(1):
            await append(earlier, number)
            told.append(number)
            if number == 20:
                busy.set()

    writing = asyncio.create_task(write())
    await busy.wait()
    found = await store.journals.open(STREAM).activate("rival")
    with pytest.raises(FencedOut):
        await writing
    assert list(found.events) == counted(*told)


async def test_an_uncatalogued_stream_is_not_here_and_not_created(store: Store) -> None:
    with pytest.raises(NotHere, match="journal packet-999: "):
        await store.journals.open("packet-999").activate("host")
    assert await store.journals.last_position("packet-999") is None


async def test_streams_are_fenced_apart(store: Store) -> None:
    one, other = await owner(store), await owner(store, "packet-001")
    await asyncio.gather(append(one, 1), append(other, 2))
    assert (await events_of(store), await events_of(store, "packet-001")) == (counted(1), counted(2))


async def test_one_owners_failure_in_the_same_tick_fails_nobody_else(store: Store) -> None:
    zombie, other = await owner(store), await owner(store, "packet-001")
    await owner(store)
    outcomes = await asyncio.gather(append(zombie, 1), append(other, 2), zombie.confirm(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [FencedOut, type(None), FencedOut]


# Confirmation.


async def test_confirm_holds_while_nobody_else_activates_and_refuses_after_a_rivals_fence(store: Store) -> None:
    journal = await owner(store)
    await journal.confirm()
    await append(journal, 1)
    await journal.confirm()
    await owner(store)
    with pytest.raises(FencedOut):
        await journal.confirm()


async def test_confirm_beside_an_append_under_way_is_no_false_alarm(store: Store) -> None:
    journal = await owner(store)
    for number in range(20):
        await asyncio.gather(journal.confirm(), append(journal, number), journal.confirm())


async def test_confirm_notices_that_the_store_forgot_the_last_entry(store: Store) -> None:
    journal = await owner(store)
    await append(journal, 1)
    await store.drop(STREAM)
    with pytest.raises(FencedOut):
        await journal.confirm()


# Loss and damage.


async def test_a_deleted_stream_is_not_resurrected_by_an_append(store: Store) -> None:
    journal = await owner(store)
    await append(journal, 1)
    await store.drop(STREAM)
    with pytest.raises(FencedOut, match="gone"):
        await append(journal, 2)
    assert await store.journals.last_position(STREAM) is None


async def test_a_deleted_stream_is_no_new_stream(store: Store) -> None:
    await append(await owner(store), 1)
    await store.drop(STREAM)
    with pytest.raises(JournalCorrupt, match=r"^journal packet-000: the stream was written before and is gone"):
        await owner(store)


async def written(store: Store) -> None:
    """Leave 1-0 (fence), 1-1, 1-2, 1-3, 2-0 (fence), 2-1 in the stream."""
    journal = await owner(store)
    for number in range(3):
        await append(journal, number)
    await append(await owner(store), 9)


@pytest.mark.parametrize(
    ("index", "named"),
    [(0, "entry 1-1 "), (1, "entry 1-2 "), (3, "fence 2-0 "), (4, "entry 2-1 "), (5, "entry 2-1 is missing")],
    ids=["first fence", "first entry", "entry before a fence", "fence", "last entry"],
)
async def test_a_removed_element_is_named(store: Store, index: int, named: str) -> None:
    await written(store)
    await store.rewrite(STREAM, lambda elements: elements[:index] + elements[index + 1 :])
    with pytest.raises(JournalCorrupt, match=f"^journal packet-000: {named}"):
        await owner(store)


async def test_an_entry_removed_before_two_fences_is_named_though_no_entry_follows(store: Store) -> None:
    await append(await owner(store), 1)
    await owner(store)
    await owner(store)
    await store.rewrite(STREAM, lambda elements: [e for e in elements if e[0] != Position(1, 1)])
    with pytest.raises(JournalCorrupt, match=r"^journal packet-000: fence 2-0 does not chain: it followed 1-1"):
        await owner(store)


async def test_a_swapped_pair_is_named(store: Store) -> None:
    await written(store)

    def swap(elements: list[tuple[Position, bytes]]) -> list[tuple[Position, bytes]]:
        (one, first), (two, second) = elements[1:3]
        return [elements[0], (one, second), (two, first), *elements[3:]]

    await store.rewrite(STREAM, swap)
    with pytest.raises(JournalCorrupt, match=r"^journal packet-000: entry 1-1 does not chain: it follows [0-9a-f]+"):
        await owner(store)


@pytest.mark.parametrize(("index", "named"), [(0, "fence 1-0"), (2, "entry 1-2"), (5, "entry 2-1")])
async def test_a_flipped_byte_is_named_even_in_the_last_entry(store: Store, index: int, named: str) -> None:
    await written(store)

    def flip(elements: list[tuple[Position, bytes]]) -> list[tuple[Position, bytes]]:
        position, payload = elements[index]
        return [*elements[:index], (position, flipped(payload)), *elements[index + 1 :]]

    await store.rewrite(STREAM, flip)
    with pytest.raises(JournalCorrupt, match=f"^journal packet-000: {named} (is damaged|does not chain): "):
        await owner(store)


async def test_an_emptied_stream_without_a_snapshot_is_named(store: Store) -> None:
    await written(store)
    await store.rewrite(STREAM, lambda _: [])
    with pytest.raises(
        JournalCorrupt, match=r"^journal packet-000: entry 2-1 is missing: the stream was read up to noth"
    ):
        await owner(store)


# Memory, outages.


async def test_an_entry_refused_by_a_full_store_is_appended_later_with_the_same_bytes(store: Store) -> None:
    journal = await owner(store)
    sealed = journal.seal(counted(1))
    await store.refuse_next_append()
    try:
        with pytest.raises(JournalFull):
            await journal.append(sealed)
        await journal.confirm()
    finally:
        await store.accept_again()
    await journal.append(sealed)
    await append(journal, 2)
    assert await events_of(store) == counted(1, 2)


async def test_a_stopped_store_is_unavailable_and_everything_is_there_after_its_restart(mortal_store: Store) -> None:
    journal = await owner(mortal_store)
    for number in range(50):
        await append(journal, number)
    await mortal_store.stop()
    for attempt in (append(journal, 50), journal.confirm(), owner(mortal_store), mortal_store.journals.ping()):
        with pytest.raises(JournalUnavailable):
            await attempt
    with pytest.raises(JournalUnavailable):
        await mortal_store.journals.clock_offset_ms()
    await mortal_store.start()
    assert await events_of(mortal_store) == counted(*range(50))
    again = await owner(mortal_store)
    await append(again, 51)
    await again.confirm()


# Snapshots.


async def fold(store: Store, through: Position) -> Record:
    """Fold the stream from its newest snapshot; the state is the text of its numbers."""
    older = await store.journals.load_snapshot(STREAM)
    state = older.state if older else b""
    record: Record | None = None
    async for element in read_verified(store.journals, CODEC, STREAM, older, through):
        events: list[Any] = list(element.events)
        state += b"".join(b"%d," % event.number for event in events)
        record = element.record(STREAM, state)
    assert record is not None
    return record


async def test_a_snapshot_and_the_tail_give_the_same_events(store: Store) -> None:
    journal = await owner(store)
    for number in range(4):
        await append(journal, number)
    for through, numbers in ((Position(1, 1), b"0,"), (Position(1, 3), b"0,1,2,")):
        record = await fold(store, through)
        await store.journals.write_snapshot(record)
        assert await store.journals.adopt_snapshot(STREAM, record.position)
        found = await store.journals.open(STREAM).activate("host")
        assert found.snapshot == (through, record.version, numbers)
        assert (list(found.events), found.version) == (counted(*range(record.version, 4)), 4)
    await store.rewrite(STREAM, lambda elements: [e for e in elements if e[0] > Position(1, 3)])
    last = await owner(store)
    await append(last, 4)
    assert await events_of(store) == counted(3, 4)


async def test_a_tail_that_does_not_chain_to_its_snapshot_is_named(store: Store) -> None:
    await written(store)
    record = await fold(store, Position(1, 1))
    await store.journals.write_snapshot(record)
    await store.journals.adopt_snapshot(STREAM, record.position)
    await store.rewrite(STREAM, lambda elements: elements[3:])
    with pytest.raises(JournalCorrupt, match="entry 1-3 does not chain: it follows 1-1, what stood between is missing"):
        await owner(store)


async def test_a_snapshot_of_another_past_does_not_chain(store: Store) -> None:
    await written(store)
    record = await fold(store, Position(1, 1))
    await store.journals.write_snapshot(record._replace(chain=bytes(32)))
    await store.journals.adopt_snapshot(STREAM, record.position)
    with pytest.raises(JournalCorrupt, match="entry 1-2 does not chain"):
        await owner(store)


async def test_dropping_old_snapshots_keeps_the_named_one_and_other_streams(store: Store) -> None:
    chain = bytes(32)
    records = [Record(STREAM, Position(1, seq), seq, chain, b"state") for seq in (1, 9, 10, 11)]
    other = Record(f"{STREAM}-other", Position(1, 1), 1, chain, b"state")
    for record in [*records, other]:
        await store.journals.write_snapshot(record)
    assert await store.journals.adopt_snapshot(STREAM, Position(1, 10))
    assert await store.journals.drop_snapshots(STREAM, Position(1, 10)) == 2
    assert await store.journals.drop_snapshots(STREAM, Position(1, 10)) == 0
    for record in (records[3], other):
        assert await store.journals.adopt_snapshot(record.stream, record.position)
    assert not await store.journals.adopt_snapshot(STREAM, Position(1, 9))


async def test_the_pointer_to_the_snapshot_never_goes_back(store: Store) -> None:
    await written(store)
    older, newer = await fold(store, Position(1, 1)), await fold(store, Position(2, 1))
    for record in (older, newer):
        await store.journals.write_snapshot(record)
    assert await store.journals.adopt_snapshot(STREAM, newer.position)
    assert not await store.journals.adopt_snapshot(STREAM, older.position)
    assert not await store.journals.adopt_snapshot(STREAM, newer.position)
    assert await store.journals.load_snapshot(STREAM) == newer


async def test_a_snapshot_is_immutable_and_only_a_stored_one_can_be_adopted(store: Store) -> None:
    await written(store)
    record = await fold(store, Position(1, 1))
    with pytest.raises(JournalCorrupt, match="the snapshot at 1-1 is missing"):
        await store.journals.adopt_snapshot(STREAM, record.position)
    await store.journals.write_snapshot(record)
    await store.journals.write_snapshot(record)
    with pytest.raises(JournalCorrupt, match="another snapshot is already stored for 1-1"):
        await store.journals.write_snapshot(record._replace(state=b"other"))


async def test_a_damaged_snapshot_is_named(store: Store) -> None:
    await written(store)
    record = await fold(store, Position(1, 1))
    await store.journals.write_snapshot(record)
    await store.journals.adopt_snapshot(STREAM, record.position)
    await store.damage_snapshot(STREAM, record.position)
    with pytest.raises(JournalCorrupt, match=r"^journal packet-000: the snapshot at 1-1 is damaged"):
        await owner(store)


async def test_a_snapshot_ahead_of_its_stream_is_named(store: Store) -> None:
    await written(store)
    record = (await fold(store, Position(2, 1)))._replace(position=Position(8, 1))
    await store.journals.write_snapshot(record)
    await store.journals.adopt_snapshot(STREAM, record.position)
    with pytest.raises(JournalCorrupt, match="the snapshot at 8-1 is ahead of the stream, which ended at 2-1"):
        await owner(store)


# Reading, system, clock.


@pytest.mark.parametrize("chunk", [1, 2, 3, 128])
async def test_a_read_is_whole_and_in_order_whatever_its_chunks(store: Store, chunk: int) -> None:
    await written(store)
    wanted = [Position(1, 1), Position(1, 2), Position(1, 3), Position(2, 0)]
    found = [element async for element in store.journals.read(STREAM, Position(1, 0), Position(2, 0), chunk)]
    assert [position for position, _ in found] == wanted
    assert await store.journals.last_position(STREAM) == Position(2, 1)


async def test_a_system_is_created_once_and_its_layout_is_fixed(store: Store) -> None:
    first = await store.journals.create_system(LAYOUT)
    assert await store.journals.create_system(LAYOUT) == first
    assert await store.journals.system_id() == first
    assert await store.journals.streams() == STREAMS
    assert await store.journals.layout() == LAYOUT
    for streams in (1, 3):
        with pytest.raises(ValueError, match=f"2 streams of kind 'packet', the configuration says {streams}"):
            await store.journals.create_system(LAYOUT | {"packet": {"": streams}})
    with pytest.raises(ValueError, match="created with 1 streams of kind 'wallet', the configuration says 0"):
        await store.journals.create_system({"packet": {"": 2}})


async def test_the_last_pool_of_a_kind_grows_and_never_shrinks(store: Store) -> None:
    await store.journals.create_system(LAYOUT | {"packet": {"": 2, "hot": 2}})
    assert await store.journals.streams() == STREAMS | {"packet-002": "packet", "packet-003": "packet"}
    with pytest.raises(ValueError, match=r"2 streams of kind 'packet' in pool 'hot', .* says 1: it only grows"):
        await store.journals.create_system(LAYOUT | {"packet": {"": 2, "hot": 1}})
    with pytest.raises(UnknownKind, match="'bank' is not a kind of actor"):
        await store.journals.create_system(LAYOUT | {"packet": {"": 2, "hot": 2}, "bank": {"": 1}})


async def test_the_sandbox_clock_only_goes_forward_and_only_so_far(store: Store) -> None:
    assert await store.journals.clock_offset_ms() == 0
    advance = functools.partial(store.journals.advance_clock, offset_ms_max=1_500)
    assert await advance(1_000) == 1_000
    assert await advance(0) == 1_000
    assert await advance(501) is None
    with pytest.raises(AssertionError):
        await advance(-1)
    assert await store.journals.clock_offset_ms() == 1_000


# What only a connection can do.


async def test_a_cancelled_caller_leaves_the_connection_in_step(valkey: Valkey) -> None:
    real = ValkeyStore(CODEC, valkey, "cancelled")
    try:
        await real.journals.create_system(LAYOUT)
        one, other = await owner(real), await owner(real, "packet-001")
        for number in range(50):
            leaving = asyncio.create_task(other.confirm())
            staying = asyncio.create_task(append(one, number))
            await asyncio.sleep(0)
            leaving.cancel()
            await staying
            await one.confirm()
        assert await events_of(real) == counted(*range(50))
    finally:
        await real.close()


async def test_a_silent_store_is_unavailable_in_time_and_used_again_when_it_answers() -> None:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        server = Valkey(Path(folder))
        await server.start()
        real = ValkeyStore(CODEC, server, "silent", timeout_ms=300)
        try:
            await real.journals.create_system(LAYOUT)
            journal = await owner(real)
            server.freeze()
            async with asyncio.timeout(2):
                outcomes = await asyncio.gather(append(journal, 1), journal.confirm(), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [JournalUnavailable] * 2
            server.thaw()
            assert await events_of(real) in ([], counted(1))  # the outcome was unknown
            await append(await owner(real), 2)
        finally:
            await real.close()
            server.kill()


async def test_a_failure_names_the_address_and_never_the_password() -> None:
    journals = RedisJournals("redis://user:secret@127.0.0.1:1/0", CODEC, timeout_ms=500)
    try:
        with pytest.raises(JournalUnavailable, match=r"redis://127\.0\.0\.1:1/0") as failure:
            await journals.ping()
        assert "secret" not in str(failure.value)
    finally:
        await journals.close()
