"""Views: what packet streams answered, in the shapes of the HTTP contract."""

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import asdict

from actors.kernel.messages import Refused
from actors.packet.fairness import share_seed_of
from actors.packet.replies import PacketView, Won
from actors.packet.split import Division
from actors.packet.state import sizes_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.ids import whole_id
from cluster.gateway.packet.contract import (
    BatchRefusal,
    BatchShare,
    BurstState,
    GrabEntry,
    LuckiestTaker,
    PacketBody,
    ProofBody,
    RainState,
    SentPacket,
    State,
)

INVALID_ITEM = BatchRefusal("invalid")
_REFUSALS: dict[str, BatchRefusal] = {code: BatchRefusal(code) for code in Refusal}


def sent_packet(funding: PacketFunded, others: Sequence[PacketFunded] = ()) -> SentPacket:
    """Return the packet as its sender is told it, the same for every repeat; `others`: its other lanes.

    A phrase is told to nobody.
    """
    special = funding.special or Special()
    sent = SentPacket(
        packet_id=whole_id(funding.packet_id),
        kind=funding.kind,
        state="open",
        total_fen=special.whole_fen or funding.total_fen,
        count=special.whole_count or funding.count,
        greeting=funding.greeting,
        addressee=special.addressee or UNSET,
        group=special.group or UNSET,
        opens_at_ms=special.opens_at_ms or UNSET,
        sponsor=special.sponsor or UNSET,
        reference=special.reference or UNSET,
        sender=funding.sender,
        created_at_ms=funding.at_ms,
        expires_at_ms=funding.expires_at_ms,
        algorithm=funding.algorithm,
        commitment=funding.commitment.hex(),
    )
    if others:
        sent.lanes = special.lanes
        sent.lane_commitments = [lane.commitment.hex() for lane in (funding, *others)]
    return sent


def may_see(view: PacketView, reader: str) -> bool:
    """Tell whether a user of its tenant may know of the packet: one for a named person is between the two."""
    special = view.funding.special
    return special is None or not special.addressee or reader in (special.addressee, view.funding.sender)


def batch_result(reply: Won | Refused) -> BatchShare | BatchRefusal:
    """Return one item of a batch."""
    if type(reply) is Won:
        return BatchShare(reply.amount_fen, reply.rank, reply.replayed)
    assert type(reply) is Refused, "a grab is won or refused"
    return _REFUSALS[reply.code]


def packet(lanes: list[PacketView], reader: str, lines_max: int) -> PacketBody:
    """Return a packet as `reader` may see it: a page of the list is for its sender and its takers."""
    first = lanes[0]
    body = PacketBody(
        **asdict(sent_packet(first.funding, [lane.funding for lane in lanes[1:]])),
        grabbed_count=sum(lane.grabbed_count for lane in lanes),
        grabbed_fen=sum(lane.grabbed_fen for lane in lanes),
        refunded_fen=sum(lane.refunded_fen for lane in lanes),
        rolled_out_fen=sum(lane.rolled_out_fen for lane in lanes) or UNSET,
    )
    body.state = _state(lanes)
    body.total_fen += sum(lane.rolled_in_fen for lane in lanes)
    if reader == first.funding.sender or any(lane.reader_rank for lane in lanes):
        body.grabs = lines = [line for lane in lanes for line in _grabs(lane)][:lines_max]
        if lines and any(_last_rank(lane) > lines[-1].rank for lane in lanes):
            body.next_after_rank = lines[-1].rank
        if body.state == "drained":
            best = [lane.luckiest for lane in lanes if lane.luckiest is not None]
            luckiest = max(best, key=lambda taker: taker.amount_fen)  # of equals the first: lanes are in order of rank
            body.luckiest = LuckiestTaker(luckiest.user, luckiest.rank, luckiest.amount_fen)
    if body.state == "drained":
        opened_ms = max(first.funding.at_ms, body.opens_at_ms or 0)
        body.drained_after_ms = max(max(lane.last_grab_ms for lane in lanes) - opened_ms, 0)
    return body


def _state(lanes: list[PacketView]) -> State:
    """Return how a packet stands: open while any lane is, drained once all are."""
    states = {lane.state for lane in lanes}
    return "open" if "open" in states else "expired" if "expired" in states else "drained"


def proof(view: PacketView, lines_max: int, after_rank: int) -> ProofBody:
    """Return what anybody needs to check the shares of one lane; the seed only once it is published.

    Slow for a big packet: a block of 10,000 shares is made anew for every page.
    """
    funding = view.funding
    special = funding.special or Special()
    total_fen = funding.total_fen + view.rolled_in_fen
    body = ProofBody(
        packet_id=funding.packet_id,
        algorithm=funding.algorithm,
        commitment=funding.commitment.hex(),
        sender_nonce=funding.sender_nonce or None,
        total_fen=total_fen,
        count=funding.count,
        share_fen_min=funding.share_fen_min,
        share_fen_max=funding.share_fen_max,
        state=view.state,
        lanes=special.lanes,
        rank_base=special.rank_base,
        chain_head=view.chain.hex(),
        chain_links=sizes_of(view.links),
        next_after_rank=None,
    )
    if view.state != "open":
        division = Division(funding.algorithm, total_fen, funding.count, funding.share_fen_min, funding.share_fen_max)
        first = max(after_rank - special.rank_base, 0)
        shares = division.page(share_seed_of(view.seed, funding.sender_nonce), first, lines_max)
        body.seed = view.seed.hex()
        body.shares_fen = shares
        body.grabs = _grabs(view)
        if first + len(shares) < funding.count:
            body.next_after_rank = special.rank_base + first + len(shares)
    return body


def rain(bursts: list[PacketFunded], views: Sequence[PacketView] = ()) -> RainState:
    """Return a rain: its bursts as they were sent, or as they are."""
    first = bursts[0]
    sent = sent_packet(first)
    return RainState(
        rain_id=first.packet_id,
        kind="rain",
        total_fen=sum(burst.total_fen for burst in bursts),
        rest="roll" if first.special and first.special.rolls else "return",
        greeting=sent.greeting,
        sponsor=sent.sponsor,
        sender=sent.sender,
        created_at_ms=sent.created_at_ms,
        algorithm=sent.algorithm,
        bursts=[_seen_burst(view) for view in views] if views else [_burst(burst) for burst in bursts],
    )


def _burst(funding: PacketFunded) -> BurstState:
    assert funding.special is not None, "a burst is a special packet"
    return BurstState(
        packet_id=funding.packet_id,
        opens_at_ms=funding.special.opens_at_ms,
        ends_at_ms=funding.expires_at_ms,
        total_fen=funding.total_fen,
        count=funding.count,
        commitment=funding.commitment.hex(),
        state="open",
    )


def _seen_burst(view: PacketView) -> BurstState:
    burst = _burst(view.funding)
    burst.state = view.state
    burst.total_fen += view.rolled_in_fen
    burst.grabbed_count = view.grabbed_count
    burst.grabbed_fen = view.grabbed_fen
    burst.refunded_fen = view.refunded_fen
    burst.rolled_in_fen = view.rolled_in_fen
    burst.rolled_out_fen = view.rolled_out_fen
    return burst


def _last_rank(view: PacketView) -> int:
    special = view.funding.special
    return (0 if special is None else special.rank_base) + view.grabbed_count if view.grabbed_count else 0


def _grabs(view: PacketView) -> list[GrabEntry]:
    return [
        GrabEntry(rank, line.user, line.amount_fen, line.at_ms) for rank, line in enumerate(view.grabs, view.first_rank)
    ]
