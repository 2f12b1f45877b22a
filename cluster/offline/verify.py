"""Verify: walks the whole chain of every stream, sealed and live, and names the first bad entry of each.

Checked: every element's CRC-32 and place in the SHA-256 chain, versions, what fences say they follow; every sealed
file against its elements, its columns, the manifest and its SHA-256; elements that are both sealed and live; that the
stream ends with the last id it ever gave, and no earlier than a file that was ever sealed; that every stored snapshot
stands at an entry, with its version and chain.

What no journal can tell is whether its very end was cut off: nothing in the store comes after it. Of a store of
`hongbao up` its files tell, as far as it can be known (`cluster.local.store_log`): `cuts` and `missing`.
stream ends with the last id it ever gave; that every stored snapshot stands at an entry, with its version and chain.

A task that dies or sleeps may leave something behind that nobody reads: chunks of a snapshot without an index, a sealed
file that no manifest names, or (of older systems) the index of a snapshot whose chunks were swept. Such is told apart.
"""

import re
from collections.abc import Callable

import msgspec

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Position
from cluster.journal.archive import START, SealedPart, Stand, end_of, manifest_of, verify_part
from cluster.journal.codec import corrupt, stream_gone
from cluster.journal.sealed_names import first_of
from cluster.journal.side_store import StoredSnapshot
from cluster.offline.stream_reader import Sources

REREADS_MAX = 100
"""How often a stream is read again because it was trimmed meanwhile; once a snapshot, so a hundred is many."""

_NAMED = re.compile(r"journal \S+: (?:(?:entry|fence) |the snapshot at )?(\d+-\d+)? ?(.*)", re.DOTALL)


class BadEntry(msgspec.Struct, frozen=True):
    """The first thing in a stream that is wrong. `entry` is empty if no entry is at fault."""

    entry: str
    found: str


class StreamVerified(msgspec.Struct, frozen=True):
    """One stream. What comes after a bad entry was not looked at, so figures then count up to it."""

    stream: str
    last: str
    """The last id the stream ever had; empty for a stream that was never activated."""
    version: int
    sealed_parts: int
    sealed_elements: int
    live_elements: int
    snapshots: int
    bad: BadEntry | None
    left_over: list[str] = []
    """What nobody reads, of tasks that died or still are at work; harmless. Snapshots among it go with a later one."""


class Verification(msgspec.Struct, frozen=True):
    """The verdict on a system."""

    streams: list[StreamVerified]
    elements: int
    whole: bool
    cuts: list[str] = []
    """What was ever cut off the log of the system's own store, in sentences."""
    missing: str = ""
    """What that log lacks of what is known to have been on disk; empty: nothing, or the store is somewhere else."""


def _unheard(words: str) -> None:
    """Report to nobody."""


async def verify(sources: Sources, streams: list[str], report: Callable[[str], None] = _unheard) -> Verification:
    """Verify these streams one after another; `report` hears which. Raises JournalUnavailable."""
    sealed = sources.archive.last_named()  # before their ends are read, which only grow
    found = []
    for stream in streams:
        report(stream)
        found.append(await StreamCheck(sources, stream, sealed.get(stream)).run())
    return Verification(
        streams=found,
        elements=sum(one.sealed_elements + one.live_elements for one in found),
        whole=all(one.bad is None for one in found),
    )


class StreamCheck:
    """The walk over one stream. Make it, `run` it once, drop it."""

    def __init__(self, sources: Sources, stream: str, sealed_last: Position | None) -> None:
        self._sources = sources
        self._sealed_last = sealed_last
        """The last position that any sealed file names, in the manifest or not."""
        self._stream = stream
        self._sealed: list[SealedPart] = []
        self._sealed_elements = self._live_elements = 0
        self._end = START
        """Where the chain stands after everything that was verified."""
        self._snapshots: dict[Position, Stand | None] = {}
        """Stored snapshots, and the journal's own stand where they say they stand."""
        self._stored: list[StoredSnapshot] = []
        self._left_over: list[str] = []

    async def run(self) -> StreamVerified:
        """Verify the stream. Raises JournalUnavailable."""
        last: Position | None = None
        bad: BadEntry | None = None
        journals = self._sources.journals
        try:
            last = await journals.last_position(self._stream)
            self._stored, loose = await journals.list_snapshots(self._stream)
            self._snapshots = dict.fromkeys(one.position for one in self._stored)
            await self._check_elements(last)
            await self._check_snapshots(last)
            if self._sealed_last is not None and (last is None or last < self._sealed_last):
                lost = (
                    f"is missing: it was sealed, and the stream ends at {last or 'nothing'}: its store has lost its end"
                )
                raise corrupt(self._stream, self._sealed_last, lost)
            self._left_over += [f"chunk {name} of a snapshot that has no index" for name in loose]
            self._left_over += self._unnamed_files()
        except JournalCorrupt as failure:
            bad = bad_entry(failure)
        return StreamVerified(
            stream=self._stream,
            last=str(last or ""),
            version=self._end.version,
            sealed_parts=len(self._sealed),
            sealed_elements=self._sealed_elements,
            live_elements=self._live_elements,
            snapshots=len(self._snapshots),
            bad=bad,
            left_over=self._left_over,
        )

    async def _check_elements(self, last: Position | None) -> None:
        if last is None:
            if self._snapshots or await self._sources.journals.sealed_parts(self._stream):
                raise stream_gone(self._stream)
            return
        for rereads in range(REREADS_MAX):
            live = await self._first_live(last)
            begin = await self._check_sealed(live)
            try:
                await self._check_live(begin, last)
                end = self._end.position
                if end is None or end < last:
                    raise corrupt(self._stream, last, f"is missing: the stream ends at {end or 'nothing'}")
                break
            except JournalCorrupt:
                # What was about to be read may have been sealed and trimmed meanwhile: then it is in the archive.
                if live == await self._first_live(last) or rereads == REREADS_MAX - 1:
                    raise

    async def _first_live(self, last: Position) -> Position | None:
        async for position, _ in self._sources.journals.read(self._stream, None, last, 1):
            return position
        return None

    async def _check_sealed(self, live: Position | None) -> Stand:
        """Verify the parts that are new in the manifest; return the stand before the first live element.

        That is the sealed end, unless some sealed elements are still live too and were walked just now.
        """
        sources, stream = self._sources, self._stream
        parts = await manifest_of(sources.journals, stream)
        before_live: Stand | None = None
        for part in parts[len(self._sealed) :]:
            stand = end_of(self._sealed)
            elements = verify_part(
                sources.codec, stream, part, sources.archive.read(part.path), stand.chain(sources.codec, stream)
            )
            for element in elements:
                if element.position == live:
                    before_live = stand
                stand = Stand(element.position, element.version, element.chain)
                self._note(stand)
            self._sealed.append(part)
            self._sealed_elements += len(elements)
        self._end = end_of(self._sealed)
        return before_live or self._end

    async def _check_live(self, begin: Stand, last: Position) -> None:
        sealed_end = end_of(self._sealed)
        chain = begin.chain(self._sources.codec, self._stream)
        self._live_elements = 0
        async for position, payload in self._sources.journals.read(self._stream, begin.position, last):
            chain.take(position, payload)
            stand = Stand.of(chain)
            self._live_elements += 1
            if position == sealed_end.position and stand != sealed_end:
                raise corrupt(self._stream, position, "or one before it is another in the store than in the archive")
            if sealed_end.position is None or position > sealed_end.position:
                self._end = stand
                self._note(stand)

    def _note(self, stand: Stand) -> None:
        if stand.position in self._snapshots:
            self._snapshots[stand.position] = stand

    async def _check_snapshots(self, last: Position | None) -> None:
        journals = self._sources.journals
        for position, stand in self._snapshots.items():
            try:
                record = await journals.load_snapshot(self._stream, position)
            except JournalCorrupt:
                if position not in await journals.stored_snapshots(self._stream):
                    continue  # an old one was dropped meanwhile
                if not await self._is_left_over(position):
                    raise
                self._left_over.append(f"index of the snapshot at {position}, whose chunks were swept")
                continue
            assert record is not None, "a snapshot at a given position is there, or JournalCorrupt"
            if stand is None and (last is None or position <= last):
                raise JournalCorrupt(f"journal {self._stream}: the snapshot at {position} stands at no entry")
            if stand is not None and (record.version, record.chain) != (stand.version, stand.digest):
                raise JournalCorrupt(
                    f"journal {self._stream}: the snapshot at {position} is of another history: its version is "
                    f"{record.version}, the entry's {stand.version}, or its chain differs"
                )
        newest = await journals.newest_snapshot(self._stream)
        stored = newest is None or newest in await journals.stored_snapshots(self._stream)
        if not stored and newest == await journals.newest_snapshot(self._stream):  # else it made room for a newer one
            raise JournalCorrupt(f"journal {self._stream}: the snapshot at {newest} is adopted and not stored")

    async def _is_left_over(self, position: Position) -> bool:
        """Tell whether nobody reads a snapshot that lacks chunks: two whole ones stand between it and the present."""
        newest = await self._sources.journals.newest_snapshot(self._stream)
        lacks = any(one.position == position and one.missing for one in self._stored)
        later = [one for one in self._stored if position < one.position and newest and one.position <= newest]
        return lacks and sum(not one.missing for one in later) >= 2

    def _unnamed_files(self) -> list[str]:
        """Return the sealed files that no manifest names, at places that it has passed."""
        archive, end = self._sources.archive, end_of(self._sealed).position
        named = {part.path for part in self._sealed}
        days = sorted({part.day for part in self._sealed})
        found = (path for day in days for path in archive.names(self._stream, day) if path not in named)
        return [f"file {path}" for path in found if end is not None and (first_of(path) or end) < end]


def bad_entry(failure: JournalCorrupt) -> BadEntry:
    """Read the entry out of a failure's message, which names it."""
    found = _NAMED.fullmatch(str(failure))
    assert found is not None, "every failure of a journal names its stream"
    return BadEntry(found.group(1) or "", found.group(2))
