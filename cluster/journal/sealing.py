"""Sealing: moves the past of a stream from the store to the archive, and loses nothing wherever it dies.

Order, for each part: write the file, read it back and check every element, add it to the manifest if nobody else has
put another there, and, when all are in, look once more at every file whose elements are about to go, then trim.

| it dies after | what is left | the next run |
|---|---|---|
| a file was written | an unnamed file | writes the same name again, or sweeps it |
| the manifest names it | elements both sealed and live | goes on behind it, and trims |
| the trim | files that nobody names, of a rival that lost | sweeps them |

A file is swept only if the manifest already goes beyond its first element: nobody can add it any more, so a rival who
is about to add a file never finds it gone. A part is cut when it has `elements_max` elements or `bytes_max` bytes of
them, or the day changes; memory holds one part.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Position
from actors.ledger.posting import stamp_of
from cluster.instants import day_of
from cluster.journal.archive import (
    Archive,
    PartRow,
    SealedElements,
    SealedPart,
    Stand,
    end_of,
    manifest_of,
    parquet_of,
    part_of,
    read_exactly,
    row_of,
    verify_part,
)
from cluster.journal.codec import Codec, corrupt
from cluster.journal.sealed_names import first_of
from cluster.journal.snapshot import Record


class SealedJournals(SealedElements, Protocol):
    """A store whose streams can be sealed; both journal adapters are one. Every method raises JournalUnavailable."""

    async def add_sealed_parts(self, stream: str, known: int, parts: Sequence[bytes]) -> bool:
        """Put parts behind the `known` ones; False if somebody else was faster."""
        ...

    async def trim(self, stream: str, through: Position) -> int:
        """Remove elements through a position; return how many, 0 while a hold is on."""
        ...


class PartBounds(NamedTuple):
    """How big a part gets (configs/)."""

    elements_max: int
    bytes_max: int


class Sealing(NamedTuple):
    """What one run did: parts added to the manifest, elements that left the store."""

    parts: int
    trimmed: int


class _Draft:
    """The part that is being filled, from where the chain stood before it."""

    def __init__(self, before: Stand, stamp_ms: int) -> None:
        """`stamp_ms` is the greatest stamp so far."""
        self.before = before
        self.rows: list[PartRow] = []
        self.size = 0
        self.stamp_ms = stamp_ms

    def closes_before(self, stamp_ms: int, bounds: PartBounds) -> bool:
        """Tell whether an element with this greatest stamp begins the next part."""
        if not self.rows or self.stamp_ms == 0:
            return False
        full = len(self.rows) >= bounds.elements_max or self.size >= bounds.bytes_max
        return full or day_of(stamp_ms) != day_of(self.stamp_ms)

    def add(self, row: PartRow, stamp_ms: int) -> None:
        """Take the next element."""
        self.rows.append(row)
        self.size += len(row.payload)
        self.stamp_ms = stamp_ms


class Sealer:
    """Seals streams of one system."""

    def __init__(self, journals: SealedJournals, codec: Codec, archive: Archive, bounds: PartBounds) -> None:
        self._journals = journals
        self._codec = codec
        self._archive = archive
        self._bounds = bounds

    async def run(self, stream: str, through: Record) -> Sealing:
        """Seal a stream up to a snapshot of it that is not the newest one, then trim what was sealed.

        Raises JournalUnavailable (run it again), JournalCorrupt: nothing was trimmed, an operator must look.
        """
        parts = await manifest_of(self._journals, stream)
        end = end_of(parts)
        if end.position == through.position and end.digest != through.chain:
            raise _another_history(stream, through.position)
        known, trimmed = len(parts), 0
        lost = (end.position is None or end.position < through.position) and not await self.seal(
            stream, parts, through.position, through.chain
        )
        parts = await manifest_of(self._journals, stream)
        if not lost:  # a rival that was faster also trims
            await self._check_files(stream, parts, through.position)
            trimmed = await self._journals.trim(stream, through.position)
        self._sweep(stream, parts, {part.day for part in parts[known:]})
        return Sealing(0 if lost else len(parts) - known, trimmed)

    async def seal(self, stream: str, parts: list[SealedPart], through: Position, digest: bytes | None = None) -> bool:
        """Add what the manifest (`parts`) lacks up to `through`; False if a rival was faster. Trims nothing.

        `digest` is the chain that must stand there; None: whatever the elements give.
        Raises JournalUnavailable, JournalCorrupt.
        """
        chain = end_of(parts).chain(self._codec, stream)
        known = len(parts)
        draft = _Draft(Stand.of(chain), parts[-1].stamp_ms if parts else 0)
        try:
            async for position, payload in self._journals.read(stream, chain.position, through):
                before = Stand.of(chain)
                events = chain.take(position, payload)
                stamp_ms = max([draft.stamp_ms, *map(stamp_of, events)])
                if draft.closes_before(stamp_ms, self._bounds):
                    if not await self._add(stream, draft, before, known):
                        return False
                    known += 1
                    draft = _Draft(before, draft.stamp_ms)
                draft.add(row_of(stream, position, payload, events, before.version + 1), stamp_ms)
            if chain.position != through:
                raise corrupt(stream, through, f"is missing: the stream was read up to {chain.position}")
        except JournalCorrupt:
            sealed = end_of(await manifest_of(self._journals, stream)).position
            if sealed is not None and (chain.position is None or sealed > chain.position):
                return False  # a rival sealed and trimmed what was to be read here
            raise
        if digest not in (None, chain.digest):
            raise _another_history(stream, through)
        return await self._add(stream, draft, Stand.of(chain), known)

    async def _add(self, stream: str, draft: _Draft, after: Stand, known: int) -> bool:
        """Write a part, prove that it can be read, and put it behind the `known` ones of the manifest."""
        content = parquet_of(draft.rows)
        part = part_of(stream, draft.rows, draft.before, after, draft.stamp_ms, content)
        self._archive.write(part.path, content)
        written = self._archive.read(part.path)
        verify_part(self._codec, stream, part, written, draft.before.chain(self._codec, stream))
        return await self._journals.add_sealed_parts(stream, known, [part.encode()])

    async def _check_files(self, stream: str, parts: list[SealedPart], through: Position) -> None:
        """Make sure that every file is whole whose elements a trim would take out of the store."""
        end = end_of(parts).position
        if end is None or end < through:
            raise corrupt(stream, through, "is not sealed, nothing was trimmed")
        live = await self._first_live(stream, through)
        for part in parts:
            if live is not None and live <= part.last and part.first <= through:
                read_exactly(self._archive, stream, part)

    async def _first_live(self, stream: str, through: Position) -> Position | None:
        async for position, _ in self._journals.read(stream, None, through, 1):
            return position
        return None

    def _sweep(self, stream: str, parts: Sequence[SealedPart], days: Iterable[str]) -> None:
        """Delete the files of runs that died or lost: unnamed, and at a place that the manifest has passed."""
        named = {part.path for part in parts}
        for day in days:
            for path in self._archive.names(stream, day):
                first = first_of(path)
                if path not in named and first is not None and first <= parts[-1].last:
                    self._archive.delete(path)


def _another_history(stream: str, through: Position) -> JournalCorrupt:
    return corrupt(stream, through, "does not give the chain that the snapshot there has")
