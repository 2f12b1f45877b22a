"""Book: both ends of every transfer of one stream, and the proof that nothing was lost between two books.

Pure state, kept by the machine that owns it and part of its snapshot. `sent` and `received` change only in `apply`.
A pair of books agrees when the source's cumulative amount AT THE RECEIVER'S WATERMARK is the receiver's.
"""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from actors.ledger.accounts import RECEIVED, SENT

BOUNDARIES_MAX = 256
"""Acknowledged watermarks whose cumulative amount a source remembers, so that an audit need not stop settlement."""


class Moving(Protocol):
    """An event that moves money to another book."""

    @property
    def number(self) -> int:
        """The number of its first transfer."""
        ...

    @property
    def transfers(self) -> int:
        """How many transfers it is, numbered one after another."""
        ...

    @property
    def amount_fen(self) -> int:
        """What they move together."""
        ...

    @property
    def at_ms(self) -> int:
        """When the money left (Unix ms)."""
        ...


E = TypeVar("E", bound=Moving)


class SentView(Protocol):
    """One destination, as an audit reads it; see `Sent`."""

    @property
    def last_number(self) -> int:
        """The number of the last transfer."""
        ...

    @property
    def total_fen(self) -> int:
        """What was ever sent."""
        ...

    @property
    def settled_fen(self) -> int:
        """What has arrived of it."""
        ...

    @property
    def unsettled(self) -> Mapping[int, Moving]:
        """What has not."""
        ...

    def total_at(self, number: int) -> int | None:
        """Return the cumulative fen at `number`; None if that is not known here."""
        ...


class BookView(Protocol):
    """A book as hosts read it, whatever moved the money; see `Book`."""

    @property
    def sent(self) -> Mapping[str, SentView]:
        """Destinations."""
        ...

    @property
    def received(self) -> Mapping[str, "Received"]:
        """Sources."""
        ...

    @property
    def unsettled_count(self) -> int:
        """Transfers that no destination has acknowledged yet."""
        ...

    def watermark(self, source: str) -> "Received":
        """Return what came from `source`."""
        ...


class Sent(msgspec.Struct, Generic[E]):
    """One destination, seen from the source."""

    last_number: int = 0
    total_fen: int = 0
    settled_number: int = 0
    settled_fen: int = 0
    unsettled: dict[int, E] = {}
    """number of the first transfer -> what moved the money, in order, without gaps, from `settled_number + 1` on."""
    boundaries: dict[int, int] = msgspec.field(default_factory=lambda: {0: 0})
    """settled number -> cumulative fen, the newest BOUNDARIES_MAX."""

    def add(self, event: E) -> None:
        """Record the next transfer, or the next ones. The machine numbered them."""
        assert event.number == self.last_number + 1, "transfers are numbered without gaps"
        self.last_number += event.transfers
        self.total_fen += event.amount_fen
        self.unsettled[event.number] = event

    def settle(self, number: int) -> list[E]:
        """Forget everything up to `number`; return what that was."""
        assert self.settled_number < number <= self.last_number, "a destination acknowledges what was sent"
        settled = []
        following = self.settled_number + 1
        while following <= number:
            event = self.unsettled.pop(following)
            following += event.transfers
            settled.append(event)
        assert following == number + 1, "a destination takes all transfers of a run or none"
        self.settled_fen += sum(event.amount_fen for event in settled)
        self.settled_number = number
        self.boundaries[number] = self.settled_fen
        if len(self.boundaries) > BOUNDARIES_MAX:
            del self.boundaries[next(iter(self.boundaries))]
        return settled

    def total_at(self, number: int) -> int | None:
        """Return the cumulative fen at `number`; None if that is no longer (or not yet) known here, or inside a run."""
        if number > self.last_number:
            return None
        if number < self.settled_number:
            return self.boundaries.get(number)
        following, total_fen = self.settled_number + 1, self.settled_fen
        while following <= number:
            event = self.unsettled[following]
            following += event.transfers
            total_fen += event.amount_fen
        return total_fen if following == number + 1 else None


class Received(msgspec.Struct):
    """One source, seen from the destination."""

    number: int = 0
    total_fen: int = 0
    ahead: dict[int, int] = {}
    """Fundings that came before their predecessors: number -> fen. Always above `number`."""

    def has(self, number: int) -> bool:
        """Tell whether the transfer of that number is already in this book."""
        return number <= self.number or number in self.ahead

    def add_run(self, number: int, amounts_fen: list[int]) -> None:
        """Record the next transfers, which nothing came ahead of."""
        assert number == self.number + 1, "a run follows the watermark"
        assert not self.ahead, "runs come in order"
        self.number += len(amounts_fen)
        self.total_fen += sum(amounts_fen)

    def add(self, number: int, amount_fen: int) -> None:
        """Record a transfer and move the watermark over everything that is now without a gap."""
        assert not self.has(number), "a transfer enters a book once"
        if number != self.number + 1:
            self.ahead[number] = amount_fen
            return
        self.number, self.total_fen = number, self.total_fen + amount_fen
        while self.ahead and (following := self.ahead.pop(self.number + 1, None)) is not None:
            self.number, self.total_fen = self.number + 1, self.total_fen + following


class Book(msgspec.Struct, Generic[E]):
    """All transfers of one stream, by the name of the stream at the other end."""

    sent: dict[str, Sent[E]] = {}
    received: dict[str, Received] = {}

    def to(self, destination: str) -> Sent[E]:
        """Return the record of what goes to `destination`; it stays the same object."""
        sent = self.sent.get(destination)
        if sent is None:
            sent = self.sent[destination] = Sent()
        return sent

    def next_number(self, destination: str) -> int:
        """Return the number of the next transfer to `destination`."""
        sent = self.sent.get(destination)
        return 1 if sent is None else sent.last_number + 1

    def settle(self, destination: str, number: int) -> list[E]:
        """Apply: `destination` has everything up to `number`. Return the transfers that this settles."""
        return self.sent[destination].settle(number)

    @property
    def unsettled_count(self) -> int:
        """Transfers that no destination has acknowledged yet."""
        return sum(sent.last_number - sent.settled_number for sent in self.sent.values())

    @property
    def transfers(self) -> int:
        """Transfers that ever left this book or came into it."""
        return sum(sent.last_number for sent in self.sent.values()) + sum(
            received.number + len(received.ahead) for received in self.received.values()
        )

    def source(self, source: str) -> Received:
        """Return the record of what comes from `source`; it stays the same object."""
        received = self.received.get(source)
        if received is None:
            received = self.received[source] = Received()
        return received

    def receive(self, source: str, number: int, amount_fen: int) -> None:
        """Apply: money came from `source`."""
        self.source(source).add(number, amount_fen)

    def watermark(self, source: str) -> Received:
        """Return what came from `source` (an empty record if nothing did)."""
        return self.received.get(source) or Received()

    def balances(self) -> dict[str, int]:
        """Return the sum of each kind of transit account, in fen."""
        taken = (end.total_fen + sum(end.ahead.values()) for end in self.received.values())
        return {SENT.name: sum(end.total_fen for end in self.sent.values()), RECEIVED.name: -sum(taken)}
