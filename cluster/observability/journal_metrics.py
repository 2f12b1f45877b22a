"""Journal metrics: the port `Journals` with a tally beside it: how long the store takes, how much a commit carries.

Around the port, so that neither shell nor store knows of it. A commit's latency is the round trip of its append, fsync
included (the store answers after it); what the fsync alone takes only the store can tell (`cluster.runtime.collector`).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from actors.kernel.errors import OperatingFailure
from actors.kernel.metrics import Tally
from actors.kernel.ports import Activation, Event, Journal, Journals, Sealed


class MeasuredJournals:
    """Journals whose contacts with the store are counted."""

    def __init__(self, journals: Journals, tally: Tally) -> None:
        self._journals = journals
        self._tally = tally

    def open(self, stream: str) -> Journal:
        """Return a journal for one activation."""
        return MeasuredJournal(self._journals.open(stream), self._tally)

    async def clock_offset_ms(self) -> int:
        """Return the durable offset of the sandbox clock. Raises JournalUnavailable."""
        return await self._journals.clock_offset_ms()

    async def keep_records(self, stream: str, version: int, records: Mapping[str, bytes]) -> None:
        """Keep records. Raises JournalUnavailable."""
        self._tally.add("passivations", by=len(records))
        await self._journals.keep_records(stream, version, records)

    async def find_records(self, stream: str, ids: Sequence[str]) -> list[bytes | None]:
        """Return records. Raises JournalUnavailable."""
        self._tally.add("recalls", by=len(ids))
        return await self._journals.find_records(stream, ids)


class MeasuredJournal:
    """One activation's journal, counted once a commit."""

    def __init__(self, journal: Journal, tally: Tally) -> None:
        self._journal = journal
        self._tally = tally

    async def activate(self, host: str) -> Activation:
        """Fence and read. Raises NotHere, JournalUnavailable, JournalCorrupt."""
        began_s = time.perf_counter()
        try:
            found = await self._journal.activate(host)
        except OperatingFailure as failure:
            self._tally.add("activation_failures", type(failure).__name__)
            raise
        self._tally.add("activations")
        self._tally.latency("activation", 1_000 * (time.perf_counter() - began_s))
        return found

    def seal(self, events: Sequence[Event]) -> Sealed:
        """Turn events into the next entry."""
        self._tally.size("commit_size", len(events))
        return self._journal.seal(events)

    async def append(self, sealed: Sealed) -> None:
        """Make an entry durable. Raises JournalFull, FencedOut, JournalUnavailable."""
        await self._timed("commit", self._journal.append(sealed))
        self._tally.add("commit_bytes", by=len(sealed.payload))

    async def confirm(self) -> None:
        """Confirm the epoch. Raises FencedOut, JournalUnavailable."""
        await self._timed("confirm", self._journal.confirm())

    async def _timed(self, what: str, contact: Any) -> None:
        began_s = time.perf_counter()
        try:
            await contact
        except OperatingFailure as failure:
            self._tally.add("commit_failures", type(failure).__name__)
            raise
        self._tally.latency(what, 1_000 * (time.perf_counter() - began_s))
