"""Packet postings: the chart of accounts of a packet stream, and what each of its events posts."""

from actors.ledger.accounts import AccountKind, Side
from actors.ledger.posting import Leg, Postings, move, received, sent
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned
from actors.transfers.ids import wallet_stream

ESCROW = AccountKind(name="escrow", side=Side.LIABILITY, owner=("packet",), column="remaining_fen")
"""What a packet still has to pay."""


def _escrow(packet_id: str) -> Leg:
    return Leg(ESCROW.of(packet_id))


def opened(event: Opened) -> Postings:
    """Return the postings of an opening."""
    funding = event.funding
    source, packet_id = received(event.source, funding.number), funding.packet_id
    return move(source, _escrow(packet_id), funding.total_fen, packet_id)


def opening_returned(event: OpeningReturned) -> Postings:
    """Return the postings of a second funding that goes back."""
    funding = event.funding
    source, back = received(event.source, funding.number), sent(wallet_stream(event.to_wallet), event.number)
    return move(source, back, funding.total_fen, funding.packet_id)


def grabbed_many(event: GrabbedMany) -> Postings:
    """Return the postings of shares, in order of rank."""
    escrow, following = _escrow(event.packet_id), dict(event.numbers)
    postings: Postings = []
    for to_wallet, amount_fen in zip(event.to_wallets, event.amounts_fen, strict=True):
        number = following[to_wallet]
        postings += move(escrow, sent(wallet_stream(to_wallet), number), amount_fen, event.packet_id)
        following[to_wallet] = number + 1
    return postings


def expired(event: Expired) -> Postings:
    """Return the postings of an end: what goes back, and what goes on into the next burst."""
    escrow, packet_id = _escrow(event.packet_id), event.packet_id
    back = sent(wallet_stream(event.to_wallet), event.number)
    postings = move(escrow, back, event.amount_fen, packet_id) if event.number else []
    if event.rolled_fen:
        postings += move(escrow, _escrow(event.rolled_into), event.rolled_fen, packet_id)
    return postings
