"""Packet replies: what a packet stream answers. Amounts in fen, instants in Unix ms, ranks from 1."""

from typing import Literal

import msgspec

from actors.kernel.messages import Refused
from actors.transfers.funding import PacketFunded

PacketState = Literal["open", "drained", "expired"]


class Won(msgspec.Struct, frozen=True, array_like=True, tag="won", gc=False):
    """The share a user has; `replayed` when they had it before."""

    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class Takings(msgspec.Struct, frozen=True, array_like=True, tag="takings"):
    """Reply to `GrabMany` that is neither one refusal for all nor `Shares`: each user's share or refusal, in order."""

    replies: list[Won | Refused]


class Shares(msgspec.Struct, frozen=True, array_like=True, tag="shares"):
    """Reply to `GrabMany` where every user took a fresh share: ranks from `first_rank` on, in order, all at `at_ms`."""

    first_rank: int
    amounts_fen: list[int]
    at_ms: int


class PacketEnd(msgspec.Struct, frozen=True, array_like=True, tag="packet_end"):
    """Reply to `ReadEnd`: how the packet ended, for ever, and who may have won.

    `winners`: `actors.kernel.names.user_hash` of every winner, sorted, as native 32-bit integers (`array("I")`). A user
    whose hash is not among them has not won; two users may share a hash, so one whose hash is there must be asked for.
    """

    state: PacketState
    winners: bytes
    many: bool = False
    """There are more winners than are told; everybody may be one."""


class OpenNow(msgspec.Struct, frozen=True, array_like=True, tag="open_now"):
    """The packet is open (or was: `state` tells)."""

    state: PacketState


class GrabLine(msgspec.Struct, frozen=True, array_like=True):
    """One line of a packet's list."""

    user: str
    amount_fen: int
    at_ms: int


class Luckiest(msgspec.Struct, frozen=True, array_like=True):
    """Who has the greatest share; of equals the first."""

    user: str
    rank: int
    amount_fen: int


class PacketView(msgspec.Struct, frozen=True, array_like=True, tag="packet_view"):
    """A packet as it durably is. `seed` is empty until the end; `grabs` are in order of rank, one page of them.

    Ranks are counted over all lanes where there are several.
    """

    funding: PacketFunded
    state: PacketState
    grabbed_fen: int
    refunded_fen: int
    seed: bytes
    grabs: list[GrabLine]
    first_rank: int = 1
    """Of the first line in `grabs`."""
    grabbed_count: int = 0
    reader_rank: int = 0
    """The reader's own rank; 0: they have no share."""
    luckiest: Luckiest | None = None
    """Once all shares are taken."""
    last_grab_ms: int = 0
    chain: bytes = b""
    links: bytes = b""
    """As `actors.packet.state.sizes_of` reads them, for a proof."""
    rolled_in_fen: int = 0
    rolled_out_fen: int = 0
