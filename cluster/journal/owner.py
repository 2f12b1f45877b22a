"""Owner: one stream as one activation sees it, whatever the store. What differs between stores is three steps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from actors.kernel.errors import FencedOut, JournalCorrupt
from actors.kernel.ports import Activation, Event, Position, Sealed
from cluster.journal.codec import Chain, Codec
from cluster.journal.snapshot import Elements, read_tail


class OwnedJournal(ABC):
    """Implements `actors.kernel.ports.Journal` on a store that has these steps."""

    def __init__(self, stream: str, elements: Elements, codec: Codec) -> None:
        """Belong to nobody until activated."""
        self.stream = stream
        self._elements = elements
        self._codec = codec
        self._chain: Chain | None = None
        self._durable = Position(0, 0)
        self._appending: Position | None = None

    @abstractmethod
    async def _fence(self, host: str) -> tuple[Position | None, Position]:
        """Append the next epoch's fence; return the stream's last id before it (None: new stream) and its own."""

    @abstractmethod
    async def _append(self, sealed: Sealed) -> None:
        """Append one entry; see `append`."""

    @abstractmethod
    async def _last_id(self) -> Position | None:
        """Return the greatest id the stream ever had, None if it is gone."""

    async def activate(self, host: str) -> Activation:
        """Fence every earlier owner out, then read the stream."""
        before, fence = await self._fence(host)
        try:
            tail = await read_tail(self._elements, self._codec, self.stream, before, fence)
        except JournalCorrupt as failure:
            last = await self._last_id()
            if last is not None and last.epoch > fence.epoch:  # a rival's snapshots are of a later time than this fence
                raise FencedOut(f"journal {self.stream}: {fence} was overtaken by {last}") from failure
            raise
        self._chain, self._durable = tail.chain, fence
        snapshot = tail.record.snapshot() if tail.record else None
        return Activation(fence.epoch, snapshot, tail.events, tail.chain.version)

    def seal(self, events: Sequence[Event]) -> Sealed:
        """Turn events into the next entry."""
        assert self._chain is not None, "activate first"
        return self._chain.seal(events)

    async def append(self, sealed: Sealed) -> None:
        """Return once the entry is durable."""
        assert self._appending is None, "one append at a time"
        self._appending = sealed.position
        try:
            await self._append(sealed)
            self._durable = sealed.position
        finally:
            self._appending = None

    async def confirm(self) -> None:
        """Return once the store has said that the last entry is still this owner's."""
        # An append under way may overtake the answer, so both of its outcomes are this owner's.
        ours = {self._durable, self._appending}
        last = await self._last_id()
        if last is None or last not in ours:
            raise FencedOut(f"journal {self.stream}: the stream is at {last or 'nothing'}, not at {self._durable}")
