"""Verify: whatever is changed behind the platform's back, in the archive or in the store, is named with its entry."""

import io
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from actors.kernel.ports import Position
from cluster.journal.archive import Archive, SealedPart, manifest_of
from cluster.journal.sealing import PartBounds, Sealer
from cluster.journal.side_store import SideStore
from cluster.offline.verify import StreamVerified, verify
from tests.contract.history import PACKET, adopt, of_the_packets, platform_store, sources, stands, write
from tests.contract.stores import Store, Valkey, flipped

_systems = itertools.count()
DAYS = 3


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def ledger(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[Store]:
    async with platform_store(request.param, valkey, f"verify-{next(_systems)}") as store:
        yield store


class Sealed:
    """A packet stream of which the days before the last are sealed, and may then be damaged."""

    def __init__(self, store: Store, archive: Archive, root: Path) -> None:
        self.store, self.archive, self.root = store, archive, root

    @classmethod
    async def make(cls, store: Store, root: Path, *, trimmed: bool = True) -> "Sealed":
        await write(store, PACKET, of_the_packets(DAYS))
        await write(store, PACKET, [])  # a second activation: another fence
        await write(store, PACKET, of_the_packets(1)[2:])
        records = await stands(store.journals, PACKET)
        older = next(record for record in records if record.position == (1, 6))
        await adopt(store, older, records[-3])
        archive = Archive(str(root))
        cut = await store.journals.cut(0 if trimmed else 60_000)
        await Sealer(store.journals, store.journals.codec, archive, PartBounds(1_000, 1_000_000)).run(PACKET, older)
        await store.journals.release(cut)
        return cls(store, archive, root)

    async def parts(self) -> list[SealedPart]:
        return await manifest_of(self.store.journals, PACKET)

    async def damage(self, number: int, change: Callable[[bytes], bytes]) -> SealedPart:
        """Change the file of a part."""
        part = (await self.parts())[number]
        path = self.root / part.path
        path.write_bytes(change(path.read_bytes()))
        return part

    async def verified(self) -> StreamVerified:
        found = await verify(sources(self.store, self.archive), [PACKET])
        [stream] = found.streams
        assert found.whole == (stream.bad is None)
        return stream

    async def bad(self) -> tuple[str, str]:
        """Return the entry that is named, and what is said of it."""
        stream = await self.verified()
        assert stream.bad is not None, "the damage was not noticed"
        return stream.bad.entry, stream.bad.found


@pytest_asyncio.fixture
async def sealed(ledger: Store, tmp_path: Path) -> Sealed:
    return await Sealed.make(ledger, tmp_path)


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    """Return a change of a file's bytes that rewrites its table, as somebody with knowledge would."""

    def rewrite(content: bytes) -> bytes:
        sink = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(content))), sink)
        return sink.getvalue()

    return rewrite


def without_row(n: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: pa.concat_tables([table.slice(0, n), table.slice(n + 1)])


def swapped_rows(table: pa.Table) -> pa.Table:
    return table.take([0, 2, 1, *range(3, table.num_rows)])


def swapped_payloads(table: pa.Table) -> pa.Table:
    payloads = table["payload"].to_pylist()
    payloads[1], payloads[2] = payloads[2], payloads[1]
    return table.set_column(3, table.schema.field("payload"), pa.array(payloads, pa.binary()))


def richer(table: pa.Table) -> pa.Table:
    """Double the amount of one line."""
    rows = table.to_pylist()
    rows[2]["lines"][0]["amount_fen"] *= 2
    return pa.Table.from_pylist(rows, schema=table.schema)


def at(content: bytes, needle: bytes) -> bytes:
    """Flip one bit in the middle of the needle."""
    begin = content.index(needle)
    return content[:begin] + flipped(needle) + content[begin + len(needle) :]


async def test_a_whole_system_is_found_whole(sealed: Sealed) -> None:
    found = await sealed.verified()
    assert found.bad is None
    assert (found.sealed_parts, found.sealed_elements, found.live_elements, found.snapshots) == (2, 7, 6, 2)
    assert found.last == "3-1"


async def test_elements_that_are_both_sealed_and_live_are_compared(ledger: Store, tmp_path: Path) -> None:
    sealed = await Sealed.make(ledger, tmp_path, trimmed=False)
    assert (await sealed.verified()).live_elements == 13
    await ledger.rewrite(PACKET, lambda all_: [(p, flipped(e) if p == (1, 3) else e) for p, e in all_])
    assert (await sealed.bad())[0] == "1-3"


async def test_a_flipped_byte_of_a_sealed_payload_names_its_entry(sealed: Sealed) -> None:
    payload = pq.read_table(sealed.root / (await sealed.parts())[1].path, partitioning=None)["payload"][1].as_py()
    await sealed.damage(1, lambda content: at(content, payload))
    entry, found = await sealed.bad()
    assert entry == "1-5"
    assert "CRC-32" in found


async def test_a_changed_column_names_its_entry(sealed: Sealed) -> None:
    part = await sealed.damage(0, rewritten(richer))
    assert await sealed.bad() == ("1-2", f"is not what its column lines says: {part.path}")


async def test_a_file_that_was_only_written_anew_is_noticed(sealed: Sealed) -> None:
    part = await sealed.damage(1, rewritten(lambda table: table))
    said = f"to 1-6 are whole, but the SHA-256 of {part.path} differs: its frame is damaged"
    assert await sealed.bad() == ("1-4", said)


async def test_a_flipped_byte_anywhere_in_a_sealed_file_is_noticed(sealed: Sealed) -> None:
    parts = await sealed.parts()
    path = sealed.root / parts[1].path
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        entry, _ = await sealed.bad()
        assert entry in {"1-4", "1-5", "1-6"}, f"byte {place}"
    path.write_bytes(whole)
    assert (await sealed.verified()).bad is None


async def test_a_file_cut_short_names_its_first_entry(sealed: Sealed) -> None:
    part = await sealed.damage(1, lambda content: content[: len(content) // 2])
    entry, found = await sealed.bad()
    assert entry == "1-4"
    assert part.path in found


async def test_a_missing_file_names_its_first_entry(sealed: Sealed) -> None:
    part = (await sealed.parts())[0]
    (sealed.root / part.path).unlink()
    assert await sealed.bad() == ("1-0", f"is missing: the file {part.path} is not in the archive")


@pytest.mark.parametrize(("row", "entry"), [(0, "1-1"), (1, "1-2"), (2, "1-3"), (3, "1-3")])
async def test_an_entry_removed_from_a_sealed_file_is_noticed_where_it_stood(
    row: int, entry: str, sealed: Sealed
) -> None:
    await sealed.damage(0, rewritten(without_row(row)))
    named, found = await sealed.bad()
    assert named == entry
    assert "missing" in found


@pytest.mark.parametrize("change", [swapped_rows, swapped_payloads])
async def test_a_swapped_pair_in_a_sealed_file_is_noticed(
    change: Callable[[pa.Table], pa.Table], sealed: Sealed
) -> None:
    await sealed.damage(0, rewritten(change))
    entry, found = await sealed.bad()
    assert entry in {"1-1", "1-2"}
    assert "does not chain" in found


async def test_a_part_that_is_gone_from_the_manifest_is_noticed(sealed: Sealed) -> None:
    parts = await sealed.parts()
    shelf: SideStore = sealed.store.journals
    await shelf.delete_fields(f"sealed:{PACKET}", ["00000001"])
    entry, found = await sealed.bad()
    assert entry == "1-7"
    assert "missing" in found
    assert len(await sealed.parts()) == len(parts) - 1


async def test_a_forged_manifest_is_noticed(sealed: Sealed) -> None:
    first, second = await sealed.parts()
    forged = msgspec.structs.replace(second, chain=bytes(32))
    await sealed.store.journals.write_fields(f"sealed:{PACKET}", {"00000001": forged.encode()})
    assert (await sealed.bad())[0] == "1-6"
    await sealed.store.journals.write_fields(f"sealed:{PACKET}", {"00000000": second.encode()})
    assert (await sealed.bad())[0] == "1-4"
    assert first != second


async def test_a_flipped_byte_in_the_store_names_its_entry(sealed: Sealed) -> None:
    await sealed.store.rewrite(PACKET, lambda all_: [(p, flipped(e) if p == (1, 8) else e) for p, e in all_])
    entry, found = await sealed.bad()
    assert entry == "1-8"
    assert "CRC-32" in found


async def test_a_swapped_pair_in_the_store_names_the_first(sealed: Sealed) -> None:
    def swap(all_: list[tuple[Position, bytes]]) -> list[tuple[Position, bytes]]:
        payloads = [payload for _, payload in all_]
        payloads[1], payloads[2] = payloads[2], payloads[1]
        return [(position, payload) for (position, _), payload in zip(all_, payloads, strict=True)]

    await sealed.store.rewrite(PACKET, swap)
    entry, found = await sealed.bad()
    assert entry == "1-8"
    assert "does not chain" in found


@pytest.mark.parametrize(
    ("removed", "entry"),
    [("1-7", "1-8"), ("1-8", "1-9"), ("1-9", "2-0"), ("2-0", "3-0"), ("3-0", "3-1"), ("3-1", "3-1")],
)
async def test_an_entry_removed_from_the_store_is_noticed_at_the_next_one(
    removed: str, entry: str, sealed: Sealed
) -> None:
    await sealed.store.rewrite(PACKET, lambda all_: [(p, e) for p, e in all_ if str(p) != removed])
    named, found = await sealed.bad()
    assert named == entry
    assert "missing" in found or "does not chain" in found


async def test_an_entry_removed_before_two_fences_is_noticed(sealed: Sealed) -> None:
    await write(sealed.store, PACKET, [])
    await write(sealed.store, PACKET, [])
    await sealed.store.rewrite(PACKET, lambda all_: [(p, e) for p, e in all_ if p != (3, 1)])
    assert await sealed.bad() == ("4-0", "does not chain: it followed 3-1, the stream stands at 3-0")


async def test_a_lost_stream_is_noticed(sealed: Sealed) -> None:
    await sealed.store.drop(PACKET)
    assert await sealed.bad() == ("", "the stream was written before and is gone from the store")


async def test_a_damaged_snapshot_is_named(sealed: Sealed) -> None:
    [older, _] = await sealed.store.journals.stored_snapshots(PACKET)
    await sealed.store.damage_snapshot(PACKET, older)
    entry, found = await sealed.bad()
    assert entry == str(older)
    assert "is damaged" in found


async def test_what_dead_tasks_left_over_is_told_and_harms_nobody(sealed: Sealed) -> None:
    journals, book = sealed.store.journals, f"snapshots:{PACKET}"
    _, newest = await journals.stored_snapshots(PACKET)
    await journals.write_fields(book, {"1-2/0a/0": b"", f"{newest}/0a/0": b""})
    await journals.write_fields(book, {"1-2": msgspec.msgpack.encode([1, 100])})  # as an older system's sweeper left it
    [part, *_] = await sealed.parts()
    rivals = part.path.replace(part.sha256.hex()[:8], "0" * 8)
    sealed.archive.write(rivals, b"a rival's")
    found = await sealed.verified()
    assert found.bad is None
    assert found.left_over == [
        "index of the snapshot at 1-2, whose chunks were swept",
        "chunk 1-2/0a/0 of a snapshot that has no index",
        f"chunk {newest}/0a/0 of a snapshot that has no index",
        f"file {rivals}",
    ]
    await journals.drop_snapshots(PACKET, newest)
    assert (await sealed.verified()).left_over == [*found.left_over[2:]]


async def test_a_swept_snapshot_that_may_still_be_wanted_is_named(sealed: Sealed) -> None:
    journals, book = sealed.store.journals, f"snapshots:{PACKET}"
    [older, newest] = await journals.stored_snapshots(PACKET)
    for wanted in (newest, older):
        chunks = [name for name in await journals.field_names(book) if name.startswith(f"{wanted}/")]
        await journals.delete_fields(book, chunks)
        assert await sealed.bad() == (str(min(wanted, newest)), "is missing its chunk 0")


async def test_a_snapshot_of_another_history_is_named(sealed: Sealed) -> None:
    live = [position async for position, _ in sealed.store.journals.read(PACKET, None, None)]
    newest = await sealed.store.journals.load_snapshot(PACKET)
    assert newest is not None
    await adopt(sealed.store, newest._replace(position=live[-1], version=newest.version + 1))
    entry, found = await sealed.bad()
    assert entry == str(live[-1])
    assert "another history" in found


async def test_a_stream_that_is_sealed_and_trimmed_while_it_is_read_is_still_whole(
    ledger: Store, tmp_path: Path
) -> None:
    """The archive is read first; then everything moves there; then the store is read, and has lost it."""
    await write(ledger, PACKET, of_the_packets(DAYS))
    records = await stands(ledger.journals, PACKET)
    await adopt(ledger, records[2], records[-1])
    archive = Archive(str(tmp_path))
    journals: Any = ledger.journals
    reads = itertools.count()

    class Moving:
        def __getattr__(self, name: str) -> Any:
            return getattr(journals, name)

        async def read(self, *arguments: Any) -> AsyncIterator[tuple[Position, bytes]]:
            if next(reads) == 1:  # the first looks for the first live element
                sealer = Sealer(journals, journals.codec, archive, PartBounds(2, 1_000))
                assert (await sealer.run(PACKET, records[-2])).trimmed > 0
            async for element in journals.read(*arguments):
                yield element

    found = await verify(sources(ledger, archive)._replace(journals=Moving()), [PACKET])  # type: ignore[arg-type]
    assert found.whole
    assert found.streams[0].sealed_elements == len(records) - 1


async def test_a_store_that_lost_its_end_is_told_by_what_was_sealed_of_it(sealed: Sealed) -> None:
    """An older copy of a store is whole by itself; that it is older is known to the archive alone."""
    last = (await sealed.parts())[-1]
    late = sealed.root / last.path.replace(f"{Position(*last.last)}", "3-9")
    late.write_bytes((sealed.root / last.path).read_bytes())
    entry, found = await sealed.bad()
    assert entry == "3-9"
    assert "it was sealed, and the stream ends at 3-1" in found
