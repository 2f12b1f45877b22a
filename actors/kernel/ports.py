"""Ports: what the shells need from outside, as protocols. The adapters live in `cluster/`, the fakes are full ones.

Times are integer Unix milliseconds, amounts integer fen.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

Event = msgspec.Struct
"""A tagged struct: one of the events of the kernel, or of a kind."""


class Position(NamedTuple):
    """Where an entry stands in its stream: the store's id `<epoch>-<seq>`. Seq 0 is the fence of the epoch."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


class Sealed(NamedTuple):
    """An entry ready to append: its position and its bytes never change, however often it is sent."""

    position: Position
    payload: bytes


class Snapshot(NamedTuple):
    """A machine's state folded from the journal up to and including `position`."""

    position: Position
    version: int
    state: bytes


class Activation(NamedTuple):
    """What an activation found: everything durable in the stream, in order, up to its own fence."""

    epoch: int
    snapshot: Snapshot | None
    events: Sequence[Event]
    version: int
    """Events durable since the stream began: the snapshot's version plus `len(events)`."""


class Journal(Protocol):
    """One stream as one owner sees it. Used by one shell from activation until the first failure, then dropped."""

    async def activate(self, host: str) -> Activation:
        """Fence every earlier owner out, then read the stream.

        Raises NotHere if the catalogue does not list the stream, JournalUnavailable, JournalCorrupt.
        """
        ...

    def seal(self, events: Sequence[Event]) -> Sealed:
        """Turn events into the next entry: position, hash chain, bytes. No I/O; call once per append, in order."""
        ...

    async def append(self, sealed: Sealed) -> None:
        """Return once the entry is durable. One at a time.

        Raises JournalFull (definitely not appended: the same entry may be sent again), FencedOut or
        JournalUnavailable (outcome unknown: drop this journal and its shell, activate anew).
        """
        ...

    async def confirm(self) -> None:
        """Return once the store has said that this epoch's last entry is still the stream's last.

        Raises FencedOut, JournalUnavailable.
        """
        ...


class Journals(Protocol):
    """Opens journals and keeps what all streams share."""

    def open(self, stream: str) -> Journal:
        """Return a fresh journal object for one activation of the stream."""
        ...

    async def clock_offset_ms(self) -> int:
        """Return the durable offset of the sandbox clock, 0 in production. Raises JournalUnavailable."""
        ...

    async def keep_records(self, stream: str, version: int, records: Mapping[str, bytes]) -> None:
        """Keep the records of what may leave memory, durably, by id. Raises JournalUnavailable.

        `version`: of the stream, at most that of the event by which they leave.
        """
        ...

    async def find_records(self, stream: str, ids: Sequence[str]) -> list[bytes | None]:
        """Return the records kept under these ids, None for an id without one. Raises JournalUnavailable."""
        ...


class Clock(Protocol):
    """The wall clock of this host."""

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        ...


class KeyRing(Protocol):
    """The platform's keys. They live outside the store and are part of a backup."""

    @property
    def current(self) -> str:
        """The id of the key that new secrets are made with."""
        ...

    @property
    def first(self) -> str:
        """The id of the key that ids are derived from, for ever: the same request keeps its id when keys change."""
        ...

    def key(self, key_id: str) -> bytes:
        """Return the key. Raises KeyError with a message naming the missing key."""
        ...
