"""Transfer: money on its way between two books, numbered, delivered exactly once.

A source numbers its transfers per destination (1, 2, 3, ...) and keeps the cumulative amount; a destination accepts
exactly the next numbers. Numbers, amounts (fen) and stamps (Unix ms) are all that the two books share: what a transfer
is about travels as its content, which the receiving kind decodes.
"""

import msgspec

from actors.ledger.book import Moving


class Transfer(msgspec.Struct, frozen=True, array_like=True):
    """Transfers on the wire: `count` of them, numbered one after another from `number` on, `amount_fen` in all."""

    number: int
    count: int
    amount_fen: int
    at_ms: int
    content: msgspec.Raw
    """A tagged struct that the receiving kind accepts (`Kind.accepts`)."""


def transfer_of(moved: Moving) -> Transfer:
    """Return what was sent, as it travels."""
    content = msgspec.Raw(msgspec.msgpack.encode(moved))
    return Transfer(moved.number, moved.transfers, moved.amount_fen, moved.at_ms, content)


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """The destination has every transfer up to `number` durably; the source may forget them."""

    destination: str
    number: int


class Receive(msgspec.Struct, frozen=True, array_like=True, tag="receive"):
    """Command to a destination: here are your next transfers from `source`.

    `before_number` and `before_fen` are the source's cumulative figures before the first of them: a destination
    whose watermark stands there must have received exactly that amount. An empty list asks for the watermark only.
    """

    source: str
    before_number: int
    before_fen: int
    transfers: list[Transfer] = []


class Watermark(msgspec.Struct, frozen=True, array_like=True, tag="watermark"):
    """Reply to `Receive`: everything up to `number`, `total_fen` in all, is durable at the destination."""

    number: int
    total_fen: int


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag="acknowledge"):
    """Command to a source: the destination has everything up to `number`."""

    destination: str
    number: int


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """What a source has for one destination: the next `Receive`, ready to deliver."""

    source: str
    destination: str
    receive: Receive
