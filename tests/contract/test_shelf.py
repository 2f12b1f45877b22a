"""Shelf: what both stores promise about snapshots in chunks, manifests, records, trims and cuts."""

import pytest

from actors.errors import JournalCorrupt, WrongKeys
from actors.ports import Position
from cluster.journal import shelf
from cluster.journal.shelf import StreamCut
from cluster.journal.snapshot import Record, read_verified
from cluster.keys import has_system, keep_keys, known_to
from tests.contract.stores import STREAM, STREAMS, Store, append, owner
from tests.simulation.system import KEYS


async def filled(store: Store, count: int) -> list[Record]:
    """Append `count` entries; return the snapshot that stands at each element, with a state of its own."""
    journal = await owner(store)
    for number in range(count):
        await append(journal, number)
    journals = store.journals
    return [
        element.record(STREAM, bytes([element.version]) * 1_000)
        async for element in read_verified(journals, journals.codec, STREAM)
    ]


async def adopted(store: Store, record: Record) -> None:
    await store.journals.write_snapshot(record)
    assert await store.journals.adopt_snapshot(STREAM, record.position)


async def test_a_snapshot_of_many_chunks_comes_back_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "CHUNK_BYTES", 100)
    _, record, later = await filled(store, 2)
    await adopted(store, record)
    assert await store.journals.load_snapshot(STREAM) == record
    assert await store.journals.stored_snapshots(STREAM) == [record.position]
    await adopted(store, later)
    assert await store.journals.drop_snapshots(STREAM, later.position) == 1
    assert await store.journals.stored_snapshots(STREAM) == [later.position]
    names = await store.journals.field_names(f"snapshots:{STREAM}")
    assert all(name == "newest" or name.startswith(str(later.position)) for name in names), "no chunk stays behind"


async def test_a_snapshot_that_lost_a_chunk_is_named(store: Store) -> None:
    _, record = await filled(store, 1)
    await adopted(store, record)
    await store.journals.delete_fields(f"snapshots:{STREAM}", [f"{record.position}/0"])
    with pytest.raises(JournalCorrupt, match="the snapshot at 1-1 is missing its chunk 0"):
        await store.journals.load_snapshot(STREAM)


async def test_a_trim_removes_what_lies_behind_the_snapshot_and_activation_goes_on_from_there(store: Store) -> None:
    records = await filled(store, 4)
    await adopted(store, records[3])
    assert await store.journals.trim(STREAM, records[2].position) == 3
    left = [position async for position, _ in store.journals.read(STREAM, None, None)]
    assert left == [Position(1, 3), Position(1, 4)]
    found = await store.journals.open(STREAM).activate("host")
    assert (found.epoch, found.version, len(found.events)) == (2, 4, 1)


async def test_a_trim_of_everything_still_knows_the_last_id(store: Store) -> None:
    records = await filled(store, 2)
    await adopted(store, records[-1])
    assert await store.journals.trim(STREAM, records[-1].position) == 3
    assert await store.journals.last_position(STREAM) == Position(1, 2)
    found = await store.journals.open(STREAM).activate("host")
    assert (found.epoch, found.version, list(found.events)) == (2, 2, [])


async def test_nothing_is_trimmed_beyond_the_snapshot(store: Store) -> None:
    records = await filled(store, 2)
    with pytest.raises(JournalCorrupt, match="1-1 is beyond the newest adopted snapshot"):
        await store.journals.trim(STREAM, records[1].position)
    await adopted(store, records[1])
    with pytest.raises(JournalCorrupt, match="1-2 is beyond the newest adopted snapshot"):
        await store.journals.trim(STREAM, records[2].position)
    assert len([element async for element in store.journals.read(STREAM, None, None)]) == 3


async def test_a_cut_says_where_everything_stands_and_holds_trims_and_drops_off(store: Store) -> None:
    _, older, newer = await filled(store, 2)
    await adopted(store, older)
    await adopted(store, newer)
    assert await store.journals.add_sealed_parts(STREAM, 0, [b"part"])
    await store.journals.advance_clock(7, offset_ms_max=7)
    cut = await store.journals.cut(60_000)
    assert cut.streams[STREAM] == StreamCut(Position(1, 2), newer.position, 1)
    assert cut.clock_offset_ms == 7
    assert {stood for name, stood in cut.streams.items() if name != STREAM} <= {StreamCut(None, None, 0)}
    assert await store.journals.trim(STREAM, older.position) == 0
    await store.journals.drop_snapshots(STREAM, newer.position)
    assert await store.journals.stored_snapshots(STREAM) == [older.position, newer.position]
    await store.journals.release()
    assert await store.journals.trim(STREAM, older.position) == 2
    await store.journals.drop_snapshots(STREAM, newer.position)
    assert await store.journals.stored_snapshots(STREAM) == [newer.position]


async def test_of_two_that_seal_the_same_range_one_is_refused(store: Store) -> None:
    journals = store.journals
    assert await journals.sealed_parts(STREAM) == []
    assert await journals.add_sealed_parts(STREAM, 0, [b"a", b"b"])
    assert not await journals.add_sealed_parts(STREAM, 0, [b"c"])
    assert not await journals.add_sealed_parts(STREAM, 1, [b"c", b"d"])
    assert await journals.add_sealed_parts(STREAM, 2, [b"e"])
    assert await journals.sealed_parts(STREAM) == [b"a", b"b", b"e"]
    assert await journals.sealed_parts("wallet-000") == []


async def test_a_packets_record_is_found_by_its_stream_and_id(store: Store) -> None:
    await store.journals.keep_packets(STREAM, {"p1": b"one", "p2": b"two"})
    assert await store.journals.find_packets(STREAM, ["p2", "p3", "p1"]) == [b"two", None, b"one"]
    assert await store.journals.find_packets("packet-001", ["p1"]) == [None]
    assert await store.journals.find_packets(STREAM, []) == []


async def test_a_field_is_swapped_only_by_who_knew_it(store: Store) -> None:
    journals = store.journals
    assert await journals.swap_field("book", "f", None, b"1")
    assert not await journals.swap_field("book", "f", None, b"2")
    assert not await journals.swap_field("book", "f", b"2", b"3")
    assert await journals.swap_field("book", "f", b"1", b"")
    assert not await journals.swap_field("book", "f", None, b"2")
    assert await journals.swap_field("book", "f", b"", b"2")
    assert await journals.read_fields("book", ["f", "g"]) == [b"2", None]


async def test_every_record_of_a_stream_is_scanned(store: Store) -> None:
    records = {f"p{n}": bytes([n % 256]) for n in range(3_000)}
    await store.journals.keep_packets(STREAM, records)
    assert {name: record async for name, record in store.journals.packet_records(STREAM)} == records


async def test_elements_put_back_in_another_store_activate_like_the_original(store: Store) -> None:
    await filled(store, 3)
    elements = [element async for element in store.journals.read(STREAM, None, None)]
    await store.journals.put_elements("packet-001", elements[:2])
    await store.journals.put_elements("packet-001", elements[2:])
    assert [element async for element in store.journals.read("packet-001", None, None)] == elements
    found = await store.journals.open("packet-001").activate("host")
    assert (found.epoch, found.version) == (2, 3)


async def test_a_restored_system_keeps_its_id(store: Store) -> None:
    again = await store.journals.create_system(2, 1, STREAMS, system_id="another")
    assert again == await store.journals.system_id() != "another"


async def test_the_keys_of_a_system_are_kept_beside_it_and_others_are_refused(store: Store) -> None:
    other = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
    await keep_keys(store.journals, KEYS)
    await keep_keys(store.journals, KEYS)
    assert set(await known_to(store.journals)) == {"first", "key:k1"}
    with pytest.raises(WrongKeys, match="'k1'"):
        await keep_keys(store.journals, other)
    assert await has_system(store.journals)
