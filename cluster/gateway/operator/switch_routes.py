"""Routes of levers: what is paused, and operators who pause and resume. Idempotent by nature, so without a key."""

from fastapi import Request
from starlette.responses import Response

from cluster.gateway import responses
from cluster.gateway.middleware.validation import StrictRouter
from cluster.gateway.schemas import LeverBody, LeversBody, LeverState

router = StrictRouter(tags=["operator"])


@router.get("/v1/levers", response_model=LeversBody)
async def read_levers(request: Request) -> Response:
    """Tell what is paused, since when, by whom."""
    gateway = request.app.state.gateway
    gateway.auth.require_operator(request)
    return responses.json_response({"paused": await gateway.levers.read()})


@router.put("/v1/levers/sends", response_model=LeverState)
async def set_sends_lever(request: Request, body: LeverBody) -> Response:
    """Pause all sends, or let them go on; 200 means durable in every stream."""
    gateway = request.app.state.gateway
    by = gateway.auth.require_operator(request)
    await gateway.levers.set_sends(paused=body.paused, by=by)
    return _state("sends", None, body)


@router.put("/v1/levers/grabs", response_model=LeverState)
async def set_grabs_lever(request: Request, body: LeverBody) -> Response:
    """Pause all grabs, or let them go on; 200 means durable in every stream."""
    gateway = request.app.state.gateway
    by = gateway.auth.require_operator(request)
    await gateway.levers.set_grabs(paused=body.paused, by=by)
    return _state("grabs", None, body)


@router.put("/v1/levers/packets/{packet_id}", response_model=LeverState)
async def set_packet_lever(request: Request, packet_id: str, body: LeverBody) -> Response:
    """Pause the grabs of one packet, or let them go on; one that has ended is answered with how it ended."""
    gateway = request.app.state.gateway
    by = gateway.auth.require_operator(request)
    await gateway.levers.set_packet(packet_id, paused=body.paused, by=by)
    return _state("packet", packet_id, body)


def _state(lever: str, packet_id: str | None, body: LeverBody) -> Response:
    return responses.json_response({"lever": lever, "packet_id": packet_id, "paused": body.paused})
