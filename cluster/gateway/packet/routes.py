"""Routes of packets: look, prove, commit, thank. Sends and grabs are answered by `cluster.gateway.fast_routes`."""

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from actors.kernel.names import User
from actors.packet.replies import PacketView
from actors.refusals import Refusal
from actors.wallet.commands import Commit, WriteNote
from cluster.gateway import fast_routes as hot
from cluster.gateway import responses
from cluster.gateway.middleware.validation import StrictRouter, Whole
from cluster.gateway.packet import stream
from cluster.gateway.problems import Problem, refused, told
from cluster.gateway.schemas import CommitBody, CommitmentBody, NoteBody, PacketBody, ProofBody, WrittenNote
from cluster.sections import Limits

router = StrictRouter(tags=["packets"])
hot.document(router)
stream.document(router)


APART_COUNT_MIN = 1_000
"""Shares of a packet whose proof is computed in a thread: the loop is not held for more than 2 ms."""

Rank = Annotated[Whole, Query(ge=0, le=2**31 - 1)]


@router.get("/v1/packets/{packet_id}", response_model=PacketBody, response_model_exclude_none=True)
async def read_packet(request: Request, packet_id: str, after_rank: Rank = 0) -> Response:
    """Look at a packet; `after_rank`: at the lines of its list behind that one."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    lanes = await _seen(gateway, packet_id, reader, after_rank=after_rank)
    body = responses.packet(lanes, reader.user, gateway.settings.bounds.list_lines_max)
    if "grabs" in body:
        # Before the first share nobody can have written.
        body["notes"] = responses.notes(await gateway.service.notes(packet_id)) if body["grabbed_count"] else []
    return responses.json_response(body)


@router.post("/v1/packets/{packet_id}/note", response_model=WrittenNote)
async def write_note(request: Request, packet_id: str, body: NoteBody) -> Response:
    """Thank the sender of a packet of which one has a share; another text replaces the one before, a few times."""
    gateway = request.app.state.gateway
    author = gateway.auth.acting_user(request)
    chars_max = gateway.settings.limits.note_chars_max
    if not body.text.strip() or len(body.text) > chars_max:
        raise Problem("invalid", "Correct the named fields.", {"text": f"1 to {chars_max} characters, not all blank"})
    lanes = await _seen(gateway, packet_id, author, lines_max=1)
    if not any(lane.reader_rank for lane in lanes):
        raise Problem("not_a_taker", "Take a share of the packet first; only takers may write to its sender.")
    service = gateway.service
    with told(Refusal.RATE_LIMITED, "The note was changed too often, or the packet has as many as it may."):
        wrote = WriteNote(packet_id, author.user, body.text, author.tenant)
        note = await service.ask_wallet(service.payer_of(packet_id), wrote)
    written = {"packet_id": packet_id, "user": author.user, "text": body.text}
    return responses.json_response(written | {"at_ms": note.at_ms, "replayed": note.replayed})


@router.get("/v1/packets/{packet_id}/proof", response_model=ProofBody, response_model_exclude_none=True)
async def read_proof(
    request: Request, packet_id: str, lane: Annotated[Whole, Query(ge=0)] = 0, after_rank: Rank = 0
) -> Response:
    """Get what is needed to recompute every share: of a packet in lanes one lane, of a big one a page of ranks."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    lines_max = gateway.settings.bounds.proof_lines_max
    [seen] = await _seen(gateway, packet_id, reader, after_rank=after_rank, lines_max=lines_max, proof_of=lane)
    proved = seen, lines_max, after_rank
    if seen.funding.count <= APART_COUNT_MIN:
        return responses.json_response(responses.proof(*proved))
    return responses.json_response(await asyncio.to_thread(responses.proof, *proved))


@router.post("/v1/commitments", status_code=201, response_model=CommitmentBody, response_model_exclude_none=True)
async def commit(request: Request, body: CommitBody | None = None) -> Response:
    """Have the platform commit to the next packet's seed, so that its sender can add a nonce chosen after it.

    Of a star packet or a rain it commits to the seed of every lane or burst.
    """
    gateway = request.app.state.gateway
    sender = gateway.auth.acting_user(request)
    body = body or CommitBody()
    _check_crowd(body, gateway.settings.limits)
    token = secrets.token_hex(16)
    command = Commit(sender.tenant, sender.user, token, body.algorithm, body.star_count or 0, body.bursts or 0)
    with told(Refusal.RATE_LIMITED, "So many commitments are unused; use one, or wait until one is over."):
        made = await gateway.service.commit(command)
    committed = {
        "commitment_id": made.packet_id,
        "algorithm": made.algorithm,
        "commitment": made.commitment.hex(),
        "expires_at_ms": made.expires_at_ms,
    }
    if made.further:
        committed["commitments"] = [one.hex() for one in made.commitments]
    return responses.json_response(committed, 201)


def _check_crowd(body: CommitBody, limits: Limits) -> None:
    """Check what a commitment is wanted for. Raises Problem naming every bad field."""
    fields = {}
    if (body.star_count or 0) > limits.crowd_count_max:
        fields["star_count"] = f"at most {limits.crowd_count_max} shares"
    if (body.bursts or 0) > limits.bursts_max:
        fields["bursts"] = f"at most {limits.bursts_max}"
    if body.star_count and body.bursts:
        fields["bursts"] = "star_count or bursts, not both"
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)


async def _seen(gateway: Any, packet_id: str, reader: User, **page: Any) -> list[PacketView]:
    """Look at a packet as somebody. Raises Problem: what he may not see does not exist for him."""
    lanes: list[PacketView] = await gateway.service.view(packet_id, reader, **page)
    if not responses.may_see(lanes[0], reader.user):
        raise refused(Refusal.PACKET_NOT_FOUND)
    return lanes
