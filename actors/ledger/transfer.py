"""Transfer: money on its way between two books, numbered, delivered exactly once.

A source numbers its transfers per destination (1, 2, 3, ...) and keeps the cumulative amount; a destination accepts
exactly the next numbers. Numbers, amounts (fen) and stamps (Unix ms) are all that the two books share.
Events are tagged msgspec arrays; a field is only ever added at the end, with a default.
"""

from enum import StrEnum
from sys import intern
from typing import Literal

import msgspec


class Refusal(StrEnum):
    """A business "no". The value is the `code` of the HTTP contract."""

    PACKET_NOT_FOUND = "packet_not_found"
    DRAINED = "drained"
    EXPIRED = "expired"
    NOT_ADDRESSEE = "not_addressee"
    NOT_MEMBER = "not_member"
    NOT_OPEN = "not_open"
    OWN_PACKET = "own_packet"
    DAY_LIMIT = "day_limit"
    WRONG_PASSPHRASE = "wrong_passphrase"
    RATE_LIMITED = "rate_limited"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    COMMITMENT_NOT_FOUND = "commitment_not_found"
    BAD_TIMES = "bad_times"
    COMMITMENT_MISMATCH = "commitment_mismatch"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    HOLD_NOT_FOUND = "hold_not_found"
    LISHI_NOT_FOUND = "lishi_not_found"
    LISHI_CLOSED = "lishi_closed"
    LISHI_LAPSED = "lishi_lapsed"
    OVERLOADED = "overloaded"
    PAUSED = "paused"
    SEED_UNKNOWN = "seed_unknown"
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    SHARD_UNAVAILABLE = "shard_unavailable"
    OUT_OF_ORDER = "out_of_order"


Kind = Literal["lucky", "equal", "direct", "group", "password", "star", "rain", "photo", "lishi"]
"""What a packet is to people. How it is split and who may take it stands in its terms."""

ALGORITHMS = ("even/1", "double-mean/1", "equal/1")
ALGORITHM_OF_KIND = {"lucky": "even/1", "equal": "equal/1", "direct": "equal/1", "photo": "equal/1", "lishi": "equal/1"}
"""Of a kind that says how it is split, and of the ways in which others may be."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The reply that carries a refusal. `part`: whose part of a bound is full (`actors.kernel.quota`), or empty."""

    code: Refusal
    part: str = ""


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
    """He may not take it: the sender, where a packet is for the public."""
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
    """What the sender added once he knew the commitment; empty: nothing."""
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


class PayoutRun(msgspec.Struct, frozen=True, array_like=True, tag="payout_run"):
    """Transfers of one packet from its book to one wallet stream, numbered one after another from `number` on.

    `share`: takers' shares; `refund`: what is left goes back to the sender; `returned`: so does a second funding, which
    is no part of the packet. Row i is transfer `number + i`, of `amounts_fen[i]` to `users[i]`.
    """

    number: int
    kind: Literal["share", "refund", "returned"]
    tenant: str
    packet_id: str
    users: list[str]
    amounts_fen: list[int]
    at_ms: int

    @property
    def transfers(self) -> int:
        """How many transfers these are."""
        return len(self.users)

    @property
    def amount_fen(self) -> int:
        """What they move together."""
        return sum(self.amounts_fen)


class RunsReceived(msgspec.Struct, frozen=True, array_like=True, tag="runs_received"):
    """The wallet stream took the next transfers of one packet stream: `transit -> change`, watermark included."""

    source: str
    runs: list[PayoutRun]
    at_ms: int


class Payout(msgspec.Struct, frozen=True, array_like=True):
    """A single transfer as journals held it before `PayoutRun`: a share, or money that goes back to the sender."""

    number: int
    kind: Literal["share", "refund"]
    tenant: str
    user: str
    amount_fen: int
    packet_id: str


class PayoutsReceived(msgspec.Struct, frozen=True, array_like=True, tag="payouts_received"):
    """`RunsReceived` as journals held it before: a `Payout` for each transfer. Read, never written any more."""

    source: str
    payouts: list[Payout]
    at_ms: int

    def by_run(self) -> RunsReceived:
        """Return the same in runs of one transfer each."""
        runs = [PayoutRun(p.number, p.kind, p.tenant, p.packet_id, [p.user], [p.amount_fen], 0) for p in self.payouts]
        return RunsReceived(self.source, runs, self.at_ms)


class Settled(msgspec.Struct, frozen=True, array_like=True, tag="settled"):
    """The destination has every transfer up to `number` durably; the source may forget them."""

    destination: str
    number: int


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_taken"):
    """A snapshot of the stream up to the named position was written and verified; activation may start from it."""

    epoch: int
    seq: int


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


class AdoptSnapshot(msgspec.Struct, frozen=True, array_like=True, tag="adopt_snapshot"):
    """Command to any stream: a snapshot of this version, up to this position, has been written and verified."""

    epoch: int
    seq: int
    version: int
    work: int
    """What a replay up to there costs: see `actors.kernel.machine`."""


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """Reply: it is so, durably."""


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """What a source has for one destination: the next `Receive`, ready to deliver."""

    source: str
    destination: str
    receive: Receive
