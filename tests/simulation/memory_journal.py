"""Memory journal: the same contract as the store's, deterministic, with faults on request.

Elements are held as the bytes that the store would hold, so tests may damage them. Every operation takes effect
between two yields to the event loop: others run between call and effect, and between effect and answer.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

from actors.kernel.errors import FencedOut, JournalFull, JournalUnavailable, NotHere
from actors.kernel.ports import Position, Sealed
from actors.kernel.rules import StreamCounts
from actors.kinds import streams_of
from cluster.journal.catalogue import check_growth, check_streams
from cluster.journal.codec import Codec, following, position_of, stream_gone
from cluster.journal.owner import OwnedJournal
from cluster.journal.side_store import Cut, StreamCut, beyond_snapshot
from cluster.journal.snapshot import READ_CHUNK
from cluster.journal.store import Store

HISTORY_MAX = 100_000
SYSTEM_ID = "0" * 32
NOTHING = Position(0, 0)
"""Before every id."""

OperationName = Literal["activate", "append", "confirm", "clock", "read", "shelf"]


class Fault(Enum):
    """What may go wrong with one operation."""

    LOST_BEFORE = "lost before"
    """Not applied, and the caller learns only that the outcome is unknown."""
    LOST_AFTER = "lost after"
    """Applied, and the caller learns only that the outcome is unknown."""
    FULL = "full"
    """Definitely refused: out of memory. For appends only."""


class Operation(NamedTuple):
    """A line of the history: what was asked of which stream, at which position, and the answer's name."""

    name: OperationName
    stream: str
    position: Position | None
    outcome: str


class Gate:
    """Holds one operation until the test releases it."""

    def __init__(self, applied: bool) -> None:
        """Hold after the effect if `applied`, else before it."""
        self.applied = applied
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self) -> None:
        """Return once an operation waits here."""
        await self._reached.wait()

    def release(self) -> None:
        """Let the operation go on."""
        self._released.set()

    async def hold(self) -> None:
        """Wait here, as the held operation does."""
        self._reached.set()
        await self._released.wait()


@dataclass
class StoredStream:
    """A stream as the store holds it. `last` is the greatest id ever given and outlives a removed element."""

    elements: list[tuple[Position, bytes]] = field(default_factory=list)
    last: Position = NOTHING

    def add(self, position: Position, payload: bytes) -> bool:
        """Append, unless the id is not greater than every earlier one."""
        if position <= self.last:
            return False
        self.elements.append((position, payload))
        self.last = position
        return True


class MemoryJournals(Store):
    """Implements `actors.kernel.ports.Journals`. One store: every owner opens its journals on the same object."""

    def __init__(self, codec: Codec) -> None:
        """Start as an empty store that lists no stream."""
        self.codec = codec
        self.stored: dict[str, StoredStream] = {}
        self.books: dict[str, dict[str, bytes]] = {}
        self.holders: set[str] = set()
        self.history: deque[Operation] = deque(maxlen=HISTORY_MAX)
        self._catalogue: dict[str, str] = {}
        self._system_id = ""
        self._layout: StreamCounts = {}
        self._activated: set[str] = set()
        self._clock_offset_ms = 0
        self._cuts = 0
        self._stopped = False
        self._faults: dict[tuple[OperationName, str | None], deque[Fault]] = {}
        self._gates: dict[tuple[OperationName, str | None], deque[Gate]] = {}

    def open(self, stream: str) -> "MemoryJournal":
        """Return a fresh journal object for one activation of the stream."""
        return MemoryJournal(self, stream)

    async def clock_offset_ms(self) -> int:
        """Return the offset of the sandbox clock. Raises JournalUnavailable."""
        async with self.operation("clock", ""):
            return self._clock_offset_ms

    async def advance_clock(self, ms: int, *, offset_ms_max: int) -> int | None:
        """Move the sandbox clock forward and return its offset; None: not moved, it would be beyond the bound.

        Raises JournalUnavailable.
        """
        assert ms >= 0, "the clock never goes back"
        async with self.operation("clock", ""):
            if self._clock_offset_ms + ms > offset_ms_max:
                return None
            self._clock_offset_ms += ms
            return self._clock_offset_ms

    async def create_system(self, layout: StreamCounts, system_id: str | None = None) -> str:
        """List every stream unless already done; return the system's id. Raises ValueError if the layout differs."""
        self._check_running()
        if not self._layout:
            self._system_id = system_id or SYSTEM_ID
        check_growth("memory", self._layout, layout)
        self._layout = layout
        self._catalogue = streams_of(layout) | self._catalogue
        check_streams("memory", self._catalogue, layout)
        return self._system_id

    async def system_id(self) -> str:
        """Return the id given by `create_system`, empty before that. Raises JournalUnavailable."""
        self._check_running()
        return self._system_id

    async def layout(self) -> StreamCounts:
        """Return the system's layout, empty before it is created. Raises JournalUnavailable."""
        self._check_running()
        return self._layout

    async def is_empty(self) -> bool:
        """Tell whether the store holds nothing of any system. Raises JournalUnavailable."""
        self._check_running()
        return not (self.stored or self.books or self._layout)

    async def streams(self) -> dict[str, str]:
        """Return the catalogue: every stream and its kind. Raises JournalUnavailable."""
        self._check_running()
        return dict(self._catalogue)

    async def ping(self) -> None:
        """Return if the store answers. Raises JournalUnavailable."""
        self._check_running()

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    async def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Yield the elements after one position through another. Raises JournalUnavailable."""
        while True:
            async with self.operation("read", stream):
                elements = self.stored.get(stream, StoredStream()).elements
                begin = bisect_right(elements, after or NOTHING, key=_position)
                end = len(elements) if through is None else bisect_right(elements, through, key=_position)
                found = elements[begin : min(begin + chunk, end)]
            for element in found:
                yield element
            if len(found) < chunk:
                return
            after = found[-1][0]

    async def last_position(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had, None for a stream that does not exist."""
        self._check_running()
        stored = self.stored.get(stream)
        return stored.last if stored else None

    async def read_fields(self, book: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the fields' bytes, None for one that is not there."""
        async with self.operation("shelf", book):
            found = self.books.get(book, {})
            return [found.get(name) for name in fields]

    async def write_fields(self, book: str, values: Mapping[str, bytes]) -> None:
        """Write fields, all or none."""
        async with self.operation("shelf", book):
            self.books.setdefault(book, {}).update(values)

    async def swap_field(self, book: str, field: str, old: bytes | None, new: bytes) -> bool:
        """Write a field if it still holds `old` (None: is not there); tell whether it did."""
        async with self.operation("shelf", book):
            found = self.books.setdefault(book, {})
            if found.get(field) != old:
                return False
            found[field] = new
            return True

    async def delete_fields(self, book: str, fields: Sequence[str]) -> bool:
        """Delete fields, all or none; False, and nothing is deleted, while a hold is on."""
        async with self.operation("shelf", book):
            if not self.held:
                for name in fields:
                    self.books.get(book, {}).pop(name, None)
            return not self.held

    async def index_snapshot(self, stream: str, position: Position, index: bytes, chunks: Sequence[str]) -> bytes:
        """Write the index of a snapshot, unless there is one, a chunk is missing, or one as new is adopted."""
        async with self.operation("shelf", f"snapshots:{stream}", position):
            found, newest = self.books.setdefault(f"snapshots:{stream}", {}), self._newest(stream)
            passed = newest is not None and position <= newest
            if str(position) not in found and not passed and all(name in found for name in chunks):
                found[str(position)] = index
            return found.get(str(position), b"")

    async def field_names(self, book: str) -> list[str]:
        """Name the fields of a book."""
        async with self.operation("shelf", book):
            return list(self.books.get(book, {}))

    async def scan_fields(self, book: str) -> AsyncIterator[tuple[str, bytes]]:
        """Yield every field, perhaps twice; one written meanwhile may come or not."""
        for name in await self.field_names(book):
            [found] = await self.read_fields(book, [name])
            if found is not None:
                yield name, found

    async def put_elements(self, stream: str, elements: Sequence[tuple[Position, bytes]]) -> None:
        """Write elements exactly as they once stood, in order. For a restore, before the system exists."""
        async with self.operation("shelf", stream):
            stored = self.stored.setdefault(stream, StoredStream())
            for position, payload in elements:
                added = stored.add(position, payload)
                assert added, "elements are put back in order"
            self._activated.add(stream)

    async def trim(self, stream: str, through: Position) -> int:
        """Remove the stream's elements through a position; return how many, 0 while a hold is on."""
        async with self.operation("shelf", stream, through):
            newest = self._newest(stream)
            if newest is None or newest < through:
                raise beyond_snapshot(stream, through)
            stored = self.stored.get(stream, StoredStream())
            count = 0 if self.held else bisect_right(stored.elements, through, key=_position)
            del stored.elements[:count]
            return count

    async def cut(self, hold_ms: int) -> Cut:
        """Note where everything stands, in one step; the hold lasts until `release`: this store has no time."""
        async with self.operation("shelf", ""):
            self._cuts += 1
            holder = str(self._cuts)
            self.holders |= {holder} if hold_ms > 0 else set()
            stood = {
                stream: StreamCut(
                    self.stored[stream].last if stream in self.stored else None,
                    self._newest(stream),
                    len(self.books.get(f"sealed:{stream}", {})),
                )
                for stream in sorted(self._catalogue)
            }
            return Cut(stood, self._clock_offset_ms, holder)

    async def release(self, cut: Cut) -> None:
        """End the hold of a cut; another's stays."""
        async with self.operation("shelf", ""):
            self.holders.discard(cut.holder)

    @property
    def held(self) -> bool:
        """Tell whether a hold is on."""
        return bool(self.holders)

    def _newest(self, stream: str) -> Position | None:
        newest = self.books.get(f"snapshots:{stream}", {}).get("newest")
        return None if newest is None else position_of(newest)

    def fail(self, operation: OperationName, fault: Fault, *, stream: str | None = None, times: int = 1) -> None:
        """Let the next operations of that name fail; `stream` None means on any stream."""
        assert fault is not Fault.FULL or operation == "append", "only an append can be refused for want of memory"
        self._faults.setdefault((operation, stream), deque()).extend([fault] * times)

    def hold(self, operation: OperationName, *, stream: str | None = None, applied: bool = False) -> Gate:
        """Hold the next operation of that name, before or after it is applied, until the gate is released."""
        gate = Gate(applied)
        self._gates.setdefault((operation, stream), deque()).append(gate)
        return gate

    def stop(self) -> None:
        """Answer nothing until `start`."""
        self._stopped = True

    def start(self) -> None:
        """Answer again; everything applied is still there."""
        self._stopped = False

    def operation(self, name: OperationName, stream: str, position: Position | None = None) -> "_Operation":
        """Surround one operation's effect with what was requested of it."""
        return _Operation(self, name, stream, position)

    def fence(self, stream: str, host: str) -> tuple[Position | None, Position]:
        """Append the next epoch's fence; return the last id before it and its own."""
        if stream not in self._catalogue:
            raise NotHere(f"journal {stream}: the catalogue does not list this stream")
        stored = self.stored.get(stream)
        if stored is None and stream in self._activated:
            raise stream_gone(stream)
        if stored is None:
            stored = self.stored[stream] = StoredStream()
        self._activated.add(stream)
        before = stored.last if stored.last != NOTHING else None
        fence = Position(stored.last.epoch + 1, 0)
        stored.add(fence, following(self.codec.fence(host), before))
        return before, fence

    def next_fault(self, name: OperationName, stream: str) -> Fault | None:
        """Take the fault requested for this operation, if any."""
        for key in ((name, stream), (name, None)):
            if self._faults.get(key):
                return self._faults[key].popleft()
        return None

    def next_gate(self, name: OperationName, stream: str) -> Gate | None:
        """Take the gate requested for this operation, if any."""
        for key in ((name, stream), (name, None)):
            if self._gates.get(key):
                return self._gates[key].popleft()
        return None

    def _check_running(self) -> None:
        if self._stopped:
            raise JournalUnavailable("the memory store is stopped")

    async def enter(self, name: OperationName, stream: str) -> tuple[Gate | None, Fault | None]:
        """Do what comes before the effect."""
        gate, fault = self.next_gate(name, stream), self.next_fault(name, stream)
        await asyncio.sleep(0)
        if gate is not None and not gate.applied:
            await gate.hold()
        self._check_running()
        if fault is Fault.LOST_BEFORE:
            raise JournalUnavailable(f"journal {stream}: {name} was lost before it was applied, as the test asked")
        if fault is Fault.FULL:
            raise JournalFull(f"journal {stream}: out of memory, as the test asked")
        return gate, fault


class _Operation:
    """One operation: request, yield, effect (the body), yield, answer."""

    def __init__(self, journals: MemoryJournals, name: OperationName, stream: str, position: Position | None) -> None:
        self._journals = journals
        self._name = name
        self._stream = stream
        self._position = position
        self._gate: Gate | None = None
        self._fault: Fault | None = None

    async def __aenter__(self) -> None:
        try:
            self._gate, self._fault = await self._journals.enter(self._name, self._stream)
        except BaseException as error:
            self._record(type(error).__name__)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._record(kind.__name__)
            return
        lost = self._fault is Fault.LOST_AFTER
        self._record("lost after" if lost else "ok")
        if self._gate is not None and self._gate.applied:
            await self._gate.hold()
        await asyncio.sleep(0)
        if lost:
            raise JournalUnavailable(f"journal {self._stream}: the answer was lost, as the test asked")

    def _record(self, outcome: str) -> None:
        self._journals.history.append(Operation(self._name, self._stream, self._position, outcome))


class MemoryJournal(OwnedJournal):
    """Implements `actors.kernel.ports.Journal`."""

    def __init__(self, journals: MemoryJournals, stream: str) -> None:
        """Belong to nobody until activated."""
        super().__init__(stream, journals, journals.codec)
        self._journals = journals

    async def _fence(self, host: str) -> tuple[Position | None, Position]:
        async with self._journals.operation("activate", self.stream):
            return self._journals.fence(self.stream, host)

    async def _append(self, sealed: Sealed) -> None:
        async with self._journals.operation("append", self.stream, sealed.position):
            stored = self._journals.stored.get(self.stream)
            if stored is None:
                raise FencedOut(f"journal {self.stream}: the stream is gone, {sealed.position} was not appended")
            if not stored.add(*sealed):
                raise FencedOut(f"journal {self.stream}: {sealed.position} was refused, the stream is at {stored.last}")

    async def _last_id(self) -> Position | None:
        async with self._journals.operation("confirm", self.stream):
            stored = self._journals.stored.get(self.stream)
            return stored.last if stored else None


def _position(element: tuple[Position, bytes]) -> Position:
    return element[0]
