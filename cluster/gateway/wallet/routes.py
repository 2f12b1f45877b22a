"""Routes of a user's own wallet."""

from actors.wallet.commands import ReadStatement, ReadWallet
from actors.wallet.replies import Statement, WalletView
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import READ
from cluster.gateway.problems import Answer, Problem, expect
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond
from cluster.gateway.route import Route
from cluster.gateway.validation import is_whole
from cluster.gateway.wallet.contract import (
    BALANCE,
    STATEMENT,
    StatementBody,
    StatementEntry,
    StatementPage,
    WalletBody,
)

_CURSOR_CHARS_MAX = 15


async def read_wallet(replica: Replica, request: Request) -> Answer:
    """Read one's balance."""
    view = expect(await replica.service.wallets.ask(ReadWallet(*request.user)), WalletView)
    return respond(WalletBody(view.available_fen, view.held_fen))


async def read_statement(replica: Replica, request: Request) -> Answer:
    """Read one's lines, newest first; `older_lines_elsewhere`: so many more, only `hongbao statement` has them."""
    page: StatementPage = request.query
    cursor = page.cursor
    if cursor is not None and not (is_whole(cursor) and len(cursor) <= _CURSOR_CHARS_MAX):
        raise Problem("invalid", "Pass next_cursor as it was given.", {"cursor": "unknown"})
    below = None if cursor is None else int(cursor)
    found = expect(await replica.service.wallets.ask(ReadStatement(*request.user, page.limit, below)), Statement)
    entries = [
        StatementEntry(line.at_ms, line.kind, line.amount_fen, line.balance_fen, line.reference) for line in found.lines
    ]
    return respond(StatementBody(entries, None if found.below is None else str(found.below), found.let_go))


_REFUSALS = ("journal_unavailable", "shard_unavailable")

# fmt: off
ROUTES = (
    Route("GET", "/v1/wallet", read_wallet, Callers.USERS, READ, "wallet", reply=WalletBody, refusals=_REFUSALS,
          answer=BALANCE),
    Route("GET", "/v1/wallet/statement", read_statement, Callers.USERS, READ, "wallet", query=StatementPage,
          reply=StatementBody, refusals=_REFUSALS, answer=STATEMENT),
)
# fmt: on
