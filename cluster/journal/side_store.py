"""SideStore: what lies beside a stream in the store: snapshots, the manifest of sealed parts, records that left memory.

Everything here is either immutable once written, or a pointer that only goes forward. An adapter gives five operations
on named books of fields; the rules stand here once.

| book | field | holds |
|---|---|---|
| `snapshots:<stream>` | `newest` | position of the newest adopted snapshot |
| `snapshots:<stream>` | `<position>` | msgpack `[chunks, bytes, content]` of a snapshot, written after its chunks |
| `snapshots:<stream>` | `<position>/<content>/<n>` | its chunk n: CHUNK_BYTES, packed by zlib: nobody stalls on it |
| `sealed:<stream>` | `<n>`, 8 digits | the n-th sealed part (`cluster.journal.archive`), from 0 |
| `records:<stream>` | id | the version of the stream (8 bytes) and the record of what left its memory then |
| `keys` | see there | `cluster.keys`: which platform keys are this system's |

A snapshot is written in many steps, by tasks that may sleep between any two while others write and sweep. `content` is
the beginning of its SHA-256: two writers of one name write the same bytes. The index comes last, in one step that finds
every chunk there and no snapshot adopted that is as new. What is swept lies before an adopted snapshot, the indexes
first: where no index can appear any more, no chunk is taken from under one.
"""

import asyncio
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Position
from cluster.journal.codec import position_of
from cluster.journal.snapshot import Record, another_snapshot, decode_record

CHUNK_BYTES = 262_144
"""Bytes of a snapshot that the store takes or gives in one step, before they are packed (to a quarter or less)."""

CHUNK_PAUSE_S = 0.005
"""Between two chunks that are written, so that the appends of every stream find the store's disk free in between."""

_PACKING = 1
"""zlib's fastest: the store's log and memory and every activation carry the bytes, nobody waits for the packing."""

READ_FIELDS_MAX = 512
"""Fields read in one step, where they are small."""

_NEWEST = "newest"


_CONTENT_HEX = 16
_VERSION_BYTES = 8


class _Index(msgspec.Struct, frozen=True, array_like=True):
    chunks: int
    size: int
    content: str = ""

    def names(self, position: Position) -> list[str]:
        """Name the chunks, in order."""
        folder = f"{position}/{self.content}" if self.content else str(position)
        return [f"{folder}/{n}" for n in range(self.chunks)]


class StoredSnapshot(NamedTuple):
    """A snapshot that has an index, and which of its chunks are not there."""

    position: Position
    missing: list[str]


class StreamCut(NamedTuple):
    """Where one stream stood: its last id (None: never activated), newest adopted snapshot, count of sealed parts."""

    last: Position | None
    snapshot: Position | None
    sealed: int


class Cut(NamedTuple):
    """One instant of a whole system. Elements up to it never change, so they can be read at leisure while held."""

    streams: dict[str, StreamCut]
    clock_offset_ms: int
    holder: str
    """Who holds, for `release`."""


class SideStore(ABC):
    """The rules; both journal adapters are one. Every method raises JournalUnavailable."""

    # What an adapter gives: a book is a table of named byte strings.

    @abstractmethod
    async def read_fields(self, book: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the fields' bytes, None for one that is not there."""

    @abstractmethod
    async def write_fields(self, book: str, values: Mapping[str, bytes]) -> None:
        """Write fields, all or none."""

    @abstractmethod
    async def swap_field(self, book: str, field: str, old: bytes | None, new: bytes) -> bool:
        """Write a field if it still holds `old` (None: is not there); tell whether it did."""

    @abstractmethod
    async def delete_fields(self, book: str, fields: Sequence[str]) -> bool:
        """Delete fields, all or none; False, and nothing is deleted, while a hold is on."""

    @abstractmethod
    async def field_names(self, book: str) -> list[str]:
        """Name the fields of a book."""

    @abstractmethod
    def scan_fields(self, book: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every field, perhaps twice; one written meanwhile may come or not."""

    # What an adapter does in one step of its own.

    @abstractmethod
    async def index_snapshot(self, stream: str, position: Position, index: bytes, chunks: Sequence[str]) -> bytes:
        """Write the index of a snapshot, unless there is one, a chunk is missing, or one as new is adopted.

        Returns the index that is there now; empty: none.
        """

    @abstractmethod
    async def trim(self, stream: str, through: Position) -> int:
        """Remove the stream's elements through a position; return how many, 0 while a hold is on.

        Raises JournalCorrupt, and removes nothing, if activations start from a snapshot before that position.
        """

    @abstractmethod
    async def cut(self, hold_ms: int) -> Cut:
        """Note where everything stands, in one step, and hold trims and dropped snapshots off until `release`.

        The hold ends by itself after `hold_ms` of the store's time; 0 leaves it as it is, for readers.
        """

    @abstractmethod
    async def release(self, cut: Cut) -> None:
        """End the hold of a cut; another's stays."""

    @abstractmethod
    async def put_elements(self, stream: str, elements: Sequence[tuple[Position, bytes]]) -> None:
        """Write elements exactly as they once stood, in order. For a restore, before the system exists."""

    # Snapshots.

    async def write_snapshot(self, record: Record) -> bool:
        """Store a snapshot; False if one as new was adopted meanwhile, so that nobody will ask for this one.

        Raises JournalCorrupt if another one is stored for that position.
        """
        book, position, payload = _snapshots(record.stream), record.position, record.encode()
        chunks = [payload[at : at + CHUNK_BYTES] for at in range(0, len(payload), CHUNK_BYTES)]
        index = _Index(len(chunks), len(payload), hashlib.sha256(payload).hexdigest()[:_CONTENT_HEX])
        names, packed = index.names(position), msgspec.msgpack.encode(index)
        [present] = await self.read_fields(book, [str(position)])
        if present is None:
            for name, chunk in zip(names, chunks, strict=True):
                await self.write_fields(book, {name: zlib.compress(chunk, _PACKING)})
                await asyncio.sleep(CHUNK_PAUSE_S)
            present = await self.index_snapshot(record.stream, position, packed, names)
        if present in (b"", packed):
            return present == packed
        if await self._read_snapshot(record.stream, position) != payload:  # an older system named its chunks otherwise
            raise another_snapshot(record)
        return True

    async def adopt_snapshot(self, stream: str, position: Position) -> bool:
        """Make a stored snapshot the one that activations start from; False if one as new already is.

        Raises JournalCorrupt if it is not stored whole. What is newer than the adopted one is never dropped, so it is
        still whole when the pointer moves.
        """
        whole = False
        while True:  # somebody else moves the pointer at most once for every snapshot there is
            newest = await self.newest_snapshot(stream)
            if newest is not None and position <= newest:
                return False
            if not whole:
                if await self._found(stream, position) is None:
                    continue  # dropped, because the pointer has passed it
                whole = True
            known = None if newest is None else str(newest).encode()
            if await self.swap_field(_snapshots(stream), _NEWEST, known, str(position).encode()):
                return True

    async def newest_snapshot(self, stream: str) -> Position | None:
        """Return the position of the snapshot that activations start from, None if there is none."""
        [present] = await self.read_fields(_snapshots(stream), [_NEWEST])
        return None if present is None else position_of(present)

    async def load_snapshot(self, stream: str, position: Position | None = None) -> Record | None:
        """Return the stored snapshot at a position (None: the newest adopted one, None if there is none).

        Raises JournalCorrupt if it is missing or damaged.
        """
        if position is not None:
            return decode_record(stream, position, await self._read_snapshot(stream, position))
        while (newest := await self.newest_snapshot(stream)) is not None:
            record = await self._found(stream, newest)
            if record is not None:
                return record
        return None

    async def _found(self, stream: str, position: Position) -> Record | None:
        """Return the stored snapshot at a position, None if it went because a newer one was adopted meanwhile.

        Raises JournalCorrupt if it is missing or damaged.
        """
        try:
            return await self.load_snapshot(stream, position)
        except JournalCorrupt:
            newest = await self.newest_snapshot(stream)
            if newest is not None and newest > position:
                return None
            raise

    async def stored_snapshots(self, stream: str) -> list[Position]:
        """Return the positions of the stored snapshots, oldest first, adopted or not."""
        return [one.position for one in (await self.list_snapshots(stream))[0]]

    async def list_snapshots(self, stream: str) -> tuple[list[StoredSnapshot], list[str]]:
        """Return the stored snapshots, oldest first, adopted or not, and the names of chunks that belong to none."""
        book = _snapshots(stream)
        names = await self.field_names(book)
        chunks = {name for name in names if "/" in name}
        indexed = [name for name in names if name != _NEWEST and name not in chunks]
        stored = []
        for name, packed in zip(indexed, await self.read_fields(book, indexed), strict=True):
            if packed is not None:  # else it was dropped just now
                position = position_of(name)
                own = self._index(stream, position, packed).names(position)
                stored.append(StoredSnapshot(position, [one for one in own if one not in chunks]))
                chunks.difference_update(own)
        return sorted(stored), sorted(chunks)

    async def drop_snapshots(self, stream: str, before: Position) -> int:
        """Delete what is stored of snapshots before an adopted one; return how many there were, 0 while a hold is on.

        Raises JournalCorrupt, and deletes nothing, if activations start from a snapshot before that position.
        """
        book = _snapshots(stream)
        newest = await self.newest_snapshot(stream)
        if newest is None or newest < before:
            raise beyond_snapshot(stream, before)
        stale = [
            name
            for name in await self.field_names(book)
            if name != _NEWEST and position_of(name.partition("/")[0]) < before
        ]
        indexes = [name for name in stale if "/" not in name]
        # A snapshot without its index is none; while one may still be there, none of its chunks is touched.
        if not await self.delete_fields(book, indexes):
            return 0
        for name in stale:
            if "/" in name:
                await self.delete_fields(book, [name])
        return len(indexes)

    def _index(self, stream: str, position: Position, packed: bytes) -> _Index:
        try:
            return msgspec.msgpack.decode(packed, type=_Index)
        except msgspec.MsgspecError as error:
            raise JournalCorrupt(f"journal {stream}: the snapshot at {position} has no index: {error}") from error

    async def _read_snapshot(self, stream: str, position: Position) -> bytes | None:
        """Return the encoded record, chunk by chunk; None if it is not stored."""
        book = _snapshots(stream)
        [packed] = await self.read_fields(book, [str(position)])
        if packed is None:
            return None
        index = self._index(stream, position, packed)
        found = bytearray()
        for n, name in enumerate(index.names(position)):
            [chunk] = await self.read_fields(book, [name])
            if chunk is None:
                raise JournalCorrupt(f"journal {stream}: the snapshot at {position} is missing its chunk {n}")
            try:
                found += zlib.decompress(chunk)
            except zlib.error as error:
                raise JournalCorrupt(
                    f"journal {stream}: the snapshot at {position} is damaged in its chunk {n}: {error}"
                ) from error
        if len(found) != index.size:
            raise JournalCorrupt(f"journal {stream}: the snapshot at {position} is damaged: {len(found)} bytes")
        return bytes(found)

    # Sealed parts.

    async def sealed_parts(self, stream: str) -> list[bytes]:
        """Return the manifest: the sealed parts of a stream, oldest first."""
        book = f"sealed:{stream}"
        names = sorted(await self.field_names(book))
        parts: list[bytes] = []
        for at in range(0, len(names), READ_FIELDS_MAX):
            found = await self.read_fields(book, names[at : at + READ_FIELDS_MAX])
            parts += [part for part in found if part is not None]
        if names != [_part_name(n) for n in range(len(parts))]:
            raise JournalCorrupt(f"journal {stream}: the manifest of its sealed parts has a gap: {len(parts)} parts")
        return parts

    async def add_sealed_parts(self, stream: str, known: int, parts: Sequence[bytes]) -> bool:
        """Put parts behind the `known` ones; False, from the first that somebody else put there, if not the last."""
        for n, part in enumerate(parts, known):
            if not await self.swap_field(f"sealed:{stream}", _part_name(n), None, part):
                return False
        return True

    # Records of what left memory.

    async def keep_records(self, stream: str, version: int, records: Mapping[str, bytes]) -> None:
        """Keep records by id. What leaves memory never changes, so a repeat writes the same record.

        `version`: of the stream, at most that of the event by which they leave.
        """
        kept = {name: version.to_bytes(_VERSION_BYTES, "big") + record for name, record in records.items()}
        await self.write_fields(_records(stream), kept)

    async def find_records(self, stream: str, ids: Sequence[str]) -> list[bytes | None]:
        """Return the records kept under these ids, None for an id without one."""
        found = await self.read_fields(_records(stream), ids)
        return [None if kept is None else kept[_VERSION_BYTES:] for kept in found]

    def kept_records(self, stream: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield everything kept of a stream, by id, as it is stored (`version_of` reads its version), perhaps twice."""
        return self.scan_fields(_records(stream))

    async def put_records(self, stream: str, kept: Mapping[str, bytes]) -> None:
        """Write what `kept_records` yielded. For a restore, before the system exists."""
        await self.write_fields(_records(stream), kept)


def version_of(kept: bytes) -> int:
    """Return the version of the stream at which a record was kept."""
    return int.from_bytes(kept[:_VERSION_BYTES], "big")


def beyond_snapshot(stream: str, through: Position) -> JournalCorrupt:
    """Return the failure of a trim or drop that would remove what an activation still has to read."""
    return JournalCorrupt(f"journal {stream}: {through} is beyond the newest adopted snapshot, nothing was trimmed")


def _snapshots(stream: str) -> str:
    return f"snapshots:{stream}"


def _records(stream: str) -> str:
    return f"records:{stream}"


def _part_name(n: int) -> str:
    return f"{n:08d}"
