"""Routes of packets: send, look, prove, grab."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from actors.ids import is_user
from actors.packet.split import can_split
from actors.wallet.messages import Send
from cluster.config import Limits
from cluster.gateway import answers
from cluster.gateway.problems import Problem
from cluster.gateway.schemas import BatchBody, GrabBody, PacketBody, ProofBody, SendBody, SentPacket, ShareBody

router = APIRouter(tags=["packets"])

IDEMPOTENCY_KEY_CHARS_MAX = 255


class GrabItem(msgspec.Struct, forbid_unknown_fields=True):
    """One grab of a batch."""

    packet_id: str
    user: str
    passphrase: str | None = None


class GrabItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch whose items are looked at one by one, so that a bad one fails alone."""

    grabs: list[msgspec.Raw]


_ITEMS = msgspec.json.Decoder(GrabItems)
_ITEM = msgspec.json.Decoder(GrabItem)
_BATCH_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["grabs"],
                    "properties": {
                        "grabs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["packet_id", "user"],
                                "properties": {
                                    "packet_id": {"type": "string"},
                                    "user": {"type": "string"},
                                    "passphrase": {"type": ["string", "null"]},
                                },
                            },
                        }
                    },
                }
            }
        },
    }
}


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


@router.post("/v1/packets/{packet_id}/grabs", response_model=ShareBody)
async def grab(request: Request, packet_id: str, body: GrabBody | None = None) -> Response:
    """Take a share. Idempotent by (packet, user): a repeat gets the same share."""
    gateway = request.app.state.gateway
    user = gateway.auth.acting_user(request)
    won = await gateway.service.grab(packet_id, user)
    return answers.json_response(answers.share(packet_id, user.user, won))


@router.post("/v1/grabs/batch", response_model=BatchBody, openapi_extra=_BATCH_SCHEMA)
async def grab_batch(request: Request) -> Response:
    """Grab for many users at once (chat gateways). One bad item never fails the others."""
    gateway = request.app.state.gateway
    tenant = gateway.auth.gateway_tenant(request)
    raw = _decode_items(await request.body(), gateway.settings.bounds.batch_size_max)
    asked: list[tuple[str, str]] = []
    places: list[int] = []
    results: list[dict[str, Any]] = [{"code": "invalid"}] * len(raw)
    for index, item in enumerate(raw):
        try:
            one = _ITEM.decode(item)
        except msgspec.ValidationError:
            continue
        if is_user(one.user):
            asked.append((one.packet_id, one.user))
            places.append(index)
    for index, reply in zip(places, await gateway.service.grabs(asked, tenant), strict=True):
        results[index] = answers.batch_result(reply)
    return answers.json_response({"results": results})


def _decode_items(body: bytes, size_max: int) -> list[msgspec.Raw]:
    try:
        items = _ITEMS.decode(body).grabs
    except msgspec.ValidationError as failure:
        raise Problem("invalid", "Correct the body.", {"body": str(failure)}) from failure
    except msgspec.DecodeError as failure:
        raise Problem("malformed", f"The body is not valid JSON: {failure}.") from failure
    if len(items) > size_max:
        raise Problem("too_large", f"A batch may have at most {size_max} grabs; send several.")
    return items


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
