"""Wallet commands: what a wallet stream is asked. Amounts in fen, instants in Unix ms."""

import msgspec

from actors.transfers.funding import Kind, Special


class Burst(msgspec.Struct, frozen=True, array_like=True):
    """One burst of a rain: a packet for a crowd, open between two instants (Unix ms)."""

    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int


class Send(msgspec.Struct, frozen=True, array_like=True, tag="send"):
    """A user sends a packet from their change. `key` is their idempotency key.

    `algorithm`: how it is split, where its kind does not say that (empty: it does). `special.phrase` is what
    `actors.transfers.phrase.spoken` returned; the packet keeps it bound to its id. `commitment_id`: what `CommitSeed`
    gave, and `sender_nonce` what the user adds to it. `share_fen_min`, `share_fen_max`: a band of their own (0: the
    platform's).
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


class CommitSeed(msgspec.Struct, frozen=True, array_like=True, tag="commit"):
    """A user wants to know the commitment of their next packet. `token`: drawn by the gateway, the same in a retry.

    `star_count`: it is a star packet of so many shares; `bursts`: it is a rain of so many; 0: it is neither.
    """

    tenant: str
    user: str
    token: str
    algorithm: str
    star_count: int = 0
    bursts: int = 0


class CreditSandbox(msgspec.Struct, frozen=True, array_like=True, tag="credit_sandbox"):
    """Sandbox only: make a user with a balance out of the faucet; an existing user keeps their balance."""

    tenant: str
    user: str
    amount_fen: int


class ReadWallet(msgspec.Struct, frozen=True, array_like=True, tag="read_wallet"):
    """Somebody looks at a balance."""

    tenant: str
    user: str


class ReadStatement(msgspec.Struct, frozen=True, array_like=True, tag="read_statement"):
    """A user reads their lines, newest first; `below` is the line number to continue under (None: the newest)."""

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


class ReadLishi(msgspec.Struct, frozen=True, array_like=True, tag="read_lishi"):
    """One of the two looks at a lishi."""

    lishi_id: str
    tenant: str
    user: str


class ListLishi(msgspec.Struct, frozen=True, array_like=True, tag="list_lishi"):
    """A user reads the requests that wait for their answer."""

    tenant: str
    user: str


class AcceptLishi(msgspec.Struct, frozen=True, array_like=True, tag="accept_lishi"):
    """The asked user gives so much. `key` is their idempotency key."""

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
    """A taker of a packet thanks its sender; that they are a taker was checked before."""

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
