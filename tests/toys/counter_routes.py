"""Routes of the counter toy, and the struct of their reply."""

from typing import Any

import msgspec
from actors.counter.kind import Count, CountTold  # type: ignore[import-not-found]

from actors.kernel.names import stream_name
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import READ
from cluster.gateway.problems import Answer, expect
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond
from cluster.gateway.route import Route


class CountBody(msgspec.Struct):
    """How many there are."""

    count: int


async def count_one(replica: Replica, request: Request) -> Answer:
    """Count one more."""
    told: Any = expect(await replica.service.ask(stream_name("counter", 0), Count(*request.user)), CountTold)
    return respond(CountBody(told.count))


ROUTES = (
    Route(
        "POST",
        "/v1/counts",
        count_one,
        Callers.USERS,
        READ,
        "toys",
        reply=CountBody,
        refusals=("journal_unavailable", "shard_unavailable", "paused"),
        answer={"count": 1},
    ),
)
