"""Accounts: what every event posts. A pure function from event to signed lines that sum to 0.

The machines do not use it: the auditor does, on journals only, so that the two can contradict each other.
Positive is what the platform owes; the faucet and the receiving end of a transit are negative.

| account | whose |
|---|---|
| ("change", tenant, user) | a user's money, never negative |
| ("held", tenant, user) | a user's money, reserved |
| ("escrow", packet id) | what a packet still has to pay |
| ("sent", stream) / ("received", stream) | the two ends of the transit between two books |
| ("faucet",) | where sandbox money comes from |
| ("bank",) | money taken from holds, on its way out |
"""

from typing import Any

from actors.ids import wallet_stream
from actors.kernel.switches import LeverSet
from actors.ledger.transfer import PacketFunded, PayoutsReceived, RunsReceived, Settled, SnapshotTaken
from actors.packet.events import Expired, Grabbed, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.wallet.events import (
    Committed,
    Held,
    HoldPosted,
    HoldVoided,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
    SandboxCredited,
)

Account = tuple[str, ...]
Postings = list[tuple[Account, int]]


def postings(event: Any) -> Postings:
    """Return the signed lines of one event, in fen; they sum to 0.

    Raises TypeError for an event that no book knows: our own bug.
    """
    match event:
        case GrabbedMany():
            escrow = ("escrow", event.packet_id)
            return [
                line
                for to_wallet, amount_fen in zip(event.to_wallets, event.amounts_fen, strict=True)
                for line in _move(escrow, ("sent", wallet_stream(to_wallet)), amount_fen)
            ]
        case Grabbed():
            return _move(("escrow", event.packet_id), ("sent", wallet_stream(event.to_wallet)), event.amount_fen)
        case Expired():
            escrow = ("escrow", event.packet_id)
            back = _move(escrow, ("sent", wallet_stream(event.to_wallet)), event.amount_fen)
            rolled = _move(escrow, ("escrow", event.rolled_into), event.rolled_fen) if event.rolled_fen else []
            return back + rolled
        case RunsReceived():
            return [
                line
                for run in event.runs
                for user, amount_fen in zip(run.users, run.amounts_fen, strict=True)
                for line in _move(("received", event.source), ("change", run.tenant, user), amount_fen)
            ]
        case PayoutsReceived():
            return postings(event.by_run())
        case PacketFunded():
            return _move(("change", event.tenant, event.sender), ("sent", event.packet_stream), event.total_fen)
        case Opened():
            return _move(("received", event.source), ("escrow", event.funding.packet_id), event.funding.total_fen)
        case OpeningReturned():
            return _move(("received", event.source), ("sent", wallet_stream(event.to_wallet)), event.funding.total_fen)
        case SandboxCredited():
            return _move(("faucet",), ("change", event.tenant, event.user), event.amount_fen)
        case Held():
            return _move(("change", event.tenant, event.user), ("held", event.tenant, event.user), event.amount_fen)
        case HoldPosted():
            return _move(("held", event.tenant, event.user), ("bank",), event.amount_fen)
        case HoldVoided():
            return _move(("held", event.tenant, event.user), ("change", event.tenant, event.user), event.amount_fen)
        case Settled() | SnapshotTaken() | Passivated() | LeverSet() | PhraseMissed() | Committed():
            return []
        case LishiCounted() | LishiAsked() | LishiClosed() | Noted() | PhotoKept():
            return []
    raise TypeError(f"no postings are defined for {type(event).__name__}")


def _move(source: Account, destination: Account, amount_fen: int) -> Postings:
    return [(source, -amount_fen), (destination, amount_fen)]
