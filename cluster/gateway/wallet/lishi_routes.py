"""Routes of lishi (要利是): ask somebody for a packet, look, accept, decline. What is given is then grabbed."""

from actors.kernel.names import User
from actors.refusals import Refusal
from actors.transfers.ids import Layout, parse_lishi_id, wallet_stream
from actors.wallet.commands import AcceptLishi, AskLishi, DeclineLishi, ListLishi, ReadLishi
from actors.wallet.replies import Lishi, LishiList, LishiTold
from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import READ, SEND
from cluster.gateway.packet.contract import SentPacket
from cluster.gateway.packet.routes import SEND_REFUSALS, UNKNOWN_OUTCOME
from cluster.gateway.packet.views import sent_packet
from cluster.gateway.problems import Answer, Problem, expect, refused
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond, respond_once
from cluster.gateway.route import Route
from cluster.gateway.wallet.contract import ACCEPTS, ASKS, AcceptBody, AskBody, LishiBody, LishiListBody, WaitingFor


async def ask_lishi(replica: Replica, request: Request) -> Answer:
    """Ask somebody of one's own tenant for a packet."""
    body: AskBody = request.body
    asker = request.user
    command = AskLishi(asker.tenant, asker.user, body.asked, request.key, body.greeting)
    reply = await replica.service.wallets.ask_lishi(command)
    # A repeat is told what the first was, whatever became of it since.
    asked = _told(reply.lishi, fresh=True)
    return respond_once(asked, replayed=reply.replayed, location=f"/v1/lishi/{asked.lishi_id}")


async def list_lishi(replica: Replica, request: Request) -> Answer:
    """List the requests that wait for one's own answer; at most as many as may be open."""
    reply = expect(await replica.service.wallets.ask(ListLishi(*request.user)), LishiList)
    return respond(LishiListBody([_told(lishi) for lishi in reply.lishi]))


async def read_lishi(replica: Replica, request: Request) -> Answer:
    """Look at a request that one made or was made."""
    command = ReadLishi(request.name, *request.user)
    reply = expect(await replica.service.wallets.ask_stream(_stream_of(replica, request), command), LishiTold)
    return respond(_told(reply.lishi))


async def accept_lishi(replica: Replica, request: Request) -> Answer:
    """Give what one was asked for: 201 means that the asker can take it."""
    body: AcceptBody = request.body
    giver = request.user
    command = AcceptLishi(request.name, giver.tenant, giver.user, request.key, body.amount_fen, body.greeting)
    try:
        funded = await replica.service.wallets.fund(_stream_of(replica, request), command)
    except Problem as problem:
        raise _to_the_asked(problem) from problem
    sent = sent_packet(funded.funding)
    return respond_once(sent, replayed=funded.replayed, location=f"/v1/packets/{sent.packet_id}")


async def decline_lishi(replica: Replica, request: Request) -> Answer:
    """Give nothing. Idempotent by nature, so without a key."""
    command = DeclineLishi(request.name, *request.user)
    try:
        reply = expect(await replica.service.wallets.ask_stream(_stream_of(replica, request), command), LishiTold)
    except Problem as problem:
        raise _to_the_asked(problem) from problem
    return respond_once(_told(reply.lishi), replayed=reply.replayed)


def check_ask(fields: dict[str, str], body: AskBody, settings: Settings, asker: User) -> None:
    """Say whether the caller asks themselves."""
    if body.asked == asker.user:
        fields["asked"] = "somebody else than the asker"


def _told(lishi: Lishi, *, fresh: bool = False) -> LishiBody:
    """Return a request for a packet as its two are told it; `fresh`: as it was when it was made."""
    body = LishiBody(
        lishi_id=lishi.lishi_id,
        asker=lishi.asker,
        asked=lishi.asked,
        greeting=lishi.greeting,
        state="asked" if fresh else lishi.state,
        asked_at_ms=lishi.asked_at_ms,
        lapses_at_ms=lishi.lapses_at_ms,
    )
    if lishi.packet_id and not fresh:
        body.packet_id = lishi.packet_id
    return body


def _to_the_asked(problem: Problem) -> Problem:
    """Say whose answer it is, where that is why there is none."""
    if problem.code == Refusal.NOT_ADDRESSEE.value:
        return Problem("forbidden", "Only who was asked may answer.")
    return problem


def _stream_of(replica: Replica, request: Request) -> str:
    """Name the stream that holds the request. Raises Problem for what is not an id."""
    index = parse_lishi_id(request.name)
    if index is None or index >= Layout.of(replica.settings.layout).wallet:
        raise refused(Refusal.LISHI_NOT_FOUND)
    return wallet_stream(index)


_TAG = "lishi"
_REFUSALS = (*UNKNOWN_OUTCOME, "lishi_not_found")
_ANSWERS = (*_REFUSALS, "lishi_closed", "lishi_lapsed")
_USERS = Callers.USERS

# fmt: off
ROUTES = (
    Route("POST", "/v1/lishi", ask_lishi, _USERS, READ, _TAG, body=AskBody, check=check_ask, reply=LishiBody,
          status=201, keyed=True,
          refusals=(*UNKNOWN_OUTCOME, "idempotency_key_reused", "rate_limited", "lishi_lapsed"), requests=ASKS),
    Route("GET", "/v1/lishi", list_lishi, _USERS, READ, _TAG, query=WaitingFor, reply=LishiListBody,
          refusals=UNKNOWN_OUTCOME),
    Route("GET", "/v1/lishi/{lishi_id}", read_lishi, _USERS, READ, _TAG, reply=LishiBody, refusals=_REFUSALS),
    Route("POST", "/v1/lishi/{lishi_id}/accept", accept_lishi, _USERS, SEND, _TAG, body=AcceptBody, reply=SentPacket,
          status=201, keyed=True, refusals=(*_ANSWERS, *SEND_REFUSALS), requests=ACCEPTS),
    Route("POST", "/v1/lishi/{lishi_id}/decline", decline_lishi, _USERS, READ, _TAG, reply=LishiBody, repeatable=True,
          refusals=_ANSWERS),
)
# fmt: on
