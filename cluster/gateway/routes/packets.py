"""Routes of packets: send, look, prove. Grabs are answered by `cluster.gateway.hot`."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from actors.packet.split import can_split
from actors.wallet.messages import Send
from cluster.config import Limits
from cluster.gateway import answers, hot, stream
from cluster.gateway.problems import Problem
from cluster.gateway.schemas import PacketBody, ProofBody, SendBody, SentPacket

router = APIRouter(tags=["packets"])
hot.document(router)
stream.document(router)

IDEMPOTENCY_KEY_CHARS_MAX = 255


@router.post("/v1/packets", status_code=201, response_model=SentPacket)
async def send_packet(
    request: Request, body: SendBody, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Send a packet. 201 means open: a grab right after it succeeds."""
    gateway = request.app.state.gateway
    sender = gateway.auth.acting_user(request)
    key = check_key(idempotency_key)
    check_packet(body, gateway.settings.limits)
    funded = await gateway.service.send(
        Send(sender.tenant, sender.user, key, body.kind, body.total_fen, body.count, body.greeting)
    )
    headers = {"Idempotent-Replayed": "true"} if funded.replayed else None
    return answers.json_response(answers.sent_packet(funded.funding), 201, headers)


@router.get("/v1/packets/{packet_id}", response_model=PacketBody, response_model_exclude_none=True)
async def read_packet(request: Request, packet_id: str) -> Response:
    """Look at a packet."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    view = await gateway.service.view(packet_id, reader.tenant)
    return answers.json_response(answers.packet(view, reader.user))


@router.get("/v1/packets/{packet_id}/proof", response_model=ProofBody, response_model_exclude_none=True)
async def read_proof(request: Request, packet_id: str) -> Response:
    """Get what is needed to recompute every share."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    view = await gateway.service.view(packet_id, reader.tenant)
    return answers.json_response(answers.proof(view))


def check_key(key: str | None) -> str:
    """Return the idempotency key. Raises Problem."""
    if not key:
        raise Problem("idempotency_key_missing", "Send an Idempotency-Key header, a fresh one for every new send.")
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX:
        limit = f"at most {IDEMPOTENCY_KEY_CHARS_MAX} characters"
        raise Problem("invalid", "The idempotency key is too long.", {"Idempotency-Key": limit})
    return key


def check_packet(body: SendBody, limits: Limits) -> None:
    """Check a packet against the product's limits before any money moves. Raises Problem naming every field."""
    fields: dict[str, str] = {}
    if body.total_fen > limits.total_fen_max:
        fields["total_fen"] = f"at most {limits.total_fen_max} fen"
    if body.count > limits.count_max:
        fields["count"] = f"at most {limits.count_max} shares"
    if len(body.greeting) > limits.greeting_chars_max:
        fields["greeting"] = f"at most {limits.greeting_chars_max} characters"
    try:
        body.greeting.encode()
    except UnicodeEncodeError:
        fields["greeting"] = "no lone surrogates"
    if not fields and not can_split(body.total_fen, body.count, limits.share_fen_min, limits.share_fen_max):
        fields["total_fen"] = f"{limits.share_fen_min} to {limits.share_fen_max} fen for every share"
    if not fields and body.kind == "equal" and body.total_fen % body.count:
        fields["total_fen"] = "an equal packet's total divides by its count"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
