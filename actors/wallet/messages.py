"""Wallet messages: what a wallet stream is asked, what happens in it, what it answers.

Commands and replies travel between gateway and shard; events are in the journal (a field is only ever added at the
end, with a default). Amounts in fen, stamps in Unix ms.
"""

from typing import Literal

import msgspec

from actors.ledger.transfer import Kind, PacketFunded, Special


class Burst(msgspec.Struct, frozen=True, array_like=True):
    """One burst of a rain: a packet for a crowd, open between two instants (Unix ms)."""

    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int


class Send(msgspec.Struct, frozen=True, array_like=True, tag="send"):
    """A user sends a packet from his change. `key` is his idempotency key.

    `algorithm`: how it is split, where its kind does not say that (empty: it does). `special.phrase` is what
    `actors.phrase.spoken` returned; the packet keeps it bound to its id. `commitment_id`: what `Commit` gave him, and
    `sender_nonce` what he adds to it. `share_fen_min`, `share_fen_max`: a band of his own (0: the platform's).
    """

    tenant: str
    user: str
    key: str
    kind: Kind
    total_fen: int
    count: int
    greeting: str
    algorithm: str = ""
    special: Special | None = None
    commitment_id: str = ""
    sender_nonce: str = ""
    share_fen_min: int = 0
    share_fen_max: int = 0
    bursts: list[Burst] = []

    @property
    def star_count(self) -> int:
        """How many shares a star packet has; 0: it is none."""
        return self.count if self.kind == "star" else 0


class Commit(msgspec.Struct, frozen=True, array_like=True, tag="commit"):
    """A user wants to know the commitment of his next packet. `token`: drawn by the gateway, the same in a retry.

    `star_count`: it is a star packet of so many shares; `bursts`: it is a rain of so many; 0: it is neither.
    """

    tenant: str
    user: str
    token: str
    algorithm: str
    star_count: int = 0
    bursts: int = 0


class Committed(msgspec.Struct, frozen=True, array_like=True, tag="committed"):
    """The platform committed to the seed of a packet that is not sent yet. No money moves. Also replies to `Commit`.

    Of a packet in lanes, or of a rain, `commitment` is the first one's and `further` are those after it, in order.
    """

    packet_id: str
    tenant: str
    user: str
    algorithm: str
    key_id: str
    commitment: bytes
    at_ms: int
    expires_at_ms: int
    star_count: int = 0
    bursts: int = 0
    further: list[bytes] = []

    @property
    def commitments(self) -> list[bytes]:
        """All of them, in order."""
        return [self.commitment, *self.further]


class CreditSandbox(msgspec.Struct, frozen=True, array_like=True, tag="credit_sandbox"):
    """Sandbox only: make a user with a balance out of the faucet; an existing user keeps his."""

    tenant: str
    user: str
    amount_fen: int


class Hold(msgspec.Struct, frozen=True, array_like=True, tag="hold"):
    """Reserve money of a user until it is posted or voided. `hold_id` is the caller's, unique for ever."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int


class PostHold(msgspec.Struct, frozen=True, array_like=True, tag="post_hold"):
    """Take the held money: `held -> bank`."""

    hold_id: str


class VoidHold(msgspec.Struct, frozen=True, array_like=True, tag="void_hold"):
    """Release the held money: `held -> change`."""

    hold_id: str


class ReadWallet(msgspec.Struct, frozen=True, array_like=True, tag="read_wallet"):
    """Somebody looks at a balance."""

    tenant: str
    user: str


class ReadStatement(msgspec.Struct, frozen=True, array_like=True, tag="read_statement"):
    """Somebody looks at his lines, newest first; `below` is the line number to continue under (None: the newest)."""

    tenant: str
    user: str
    limit: int
    below: int | None


class FindFunding(msgspec.Struct, frozen=True, array_like=True, tag="find_funding"):
    """Has this book paid for that packet? Asked before anybody says that a packet does not exist."""

    packet_id: str


class AskLishi(msgspec.Struct, frozen=True, array_like=True, tag="ask_lishi"):
    """A user asks a person of their tenant for a packet. `key` is the asker's idempotency key.

    `counted_ms`: what the asker's stream answered to `CountLishi`.
    """

    tenant: str
    user: str
    asked: str
    key: str
    greeting: str
    counted_ms: int = 0


class CountLishi(msgspec.Struct, frozen=True, array_like=True, tag="count_lishi"):
    """A user is about to ask a person of their tenant for a packet, with this key. Answered by `AskCounted`."""

    tenant: str
    user: str
    asked: str
    key: str


class AskCounted(msgspec.Struct, frozen=True, array_like=True, tag="ask_counted"):
    """Reply to `CountLishi`: the ask is counted. `at_ms`: the stamp of its count, the same for a repeat."""

    at_ms: int


class ReadLishi(msgspec.Struct, frozen=True, array_like=True, tag="read_lishi"):
    """One of the two looks at a lishi."""

    lishi_id: str
    tenant: str
    user: str


class ListLishi(msgspec.Struct, frozen=True, array_like=True, tag="list_lishi"):
    """Somebody looks at what waits for his answer."""

    tenant: str
    user: str


class AcceptLishi(msgspec.Struct, frozen=True, array_like=True, tag="accept_lishi"):
    """Who was asked gives so much. `key` is his idempotency key."""

    lishi_id: str
    tenant: str
    user: str
    key: str
    amount_fen: int
    greeting: str


class DeclineLishi(msgspec.Struct, frozen=True, array_like=True, tag="decline_lishi"):
    """Who was asked gives nothing."""

    lishi_id: str
    tenant: str
    user: str


class WriteNote(msgspec.Struct, frozen=True, array_like=True, tag="write_note"):
    """Somebody who has a share of a packet thanks its sender; whether he has one is asked before."""

    packet_id: str
    user: str
    text: str
    tenant: str


class KeepPhoto(msgspec.Struct, frozen=True, array_like=True, tag="keep_photo"):
    """An owner is about to keep a photo that takes so many bytes: is there room for it? Answered by `Done`."""

    tenant: str
    user: str
    photo_id: str
    size_bytes: int


class ReadNotes(msgspec.Struct, frozen=True, array_like=True, tag="read_notes"):
    """Somebody who may see who took a packet looks at its notes."""

    packet_id: str


class LishiCounted(msgspec.Struct, frozen=True, array_like=True, tag="lishi_counted"):
    """In the asker's stream: he is about to ask that person. No money moves."""

    tenant: str
    asker: str
    asked: str
    key: str
    at_ms: int


class LishiAsked(msgspec.Struct, frozen=True, array_like=True, tag="lishi_asked"):
    """Somebody asked for a packet. No money moves."""

    lishi_id: str
    tenant: str
    asker: str
    asked: str
    greeting: str
    at_ms: int
    lapses_at_ms: int
    counted_ms: int = 0
    """The stamp of its `LishiCounted`, which is in the asker's stream."""


class LishiClosed(msgspec.Struct, frozen=True, array_like=True, tag="lishi_closed"):
    """A lishi was answered, or its time is over. Accepted: the `PacketFunded` behind it in the same entry pays."""

    lishi_id: str
    outcome: Literal["accepted", "declined", "lapsed"]
    at_ms: int
    packet_id: str = ""


class Noted(msgspec.Struct, frozen=True, array_like=True, tag="noted"):
    """A taker of a packet wrote to its sender, instead of what he wrote before. No money moves."""

    packet_id: str
    user: str
    text: str
    at_ms: int
    tenant: str = ""


class PhotoKept(msgspec.Struct, frozen=True, array_like=True, tag="photo_kept"):
    """In the owner's stream: a photo of theirs takes so many bytes, for ever. No money moves."""

    photo_id: str
    tenant: str
    user: str
    size_bytes: int
    at_ms: int


class SandboxCredited(msgspec.Struct, frozen=True, array_like=True, tag="sandbox_credited"):
    """The faucet paid a new user: `faucet -> change`. Zero makes an empty account."""

    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class Held(msgspec.Struct, frozen=True, array_like=True, tag="held"):
    """Money was reserved: `change -> held`."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class HoldPosted(msgspec.Struct, frozen=True, array_like=True, tag="hold_posted"):
    """Held money was taken: `held -> bank`."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class HoldVoided(msgspec.Struct, frozen=True, array_like=True, tag="hold_voided"):
    """Held money was released: `held -> change`."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class Funded(msgspec.Struct, frozen=True, array_like=True, tag="funded"):
    """Reply to `Send` and `FindFunding`: the packet is paid for. `source` is the wallet stream that paid."""

    source: str
    funding: PacketFunded
    replayed: bool
    others: list[PacketFunded] = []
    """The other lanes, or the later bursts, of the same send."""


class WalletView(msgspec.Struct, frozen=True, array_like=True, tag="wallet_view"):
    """A balance as it durably is; zeros for a user who never had money."""

    available_fen: int
    held_fen: int


class StatementLine(msgspec.Struct, frozen=True, array_like=True):
    """One line: what moved, and the available balance after it."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class Statement(msgspec.Struct, frozen=True, array_like=True, tag="statement"):
    """Lines, newest first; `below` continues (None: no more are kept). `let_go`: older lines that are not kept here."""

    lines: list[StatementLine]
    below: int | None
    let_go: int = 0


class Lishi(msgspec.Struct, frozen=True, array_like=True, tag="lishi"):
    """A lishi as it stands; it is kept as that, and told as that."""

    lishi_id: str
    tenant: str
    asker: str
    asked: str
    greeting: str
    asked_at_ms: int
    lapses_at_ms: int
    state: Literal["asked", "accepted", "declined", "lapsed"] = "asked"
    closed_at_ms: int = 0
    packet_id: str = ""
    """What it was accepted with; empty: it was not."""
    counted_ms: int = 0
    """The stamp of its `LishiCounted`, which is in the asker's stream."""

    @property
    def ended_ms(self) -> int:
        """When it ended, or is to. A lapse is journaled when somebody meets it, and counts from when it was due."""
        return self.closed_at_ms if self.state in ("accepted", "declined") else self.lapses_at_ms


class LishiTold(msgspec.Struct, frozen=True, array_like=True, tag="lishi_told"):
    """Reply to `AskLishi`, `ReadLishi`, `DeclineLishi`; `replayed` when that had been done before."""

    lishi: Lishi
    replayed: bool


class LishiList(msgspec.Struct, frozen=True, array_like=True, tag="lishi_list"):
    """Reply to `ListLishi`: oldest first."""

    lishi: list[Lishi]


class Note(msgspec.Struct, frozen=True, array_like=True, tag="note"):
    """A note as it stands. `since_ms`: when its author first wrote one for that packet."""

    user: str
    text: str
    at_ms: int
    since_ms: int
    changes: int = 0
    tenant: str = ""


class NoteTold(msgspec.Struct, frozen=True, array_like=True, tag="note_told"):
    """Reply to `WriteNote`; `replayed` when it said so already."""

    at_ms: int
    replayed: bool


class NoteList(msgspec.Struct, frozen=True, array_like=True, tag="note_list"):
    """Reply to `ReadNotes`, in the order in which they were first written."""

    notes: list[Note]
