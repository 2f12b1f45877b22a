"""Answers: replies of the shards in the shape of the HTTP contract."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from actors.kernel.messages import Refused
from actors.packet.fairness import share_seed_of
from actors.packet.replies import PacketView, Won
from actors.packet.split import Division
from actors.packet.state import sizes_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.ids import whole_id
from actors.wallet.replies import Lishi, Note

_ENCODER = msgspec.json.Encoder()


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Write any msgspec-encodable value."""
    return encoded(_ENCODER.encode(body), status, headers)


def encoded(content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Write JSON that is encoded already. No cache keeps it."""
    told = {"cache-control": "no-store", **(headers or {})}
    return Response(content, status_code=status, media_type="application/json", headers=told)


def sent_packet(funding: PacketFunded, others: Sequence[PacketFunded] = ()) -> dict[str, Any]:
    """Return the packet as its sender is told it, the same for every repeat; `others`: its other lanes."""
    special = funding.special or Special()
    body = {
        "packet_id": whole_id(funding.packet_id),
        "kind": funding.kind,
        "state": "open",
        "total_fen": special.whole_fen or funding.total_fen,
        "count": special.whole_count or funding.count,
        "greeting": funding.greeting,
        **_special(special),
        "sender": funding.sender,
        "created_at_ms": funding.at_ms,
        "expires_at_ms": funding.expires_at_ms,
        "algorithm": funding.algorithm,
        "commitment": funding.commitment.hex(),
    }
    if others:
        body["lanes"] = special.lanes
        body["lane_commitments"] = [one.commitment.hex() for one in (funding, *others)]
    return body


def _special(special: Special) -> dict[str, Any]:
    """Return what people are told of a packet beyond an ordinary one; a phrase is told to nobody."""
    named = {
        "addressee": special.addressee,
        "group": special.group,
        "opens_at_ms": special.opens_at_ms,
        "sponsor": special.sponsor,
        "reference": special.reference,
    }
    return {name: value for name, value in named.items() if value}


def may_see(view: PacketView, reader: str) -> bool:
    """Tell whether a user of its tenant may know of the packet: one for a named person is between the two."""
    special = view.funding.special
    return special is None or not special.addressee or reader in (special.addressee, view.funding.sender)


class Share(msgspec.Struct, frozen=True, gc=False):
    """A user's share."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class BatchShare(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch that took a share."""

    amount_fen: int
    rank: int
    replayed: bool


class BatchRefusal(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch that did not."""

    code: str


class BatchResults(msgspec.Struct, frozen=True):
    """All items of a batch, in order."""

    results: list[BatchShare | BatchRefusal]


INVALID_ITEM = BatchRefusal("invalid")
_REFUSALS: dict[str, BatchRefusal] = {code: BatchRefusal(code) for code in Refusal}


def batch_result(reply: Won | Refused) -> BatchShare | BatchRefusal:
    """Return one item of a batch."""
    if type(reply) is Won:
        return BatchShare(reply.amount_fen, reply.rank, reply.replayed)
    assert type(reply) is Refused, "a grab is won or refused"
    return _REFUSALS[reply.code]


def packet(lanes: list[PacketView], reader: str, lines_max: int) -> dict[str, Any]:
    """Return a packet as `reader` may see it: a page of the list is for its sender and its takers."""
    first = lanes[0]
    body = sent_packet(first.funding, [lane.funding for lane in lanes[1:]])
    body |= {
        "state": _state(lanes),
        "total_fen": body["total_fen"] + sum(lane.rolled_in_fen for lane in lanes),
        "grabbed_count": sum(lane.grabbed_count for lane in lanes),
        "grabbed_fen": sum(lane.grabbed_fen for lane in lanes),
        "refunded_fen": sum(lane.refunded_fen for lane in lanes),
    }
    if rolled_out_fen := sum(lane.rolled_out_fen for lane in lanes):
        body["rolled_out_fen"] = rolled_out_fen
    if reader == first.funding.sender or any(lane.reader_rank for lane in lanes):
        body["grabs"] = lines = [line for lane in lanes for line in _grabs(lane)][:lines_max]
        if lines and any(_last_rank(lane) > lines[-1]["rank"] for lane in lanes):
            body["next_after_rank"] = lines[-1]["rank"]
        if body["state"] == "drained":
            best = [lane.luckiest for lane in lanes if lane.luckiest is not None]
            luckiest = max(best, key=lambda one: one.amount_fen)  # of equals the first: lanes are in order of rank
            body["luckiest"] = {"user": luckiest.user, "rank": luckiest.rank, "amount_fen": luckiest.amount_fen}
    if body["state"] == "drained":
        opened_ms = max(first.funding.at_ms, body.get("opens_at_ms", 0))
        body["drained_after_ms"] = max(max(lane.last_grab_ms for lane in lanes) - opened_ms, 0)
    return body


def lishi(told: Lishi) -> dict[str, Any]:
    """Return a request for a packet as its two are told it."""
    body = {
        "lishi_id": told.lishi_id,
        "asker": told.asker,
        "asked": told.asked,
        "greeting": told.greeting,
        "state": told.state,
        "asked_at_ms": told.asked_at_ms,
        "lapses_at_ms": told.lapses_at_ms,
    }
    return body | {"packet_id": told.packet_id} if told.packet_id else body


def notes(told: list[Note]) -> list[dict[str, Any]]:
    """Return what takers wrote."""
    return [{"user": note.user, "text": note.text, "at_ms": note.at_ms} for note in told]


def _state(lanes: list[PacketView]) -> str:
    """Return how a packet stands: open while any lane is, drained once all are."""
    states = {lane.state for lane in lanes}
    return "open" if "open" in states else "expired" if "expired" in states else "drained"


def proof(view: PacketView, lines_max: int, after_rank: int) -> dict[str, Any]:
    """Return what anybody needs to check the shares of one lane; the seed only once it is published.

    Slow for a big packet: a block of 10,000 shares is made anew for every page.
    """
    funding = view.funding
    special = funding.special or Special()
    total_fen = funding.total_fen + view.rolled_in_fen
    body: dict[str, Any] = {
        "packet_id": funding.packet_id,
        "algorithm": funding.algorithm,
        "commitment": funding.commitment.hex(),
        "sender_nonce": funding.sender_nonce or None,
        "total_fen": total_fen,
        "count": funding.count,
        "share_fen_min": funding.share_fen_min,
        "share_fen_max": funding.share_fen_max,
        "state": view.state,
        "lanes": special.lanes,
        "rank_base": special.rank_base,
        "chain_head": view.chain.hex(),
        "chain_links": sizes_of(view.links),
        "next_after_rank": None,
    }
    if view.state != "open":
        division = Division(funding.algorithm, total_fen, funding.count, funding.share_fen_min, funding.share_fen_max)
        first = max(after_rank - special.rank_base, 0)
        shares = division.page(share_seed_of(view.seed, funding.sender_nonce), first, lines_max)
        body["seed"] = view.seed.hex()
        body["shares_fen"] = shares
        body["grabs"] = _grabs(view)
        if first + len(shares) < funding.count:
            body["next_after_rank"] = special.rank_base + first + len(shares)
    return body


def rain(bursts: list[PacketFunded], views: Sequence[PacketView] = ()) -> dict[str, Any]:
    """Return a rain: its bursts as they were sent, or as they are."""
    first = bursts[0]
    body = sent_packet(first)
    named = ("greeting", "sponsor", "sender", "created_at_ms", "algorithm")
    return {
        "rain_id": first.packet_id,
        "kind": "rain",
        "total_fen": sum(burst.total_fen for burst in bursts),
        "rest": "roll" if first.special and first.special.rolls else "return",
        **{name: body[name] for name in named if name in body},
        "bursts": [_burst(burst) for burst in bursts]
        if not views
        else [_burst(view.funding) | _of_burst(view) for view in views],
    }


def _burst(funding: PacketFunded) -> dict[str, Any]:
    assert funding.special is not None, "a burst is a special packet"
    return {
        "packet_id": funding.packet_id,
        "opens_at_ms": funding.special.opens_at_ms,
        "ends_at_ms": funding.expires_at_ms,
        "total_fen": funding.total_fen,
        "count": funding.count,
        "commitment": funding.commitment.hex(),
        "state": "open",
    }


def _of_burst(view: PacketView) -> dict[str, Any]:
    return {
        "state": view.state,
        "total_fen": view.funding.total_fen + view.rolled_in_fen,
        "grabbed_count": view.grabbed_count,
        "grabbed_fen": view.grabbed_fen,
        "refunded_fen": view.refunded_fen,
        "rolled_in_fen": view.rolled_in_fen,
        "rolled_out_fen": view.rolled_out_fen,
    }


def _last_rank(view: PacketView) -> int:
    special = view.funding.special
    return (0 if special is None else special.rank_base) + view.grabbed_count if view.grabbed_count else 0


def _grabs(view: PacketView) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "user": line.user, "amount_fen": line.amount_fen, "at_ms": line.at_ms}
        for rank, line in enumerate(view.grabs, view.first_rank)
    ]
