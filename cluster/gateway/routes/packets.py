"""Routes of packets: look, prove. Sends and grabs are answered by `cluster.gateway.hot`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from cluster.gateway import answers, hot, stream
from cluster.gateway.schemas import PacketBody, ProofBody

router = APIRouter(tags=["packets"])
hot.document(router)
stream.document(router)


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
