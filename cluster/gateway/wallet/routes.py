"""Routes of a user's own wallet."""

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from actors.wallet.commands import ReadStatement, ReadWallet
from cluster.gateway import responses
from cluster.gateway.middleware.validation import StrictRouter, Whole, is_whole
from cluster.gateway.problems import Problem
from cluster.gateway.schemas import StatementBody, WalletBody

router = StrictRouter(tags=["wallet"])

LINES_MAX = 100


@router.get("/v1/wallet", response_model=WalletBody)
async def read_wallet(request: Request) -> Response:
    """Read one's balance."""
    gateway = request.app.state.gateway
    user = gateway.auth.acting_user(request)
    view = await gateway.service.wallet(ReadWallet(user.tenant, user.user))
    return responses.json_response({"available_fen": view.available_fen, "held_fen": view.held_fen})


@router.get("/v1/wallet/statement", response_model=StatementBody)
async def read_statement(
    request: Request, limit: Annotated[Whole, Query(ge=1, le=LINES_MAX)] = 20, cursor: str | None = None
) -> Response:
    """Read one's lines, newest first; `older_lines_elsewhere`: so many more, only `hongbao statement` has them."""
    gateway = request.app.state.gateway
    user = gateway.auth.acting_user(request)
    below = None
    if cursor is not None:
        if not (is_whole(cursor) and len(cursor) <= 15):
            raise Problem("invalid", "Pass next_cursor as it was given.", {"cursor": "unknown"})
        below = int(cursor)
    page = await gateway.service.wallet(ReadStatement(user.tenant, user.user, limit, below))
    entries = [
        {
            "at_ms": line.at_ms,
            "kind": line.kind,
            "amount_fen": line.amount_fen,
            "balance_fen": line.balance_fen,
            "reference": line.reference,
        }
        for line in page.lines
    ]
    cursor = None if page.below is None else str(page.below)
    return responses.json_response({"entries": entries, "next_cursor": cursor, "older_lines_elsewhere": page.let_go})
