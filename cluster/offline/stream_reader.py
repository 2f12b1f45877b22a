"""Stream reader: one stream from its first element to its last, across sealed parts and the live store.

Elements may be sealed and trimmed while a stream is read: where the live stream seems to have lost something, the
manifest is asked again, and only what is in neither place is missing.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Event, Position
from actors.kinds import kind_of
from cluster.journal.archive import (
    START,
    Archive,
    SealedPart,
    Stand,
    end_of,
    manifest_of,
    read_exactly,
    struct_of,
    verify_part,
)
from cluster.journal.codec import Codec
from cluster.journal.posting_rows import lines_of
from cluster.journal.snapshot import Verified
from cluster.journal.store import Store

LIVE_ELEMENTS_MAX = 10_000
"""Live elements that are held in memory together."""


class Sources(NamedTuple):
    """Where the elements of a system are."""

    journals: Store
    codec: Codec
    archive: Archive


class SealedPiece(NamedTuple):
    """A sealed part, where the chain stands before it, and after which position it is still unread (None: all)."""

    part: SealedPart
    before: Stand
    after: Position | None


class LivePiece(NamedTuple):
    """Elements from the store, each verified."""

    first_version: int
    elements: list[Verified]


async def pieces(
    sources: Sources, stream: str, through: Position | None = None
) -> AsyncIterator[SealedPiece | LivePiece]:
    """Yield the whole of a stream, piece by piece; a sealed part may go beyond `through` (None: to the end).

    Raises JournalUnavailable, JournalCorrupt: an element is missing, damaged, or does not chain.
    """
    stand = START
    while True:
        parts = await manifest_of(sources.journals, stream)
        news = [n for n, part in enumerate(parts) if stand.position is None or part.last > stand.position]
        for n in news:
            if through is None or parts[n].first <= through:
                yield SealedPiece(parts[n], end_of(parts[:n]), stand.position)
                stand = parts[n].end
        chain = stand.chain(sources.codec, stream)
        elements: list[Verified] = []
        try:
            async for position, payload in sources.journals.read(stream, chain.position, through):
                elements.append(Verified(position, chain.take(position, payload), chain.version, chain.digest))
                if len(elements) == LIVE_ELEMENTS_MAX:
                    yield LivePiece(stand.version + 1, elements)
                    stand, elements = Stand.of(chain), []
        except JournalCorrupt:
            if elements:
                yield LivePiece(stand.version + 1, elements)
                stand = Stand.of(chain)
            end = end_of(await manifest_of(sources.journals, stream)).position
            if end is None or (stand.position is not None and end <= stand.position):
                raise
            continue
        if elements:
            yield LivePiece(stand.version + 1, elements)
        return


async def read_everything(sources: Sources, stream: str, through: Position | None = None) -> AsyncIterator[Verified]:
    """Yield every element of a stream from its first one, each verified against the chain.

    Raises JournalUnavailable, JournalCorrupt: nothing after the named element was yielded.
    """
    async for piece in pieces(sources, stream, through):
        if isinstance(piece, LivePiece):
            elements = piece.elements
        else:
            content = sources.archive.read(piece.part.path)
            chain = piece.before.chain(sources.codec, stream)
            elements = verify_part(sources.codec, stream, piece.part, content, chain)
        for element in elements:
            fresh = isinstance(piece, LivePiece) or piece.after is None or element.position > piece.after
            if fresh and (through is None or element.position <= through):
                yield element


async def read_events(sources: Sources, stream: str, through: Position | None = None) -> AsyncIterator[Sequence[Event]]:
    """Yield the events of every entry of a stream, oldest first; of a sealed file with its own SHA-256 only.

    Raises JournalUnavailable, JournalCorrupt.
    """
    async for piece in pieces(sources, stream, through):
        if isinstance(piece, LivePiece):
            for element in piece.elements:
                yield element.events
            continue
        file = pq.ParquetFile(pa.BufferReader(read_exactly(sources.archive, stream, piece.part)))
        for batch in file.iter_batches(columns=["epoch", "seq", "payload"]):
            for row in batch.to_pylist():
                position = Position(row["epoch"], row["seq"])
                is_fresh = piece.after is None or position > piece.after
                if position.seq and is_fresh and (through is None or position <= through):
                    yield sources.codec.decode_entry(stream, position, row["payload"]).events


async def read_lines(
    sources: Sources, stream: str, columns: list[str], through: Position | None = None, name: str | None = None
) -> AsyncIterator[pa.Table]:
    """Yield the lines of a stream, these columns of them, oldest first: from sealed columns, and from live events.

    With `name`, row groups in which that name cannot stand are left out. A sealed file is taken as it is only if its
    SHA-256 is the manifest's. Raises JournalUnavailable, JournalCorrupt.
    """
    kind = kind_of(stream)
    async for piece in pieces(sources, stream, through):
        if isinstance(piece, SealedPiece):
            yield _sealed_lines(sources.archive, stream, piece, columns, through, name)
            continue
        first = [piece.first_version, *(element.version + 1 for element in piece.elements)]
        lines = struct_of(
            [
                line
                for element, first_version in zip(piece.elements, first, strict=False)
                for line in lines_of(kind, element.events, first_version)
            ]
        )
        yield pa.Table.from_arrays([lines.field(column) for column in columns], names=columns)


def _sealed_lines(
    archive: Archive, stream: str, piece: SealedPiece, columns: list[str], through: Position | None, name: str | None
) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(read_exactly(archive, stream, piece.part)))
    groups = [n for n in range(file.num_row_groups) if name is None or _may_hold(file.metadata.row_group(n), name)]
    wanted = ["epoch", "seq", *(f"lines.list.element.{column}" for column in columns)]
    table = file.read_row_groups(groups, columns=wanted, use_threads=False).combine_chunks()
    positions = list(zip(table["epoch"].to_pylist(), table["seq"].to_pylist(), strict=True))
    begin = sum(1 for position in positions if piece.after is not None and position <= piece.after)
    end = sum(1 for position in positions if through is None or position <= through)
    lines = table["lines"].slice(begin, max(0, end - begin)).combine_chunks()
    flat = lines.flatten() if len(lines) else struct_of([])
    return pa.Table.from_arrays([flat.field(column) for column in columns], names=columns)


def _may_hold(group: pq.RowGroupMetaData, name: str) -> bool:
    """Tell whether a row group may hold a line of that name, by the least and greatest name that its footer tells."""
    for n in range(group.num_columns):
        column = group.column(n)
        if column.path_in_schema == "lines.list.element.name":
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                return statistics is None or statistics.null_count < column.num_values
            return bool(statistics.min <= name <= statistics.max)
    return True
