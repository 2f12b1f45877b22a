"""Contract of wallets over HTTP: balances and statements, and requests for packets (lishi).

Amounts are integer fen, instants integer Unix milliseconds.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from actors.wallet.rules import WalletRules
from cluster.config import Settings
from cluster.gateway.contract import USER, BoundsOf, Fen, Query, RequestBody, Text, between, chars

LINES_MAX = 100


class WalletBody(msgspec.Struct):
    """A balance."""

    available_fen: int
    held_fen: int


class StatementPage(Query):
    """Which lines of a statement: so many, older than the cursor."""

    limit: Annotated[int, Meta(ge=1, le=LINES_MAX)] = 20
    cursor: str | None = None


class StatementEntry(msgspec.Struct):
    """One line of a statement."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class StatementBody(msgspec.Struct):
    """Lines, newest first; `next_cursor` continues.

    `older_lines_elsewhere`: so many lines, older than these, are kept no longer here; `hongbao statement` has them.
    """

    entries: list[StatementEntry]
    next_cursor: str | None
    older_lines_elsewhere: int


class AskBody(RequestBody):
    """Who is asked for a packet, of the caller's tenant."""

    asked: Text
    greeting: Text = ""


class AcceptBody(RequestBody):
    """How much is given."""

    amount_fen: Fen
    greeting: Text = ""


class WaitingFor(Query):
    """Whose requests are listed."""

    role: Literal["asked"] = "asked"


class LishiBody(msgspec.Struct, kw_only=True):
    """A request for a packet. `packet_id`: what it was accepted with."""

    lishi_id: str
    asker: str
    asked: str
    greeting: str
    state: Literal["asked", "accepted", "declined", "lapsed"]
    asked_at_ms: int
    lapses_at_ms: int
    packet_id: str | UnsetType = UNSET


class LishiListBody(msgspec.Struct):
    """Requests that wait for the caller's answer, oldest first."""

    lishi: list[LishiBody]


def bounds(settings: Settings) -> BoundsOf:
    """Return the configured bounds of fields."""
    limits, sends = settings.limits, settings.rules(WalletRules).sends
    greeting = chars(limits.greeting_chars_max)
    gift = between(sends.share_fen_min, min(sends.share_fen_max, limits.total_fen_max))
    return {AskBody: {"asked": USER, "greeting": greeting}, AcceptBody: {"amount_fen": gift, "greeting": greeting}}


ASKS: dict[str, Any] = {"ask": {"asked": "bob", "greeting": "利是逗来"}}
ACCEPTS: dict[str, Any] = {"give": {"amount_fen": 888, "greeting": "学业进步"}}
BALANCE = {"available_fen": 99_000, "held_fen": 0}
STATEMENT = {
    "entries": [
        {
            "at_ms": 1_451_577_900_000,
            "kind": "packet_sent",
            "amount_fen": -1_000,
            "balance_fen": 99_000,
            "reference": "aaaqaaz4gtsfmwxbmc3oy5dgzmwixzqp",
        }
    ],
    "next_cursor": None,
    "older_lines_elsewhere": 0,
}
