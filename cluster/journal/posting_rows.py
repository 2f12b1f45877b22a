"""Lines: what every event posts, flat, as auditors and readers of statements want it. A pure function of events.

Kinds are the statement's own words (`packet_share`, `hold`, ...) where a user sees the line, else the event's tag.
Amounts in fen, stamps in Unix ms, versions count events from 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

from actors.kernel.ports import Event
from actors.ledger.accounts import postings
from actors.ledger.transfer import SENT_AS, PacketFunded, PayoutsReceived, RunsReceived
from actors.packet.events import GrabbedMany, Opened, OpeningReturned

_STATEMENT_WORDS = {
    "sandbox_credited": "sandbox",
    "packet_funded": "packet_sent",
    "held": "hold",
    "hold_posted": "hold_post",
    "hold_voided": "hold_void",
}
_PAYOUT_WORDS = {"share": "packet_share", "refund": "packet_refund", "returned": "packet_refund"}
TRANSIT = ("sent", "received")
USERS = ("change", "held")


class Line(NamedTuple):
    """One posting. `tenant` is None unless the account is a user's, `name` unless somebody or something is named.

    `reference` is a packet or hold id, `number` that of the transfer, on its two transit accounts only.
    """

    version: int
    at_ms: int
    kind: str
    account: str
    tenant: str | None
    name: str | None
    amount_fen: int
    reference: str | None
    number: int | None


def stamp_of(event: Event) -> int:
    """Return when an event happened, or its packet was paid for; 0 for one that says neither."""
    if isinstance(event, Opened | OpeningReturned):
        return event.funding.at_ms
    return getattr(event, "at_ms", 0)


def lines_of(event: Event, version: int) -> list[Line]:
    """Return the lines of the event that is number `version` of its stream.

    Raises TypeError for an event that no book knows: our own bug.
    """
    posted = postings(event)
    if not posted:
        return []
    at_ms = stamp_of(event)
    told: list[tuple[str, str | None, int | None, int | None]]  # kind, reference, number if sent, if received
    # Two postings a transfer, in order.
    if isinstance(event, PayoutsReceived):
        event = event.by_run()
    if isinstance(event, RunsReceived):
        told = [
            (_PAYOUT_WORDS[run.kind], run.packet_id, number, number)
            for run in event.runs
            for number in range(run.number, run.number + run.transfers)
            for _ in range(2)
        ]
    elif isinstance(event, GrabbedMany):
        following = dict(event.numbers)
        told = []
        for to_wallet in event.to_wallets:
            told += [("grabbed", event.packet_id, following[to_wallet], None)] * 2
            following[to_wallet] += 1
    else:
        tag = event.__struct_config__.tag
        kind = _STATEMENT_WORDS.get(tag, tag)
        if isinstance(event, PacketFunded):
            kind = SENT_AS.get(event.kind, kind)
        funding = getattr(event, "funding", event)
        reference = getattr(funding, "packet_id", None) or getattr(event, "hold_id", None)
        number = getattr(event, "number", None)
        told = [(kind, reference, number, getattr(funding, "number", None))] * len(posted)
    lines = []
    for (account, amount_fen), (kind, reference, sent_number, received_number) in zip(posted, told, strict=True):
        name = account[-1] if len(account) > 1 else None
        number = {"sent": sent_number, "received": received_number}.get(account[0])
        tenant = account[1] if account[0] in USERS else None
        lines.append(Line(version, at_ms, kind, account[0], tenant, name, amount_fen, reference, number))
    return lines


def lines_of_all(events: Sequence[Event], first_version: int) -> list[Line]:
    """Return the lines of an entry's events, in order."""
    return [line for version, event in enumerate(events, first_version) for line in lines_of(event, version)]
