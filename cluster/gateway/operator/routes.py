"""Routes of operators: the audit, and in a sandbox users and the clock. And the two health questions."""

import time

from fastapi import Request
from starlette.responses import Response

from actors.kernel.names import USER_RULE, is_tenant, is_user
from actors.wallet.commands import CreditSandbox
from cluster.gateway import responses
from cluster.gateway.middleware.validation import StrictRouter
from cluster.gateway.problems import Problem
from cluster.gateway.schemas import AliveBody, ClockBody, ClockState, CreatedUser, ReadyBody, UserBody
from cluster.tokens import USER_SCOPE, mint

router = StrictRouter(tags=["operator"])
sandbox = StrictRouter(tags=["sandbox"], prefix="/sandbox")

SANDBOX_TOKEN_S = 7 * 86_400
WALLET = {"location": "/v1/wallet"}
"""Where who has the token finds what was made."""


@router.get("/v1/audit")
async def read_audit(request: Request) -> Response:
    """Get the conservation report."""
    gateway = request.app.state.gateway
    gateway.auth.require_operator(request)
    return responses.json_response(await gateway.service.audit())


@router.get("/v1/figures")
async def read_figures(request: Request) -> Response:
    """Get what the system is doing now: counters, latencies, shards, store, and the last audit."""
    gateway = request.app.state.gateway
    gateway.auth.require_operator(request)
    return responses.encoded(await gateway.service.figures())


@router.get("/healthz", response_model=AliveBody)
async def alive() -> Response:
    """Tell that this replica runs."""
    return responses.json_response({"status": "alive"})


@router.get("/readyz", response_model=ReadyBody)
async def ready(request: Request) -> Response:
    """Tell whether money can be served: the store answers and every stream has a host."""
    return responses.json_response({"status": "ready", "system": await request.app.state.gateway.ready()})


@sandbox.post("/users", status_code=201, response_model=CreatedUser)
async def create_user(request: Request, body: UserBody) -> Response:
    """Make a user with money out of the faucet; an existing one keeps his balance and gets a fresh token."""
    gateway = request.app.state.gateway
    gateway.auth.require_operator(request)
    fields = {}
    if not is_user(body.user):
        fields["user"] = USER_RULE
    if not is_tenant(body.tenant):
        fields["tenant"] = "lower-case letters, digits and hyphens, at most 32"
    if body.balance_fen > gateway.settings.limits.sandbox_balance_fen_max:
        fields["balance_fen"] = f"at most {gateway.settings.limits.sandbox_balance_fen_max} fen"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    await gateway.service.wallet(CreditSandbox(body.tenant, body.user, body.balance_fen))
    token = mint(
        gateway.keys,
        user=body.user,
        tenant=body.tenant,
        scope=USER_SCOPE,
        now_s=int(time.time()),
        ttl_s=SANDBOX_TOKEN_S,
    )
    return responses.json_response({"user": body.user, "tenant": body.tenant, "token": token}, 201, WALLET)


def too_far(offset_ms_max: int) -> Problem:
    """Return the answer to who would move the clock beyond its bound; nothing was moved."""
    bound = f"the clock is moved at most {offset_ms_max} ms in all"
    return Problem(
        "invalid", "The clock would be further ahead than it may be; it was not moved.", {"advance_ms": bound}
    )


@sandbox.post("/clock", response_model=ClockState)
async def advance_clock(request: Request, body: ClockBody) -> Response:
    """Move the platform's clock forward; answers once every host has it durably."""
    gateway = request.app.state.gateway
    gateway.auth.require_operator(request)
    return responses.json_response({"offset_ms": await gateway.advance_clock(body.advance_ms)})
