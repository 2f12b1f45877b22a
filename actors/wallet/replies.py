"""Wallet replies: what a wallet stream answers. Amounts in fen, instants in Unix ms."""

from typing import Literal

import msgspec

from actors.transfers.funding import PacketFunded


class AskCounted(msgspec.Struct, frozen=True, array_like=True, tag="ask_counted"):
    """Reply to `CountLishi`: the ask is counted. `at_ms`: the stamp of its count, the same for a repeat."""

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
