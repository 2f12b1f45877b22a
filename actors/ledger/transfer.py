"""Transfer: money on its way between two books, numbered, delivered exactly once.

A source numbers its transfers per destination (1, 2, 3, ...) and keeps the cumulative amount; a destination accepts
exactly the next numbers. Numbers, amounts (fen) and stamps (Unix ms) are all that the two books share.
Events are tagged msgspec arrays; a field is only ever added at the end, with a default.
"""

import msgspec

from actors.transfers.funding import PacketFunded
from actors.transfers.payout import PayoutRun


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
    fundings: list[PacketFunded] = []
    runs: list[PayoutRun] = []


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
