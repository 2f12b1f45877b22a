"""Codec: what an element of a stream is in bytes, and how elements chain.

Element: CRC-32 of the body (4 bytes, big-endian), then the body, msgpack of an array. Seq 0 is a fence `[1, host]`, any
other an entry `[1, prev, first_version, events]` (1 is the format version), events being tagged structs. Never pickle.
Chain: 32 zero bytes, then after every element, fence or entry, SHA-256(chain || id text || element). An entry's `prev`
is the chain before it, so that it vouches for every element since the stream began. A fence carries no hash, because it
is appended before the stream is read. `first_version` counts events from 1.
"""

import hashlib
import struct
import types
import typing
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar, cast
from zlib import crc32

import msgspec

from actors.kernel.errors import JournalCorrupt
from actors.kernel.kind import union_of
from actors.kernel.ports import Event, Position, Sealed
from actors.kinds import event_types

CHAIN_BYTES = 32
CHAIN_START = bytes(CHAIN_BYTES)
HOST_CHARS_MAX = 255
_CRC_BYTES = 4
_FOLLOWED = struct.Struct(">QQ")
"""What a fence follows; the store's script packs the same."""
_FORMAT: Literal[1] = 1

E = TypeVar("E")


class _Entry(msgspec.Struct, Generic[E], frozen=True, array_like=True):
    format: Literal[1]
    prev: bytes
    first_version: int
    events: list[E]


class _Fence(msgspec.Struct, frozen=True, array_like=True):
    format: Literal[1]
    host: str


class Fence(typing.NamedTuple):
    """A decoded fence: who took the stream, and the id it follows (0-0: none)."""

    host: str
    follows: Position


class Entry(typing.NamedTuple):
    """A decoded entry, not yet compared with its chain."""

    prev: bytes
    first_version: int
    events: Sequence[Event]


def position_of(text: str | bytes) -> Position:
    """Read the store's id, e.g. "7-12". Raises ValueError if it is none."""
    epoch, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return Position(int(epoch), int(seq))


def corrupt(stream: str, position: Position, found: str) -> JournalCorrupt:
    """Return the failure that names the stream, the element and what was found."""
    return JournalCorrupt(f"journal {stream}: {'entry' if position.seq else 'fence'} {position} {found}")


def stream_gone(stream: str) -> JournalCorrupt:
    """Return the failure of a stream that was activated before and does not exist any more."""
    return JournalCorrupt(f"journal {stream}: the stream was written before and is gone from the store")


class Codec:
    """Encodes and decodes the elements of streams whose events are of the given types."""

    def __init__(self, event_types: Any) -> None:
        """Take a union of tagged, array-like structs (or a single one). Raises TypeError if two share a tag."""
        is_union = typing.get_origin(event_types) in (typing.Union, types.UnionType)
        self._event_types = frozenset(typing.get_args(event_types) if is_union else (event_types,))
        self._encoder = msgspec.msgpack.Encoder()
        self._entries: msgspec.msgpack.Decoder[_Entry[Any]] = msgspec.msgpack.Decoder(cast(Any, _Entry)[event_types])
        self._fences = msgspec.msgpack.Decoder(_Fence)

    def entry(self, prev: bytes, first_version: int, events: Sequence[Event]) -> bytes:
        """Encode an entry."""
        assert events, "an entry holds at least one event"
        assert self._event_types.issuperset(map(type, events)), "an event of an unknown type could never be read again"
        return _with_crc(self._encoder.encode(_Entry(_FORMAT, prev, first_version, list(events))))

    def fence(self, host: str) -> bytes:
        """Encode a fence, to which the store still has to add what it follows."""
        return _with_crc(self._encoder.encode(_Fence(_FORMAT, host[:HOST_CHARS_MAX])))

    def decode_entry(self, stream: str, position: Position, payload: bytes) -> Entry:
        """Decode an entry. Raises JournalCorrupt."""
        body = _without_crc(stream, position, payload)
        try:
            entry = self._entries.decode(body)
        except msgspec.MsgspecError as error:
            raise corrupt(stream, position, f"does not decode: {error}") from error
        return Entry(entry.prev, entry.first_version, entry.events)

    def decode_fence(self, stream: str, position: Position, payload: bytes) -> Fence:
        """Decode a fence. Raises JournalCorrupt."""
        body = _without_crc(stream, position, payload[: -_FOLLOWED.size])
        try:
            host = self._fences.decode(body).host
        except msgspec.MsgspecError as error:
            raise corrupt(stream, position, f"does not decode: {error}") from error
        return Fence(host, Position(*_FOLLOWED.unpack(payload[-_FOLLOWED.size :])))


def following(fence: bytes, before: Position | None) -> bytes:
    """Add to an encoded fence what it follows, as the store does."""
    return fence + _FOLLOWED.pack(*(before or (0, 0)))


def platform_codec() -> Codec:
    """Return the codec of the platform's own streams."""
    return Codec(union_of(event_types()))


def _with_crc(body: bytes) -> bytes:
    return crc32(body).to_bytes(_CRC_BYTES, "big") + body


def _without_crc(stream: str, position: Position, payload: bytes) -> memoryview:
    body = memoryview(payload)[_CRC_BYTES:]
    found, wanted = crc32(body), int.from_bytes(payload[:_CRC_BYTES], "big")
    if len(payload) <= _CRC_BYTES or found != wanted:
        raise corrupt(stream, position, f"is damaged: {len(payload)} bytes, CRC-32 {found:08x} instead of {wanted:08x}")
    return body


def fold_chain(chain: bytes, position: Position, payload: bytes) -> bytes:
    """Return the chain after one more element."""
    digest = hashlib.sha256(chain)
    digest.update(str(position).encode())
    digest.update(payload)
    return digest.digest()


class Chain:
    """Where the chain of one stream stands. `take` verifies what was read, `seal` makes what will be appended."""

    def __init__(
        self,
        codec: Codec,
        stream: str,
        position: Position | None = None,
        version: int = 0,
        digest: bytes = CHAIN_START,
    ) -> None:
        """Stand after `position` (None: before the first element), with `version` events counted."""
        self._codec = codec
        self.stream = stream
        self.position = position
        self.version = version
        self.digest = digest

    def take(self, position: Position, payload: bytes) -> Sequence[Event]:
        """Verify the stream's next element and stand after it; return its events, none for a fence.

        Raises JournalCorrupt: an element is missing, damaged, or does not chain.
        """
        self._check_order(position)
        if position.seq == 0:
            fence = self._codec.decode_fence(self.stream, position, payload)
            if fence.follows != (self.position or (0, 0)):
                stood = f"the stream stands at {self.position}" if self.position else "nothing stands before it"
                raise corrupt(self.stream, position, f"does not chain: it followed {fence.follows}, {stood}")
            self._advance(position, payload, 0)
            return ()
        entry = self._codec.decode_entry(self.stream, position, payload)
        if entry.prev != self.digest:
            raise corrupt(
                self.stream,
                position,
                f"does not chain: it follows {entry.prev.hex()[:16]}…, the elements up to {self.position} "
                f"give {self.digest.hex()[:16]}…",
            )
        if entry.first_version != self.version + 1:
            raise corrupt(
                self.stream,
                position,
                f"does not chain: it begins at version {entry.first_version}, not {self.version + 1}",
            )
        self._advance(position, payload, len(entry.events))
        return entry.events

    def seal(self, events: Sequence[Event]) -> Sealed:
        """Make the next entry of the present epoch and stand after it."""
        assert self.position is not None, "only an activated stream can be written"
        position = Position(self.position.epoch, self.position.seq + 1)
        payload = self._codec.entry(self.digest, self.version + 1, events)
        self._advance(position, payload, len(events))
        return Sealed(position, payload)

    def _advance(self, position: Position, payload: bytes, count: int) -> None:
        self.digest = fold_chain(self.digest, position, payload)
        self.position = position
        self.version += count

    def _check_order(self, position: Position) -> None:
        """An entry follows its predecessor in its epoch; a fence follows anything of a smaller epoch."""
        before = self.position or Position(0, 0)
        follows = (position.epoch, position.seq - 1) == before if position.seq else position.epoch > before.epoch
        if self.position is None and position.seq:
            follows = False
        if not follows:
            stood = f"follows {self.position}" if self.position else "is the first of its stream"
            raise corrupt(self.stream, position, f"does not chain: it {stood}, what stood between is missing")
