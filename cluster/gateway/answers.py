"""Answers: replies of the shards in the shape of the HTTP contract."""

from typing import Any

import msgspec
from starlette.responses import Response

from actors.ledger.transfer import PacketFunded, Refusal, Refused
from actors.packet.messages import PacketView, Won
from actors.packet.split import split
from actors.wallet.messages import Lishi, Note

_ENCODER = msgspec.json.Encoder()


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Write any msgspec-encodable value."""
    return Response(_ENCODER.encode(body), status_code=status, media_type="application/json", headers=headers)


def sent_packet(funding: PacketFunded) -> dict[str, Any]:
    """Return the packet as its sender is told it, the same for every repeat."""
    return {
        "packet_id": funding.packet_id,
        "kind": funding.kind,
        "state": "open",
        "total_fen": funding.total_fen,
        "count": funding.count,
        "greeting": funding.greeting,
        **_audience(funding),
        "sender": funding.sender,
        "created_at_ms": funding.at_ms,
        "expires_at_ms": funding.expires_at_ms,
        "algorithm": funding.algorithm,
        "commitment": funding.commitment.hex(),
    }


def _audience(funding: PacketFunded) -> dict[str, str]:
    """Return for whom a packet is, where it is not for everybody; a phrase is told to nobody."""
    special = funding.special
    if special is None:
        return {}
    named = {"addressee": special.addressee, "group": special.group}
    return {name: text for name, text in named.items() if text}


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
_REFUSALS = {code: BatchRefusal(code) for code in Refusal}


def batch_result(reply: Won | Refused) -> BatchShare | BatchRefusal:
    """Return one item of a batch."""
    if type(reply) is Won:
        return BatchShare(reply.amount_fen, reply.rank, reply.replayed)
    assert type(reply) is Refused, "a grab is won or refused"
    return _REFUSALS[reply.code]


def packet(view: PacketView, reader: str) -> dict[str, Any]:
    """Return a packet as `reader` may see it: the list is for its sender and its takers."""
    body = sent_packet(view.funding) | {
        "state": view.state,
        "grabbed_count": len(view.grabs),
        "grabbed_fen": view.grabbed_fen,
        "refunded_fen": view.refunded_fen,
    }
    if reader == view.funding.sender or any(line.user == reader for line in view.grabs):
        body["grabs"] = _grabs(view)
        if view.state == "drained":
            # `max` returns the first of equals: the luckiest is the first with the greatest share.
            rank, best = max(enumerate(view.grabs, 1), key=lambda ranked: ranked[1].amount_fen)
            body["luckiest"] = {"user": best.user, "rank": rank, "amount_fen": best.amount_fen}
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


def proof(view: PacketView) -> dict[str, Any]:
    """Return what anybody needs to check the shares; the seed only once it is published."""
    funding = view.funding
    body: dict[str, Any] = {
        "packet_id": funding.packet_id,
        "algorithm": funding.algorithm,
        "commitment": funding.commitment.hex(),
        "sender_nonce": None,
        "total_fen": funding.total_fen,
        "count": funding.count,
        "share_fen_min": funding.share_fen_min,
        "share_fen_max": funding.share_fen_max,
        "state": view.state,
    }
    if view.state != "open":
        limits = funding.total_fen, funding.count, funding.share_fen_min, funding.share_fen_max
        body["seed"] = view.seed.hex()
        body["shares_fen"] = split(funding.algorithm, view.seed, *limits)
        body["grabs"] = _grabs(view)
    return body


def _grabs(view: PacketView) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "user": line.user, "amount_fen": line.amount_fen, "at_ms": line.at_ms}
        for rank, line in enumerate(view.grabs, 1)
    ]
