"""Book machine: what every machine with a book has. Pure; the machines of packets and wallets add their own laws.

A state is everything durable about one stream, as a snapshot holds it; `version` counts the events applied to it.
"""

from typing import Generic, Protocol, TypeVar

import msgspec

from actors.kernel.messages import KernelRefusal, Refused
from actors.kernel.switches import LEVERS_MAX, Lever, LeverSet
from actors.ledger.book import Book, Moving, Received
from actors.ledger.transfer import Settled

E = TypeVar("E", bound=Moving)


class State(Protocol[E]):
    """What the state of any stream has."""

    book: Book[E]
    stamp_ms: int
    version: int
    levers: dict[str, Lever]


S = TypeVar("S", bound=State)  # type: ignore[type-arg]


class BookMachine(Generic[S, E]):
    """The machine of one stream."""

    def __init__(self, stream: str, state: S) -> None:
        self.stream = stream
        self._state = state

    @property
    def stamp_ms(self) -> int:
        """The greatest stamp in the journal."""
        return self._state.stamp_ms

    @property
    def version(self) -> int:
        """Events applied."""
        return self._state.version

    @property
    def work(self) -> int:
        """What a replay of the whole stream costs: events, and the transfers in them (an event may hold a thousand)."""
        return self._state.version + self._state.book.transfers

    @property
    def book(self) -> Book[E]:
        """Both ends of this stream's transfers."""
        return self._state.book

    def received_from(self, source: str) -> Received:
        """Return what came from `source`."""
        return self._state.book.watermark(source)

    def balances(self) -> dict[str, int]:
        """Return the sum of each kind of account of this book, in fen: O(accounts). Together they are 0."""
        return self._own_balances() | self._state.book.balances()

    def _own_balances(self) -> dict[str, int]:
        """Return those of the accounts that its kind declares."""
        return {}

    def totals(self) -> dict[str, int]:
        """Return what its kind adds up for audits beside its balances (`Kind.totals`), in fen."""
        return {}

    def decide_settled(self, destination: str, number: int) -> Settled | Refused | None:
        """Note that `destination` has everything up to `number`; None if that is not news.

        A number beyond the last one sent is refused: a zombie lags behind, and a bug must not forget money.
        """
        sent = self._state.book.sent.get(destination)
        if number > (sent.last_number if sent else 0):
            return Refused(KernelRefusal.OUT_OF_ORDER)
        if sent is None or number <= sent.settled_number:
            return None
        return Settled(destination, number)

    @property
    def withheld(self) -> int:
        """What this stream can neither give nor end with the keys at hand."""
        return 0

    @property
    def levers(self) -> dict[str, Lever]:
        """The levers that are on, by name."""
        return self._state.levers

    def decide_lever(self, lever: str, paused: bool, by: str, now_ms: int) -> LeverSet | Refused | None:
        """Pause something, or let it go on; None if it is so already."""
        levers = self._state.levers
        if (lever in levers) is paused:
            return None
        if paused and len(levers) >= LEVERS_MAX:
            return Refused(KernelRefusal.OVERLOADED)
        return LeverSet(lever, paused, now_ms, by)

    def _apply_lever(self, event: LeverSet) -> None:
        if event.paused:
            self._state.levers[event.lever] = Lever(event.at_ms, event.by)
        else:
            del self._state.levers[event.lever]

    def snapshot(self) -> bytes:
        """Encode the whole state."""
        return msgspec.msgpack.encode(self._state)
