"""Routes of packets: look, prove, thank. Sends and grabs are answered by `cluster.gateway.hot`."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from actors.ids import User
from actors.ledger.transfer import Refusal
from actors.packet.messages import PacketView
from actors.wallet.messages import WriteNote
from cluster.gateway import answers, hot, stream
from cluster.gateway.problems import Problem, refused, told
from cluster.gateway.schemas import NoteBody, PacketBody, ProofBody, WrittenNote

router = APIRouter(tags=["packets"])
hot.document(router)
stream.document(router)


@router.get("/v1/packets/{packet_id}", response_model=PacketBody, response_model_exclude_none=True)
async def read_packet(request: Request, packet_id: str) -> Response:
    """Look at a packet."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    view = await _seen(gateway, packet_id, reader)
    body = answers.packet(view, reader.user)
    if "grabs" in body:
        # Before the first share nobody can have written.
        body["notes"] = answers.notes(await gateway.service.notes(packet_id)) if view.grabs else []
    return answers.json_response(body)


@router.post("/v1/packets/{packet_id}/note", response_model=WrittenNote)
async def write_note(request: Request, packet_id: str, body: NoteBody) -> Response:
    """Thank the sender of a packet of which one has a share; another text replaces the one before, a few times."""
    gateway = request.app.state.gateway
    author = gateway.auth.acting_user(request)
    chars_max = gateway.settings.limits.note_chars_max
    if not body.text.strip() or len(body.text) > chars_max:
        raise Problem("invalid", "Correct the named fields.", {"text": f"1 to {chars_max} characters, not all blank"})
    view = await _seen(gateway, packet_id, author)
    if all(line.user != author.user for line in view.grabs):
        raise Problem("not_a_taker", "Take a share of the packet first; only takers may write to its sender.")
    service = gateway.service
    with told(Refusal.RATE_LIMITED, "The note was changed too often, or the packet has as many as it may."):
        note = await service.ask_wallet(service.payer_of(packet_id), WriteNote(packet_id, author.user, body.text))
    written = {"packet_id": packet_id, "user": author.user, "text": body.text}
    return answers.json_response(written | {"at_ms": note.at_ms, "replayed": note.replayed})


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
