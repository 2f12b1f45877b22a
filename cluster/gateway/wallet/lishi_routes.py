"""Routes of lishi (要利是): ask somebody for a packet, look, accept, decline. What is given is then grabbed."""

from typing import Any, Literal

from fastapi import Request
from starlette.responses import Response

from actors.kernel.names import USER_RULE, is_user
from actors.packet.split import can_split
from actors.refusals import Refusal
from actors.transfers.ids import Layout, parse_lishi_id, wallet_stream
from actors.wallet.commands import AcceptLishi, AskLishi, DeclineLishi, ListLishi, ReadLishi
from actors.wallet.replies import LishiTold
from actors.wallet.rules import WalletRules
from cluster.gateway import responses
from cluster.gateway.idempotency import KEY_PARAMETER, key_of, told_once
from cluster.gateway.middleware.validation import StrictRouter
from cluster.gateway.packet.send_bodies import check_greeting
from cluster.gateway.problems import Problem, refused
from cluster.gateway.schemas import AcceptBody, AskBody, LishiBody, LishiListBody, SentPacket

router = StrictRouter(tags=["lishi"])

_KEYED = {"parameters": [KEY_PARAMETER]}


@router.post(
    "/v1/lishi", status_code=201, response_model=LishiBody, response_model_exclude_none=True, openapi_extra=_KEYED
)
async def ask_lishi(request: Request, body: AskBody) -> Response:
    """Ask somebody of one's own tenant for a packet."""
    gateway = request.app.state.gateway
    asker = gateway.auth.acting_user(request)
    key = key_of(request)
    fields: dict[str, str] = {}
    check_greeting(fields, body.greeting, gateway.settings.limits)
    if not is_user(body.asked):
        fields["asked"] = USER_RULE
    elif body.asked == asker.user:
        fields["asked"] = "somebody else than the asker"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    command = AskLishi(asker.tenant, asker.user, body.asked, key, body.greeting)
    reply = await gateway.service.ask_lishi(command)
    # A repeat is told what the first was, whatever became of it since.
    asked = responses.lishi(reply.lishi) | {"state": "asked"}
    asked.pop("packet_id", None)
    return told_once(asked, replayed=reply.replayed, location=f"/v1/lishi/{reply.lishi.lishi_id}")


@router.get("/v1/lishi", response_model=LishiListBody, response_model_exclude_none=True)
async def list_lishi(request: Request, role: Literal["asked"] = "asked") -> Response:
    """List the requests that wait for one's own answer; at most as many as may be open."""
    gateway = request.app.state.gateway
    user = gateway.auth.acting_user(request)
    reply = await gateway.service.ask_wallet(gateway.service.wallet_stream_of(user), ListLishi(*user))
    return responses.json_response({"lishi": [responses.lishi(lishi) for lishi in reply.lishi]})


@router.get("/v1/lishi/{lishi_id}", response_model=LishiBody, response_model_exclude_none=True)
async def read_lishi(request: Request, lishi_id: str) -> Response:
    """Look at a request that one made or was made."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    reply = await gateway.service.ask_wallet(_stream_of(gateway, lishi_id), ReadLishi(lishi_id, *reader))
    return responses.json_response(responses.lishi(reply.lishi))


@router.post(
    "/v1/lishi/{lishi_id}/accept",
    status_code=201,
    response_model=SentPacket,
    response_model_exclude_none=True,
    openapi_extra=_KEYED,
)
async def accept_lishi(request: Request, lishi_id: str, body: AcceptBody) -> Response:
    """Give what one was asked for: 201 means that the asker can take it."""
    gateway = request.app.state.gateway
    giver = gateway.auth.acting_user(request)
    key = key_of(request)
    stream = _stream_of(gateway, lishi_id)
    limits = gateway.settings.limits
    fields: dict[str, str] = {}
    check_greeting(fields, body.greeting, gateway.settings.limits)
    sends = gateway.settings.rules(WalletRules).sends
    fen_max = min(sends.share_fen_max, limits.total_fen_max)
    if not can_split(body.amount_fen, 1, sends.share_fen_min, fen_max):
        fields["amount_fen"] = f"{sends.share_fen_min} to {fen_max} fen"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    try:
        command = AcceptLishi(lishi_id, giver.tenant, giver.user, key, body.amount_fen, body.greeting)
        funded = await gateway.service.fund(stream, command)
    except Problem as problem:
        raise _to_the_asked(problem) from problem
    sent = responses.sent_packet(funded.funding)
    return told_once(sent, replayed=funded.replayed, location=f"/v1/packets/{sent['packet_id']}")


@router.post("/v1/lishi/{lishi_id}/decline", response_model=LishiBody, response_model_exclude_none=True)
async def decline_lishi(request: Request, lishi_id: str) -> Response:
    """Give nothing. Idempotent by nature, so without a key."""
    gateway = request.app.state.gateway
    asked = gateway.auth.acting_user(request)
    try:
        reply: LishiTold = await gateway.service.ask_wallet(
            _stream_of(gateway, lishi_id), DeclineLishi(lishi_id, *asked)
        )
    except Problem as problem:
        raise _to_the_asked(problem) from problem
    return told_once(responses.lishi(reply.lishi), replayed=reply.replayed)


def _to_the_asked(problem: Problem) -> Problem:
    """Say whose answer it is, where that is why there is none."""
    if problem.code == Refusal.NOT_ADDRESSEE.value:
        return Problem("forbidden", "Only who was asked may answer.")
    return problem


def _stream_of(gateway: Any, lishi_id: str) -> str:
    """Name the stream that holds the request. Raises Problem for what is no id."""
    index = parse_lishi_id(lishi_id)
    if index is None or index >= Layout.of(gateway.settings.layout).wallet:
        raise refused(Refusal.LISHI_NOT_FOUND)
    return wallet_stream(index)
