"""Rows: the postings of every event, flat, as auditors and readers of statements want them. A pure function of events.

Kinds are the statement's own words (`hold_void`, ...) where the kind of actor has one, else what moved the money.
Amounts in fen, stamps in Unix ms, versions count events from 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

from actors.kernel.kind import Kind, tag_of
from actors.kernel.ports import Event
from actors.ledger.accounts import AccountKind
from actors.ledger.posting import stamp_of


class PostingRow(NamedTuple):
    """One posting. `tenant` is None unless the account is a user's, `name` unless somebody or something is named.

    `reference` is the id of what it is about, `number` that of the transfer, on its two transit accounts only.
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


def lines_of(kind: Kind, events: Sequence[Event], first_version: int) -> list[PostingRow]:
    """Return the lines of the events of a stream of that kind; the first of them is number `first_version` of it.

    Raises TypeError for an event or account that the kind of stream does not have: our own bug.
    """
    chart = kind.chart()
    return [line for at, event in enumerate(events, first_version) for line in _lines(kind, chart, event, at)]


def _lines(kind: Kind, chart: dict[str, AccountKind], event: Event, version: int) -> list[PostingRow]:
    lines = []
    at_ms, tag = stamp_of(event), tag_of(type(event))
    for (name, *owner), amount_fen, reference, number, cause in kind.postings_of(event):
        account = chart.get(name)
        if account is None:
            raise TypeError(f"kind {kind.name!r} has no account {name!r}, to which {type(event).__name__} posts")
        word = kind.statement.get(cause or tag, cause or tag)
        tenant = owner[0] if account.owner[:1] == ("tenant",) else None
        whose = owner[-1] if owner else None
        lines.append(PostingRow(version, at_ms, word, name, tenant, whose, amount_fen, reference or None, number))
    return lines
