"""SideStore: what both stores promise about snapshots in chunks, manifests, records, trims and cuts."""

import zlib
from collections.abc import Sequence

import msgspec
import pytest

from actors.kernel.errors import JournalCorrupt, WrongKeys
from actors.kernel.ports import Position
from cluster.journal import side_store as shelf
from cluster.journal.side_store import StoredSnapshot, StreamCut, version_of
from cluster.journal.snapshot import Record, read_verified
from cluster.keys import has_system, keep_keys, known_to
from tests.contract.stores import LAYOUT, STREAM, Store, append, owner
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
    book = f"snapshots:{STREAM}"
    [chunk] = [name for name in await store.journals.field_names(book) if "/" in name]
    assert await store.journals.delete_fields(book, [chunk])
    with pytest.raises(JournalCorrupt, match="the snapshot at 1-1 is missing its chunk 0"):
        await store.journals.load_snapshot(STREAM)


async def test_a_hold_that_ends_while_snapshots_are_dropped_leaves_none_without_its_chunks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, older, newer = await filled(store, 2)
    await adopted(store, older)
    await adopted(store, newer)
    cut = await store.journals.cut(60_000)
    delete_fields = store.journals.delete_fields

    async def released_behind(book: str, fields: Sequence[str]) -> bool:
        deleted = await delete_fields(book, fields)
        await store.journals.release(cut)
        return deleted

    monkeypatch.setattr(store.journals, "delete_fields", released_behind)
    assert await store.journals.drop_snapshots(STREAM, newer.position) == 0
    assert await store.journals.load_snapshot(STREAM, older.position) == older


async def test_no_snapshot_is_dropped_that_an_activation_may_start_from(store: Store) -> None:
    _, older, newer = await filled(store, 2)
    await store.journals.write_snapshot(newer)
    with pytest.raises(JournalCorrupt, match="1-2 is beyond the newest adopted snapshot"):
        await store.journals.drop_snapshots(STREAM, newer.position)
    await adopted(store, older)
    with pytest.raises(JournalCorrupt, match="1-2 is beyond the newest adopted snapshot"):
        await store.journals.drop_snapshots(STREAM, newer.position)
    assert await store.journals.load_snapshot(STREAM) == older


async def test_a_snapshot_that_was_overtaken_is_not_stored_any_more(store: Store) -> None:
    _, older, newer = await filled(store, 2)
    await adopted(store, newer)
    assert not await store.journals.write_snapshot(older)
    assert not await store.journals.adopt_snapshot(STREAM, older.position)
    stored, loose = await store.journals.list_snapshots(STREAM)
    assert [(one.position, one.missing) for one in stored] == [(newer.position, [])]
    assert [name.partition("/")[0] for name in loose] == [str(older.position)], "its chunk is left over"
    assert await store.journals.drop_snapshots(STREAM, newer.position) == 0
    assert (await store.journals.list_snapshots(STREAM))[1] == [], "and goes with the next drop"


async def test_an_index_is_written_once_and_behind_all_of_its_chunks(store: Store) -> None:
    journals, position = store.journals, Position(1, 1)
    assert await journals.index_snapshot(STREAM, position, b"index", ["1-1/a/0", "1-1/a/1"]) == b""
    await journals.write_fields(f"snapshots:{STREAM}", {"1-1/a/0": b"chunk"})
    assert await journals.index_snapshot(STREAM, position, b"index", ["1-1/a/0", "1-1/a/1"]) == b""
    assert await journals.stored_snapshots(STREAM) == []
    assert await journals.index_snapshot(STREAM, position, b"index", ["1-1/a/0"]) == b"index"
    assert await journals.index_snapshot(STREAM, position, b"other", ["1-1/a/0"]) == b"index"


async def test_a_snapshot_that_an_older_system_stored_is_read_and_dropped(store: Store) -> None:
    _, older, newer = await filled(store, 2)
    payload, book = older.encode(), f"snapshots:{STREAM}"
    chunks = {f"{older.position}/{n}": zlib.compress(part) for n, part in enumerate((payload[:500], payload[500:]))}
    await store.journals.write_fields(book, chunks)
    await store.journals.write_fields(book, {str(older.position): msgspec.msgpack.encode([2, len(payload)])})
    await adopted(store, older)
    assert await store.journals.load_snapshot(STREAM) == older
    assert await store.journals.list_snapshots(STREAM) == ([StoredSnapshot(older.position, [])], [])
    await adopted(store, newer)
    assert await store.journals.drop_snapshots(STREAM, newer.position) == 1
    assert await store.journals.list_snapshots(STREAM) == ([StoredSnapshot(newer.position, [])], [])


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
    assert await store.journals.drop_snapshots(STREAM, newer.position) == 0
    assert await store.journals.stored_snapshots(STREAM) == [older.position, newer.position]
    other = await store.journals.cut(60_000)
    await store.journals.release(cut)
    assert await store.journals.trim(STREAM, older.position) == 0, "another holds too"
    await store.journals.release(other)
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
    await store.journals.keep_records(STREAM, 7, {"p1": b"one", "p2": b"two"})
    assert await store.journals.find_records(STREAM, ["p2", "p3", "p1"]) == [b"two", None, b"one"]
    assert await store.journals.find_records("packet-001", ["p1"]) == [None]
    assert await store.journals.find_records(STREAM, []) == []


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
    await store.journals.keep_records(STREAM, 7, records)
    kept = {name: record async for name, record in store.journals.kept_records(STREAM)}
    assert kept.keys() == records.keys()
    assert {version_of(record) for record in kept.values()} == {7}
    await store.journals.put_records("packet-001", kept)
    assert await store.journals.find_records("packet-001", ["p1", "p2999"]) == [b"\x01", bytes([2_999 % 256])]


async def test_elements_put_back_in_another_store_activate_like_the_original(store: Store) -> None:
    await filled(store, 3)
    elements = [element async for element in store.journals.read(STREAM, None, None)]
    await store.journals.put_elements("packet-001", elements[:2])
    await store.journals.put_elements("packet-001", elements[2:])
    assert [element async for element in store.journals.read("packet-001", None, None)] == elements
    found = await store.journals.open("packet-001").activate("host")
    assert (found.epoch, found.version) == (2, 3)


async def test_a_restored_system_keeps_its_id(store: Store) -> None:
    again = await store.journals.create_system(LAYOUT, system_id="another")
    assert again == await store.journals.system_id() != "another"


async def test_the_keys_of_a_system_are_kept_beside_it_and_others_are_refused(store: Store) -> None:
    other = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
    await keep_keys(store.journals, KEYS)
    await keep_keys(store.journals, KEYS)
    assert set(await known_to(store.journals)) == {"first", "key:k1"}
    with pytest.raises(WrongKeys, match="'k1'"):
        await keep_keys(store.journals, other)
    assert await has_system(store.journals)
