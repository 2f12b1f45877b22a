"""Routes of operators: the audit, metrics, and in a sandbox users and the clock. And the two health questions."""

import time

from actors.wallet.commands import CreditSandbox
from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import EXEMPT, LAST
from cluster.gateway.operator.contract import (
    ALIVE,
    CLOCKS,
    READY,
    USERS,
    AliveBody,
    ClockBody,
    ClockState,
    CreatedUser,
    ReadyBody,
    UserBody,
)
from cluster.gateway.problems import Answer, Problem
from cluster.gateway.raw_http import json_answer
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond
from cluster.gateway.route import Route
from cluster.observability.metrics_snapshot import Figures
from cluster.runtime.live_audit import AuditReport
from cluster.tokens import USER_SCOPE, mint

SANDBOX_TOKEN_S = 7 * 86_400
_WALLET = (b"location", b"/v1/wallet")
"""Where who has the token finds what was made."""


async def read_audit(replica: Replica, request: Request) -> Answer:
    """Get the conservation report."""
    return respond(await replica.service.operations.audit())


async def read_figures(replica: Replica, request: Request) -> Answer:
    """Get what the system is doing now: counters, latencies, shards, store, and the last audit."""
    return json_answer(await replica.service.operations.figures())


async def alive(replica: Replica, request: Request) -> Answer:
    """Tell that this replica runs."""
    return respond(AliveBody("alive"))


async def ready(replica: Replica, request: Request) -> Answer:
    """Tell whether money can be served: the store answers and every stream has a host."""
    return respond(ReadyBody("ready", await replica.ready()))


async def create_user(replica: Replica, request: Request) -> Answer:
    """Make a user with money out of the faucet; an existing one keeps their balance and gets a fresh token."""
    body: UserBody = request.body
    await replica.service.wallets.ask(CreditSandbox(body.tenant, body.user, body.balance_fen))
    token = mint(
        replica.keys,
        user=body.user,
        tenant=body.tenant,
        scope=USER_SCOPE,
        now_s=int(time.time()),
        ttl_s=SANDBOX_TOKEN_S,
    )
    status, headers, content = respond(CreatedUser(body.user, body.tenant, token), 201)
    return status, [*headers, _WALLET], content


async def advance_clock(replica: Replica, request: Request) -> Answer:
    """Move the platform's clock forward; answers once every host has it durably."""
    body: ClockBody = request.body
    return respond(ClockState(await replica.advance_clock(body.advance_ms)))


def too_far(offset_ms_max: int) -> Problem:
    """Return the answer to who would move the clock beyond its bound; nothing was moved."""
    bound = f"the clock is moved at most {offset_ms_max} ms in all"
    return Problem(
        "invalid", "The clock would be further ahead than it may be; it was not moved.", {"advance_ms": bound}
    )


def _is_sandbox(settings: Settings) -> bool:
    return settings.sandbox


_REFUSALS = ("journal_unavailable", "shard_unavailable")
_OPERATORS, _PUBLIC = Callers.OPERATORS, Callers.PUBLIC

# fmt: off
ROUTES = (
    Route("GET", "/v1/audit", read_audit, _OPERATORS, LAST, "operator", reply=AuditReport, refusals=_REFUSALS),
    Route("GET", "/v1/figures", read_figures, _OPERATORS, LAST, "operator", reply=Figures, refusals=_REFUSALS),
    Route("GET", "/healthz", alive, _PUBLIC, EXEMPT, "operator", reply=AliveBody, answer=ALIVE),
    Route("GET", "/readyz", ready, _PUBLIC, EXEMPT, "operator", reply=ReadyBody, refusals=_REFUSALS, answer=READY),
    # A sandbox's clock moves whatever its users do.
    Route("POST", "/sandbox/users", create_user, _OPERATORS, EXEMPT, "sandbox", body=UserBody, reply=CreatedUser,
          status=201, refusals=_REFUSALS, requests=USERS, served=_is_sandbox),
    Route("POST", "/sandbox/clock", advance_clock, _OPERATORS, EXEMPT, "sandbox", body=ClockBody, reply=ClockState,
          refusals=_REFUSALS, requests=CLOCKS, served=_is_sandbox),
)
# fmt: on
