"""Posting: a signed line on one account. The postings of one event sum to 0.

What an event posts is a pure function of the event, declared by its kind. The machines do not use it: auditors do, on
journals alone, so that the two can contradict each other.
"""

from typing import Any, NamedTuple

from actors.ledger.accounts import RECEIVED, SENT, AccountName


class Posting(NamedTuple):
    """One line. Amount in fen."""

    account: AccountName
    amount_fen: int
    reference: str = ""
    """What it is about: the id of a hold, say; empty: the event names none."""
    number: int | None = None
    """Of the transfer, on its two transit accounts only."""
    cause: str = ""
    """What moved the money, where the tag of the event does not say that."""


Postings = list[Posting]


class Leg(NamedTuple):
    """An account that a move takes from or gives to; `number`: of the transfer, on a transit account."""

    account: AccountName
    number: int | None = None


def sent(stream: str, number: int) -> Leg:
    """Return this book's end of a transfer to `stream`."""
    return Leg(SENT.of(stream), number)


def received(stream: str, number: int) -> Leg:
    """Return this book's end of a transfer from `stream`."""
    return Leg(RECEIVED.of(stream), number)


def move(source: Leg, destination: Leg, amount_fen: int, reference: str = "", cause: str = "") -> Postings:
    """Return the two postings of a move."""
    return [
        Posting(source.account, -amount_fen, reference, source.number, cause),
        Posting(destination.account, amount_fen, reference, destination.number, cause),
    ]


def stamp_of(event: Any) -> int:
    """Return when an event happened (Unix ms); 0 for one that does not say so."""
    at_ms = getattr(event, "at_ms", None)
    stamp_ms: int = getattr(event, "stamp_ms", 0) if at_ms is None else at_ms
    return stamp_ms
