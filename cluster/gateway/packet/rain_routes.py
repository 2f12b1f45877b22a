"""Routes of rains: a campaign of timed bursts with one budget. Each burst is a packet, looked at and grabbed as any."""

from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import READ, SEND
from cluster.gateway.packet import examples, views
from cluster.gateway.packet.contract import RainBody, RainState
from cluster.gateway.packet.routes import COMMITTED_REFUSALS, PACKET_REFUSALS, SEND_REFUSALS
from cluster.gateway.packet.sends import check_commitment, check_rain, rain_of
from cluster.gateway.problems import Answer
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond, respond_once
from cluster.gateway.route import Route


async def send_rain(replica: Replica, request: Request) -> Answer:
    """Send a rain. 201 means that every burst is paid for and opens at its time."""
    body: RainBody = request.body
    check_commitment(body.commitment_id)
    funded = await replica.service.wallets.send(rain_of(body, request.user, request.key))
    rain = views.rain([funded.funding, *funded.others])
    return respond_once(rain, replayed=funded.replayed, location=f"/v1/rains/{rain.rain_id}")


async def read_rain(replica: Replica, request: Request) -> Answer:
    """Look at a rain: what every burst has given, and what it left."""
    seen = await replica.service.packets.rain(request.name, request.user, replica.platform_key)
    return respond(views.rain([view.funding for view in seen], seen))


# fmt: off
ROUTES = (
    Route("POST", "/v1/rains", send_rain, Callers.USERS, SEND, "rains", body=RainBody, check=check_rain,
          reply=RainState, status=201, keyed=True, refusals=(*SEND_REFUSALS, *COMMITTED_REFUSALS),
          requests=examples.RAINS),
    Route("GET", "/v1/rains/{rain_id}", read_rain, Callers.USERS, READ, "rains", reply=RainState,
          refusals=PACKET_REFUSALS),
)
# fmt: on
