"""Snapshots: a machine's state at one position of its stream in bytes, and reading a stream on from there.

Record: msgpack array `[1, stream, epoch, seq, version, chain, state]` followed by its SHA-256. Immutable, keyed by
position. `chain` is the chain after the element at that position, so the next entry vouches for the snapshot too.
Order of durability: record, then the event that adopts it, then the pointer; only then may elements behind it go.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from actors.kernel.errors import JournalCorrupt
from actors.kernel.ports import Event, Position, Snapshot
from cluster.journal.codec import Chain, Codec, corrupt

READ_CHUNK = 128
"""Elements fetched in one round trip."""

_DIGEST_BYTES = 32
_REREADS_MAX = 3


class _Record(msgspec.Struct, frozen=True, array_like=True):
    format: Literal[1]
    stream: str
    epoch: int
    seq: int
    version: int
    chain: bytes
    state: bytes


class Record(NamedTuple):
    """A snapshot as it is stored: `state` holds every event up to and including `position`."""

    stream: str
    position: Position
    version: int
    chain: bytes
    state: bytes

    def encode(self) -> bytes:
        """Return the bytes to store."""
        body = msgspec.msgpack.encode(_Record(1, self.stream, *self.position, self.version, self.chain, self.state))
        return body + hashlib.sha256(body).digest()

    def snapshot(self) -> Snapshot:
        """Return what a shell needs of it."""
        return Snapshot(self.position, self.version, self.state)


def decode_record(stream: str, position: Position, payload: bytes | None) -> Record:
    """Decode the snapshot stored for this stream and position. Raises JournalCorrupt, also for None (absent)."""
    if payload is None:
        raise JournalCorrupt(f"journal {stream}: the snapshot at {position} is missing")
    body, digest = payload[:-_DIGEST_BYTES], payload[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise JournalCorrupt(f"journal {stream}: the snapshot at {position} is damaged: its SHA-256 does not match")
    try:
        found = msgspec.msgpack.decode(body, type=_Record)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"journal {stream}: the snapshot at {position} does not decode: {error}") from error
    record = Record(found.stream, Position(found.epoch, found.seq), found.version, found.chain, found.state)
    if (record.stream, record.position) != (stream, position):
        raise JournalCorrupt(
            f"journal {stream}: the snapshot at {position} is another's: {record.stream} at {record.position}"
        )
    return record


def another_snapshot(record: Record) -> JournalCorrupt:
    """Return the failure of two different folds of the same elements."""
    return JournalCorrupt(f"journal {record.stream}: another snapshot is already stored for {record.position}")


class Elements(Protocol):
    """Reads streams and their snapshots; both journal adapters do."""

    def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Yield the elements after one position (exclusive; None: from the start) through another (None: to the end).

        Raises JournalUnavailable.
        """
        ...

    async def load_snapshot(self, stream: str) -> Record | None:
        """Return the newest adopted snapshot, None if there is none. Raises JournalUnavailable, JournalCorrupt."""
        ...


class Verified(NamedTuple):
    """One element that chains. `version` and `chain` are those after it; a fence has no events."""

    position: Position
    events: Sequence[Event]
    version: int
    chain: bytes

    def record(self, stream: str, state: bytes) -> Record:
        """Make the snapshot of a state into which every event up to this element was folded."""
        return Record(stream, self.position, self.version, self.chain, state)


def chain_after(codec: Codec, stream: str, record: Record | None) -> Chain:
    """Return the chain that stands at a snapshot, or before the stream's first element."""
    if record is None:
        return Chain(codec, stream)
    return Chain(codec, stream, record.position, record.version, record.chain)


async def read_verified(
    elements: Elements,
    codec: Codec,
    stream: str,
    after: Record | None = None,
    through: Position | None = None,
    chunk: int = READ_CHUNK,
) -> AsyncIterator[Verified]:
    """Yield the stream's elements behind a snapshot, each verified against the chain.

    Raises JournalUnavailable, JournalCorrupt: nothing after the named element was yielded.
    """
    chain = chain_after(codec, stream, after)
    async for position, payload in elements.read(stream, chain.position, through, chunk):
        events = chain.take(position, payload)
        yield Verified(position, events, chain.version, chain.digest)


class Tail(NamedTuple):
    """A stream read up to a fence: the snapshot under it, the events since, and the chain after the fence."""

    record: Record | None
    events: list[Event]
    chain: Chain


async def read_tail(
    elements: Elements, codec: Codec, stream: str, before: Position | None, fence: Position, chunk: int = READ_CHUNK
) -> Tail:
    """Read everything up to `fence`. `before` is the stream's last id when the fence was appended, None if it was new.

    Raises JournalUnavailable, JournalCorrupt.
    """
    record = await elements.load_snapshot(stream)
    for _ in range(_REREADS_MAX):
        try:
            return await _read_tail(elements, codec, stream, record, before, fence, chunk)
        except JournalCorrupt:
            # A snapshot adopted meanwhile may have let the elements go that we were about to read.
            newer = await elements.load_snapshot(stream)
            if (newer and newer.position) == (record and record.position):
                raise
            record = newer
    return await _read_tail(elements, codec, stream, record, before, fence, chunk)


async def _read_tail(
    elements: Elements,
    codec: Codec,
    stream: str,
    record: Record | None,
    before: Position | None,
    fence: Position,
    chunk: int,
) -> Tail:
    if record is not None and (before is None or record.position > before):
        raise JournalCorrupt(
            f"journal {stream}: the snapshot at {record.position} is ahead of the stream, which ended at "
            f"{before or 'nothing'}"
        )
    chain = chain_after(codec, stream, record)
    events: list[Event] = []
    async for position, payload in elements.read(stream, chain.position, fence, chunk):
        if position == fence and chain.position != before:
            break
        events.extend(chain.take(position, payload))
    if chain.position != fence:
        missing = fence if chain.position == before else before
        assert missing is not None, "a new stream misses nothing but the fence"
        raise corrupt(stream, missing, f"is missing: the stream was read up to {chain.position or 'nothing'}")
    return Tail(record, events, chain)
