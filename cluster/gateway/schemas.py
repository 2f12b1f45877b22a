"""Schemas: the bodies of the HTTP contract, as pydantic models. Strict types, unknown fields refused.

Requests are validated by them (those of the hot routes by `cluster.gateway.packet.grab_bodies`); answers are written by
msgspec in the same shape, and the models document them. Amounts are integer fen, instants integer Unix milliseconds.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


def _sound(text: str) -> str:
    """Return a text that can be written as UTF-8: JSON may name half a surrogate, which nobody can store."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as failure:
            raise ValueError("no lone surrogates") from failure
    return text


Text = Annotated[str, AfterValidator(_sound)]
UserId = Annotated[Text, StringConstraints(min_length=1, max_length=64)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class UserBody(Body):
    """A sandbox user to make."""

    user: UserId
    tenant: Annotated[Text, StringConstraints(min_length=1, max_length=32)]
    balance_fen: int = Field(ge=0, le=2**53 - 1)


class ClockBody(Body):
    """How far the platform's clock moves forward."""

    advance_ms: int = Field(ge=0, le=10 * 366 * 86_400_000)


class LeverBody(Body):
    """Whether something is to be paused."""

    paused: bool


class CommitBody(Body):
    """How the packet's shares are to be drawn; of a star packet its `star_count` shares, of a rain its `bursts`."""

    algorithm: Literal["even/1", "double-mean/1", "equal/1"] = "even/1"
    star_count: int | None = Field(default=None, ge=1)
    bursts: int | None = Field(default=None, ge=1)


class CommitmentBody(BaseModel):
    """What the platform has committed to, and until when a packet may be sent under it.

    `commitments`: of each lane or burst, in order, if there are several; `commitment` is the first.
    """

    commitment_id: str
    algorithm: str
    commitment: str
    commitments: list[str] | None = None
    expires_at_ms: int


class BurstBody(Body):
    """One burst of a rain to send: open from one instant until before another."""

    opens_at_ms: int = Field(ge=0, le=2**53 - 1)
    ends_at_ms: int = Field(ge=0, le=2**53 - 1)
    total_fen: int = Field(ge=1, le=2**53 - 1)
    count: int = Field(ge=1, le=2**31 - 1)


class RainBody(Body):
    """A rain to send: bursts one after another. `rest`: what a burst leaves rolls into the next, or returns."""

    bursts: list[BurstBody] = Field(min_length=1)
    rest: Literal["roll", "return"] = "roll"
    greeting: Text = ""
    sponsor: Text = ""
    shares: Literal["lucky", "equal"] = "lucky"
    algorithm: Literal["even/1", "double-mean/1"] = "even/1"
    share_fen_min: int | None = Field(default=None, ge=1)
    share_fen_max: int | None = Field(default=None, ge=1)
    commitment_id: str | None = None
    sender_nonce: Text | None = None


class BurstState(BaseModel):
    """One burst: a packet, grabbed as any other."""

    packet_id: str
    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int
    commitment: str
    state: Literal["open", "drained", "expired"]
    grabbed_count: int | None = None
    grabbed_fen: int | None = None
    refunded_fen: int | None = None
    rolled_in_fen: int | None = None
    rolled_out_fen: int | None = None


class RainState(BaseModel):
    """A rain."""

    rain_id: str
    kind: Literal["rain"]
    total_fen: int
    rest: Literal["roll", "return"]
    greeting: str
    sponsor: str | None = None
    sender: str
    created_at_ms: int
    algorithm: str
    bursts: list[BurstState]


class AskBody(Body):
    """Who is asked for a packet, of the caller's tenant."""

    asked: UserId
    greeting: Text = ""


class AcceptBody(Body):
    """How much is given."""

    amount_fen: int = Field(ge=1, le=2**53 - 1)
    greeting: Text = ""


class NoteBody(Body):
    """What a taker writes to the sender."""

    text: Text


class LishiBody(BaseModel):
    """A request for a packet. `packet_id`: what it was accepted with."""

    lishi_id: str
    asker: str
    asked: str
    greeting: str
    state: Literal["asked", "accepted", "declined", "lapsed"]
    asked_at_ms: int
    lapses_at_ms: int
    packet_id: str | None = None


class LishiListBody(BaseModel):
    """Requests that wait for the caller's answer, oldest first."""

    lishi: list[LishiBody]


class WrittenNote(BaseModel):
    """A note as it was taken."""

    packet_id: str
    user: str
    text: str
    at_ms: int
    replayed: bool


class NoteEntry(BaseModel):
    """A note that a taker wrote."""

    user: str
    text: str
    at_ms: int


class SentPacket(BaseModel):
    """A packet as it was sent."""

    packet_id: str
    kind: str
    state: Literal["open", "drained", "expired"]
    total_fen: int
    count: int
    greeting: str
    addressee: str | None = None
    group: str | None = None
    opens_at_ms: int | None = None
    sponsor: str | None = None
    reference: str | None = None
    sender: str
    created_at_ms: int
    expires_at_ms: int
    algorithm: str
    commitment: str
    lanes: int | None = None
    lane_commitments: list[str] | None = None


class GrabEntry(BaseModel):
    """One taker."""

    rank: int
    user: str
    amount_fen: int
    at_ms: int


class Luckiest(BaseModel):
    """Who has the greatest share; of equals the first."""

    user: str
    rank: int
    amount_fen: int


class PacketBody(SentPacket):
    """A packet as it durably is. `grabs` and `notes` are there for its sender and its takers."""

    grabbed_count: int
    grabbed_fen: int
    refunded_fen: int
    rolled_out_fen: int | None = None
    drained_after_ms: int | None = None
    grabs: list[GrabEntry] | None = None
    next_after_rank: int | None = None
    luckiest: Luckiest | None = None
    notes: list[NoteEntry] | None = None


class ShareBody(BaseModel):
    """A share that was taken."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class BatchShare(BaseModel):
    """A grab of a batch that took a share."""

    amount_fen: int
    rank: int
    replayed: bool


class BatchRefusal(BaseModel):
    """A grab of a batch that did not; `code` as in a problem."""

    code: str


class BatchBody(BaseModel):
    """Results, in the order of the grabs."""

    results: list[BatchShare | BatchRefusal]


class ProofBody(BaseModel):
    """What anybody needs to recompute the shares; `seed` and `shares_fen` only after the end.

    docs/fairness.md says what is computed from it. Of a packet in lanes this is one lane; of a big one it is one page.
    """

    packet_id: str
    algorithm: str
    commitment: str
    sender_nonce: str | None
    total_fen: int
    count: int
    share_fen_min: int
    share_fen_max: int
    state: Literal["open", "drained", "expired"]
    lanes: int
    rank_base: int
    chain_head: str
    chain_links: list[int]
    next_after_rank: int | None
    seed: str | None = None
    shares_fen: list[int] | None = None
    grabs: list[GrabEntry] | None = None


class PaymentBody(Body):
    """The price of a photo, as it was shown."""

    price_fen: int = Field(ge=1, le=2**53 - 1)


class PaymentState(BaseModel):
    """A photo that was paid for, by a packet."""

    photo_id: str
    packet_id: str
    price_fen: int
    paid_at_ms: int


class PhotoState(BaseModel):
    """A photo as it was made. Sizes in pixels."""

    photo_id: str
    owner: str
    width: int
    height: int
    price_fen_min: int
    price_fen_max: int
    created_at_ms: int


class PhotoBody(PhotoState):
    """A photo as its reader sees it; for its owner there is no price."""

    paid: bool
    price_fen: int | None


class WalletBody(BaseModel):
    """A balance."""

    available_fen: int
    held_fen: int


class StatementEntry(BaseModel):
    """One line of a statement."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class StatementBody(BaseModel):
    """Lines, newest first; `next_cursor` continues.

    `older_lines_elsewhere`: so many lines, older than these, are kept no longer here; `hongbao statement` has them.
    """

    entries: list[StatementEntry]
    next_cursor: str | None
    older_lines_elsewhere: int


class CreatedUser(BaseModel):
    """A sandbox user and a fresh token."""

    user: str
    tenant: str
    token: str


class ClockState(BaseModel):
    """How far the platform's clock is ahead of the wall clock."""

    offset_ms: int


class LeverState(BaseModel):
    """What a lever was set to, durably."""

    lever: Literal["sends", "grabs", "packet"]
    packet_id: str | None
    paused: bool


class PausedBody(BaseModel):
    """A lever that is on. `missing`: streams that should have it and do not; set it again."""

    lever: Literal["sends", "grabs", "packet"]
    packet_id: str | None
    since_ms: int
    by: str
    missing: list[str]


class LeversBody(BaseModel):
    """What is paused."""

    paused: list[PausedBody]


class ReadyBody(BaseModel):
    """The system is ready to serve money."""

    status: Literal["ready"]
    system: str


class AliveBody(BaseModel):
    """This replica runs."""

    status: Literal["alive"]
