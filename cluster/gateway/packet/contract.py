"""Contract of packets over HTTP: what is sent to the routes of packets and rains, and what they answer.

Amounts are integer fen, instants integer Unix milliseconds, ranks count from 1. A reply's field that is `Unset` is left
out; one that may be null says so.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from actors.transfers.ids import LANES_MAX
from actors.transfers.phrase import PHRASE_CHARS_MAX, normal
from actors.wallet.rules import WalletRules
from cluster.config import Settings
from cluster.gateway.contract import (
    USER,
    Bounds,
    BoundsOf,
    Count,
    Fen,
    FieldBound,
    Instant,
    Query,
    RequestBody,
    Text,
    at_least,
    at_most,
    chars,
    items,
    said,
    told_only,
)

SentKind = Literal["lucky", "equal", "direct", "group", "password", "star"]
"""The kinds that are sent as such; others come about by routes of their own."""
State = Literal["open", "drained", "expired"]
Rank = Annotated[int, Meta(ge=0, le=2**31 - 1)]

_PHRASE = FieldBound(
    {"minLength": 1, "maxLength": PHRASE_CHARS_MAX, "pattern": r"\S"},
    lambda phrase: len(phrase) <= PHRASE_CHARS_MAX and bool(normal(phrase)),
    f"at most {PHRASE_CHARS_MAX} characters, not all of them blank",
)
_GRAB: Bounds = {"group": USER, "passphrase": chars(PHRASE_CHARS_MAX)}


# Packets.


class SendBody(RequestBody):
    """A packet to send.

    `direct`: for `addressee` alone; `group`: for members of `group`; `password`: for who says `passphrase`; `star`:
    for the public, by a person or a `sponsor`, from `opens_at_ms` on, at most `day_count_max` shares a day, each of
    `share_fen_min` to `share_fen_max`. `shares` tells how a group, password or star packet is split (`lucky`, unless
    told); `algorithm` how lucky shares are drawn, by default `even/1`. `sender_nonce` is mixed into what was committed
    to under `commitment_id`.
    """

    kind: SentKind
    total_fen: Fen
    count: Count
    greeting: Text = ""
    shares: Literal["lucky", "equal"] | None = None
    algorithm: Literal["even/1", "double-mean/1"] | None = None
    commitment_id: str | None = None
    sender_nonce: Text | None = None
    addressee: str | None = None
    group: str | None = None
    passphrase: str | None = None
    opens_at_ms: Instant | None = None
    sponsor: Text | None = None
    day_count_max: Count | None = None
    share_fen_min: Fen | None = None
    share_fen_max: Fen | None = None

    @property
    def is_equal(self) -> bool:
        """Tell whether all shares are the same."""
        return self.kind in ("equal", "direct") or self.shares == "equal"


class SentPacket(msgspec.Struct, kw_only=True):
    """A packet as it was sent."""

    packet_id: str
    kind: str
    state: State
    total_fen: int
    count: int
    greeting: str
    addressee: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    opens_at_ms: int | UnsetType = UNSET
    sponsor: str | UnsetType = UNSET
    reference: str | UnsetType = UNSET
    sender: str
    created_at_ms: int
    expires_at_ms: int
    algorithm: str
    commitment: str
    lanes: int | UnsetType = UNSET
    lane_commitments: list[str] | UnsetType = UNSET


class GrabEntry(msgspec.Struct):
    """One taker."""

    rank: int
    user: str
    amount_fen: int
    at_ms: int


class LuckiestTaker(msgspec.Struct):
    """Who has the greatest share; of equals the first."""

    user: str
    rank: int
    amount_fen: int


class NoteEntry(msgspec.Struct):
    """A note that a taker wrote."""

    user: str
    text: str
    at_ms: int


class PacketBody(SentPacket, kw_only=True):
    """A packet as it durably is. `grabs` and `notes` are there for its sender and its takers."""

    grabbed_count: int
    grabbed_fen: int
    refunded_fen: int
    rolled_out_fen: int | UnsetType = UNSET
    drained_after_ms: int | UnsetType = UNSET
    grabs: list[GrabEntry] | UnsetType = UNSET
    next_after_rank: int | UnsetType = UNSET
    luckiest: LuckiestTaker | UnsetType = UNSET
    notes: list[NoteEntry] | UnsetType = UNSET


class ListPage(Query):
    """Which lines of a packet's list: those behind that rank."""

    after_rank: Rank = 0


class ProofPage(Query):
    """Which part of a proof: of one lane, the ranks behind that one."""

    lane: Annotated[int, Meta(ge=0)] = 0
    after_rank: Rank = 0


class ProofBody(msgspec.Struct, kw_only=True):
    """What anybody needs to recompute the shares; `seed` and `shares_fen` only after the end.

    The README says what is computed from it. Of a packet in lanes this is one lane; of a big one it is one page.
    """

    packet_id: str
    algorithm: str
    commitment: str
    sender_nonce: str | None
    total_fen: int
    count: int
    share_fen_min: int
    share_fen_max: int
    state: State
    lanes: int
    rank_base: int
    chain_head: str
    chain_links: list[int]
    next_after_rank: int | None
    seed: str | UnsetType = UNSET
    shares_fen: list[int] | UnsetType = UNSET
    grabs: list[GrabEntry] | UnsetType = UNSET


class NoteBody(RequestBody):
    """What a taker writes to the sender."""

    text: Text


class WrittenNote(msgspec.Struct):
    """A note as it was taken."""

    packet_id: str
    user: str
    text: str
    at_ms: int
    replayed: bool


# Commitments.


class CommitBody(RequestBody):
    """How the packet's shares are to be drawn; of a star packet its `star_count` shares, of a rain its `bursts`."""

    algorithm: Literal["even/1", "double-mean/1", "equal/1"] = "even/1"
    star_count: Annotated[int, Meta(ge=1)] | None = None
    bursts: Annotated[int, Meta(ge=1)] | None = None


class CommitmentBody(msgspec.Struct, kw_only=True):
    """What the platform has committed to, and until when a packet may be sent under it.

    `commitments`: of each lane or burst, in order, if there are several; `commitment` is the first.
    """

    commitment_id: str
    algorithm: str
    commitment: str
    expires_at_ms: int
    commitments: list[str] | UnsetType = UNSET


# Grabs.


class GrabBody(RequestBody):
    """Nothing for most packets; a phrase for one that asks for it, `group` (gateways only) for a group's."""

    passphrase: str | None = None
    group: str | None = None


class ShareBody(msgspec.Struct, frozen=True, gc=False):
    """A share that was taken."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class GrabItem(RequestBody, gc=False):
    """One grab of a batch."""

    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None


class GrabItems(RequestBody):
    """A batch."""

    grabs: list[GrabItem]


class BatchShare(msgspec.Struct, frozen=True, gc=False):
    """A grab of a batch that took a share."""

    amount_fen: int
    rank: int
    replayed: bool


class BatchRefusal(msgspec.Struct, frozen=True, gc=False):
    """A grab of a batch that did not; `code` as in a problem."""

    code: str


def _one_of(*shapes: type) -> Meta:
    """Say that a value is one of structs without tags: msgspec writes them, but has no schema for it."""
    choices = [{"$ref": f"#/components/schemas/{shape.__name__}"} for shape in shapes]
    return Meta(extra_json_schema={"anyOf": choices})


class BatchBody(msgspec.Struct, frozen=True):
    """Results, in the order of the grabs."""

    PARTS: ClassVar[tuple[type, ...]] = (BatchShare, BatchRefusal)
    """Structs that the schema names."""
    results: list[Annotated[Any, _one_of(BatchShare, BatchRefusal)]]


# Streams.


LineId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | str
"""The caller's own name of a line."""


class StreamGrab(RequestBody, gc=False):
    """A line in: one grab. `id` comes back with its answer."""

    id: LineId
    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None


class StreamShare(msgspec.Struct, gc=False):
    """A line out: the share that was taken."""

    id: LineId
    amount_fen: int
    rank: int
    replayed: bool


class StreamCode(msgspec.Struct, gc=False):
    """A line out: why there is no share. `id` is null where the line's own cannot be read."""

    id: LineId | None
    code: str


class StreamEnd(msgspec.Struct):
    """The last line out: why the stream ends. What was not answered may have taken effect: ask it again."""

    code: str
    detail: str


# Rains.


class BurstBody(RequestBody):
    """One burst of a rain to send: open from one instant until before another."""

    opens_at_ms: Instant
    ends_at_ms: Instant
    total_fen: Fen
    count: Count


class RainBody(RequestBody):
    """A rain to send: bursts one after another. `rest`: what a burst leaves rolls into the next, or returns."""

    bursts: Annotated[list[BurstBody], Meta(min_length=1)]
    rest: Literal["roll", "return"] = "roll"
    greeting: Text = ""
    sponsor: Text = ""
    shares: Literal["lucky", "equal"] = "lucky"
    algorithm: Literal["even/1", "double-mean/1"] | None = None
    share_fen_min: Annotated[int, Meta(ge=1)] | None = None
    share_fen_max: Annotated[int, Meta(ge=1)] | None = None
    commitment_id: str | None = None
    sender_nonce: Text | None = None


class BurstState(msgspec.Struct, kw_only=True):
    """One burst: a packet, grabbed as any other."""

    packet_id: str
    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int
    commitment: str
    state: State
    grabbed_count: int | UnsetType = UNSET
    grabbed_fen: int | UnsetType = UNSET
    refunded_fen: int | UnsetType = UNSET
    rolled_in_fen: int | UnsetType = UNSET
    rolled_out_fen: int | UnsetType = UNSET


class RainState(msgspec.Struct, kw_only=True):
    """A rain."""

    rain_id: str
    kind: Literal["rain"]
    total_fen: int
    rest: Literal["roll", "return"]
    greeting: str
    sponsor: str | UnsetType = UNSET
    sender: str
    created_at_ms: int
    algorithm: str
    bursts: list[BurstState]


def bounds(settings: Settings) -> BoundsOf:
    """Return the configured bounds of fields. Those that hang on other fields are only told here."""
    limits, sends = settings.limits, settings.rules(WalletRules).sends
    total_fen_max = max(limits.total_fen_max, limits.crowd_total_fen_max)
    of_total = f"At most {limits.total_fen_max} fen, and for a star packet {limits.crowd_total_fen_max}."
    of_count = f"At most {limits.count_max} shares, and for a star packet {limits.crowd_count_max}."
    count_max = max(limits.count_max, limits.crowd_count_max)
    end = told_only({"minimum": sends.share_fen_min, "maximum": sends.share_fen_max})
    of_every_send = {
        "greeting": chars(limits.greeting_chars_max),
        "sender_nonce": chars(limits.nonce_chars_max, 1),
        "sponsor": chars(limits.sponsor_chars_max),
        "share_fen_min": end,
        "share_fen_max": end,
    }
    return {
        SendBody: {
            "total_fen": told_only({"minimum": sends.share_fen_min, "maximum": total_fen_max, "description": of_total}),
            "count": told_only({"maximum": count_max, "description": of_count}),
            "addressee": USER,
            "group": USER,
            "passphrase": _PHRASE,
            "day_count_max": at_least(LANES_MAX),
            **of_every_send,
        },
        NoteBody: {"text": said(limits.note_chars_max)},
        CommitBody: {"star_count": at_most(limits.crowd_count_max, "shares"), "bursts": at_most(limits.bursts_max)},
        GrabBody: _GRAB,
        GrabItem: {"user": USER, **_GRAB},
        GrabItems: {"grabs": items(settings.bounds.batch_size_max)},
        StreamGrab: {"user": USER, **_GRAB},
        BurstBody: {
            "total_fen": told_only({"minimum": sends.share_fen_min, "maximum": limits.crowd_total_fen_max}),
            "count": at_most(limits.crowd_count_max, "shares"),
        },
        RainBody: {"bursts": items(limits.bursts_max), **of_every_send},
    }
