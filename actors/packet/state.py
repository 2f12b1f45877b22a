"""Packet state: everything durable about one packet stream, as snapshots and the records of passivated packets hold it.

A record is read for ever: a field of `Packet` is only ever added, with a default.
"""

from struct import Struct

import msgspec

from actors.ledger.book import Book
from actors.ledger.levers import Lever
from actors.ledger.transfer import PacketFunded
from actors.packet.messages import Expired, Grabbed, OpeningReturned, PacketState, Won

GRAB = Struct("<IQ")
"""One grab in `Packet.grabs`, by rank: amount (fen), stamp (ms)."""

Leaving = Grabbed | Expired | OpeningReturned
"""The events that move money out of a packet's book."""


class Packet(msgspec.Struct):
    """One packet's state."""

    funding: PacketFunded
    rank_of: dict[str, int] = {}
    grabs: bytearray = msgspec.field(default_factory=bytearray)
    grabbed_fen: int = 0
    refunded_fen: int = 0
    ended: PacketState = "open"
    seed: bytes = b""
    ended_version: int = 0
    """The version of the event that ended this packet."""
    unsettled: int = 0
    """Its payouts that their wallets have not acknowledged yet."""

    def won(self, rank: int, *, replayed: bool) -> Won:
        """Return the share of that rank."""
        amount_fen, at_ms = GRAB.unpack_from(self.grabs, (rank - 1) * GRAB.size)
        return Won(rank, amount_fen, at_ms, replayed)

    @property
    def remaining_fen(self) -> int:
        """What the escrow of this packet still holds."""
        return self.funding.total_fen - self.grabbed_fen - self.refunded_fen

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing can happen to it any more."""
        return self.ended != "open" and self.unsettled == 0

    @property
    def ended_ms(self) -> int:
        """When it ended, or was to."""
        if self.ended == "expired" or not self.grabs:
            return self.funding.expires_at_ms
        return int(GRAB.unpack_from(self.grabs, len(self.grabs) - GRAB.size)[1])


class Passed(msgspec.Struct):
    """The packets that left memory, in sum; nothing of them remains in escrow. Amounts in fen."""

    packets: int = 0
    funded_fen: int = 0
    paid_fen: int = 0
    refunded_fen: int = 0


class State(msgspec.Struct):
    """Everything durable about one packet stream: what a snapshot holds."""

    packets: dict[str, Packet] = {}
    book: Book[Leaving] = msgspec.field(default_factory=Book)
    stamp_ms: int = 0
    version: int = 0
    passed: Passed = msgspec.field(default_factory=Passed)
    levers: dict[str, Lever] = {}
    """The levers that are on: `grabs`, and those of open packets."""


def decode_record(record: bytes) -> Packet:
    """Read what `PacketMachine.passivable` returned."""
    return msgspec.msgpack.decode(record, type=Packet)
