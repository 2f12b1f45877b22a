"""Packet state: everything durable about one packet stream, as snapshots and the records of passivated packets hold it.

A record is read for ever: a field of `Packet` is only ever added, with a default.
"""

from array import array
from itertools import repeat
from struct import Struct
from sys import byteorder, intern
from typing import Literal

import msgspec

from actors.kernel.records import Departed
from actors.kernel.switches import Switch
from actors.ledger.book import Book
from actors.packet.fairness import chain_start_of, linked
from actors.packet.replies import PacketState, Won
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.payout import PayoutRun

GRAB = Struct("<IQ")
"""One grab in `Packet.grabs`, by rank: amount (fen), stamp (ms)."""

SHARE_BYTES = array("I").itemsize

HEAD_BYTES = 32
CROWD_COUNT_MIN = 1_000
"""Shares that make a crowd: what is folded into its state claim by claim is read from the list of any other."""

CALENDAR_MS = 8 * 3_600_000
"""How far the calendar of the platform's users is ahead of UTC."""
DAY_MS = 86_400_000

_MANY = 100
_FUNDING = msgspec.msgpack.Decoder(PacketFunded)


class Crowd(msgspec.Struct, gc=False):
    """What a packet with many takers, or of a star or a rain, has beside the others."""

    links: bytearray = msgspec.field(default_factory=bytearray)
    best_rank: int = 0
    best_fen: int = 0
    best_user: str = ""
    """The greatest share that was taken, and the first who has it."""
    rolled_in_fen: int = 0
    """What came from the burst before this one; part of the total."""
    rolled_out_fen: int = 0
    """What went into the burst after this one."""
    day: int = 0
    day_count: int = 0
    """The last day on which a share was taken, and how many on it, where that is limited."""


class Packet(msgspec.Struct, gc=False):
    """One packet's state. What every grab asks for stands beside the packed funding, which is a third of the memory."""

    funding: bytes | PacketFunded
    """Packed; as it is in the journal where an older snapshot or record was read."""
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
    tenant: str = ""
    count: int = 0
    total_fen: int = 0
    expires_at_ms: int = 0
    shares: bytes = b""
    """Shares by rank, native 32-bit integers, as many as are made, until the end: a cache, replay never needs it."""
    special: Special | None = None
    missed: dict[str, tuple[int, int]] | None = None
    """Who said a wrong phrase: how often, and when (Unix ms) first since that was forgiven."""
    chain: bytes = b""
    """The head of its claim chain, see `actors.packet.fairness`, and behind it how many claims each link holds, in
    order: 7 bits a byte, the lowest first. A crowd's sizes are in `crowd`. Empty before the first claim."""
    crowd: Crowd | None = None

    def __post_init__(self) -> None:
        funding = self.funding
        if isinstance(funding, PacketFunded):
            self.funding = msgspec.msgpack.encode(funding)
            self.tenant, self.count, self.total_fen = funding.tenant, funding.count, funding.total_fen
            self.expires_at_ms = funding.expires_at_ms
            self.special = special = funding.special
            if funding.count >= CROWD_COUNT_MIN or (special and (special.bursts or special.day_count_max)):
                self.crowd = Crowd()
        self.tenant = intern(self.tenant)

    @property
    def terms(self) -> PacketFunded:
        """The whole funding."""
        assert isinstance(self.funding, bytes), "packed when it was made"
        return _FUNDING.decode(self.funding)

    def add(self, event_rank: int, users: list[str], amounts_fen: list[int], at_ms: int) -> None:
        """Take the shares of the next ranks in."""
        rank_of = self.rank_of
        assert event_rank == len(rank_of) + 1, "shares leave in order, each once"
        rank_of.update(zip(users, range(event_rank, event_rank + len(users)), strict=True))
        rows = _rows(amounts_fen, at_ms)
        self._link(rows, users, amounts_fen, event_rank)
        self.grabs += rows
        assert len(rank_of) == event_rank + len(users) - 1, "one share a user"
        self.grabbed_fen += sum(amounts_fen)
        self.unsettled += len(users)
        crowd = self.crowd
        if crowd is not None:
            day = day_of(at_ms)
            crowd.day, crowd.day_count = day, (crowd.day_count if day == crowd.day else 0) + len(users)

    def chain_start(self, terms: PacketFunded) -> bytes:
        """Return the head of the claim chain before the first claim."""
        limits = terms.count, terms.share_fen_min, terms.share_fen_max
        return chain_start_of(terms.commitment, terms.algorithm, self.total_fen, *limits, terms.sender_nonce)

    def roll_in(self, amount_fen: int) -> None:
        """Take what the burst before this one left; what was made of the total so far is void."""
        assert not self.rank_of, "shares follow from the total"
        assert self.crowd is not None, "a burst is for a crowd"
        self.total_fen += amount_fen
        self.crowd.rolled_in_fen += amount_fen
        self.shares = b""

    def _link(self, rows: bytes, users: list[str], amounts_fen: list[int], first: int) -> None:
        """Put claims that were taken in one step on the chain."""
        chain, crowd = self.chain or self.chain_start(self.terms), self.crowd
        head = linked(chain[:HEAD_BYTES], rows, users)
        if crowd is None:
            self.chain = head + chain[HEAD_BYTES:] + _size(len(users))
            return
        self.chain = head
        crowd.links += _size(len(users))
        best_fen = max(amounts_fen)
        if best_fen > crowd.best_fen:
            place = amounts_fen.index(best_fen)
            crowd.best_fen, crowd.best_rank, crowd.best_user = best_fen, first + place, users[place]

    def luckiest(self) -> tuple[str, int, int]:
        """Return (user, rank counted here, fen) of the greatest share that was taken; of equals the first."""
        crowd = self.crowd
        if crowd is not None:
            return crowd.best_user, crowd.best_rank, crowd.best_fen
        taken = zip(self.rank_of, range(1, len(self.rank_of) + 1), GRAB.iter_unpack(self.grabs), strict=True)
        user, rank, (amount_fen, _) = max(taken, key=lambda one: one[2][0])
        return user, rank, int(amount_fen)

    @property
    def links(self) -> bytes:
        """How many claims each link of the chain holds, as `sizes_of` reads it."""
        return self.chain[HEAD_BYTES:] if self.crowd is None else bytes(self.crowd.links)

    @property
    def rolled_in_fen(self) -> int:
        """What came from the burst before this one; part of the total."""
        return 0 if self.crowd is None else self.crowd.rolled_in_fen

    @property
    def rolled_out_fen(self) -> int:
        """What went into the burst after this one."""
        return 0 if self.crowd is None else self.crowd.rolled_out_fen

    def won(self, rank: int, *, replayed: bool) -> Won:
        """Return the share of that rank, counted here."""
        amount_fen, at_ms = GRAB.unpack_from(self.grabs, (rank - 1) * GRAB.size)
        return Won(self.rank_base + rank, amount_fen, at_ms, replayed)

    @property
    def rank_base(self) -> int:
        """Ranks of other lanes before the first of this packet."""
        return 0 if self.special is None else self.special.rank_base

    def left_on(self, at_ms: int) -> int:
        """Return how many shares may still leave on the day of this instant."""
        left = self.count - len(self.rank_of)
        special, crowd = self.special, self.crowd
        if special is None or crowd is None or not special.day_count_max:
            return left
        return min(left, special.day_count_max - (crowd.day_count if day_of(at_ms) == crowd.day else 0))

    @property
    def made(self) -> int:
        """How many shares are made."""
        return len(self.shares) // SHARE_BYTES

    @property
    def remaining_fen(self) -> int:
        """What the escrow of this packet still holds."""
        return self.total_fen - self.grabbed_fen - self.refunded_fen - self.rolled_out_fen

    @property
    def is_quiet(self) -> bool:
        """Tell whether nothing can happen to it any more."""
        return self.ended != "open" and self.unsettled == 0

    @property
    def ended_ms(self) -> int:
        """When it ended, or was to."""
        if self.ended == "expired" or not self.grabs:
            return self.expires_at_ms
        return int(GRAB.unpack_from(self.grabs, len(self.grabs) - GRAB.size)[1])


class Passed(msgspec.Struct):
    """The packets that left memory, in sum; nothing of them remains in escrow. Amounts in fen."""

    packets: int = 0
    funded_fen: int = 0
    paid_fen: int = 0
    refunded_fen: int = 0

    def add(self, packet: Packet) -> None:
        """Add one that leaves."""
        self.packets += 1
        self.funded_fen += packet.total_fen - packet.rolled_in_fen
        self.paid_fen += packet.grabbed_fen
        self.refunded_fen += packet.refunded_fen


class PacketStreamState(msgspec.Struct):
    """Everything durable about one packet stream: what a snapshot holds."""

    packets: dict[str, Packet] = {}
    book: Book[PayoutRun] = msgspec.field(default_factory=Book)
    stamp_ms: int = 0
    version: int = 0
    passed: Passed = msgspec.field(default_factory=Passed)
    departed: Departed = msgspec.field(default_factory=Departed)
    """The ids of those packets."""
    switches: dict[str, Switch] = {}
    """The switches that are on: `grabs`, and those of open packets."""


def decode_state(state: bytes) -> PacketStreamState:
    """Read what a snapshot holds."""
    return msgspec.msgpack.decode(state, type=PacketStreamState)


def decode_record(record: bytes) -> Packet:
    """Read what `PacketMachine.passivable` returned."""
    return msgspec.msgpack.decode(record, type=Packet)


def back_to_sender(
    kind: Literal["refund", "returned"], number: int, funding: PacketFunded, amount_fen: int, at_ms: int
) -> PayoutRun:
    """Return the transfer that brings money back to who paid for a packet."""
    return PayoutRun(number, kind, funding.tenant, funding.packet_id, [funding.sender], [amount_fen], at_ms)


def day_of(at_ms: int) -> int:
    """Return the day of an instant, counted from 1970-01-01 in China."""
    return (at_ms + CALENDAR_MS) // DAY_MS


def sizes_of(links: bytes) -> list[int]:
    """Read the sizes of links."""
    sizes, size, shift = [], 0, 0
    for byte in links:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            sizes.append(size)
            size = shift = 0
    return sizes


def _size(size: int) -> bytes:
    """Write the size of a link."""
    if size < 0x80:
        return bytes((size,))
    return bytes((size & 0x7F | 0x80,)) + _size(size >> 7)


def _rows(amounts_fen: list[int], at_ms: int) -> bytes:
    """Pack grabs of one instant, a `GRAB` each; many of them byte by byte of all, at next to no cost."""
    count, size = len(amounts_fen), GRAB.size
    if count < _MANY:
        return b"".join(map(GRAB.pack, amounts_fen, repeat(at_ms)))
    rows = bytearray(size * count)
    amounts = array("I", amounts_fen)
    if byteorder == "big":
        amounts.byteswap()
    packed = amounts.tobytes()
    width = amounts.itemsize
    for at in range(width):
        rows[at::size] = packed[at::width]
    for at, byte in enumerate(at_ms.to_bytes(size - width, "little"), width):
        rows[at::size] = bytes((byte,)) * count
    return bytes(rows)
