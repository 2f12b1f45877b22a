"""Store: all that one store of journals can do. The adapter is `cluster.journal.redis`; the simulator has another."""

from abc import abstractmethod
from collections.abc import AsyncIterator

from actors.kernel.ports import Journal, Position
from actors.kernel.rules import StreamCounts
from cluster.journal.codec import Codec
from cluster.journal.side_store import SideStore
from cluster.journal.snapshot import READ_CHUNK


class Store(SideStore):
    """The journals of one system, and what lies beside them. Every method raises JournalUnavailable."""

    codec: Codec

    @abstractmethod
    def open(self, stream: str) -> Journal:
        """Return a fresh journal object for one activation of the stream."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def ping(self) -> None:
        """Return if the store would take a write now. Raises JournalUnavailable, also if its memory is full."""

    @abstractmethod
    async def clock_offset_ms(self) -> int:
        """Return the durable offset of the sandbox clock. Raises JournalUnavailable."""

    @abstractmethod
    async def advance_clock(self, ms: int, *, offset_ms_max: int) -> int | None:
        """Move the sandbox clock forward and return its offset; None: not moved, it would be beyond the bound.

        Raises JournalUnavailable.
        """

    @abstractmethod
    async def create_system(self, layout: StreamCounts, system_id: str | None = None) -> str:
        """List every stream and its kind unless already done; return the system's id (None: a new system's is drawn).

        Raises JournalUnavailable, UnknownKind, or ValueError if the system was created with another layout.
        """

    @abstractmethod
    async def system_id(self) -> str:
        """Return the id given by `create_system`, empty before that. Raises JournalUnavailable."""

    @abstractmethod
    async def layout(self) -> StreamCounts:
        """Return the system's layout, empty before it is created. Raises JournalUnavailable, UnknownKind."""

    @abstractmethod
    async def is_empty(self) -> bool:
        """Tell whether the store holds nothing of any system of this name. Raises JournalUnavailable."""

    @abstractmethod
    async def streams(self) -> dict[str, str]:
        """Return the catalogue: every stream and its kind. Raises JournalUnavailable."""

    @abstractmethod
    def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Yield the elements after one position (exclusive; None: from the start) through another (None: to the end).

        Raises JournalUnavailable, JournalCorrupt: an element is not one of a journal.
        """

    @abstractmethod
    async def last_position(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had, None if it does not exist. Raises JournalUnavailable."""
