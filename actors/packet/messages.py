"""Packet messages: what a packet stream is asked, what happens in it, what it answers.

Commands and replies travel between gateway and shard; events are in the journal (a field is only ever added at the
end, with a default). Amounts in fen, stamps in Unix ms, ranks from 1.
"""

from typing import Literal

import msgspec

from actors.ledger.transfer import PacketFunded, PayoutRun, Refused

PacketState = Literal["open", "drained", "expired"]


class Grab(msgspec.Struct, frozen=True, array_like=True, tag="grab", gc=False):
    """A user opens a packet and wants a share."""

    packet_id: str
    tenant: str
    user: str
    phrase: bytes = b""
    """What he said, see `actors.phrase`; empty: nothing."""
    group: str = ""
    """Whose member his chat gateway says he is; empty: of none."""


class GrabMany(msgspec.Struct, frozen=True, array_like=True, tag="grab_many"):
    """Users who open one packet, in order of their arrival at the gateway: a `Grab` each, all saying the same."""

    packet_id: str
    tenant: str
    users: list[str]
    phrase: bytes = b""
    group: str = ""


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """The gateway delivers a funding at once; settlement would deliver the same one later."""

    source: str
    funding: PacketFunded


class View(msgspec.Struct, frozen=True, array_like=True, tag="view"):
    """Somebody looks at a packet, and at no more than `lines_max` lines of its list, behind `after_rank`."""

    packet_id: str
    tenant: str
    reader: str = ""
    after_rank: int = 0
    lines_max: int = 100
    proof: bool = False
    """Whether he wants to prove it: lines and links only once it has ended, and links only from the first rank on."""


class ReadEnd(msgspec.Struct, frozen=True, array_like=True, tag="read_end"):
    """A gateway learnt that a packet has ended, and asks who had won: whoever had not need not be carried here."""

    packet_id: str
    tenant: str


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The funding arrived: `transit -> escrow`, and the packet can be grabbed."""

    source: str
    funding: PacketFunded


class OpeningReturned(msgspec.Struct, frozen=True, array_like=True, tag="opening_returned"):
    """A second funding of a packet that exists: received and sent back to its sender in one entry."""

    source: str
    funding: PacketFunded
    to_wallet: int
    number: int

    @property
    def amount_fen(self) -> int:
        """The amount that goes back."""
        return self.funding.total_fen


class GrabbedMany(msgspec.Struct, frozen=True, array_like=True, tag="grabbed_many"):
    """Users took the next shares of one packet: `escrow -> transit` to their wallets. The last one publishes the seed.

    Row i is rank `first_rank + i`, taken by `users[i]`: `amounts_fen[i]` to wallet stream `to_wallets[i]`. `numbers`
    holds, for each of these streams, the number of the first transfer to it here; the others to it follow that one.
    """

    packet_id: str
    tenant: str
    first_rank: int
    users: list[str]
    amounts_fen: list[int]
    at_ms: int
    to_wallets: list[int]
    numbers: dict[int, int]
    seed: bytes = b""

    def runs(self) -> dict[int, PayoutRun]:
        """Return the transfers, by wallet stream."""
        if len(self.users) == 1:
            [(to_wallet, number)] = self.numbers.items()
            return {to_wallet: self._run(number, self.users, self.amounts_fen)}
        rows: dict[int, tuple[list[str], list[int]]] = {to_wallet: ([], []) for to_wallet in self.numbers}
        for to_wallet, user, amount_fen in zip(self.to_wallets, self.users, self.amounts_fen, strict=True):
            users, amounts_fen = rows[to_wallet]
            users.append(user)
            amounts_fen.append(amount_fen)
        return {to_wallet: self._run(self.numbers[to_wallet], *columns) for to_wallet, columns in rows.items()}

    def _run(self, number: int, users: list[str], amounts_fen: list[int]) -> PayoutRun:
        return PayoutRun(number, "share", self.tenant, self.packet_id, users, amounts_fen, self.at_ms)


class Grabbed(msgspec.Struct, frozen=True, array_like=True, tag="grabbed", gc=False):
    """`GrabbedMany` of one user, as journals held it before. Read, never written any more."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    to_wallet: int
    number: int
    seed: bytes = b""

    def by_many(self, tenant: str) -> GrabbedMany:
        """Return the same as the event that is written now."""
        user, wallet = [self.user], [self.to_wallet]
        numbers = {self.to_wallet: self.number}
        return GrabbedMany(
            self.packet_id, tenant, self.rank, user, [self.amount_fen], self.at_ms, wallet, numbers, self.seed
        )


class PhraseMissed(msgspec.Struct, frozen=True, array_like=True, tag="phrase_missed"):
    """Users said a wrong phrase; who is named twice said one twice. No money moves."""

    packet_id: str
    users: list[str]
    at_ms: int


class Expired(msgspec.Struct, frozen=True, array_like=True, tag="expired"):
    """The packet's time is over: what is left goes back to the sender, and the seed is published.

    Of a burst whose rest rolls, `rolled_fen` goes into the next one first; `number` 0: nothing is left to go back.
    """

    packet_id: str
    amount_fen: int
    at_ms: int
    to_wallet: int
    number: int
    seed: bytes
    rolled_fen: int = 0
    rolled_into: str = ""


class Passivated(msgspec.Struct, frozen=True, array_like=True, tag="passivated"):
    """Packets left memory: ended and settled, each record kept beside the journal before this event."""

    packet_ids: list[str]


class Won(msgspec.Struct, frozen=True, array_like=True, tag="won", gc=False):
    """The share a user has; `replayed` when he had it before."""

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

    `winners`: `actors.ids.user_hash` of every winner, sorted, as native 32-bit integers (`array("I")`). Whoever's hash
    is not among them has not won; two users may share a hash, so whoever's is among them must be asked for.
    """

    state: PacketState
    winners: bytes
    many: bool = False
    """There are more winners than are told; everybody may be one."""


class OpenNow(msgspec.Struct, frozen=True, array_like=True, tag="open_now"):
    """The packet is open (or was: `state` tells), with this funding."""

    funding: PacketFunded
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
    """The reader's own rank; 0: he has no share."""
    luckiest: Luckiest | None = None
    """Once all shares are taken."""
    last_grab_ms: int = 0
    chain: bytes = b""
    links: bytes = b""
    """As `actors.packet.state.sizes_of` reads them, for a proof."""
    rolled_in_fen: int = 0
    rolled_out_fen: int = 0
