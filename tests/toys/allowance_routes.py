"""Routes of the allowance toy, and the structs of their bodies and replies."""

from typing import Any

import msgspec
from actors.allowance.kind import OpenPot, PotTold  # type: ignore[import-not-found]

from actors.kernel.names import stream_name, user_hash
from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.contract import BoundsOf, Fen, RequestBody, between
from cluster.gateway.middleware.overload_control import SEND
from cluster.gateway.problems import Answer, expect
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond
from cluster.gateway.route import Route


class PotBody(RequestBody):
    """With how much a pot is filled."""

    amount_fen: Fen


class PotLeft(msgspec.Struct):
    """What is in a pot."""

    left_fen: int


def bounds(settings: Settings) -> BoundsOf:
    """Return the configured bounds of fields."""
    return {PotBody: {"amount_fen": between(1, settings.limits.total_fen_max)}}


async def open_pot(replica: Replica, request: Request) -> Answer:
    """Fill one's own pot, unless there is one, and tell what is in it. Idempotent by nature, so without a key."""
    body: PotBody = request.body
    tenant, user = request.user
    stream = stream_name("allowance", user_hash(tenant, user) % replica.settings.layout["allowance"][""])
    told: Any = expect(await replica.service.ask(stream, OpenPot(tenant, user, body.amount_fen)), PotTold)
    return respond(PotLeft(told.left_fen))


ROUTES = (
    Route(
        "POST",
        "/v1/pots",
        open_pot,
        Callers.USERS,
        SEND,
        "toys",
        body=PotBody,
        reply=PotLeft,
        refusals=("journal_unavailable", "shard_unavailable"),
        requests={"open": {"amount_fen": 30}},
        answer={"left_fen": 30},
    ),
)
