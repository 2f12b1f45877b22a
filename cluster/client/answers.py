"""Answers: the bodies of successful responses. Fields that later versions add are ignored."""

from typing import Any

import msgspec


class CommitmentAnswer(msgspec.Struct, frozen=True):
    """A commitment, and until when a packet may be sent under it; `commitments`: of each lane or burst."""

    commitment_id: str
    algorithm: str
    commitment: str
    expires_at_ms: int
    commitments: list[str] | None = None


class TakenShare(msgspec.Struct, frozen=True):
    """A share as the packet lists it."""

    rank: int
    user: str
    amount_fen: int
    at_ms: int


class LuckiestAnswer(msgspec.Struct, frozen=True):
    """Who holds the greatest share of a drained packet."""

    user: str
    rank: int
    amount_fen: int


class NoteAnswer(msgspec.Struct, frozen=True):
    """A note from a taker to the sender."""

    user: str
    text: str
    at_ms: int
    packet_id: str = ""
    replayed: bool = False


class PacketAnswer(msgspec.Struct, frozen=True):
    """A packet as sent or read. `grabs` and `notes` are there for its sender and its takers only."""

    packet_id: str
    kind: str
    state: str
    total_fen: int
    count: int
    sender: str
    created_at_ms: int
    expires_at_ms: int
    commitment: str
    algorithm: str = ""
    greeting: str = ""
    addressee: str | None = None
    group: str | None = None
    sponsor: str | None = None
    reference: str | None = None
    opens_at_ms: int | None = None
    lanes: int = 1
    lane_commitments: list[str] | None = None
    grabbed_count: int = 0
    grabbed_fen: int = 0
    refunded_fen: int = 0
    rolled_out_fen: int = 0
    drained_after_ms: int | None = None
    grabs: list[TakenShare] | None = None
    next_after_rank: int | None = None
    luckiest: LuckiestAnswer | None = None
    notes: list[NoteAnswer] | None = None


class GrabAnswer(msgspec.Struct, frozen=True):
    """A successful grab."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class ItemAnswer(msgspec.Struct, frozen=True):
    """One result of a batch: a share, or a `code`; `unknown` is the client's own, as in `ApiProblem`."""

    amount_fen: int = 0
    rank: int = 0
    replayed: bool = False
    code: str = ""
    unknown: bool = False


class BatchAnswer(msgspec.Struct, frozen=True):
    """Results in the order of the grabs."""

    results: list[ItemAnswer]


class BurstAnswer(msgspec.Struct, frozen=True):
    """One burst of a rain: a packet, grabbed as any other."""

    packet_id: str
    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int
    commitment: str
    state: str
    grabbed_count: int | None = None
    grabbed_fen: int | None = None
    refunded_fen: int | None = None
    rolled_in_fen: int | None = None
    rolled_out_fen: int | None = None


class RainAnswer(msgspec.Struct, frozen=True):
    """A rain."""

    rain_id: str
    total_fen: int
    rest: str
    greeting: str
    sender: str
    created_at_ms: int
    algorithm: str
    bursts: list[BurstAnswer]
    sponsor: str | None = None


class LishiAnswer(msgspec.Struct, frozen=True):
    """A request for a packet; `packet_id`: what it was accepted with."""

    lishi_id: str
    asker: str
    asked: str
    greeting: str
    state: str
    asked_at_ms: int
    lapses_at_ms: int
    packet_id: str | None = None


class LishiListAnswer(msgspec.Struct, frozen=True):
    """Requests that wait for the caller's answer, oldest first."""

    lishi: list[LishiAnswer]


class PhotoAnswer(msgspec.Struct, frozen=True):
    """A photo; `price_fen` is the reader's own, None for its owner. Sizes in pixels."""

    photo_id: str
    owner: str
    width: int
    height: int
    price_fen_min: int
    price_fen_max: int
    created_at_ms: int
    paid: bool = False
    price_fen: int | None = None


class PaymentAnswer(msgspec.Struct, frozen=True):
    """A photo that was paid for, by a packet."""

    photo_id: str
    packet_id: str
    price_fen: int
    paid_at_ms: int


class WalletAnswer(msgspec.Struct, frozen=True):
    """A user's money."""

    available_fen: int
    held_fen: int


class StatementRow(msgspec.Struct, frozen=True):
    """One movement in a wallet."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class StatementAnswer(msgspec.Struct, frozen=True):
    """A page of movements, newest first; `older_lines_elsewhere` are kept by `hongbao statement` only."""

    entries: list[StatementRow]
    next_cursor: str | None = None
    older_lines_elsewhere: int = 0


class AuditAnswer(msgspec.Struct, frozen=True):
    """The conservation report."""

    shards: list[dict[str, Any]]
    """One book each: `stream`, `kind`, `version`, …, and amounts (`…_fen`), named by the kinds of a system."""
    funded_fen: int
    paid_fen: int
    refunded_fen: int
    remaining_fen: int
    in_flight_fen: int
    settlement_lag_ms: int
    difference_fen: int
    clean: bool


class PausedSwitch(msgspec.Struct, frozen=True):
    """What is paused: `sends`, `grabs`, or one `packet`; `missing` names streams that do not have it."""

    lever: str
    packet_id: str | None
    since_ms: int
    by: str
    missing: list[str]


class SwitchesAnswer(msgspec.Struct, frozen=True):
    """Everything that is paused."""

    paused: list[PausedSwitch]


class UserAnswer(msgspec.Struct, frozen=True):
    """A sandbox user and a fresh token."""

    user: str
    tenant: str
    token: str
