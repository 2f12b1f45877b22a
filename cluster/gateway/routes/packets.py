"""Routes of packets: look, prove. Sends and grabs are answered by `cluster.gateway.hot`."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from actors.ids import User
from actors.ledger.transfer import Refusal
from actors.packet.messages import PacketView
from cluster.gateway import answers, hot, stream
from cluster.gateway.problems import refused
from cluster.gateway.schemas import PacketBody, ProofBody

router = APIRouter(tags=["packets"])
hot.document(router)
stream.document(router)


@router.get("/v1/packets/{packet_id}", response_model=PacketBody, response_model_exclude_none=True)
async def read_packet(request: Request, packet_id: str) -> Response:
    """Look at a packet."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    view = await _seen(gateway, packet_id, reader)
    return answers.json_response(answers.packet(view, reader.user))


@router.get("/v1/packets/{packet_id}/proof", response_model=ProofBody, response_model_exclude_none=True)
async def read_proof(request: Request, packet_id: str) -> Response:
    """Get what is needed to recompute every share."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    return answers.json_response(answers.proof(await _seen(gateway, packet_id, reader)))


async def _seen(gateway: Any, packet_id: str, reader: User) -> PacketView:
    """Look at a packet as somebody. Raises Problem: what he may not see does not exist for him."""
    view: PacketView = await gateway.service.view(packet_id, reader.tenant)
    if not answers.may_see(view, reader.user):
        raise refused(Refusal.PACKET_NOT_FOUND)
    return view
