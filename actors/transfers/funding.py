"""Funding: the transfer from a wallet stream to a packet stream, which pays for a whole packet. Amounts in fen.

Events are tagged msgspec arrays; a field is only ever added at the end, with a default.
"""

from sys import intern
from typing import Literal

import msgspec

Kind = Literal["lucky", "equal", "direct", "group", "password", "star", "rain", "photo", "lishi"]
"""What a packet is to people. How it is split and who may take it stands in its terms."""


ALGORITHMS = ("even/1", "double-mean/1", "equal/1")


ALGORITHM_OF_KIND = {"lucky": "even/1", "equal": "equal/1", "direct": "equal/1", "photo": "equal/1", "lishi": "equal/1"}
"""Of a kind that says how it is split, and of the ways in which others may be."""


class Special(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a packet has beyond an ordinary one. A field that does not concern a packet is empty; all that are count."""

    addressee: str = ""
    """Nobody else may take it."""
    group: str = ""
    """Only members may take it; whose member a user is, a chat gateway of the tenant tells."""
    phrase: bytes = b""
    """Only who says the phrase may take it: `actors.phrase`, never the phrase itself."""
    opens_at_ms: int = 0
    """Nobody may take it before (Unix ms)."""
    sponsor: str = ""
    """Whose gift it is, as people are told."""
    day_count_max: int = 0
    """Shares that may leave on one day; 0: any."""
    lane: int = 0
    lanes: int = 1
    """A packet too hot for one core is this many, of one sender's gift; this is the one of number `lane`, from 0."""
    rank_base: int = 0
    """Ranks of all lanes together before the first of this one."""
    whole_fen: int = 0
    whole_count: int = 0
    """Of all lanes together."""
    burst: int = 0
    bursts: int = 0
    """A rain is this many packets, one after another; this is the one of number `burst`, from 0."""
    rolls: bool = False
    """What is left of a burst goes into the next."""
    reference: str = ""
    """What it pays for: a photo's id, or that of the lishi that was asked."""
    excluded: str = ""
    """This user may not take it: the sender, where a packet is for the public."""
    banded: bool = False
    """Whether the sender chose the band of its shares, and not the platform."""


class PacketFunded(msgspec.Struct, frozen=True, array_like=True, tag="packet_funded"):
    """The sender's wallet paid for a packet: `change -> transit`, and the whole packet in the same entry.

    Event of the wallet stream and at once the transfer that opens the packet: nobody re-decides a field of it.
    """

    number: int
    packet_stream: str
    packet_id: str
    tenant: str
    sender: str
    key: str
    kind: Kind
    total_fen: int
    count: int
    share_fen_min: int
    share_fen_max: int
    greeting: str
    at_ms: int
    expires_at_ms: int
    algorithm: str
    key_id: str
    commitment: bytes
    special: Special | None = None
    sender_nonce: str = ""
    """What the sender added once they knew the commitment; empty: nothing."""
    named_by_key: str = ""
    """The packet id that `key` stands for, where this packet has another (of its commitment, or of its crowd)."""

    @property
    def amount_fen(self) -> int:
        """The amount that moves: the packet's total."""
        return self.total_fen

    @property
    def transfers(self) -> int:
        """A funding is one transfer."""
        return 1

    def compact(self) -> "PacketFunded":
        """Return the same funding, its repeating texts shared with all others: a sixth of a live packet's memory."""
        return msgspec.structs.replace(
            self,
            packet_stream=intern(self.packet_stream),
            tenant=intern(self.tenant),
            kind=intern(self.kind),
            algorithm=intern(self.algorithm),
            key_id=intern(self.key_id),
        )
