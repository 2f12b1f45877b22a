"""Routes of switches: what is paused, and operators who pause and resume. Idempotent by nature, so without a key.

They must work when they are needed most: no load refuses them.
"""

from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import EXEMPT
from cluster.gateway.operator.contract import LEVERS, LeverBody, LeversBody, LeverState
from cluster.gateway.problems import Answer
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond
from cluster.gateway.route import Handler, Route


async def read_levers(replica: Replica, request: Request) -> Answer:
    """Tell what is paused, since when, by whom."""
    return respond(LeversBody(await replica.switches.read()))


async def set_sends_lever(replica: Replica, request: Request) -> Answer:
    """Pause all sends, or let them go on; 200 means durable in every stream."""
    body: LeverBody = request.body
    await replica.switches.set_sends(paused=body.paused, by=request.claims.user)
    return respond(LeverState("sends", None, body.paused))


async def set_grabs_lever(replica: Replica, request: Request) -> Answer:
    """Pause all grabs, or let them go on; 200 means durable in every stream."""
    body: LeverBody = request.body
    await replica.switches.set_grabs(paused=body.paused, by=request.claims.user)
    return respond(LeverState("grabs", None, body.paused))


async def set_packet_lever(replica: Replica, request: Request) -> Answer:
    """Pause the grabs of one packet, or let them go on; one that has ended is answered with how it ended."""
    body: LeverBody = request.body
    await replica.switches.set_packet(request.name, paused=body.paused, by=request.claims.user)
    return respond(LeverState("packet", request.name, body.paused))


_REFUSALS = ("journal_unavailable", "shard_unavailable")
_OF_A_PACKET = (*_REFUSALS, "packet_not_found", "seed_unknown", "drained", "expired")


def _lever(path: str, handler: Handler, refusals: tuple[str, ...]) -> Route:
    return Route(
        "PUT",
        f"/v1/levers/{path}",
        handler,
        Callers.OPERATORS,
        EXEMPT,
        "operator",
        body=LeverBody,
        reply=LeverState,
        refusals=refusals,
        requests=LEVERS,
    )


# fmt: off
ROUTES = (
    Route("GET", "/v1/levers", read_levers, Callers.OPERATORS, EXEMPT, "operator", reply=LeversBody,
          refusals=_REFUSALS),
    _lever("sends", set_sends_lever, _REFUSALS),
    _lever("grabs", set_grabs_lever, _REFUSALS),
    _lever("packets/{packet_id}", set_packet_lever, _OF_A_PACKET),
)
# fmt: on
