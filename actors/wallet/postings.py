"""Wallet postings: the chart of accounts of a wallet stream, what each of its events posts, and the words for it."""

from actors.ledger.accounts import AccountKind, Side
from actors.ledger.posting import Leg, Postings, move, received, sent
from actors.transfers.funding import PacketFunded
from actors.wallet.events import RunsReceived, SandboxCredited

CHANGE = AccountKind(name="change", side=Side.LIABILITY, owner=("tenant", "user"), on_statement=True)
"""A user's money that they can spend."""
HELD = AccountKind(name="held", side=Side.LIABILITY, owner=("tenant", "user"))
"""A user's money that is reserved."""
BANK = AccountKind(name="bank", side=Side.LIABILITY)
"""Money taken from holds, on its way out."""
FAUCET = AccountKind(name="faucet", side=Side.ASSET)
"""Where sandbox money comes from."""

STATEMENT = {
    "sandbox_credited": "sandbox",
    "packet_funded": "packet_sent",
    "share": "packet_share",
    "refund": "packet_refund",
    "returned": "packet_refund",
    "held": "hold",
    "hold_posted": "hold_post",
    "hold_voided": "hold_void",
    "hold_expired": "hold_expiry",
    "lishi": "lishi_sent",
    "photo": "photo_paid",
}
"""What moves money -> the word for it on a statement."""

STATEMENT_WORDS = tuple(dict.fromkeys(STATEMENT.values()))
"""Statement lines keep a word as its place here, so words are only ever added at the end."""


def cause_of(funding: PacketFunded) -> str:
    """Return what a funding is called where its kind has a word of its own; empty: a packet was sent."""
    return funding.kind if funding.kind in STATEMENT else ""


def packet_funded(event: PacketFunded) -> Postings:
    """Return the postings of a send."""
    change, to_packet = Leg(CHANGE.of(event.tenant, event.sender)), sent(event.packet_stream, event.number)
    return move(change, to_packet, event.total_fen, event.packet_id, cause_of(event))


def runs_received(event: RunsReceived) -> Postings:
    """Return the postings of payouts, in order of number."""
    postings: Postings = []
    for run in event.runs:
        for number, (user, amount_fen) in enumerate(zip(run.users, run.amounts_fen, strict=True), run.number):
            change = Leg(CHANGE.of(run.tenant, user))
            postings += move(received(event.source, number), change, amount_fen, run.packet_id, run.kind)
    return postings


def sandbox_credited(event: SandboxCredited) -> Postings:
    """Return the postings of the faucet."""
    return move(Leg(FAUCET.of()), Leg(CHANGE.of(event.tenant, event.user)), event.amount_fen)
