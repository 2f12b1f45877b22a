"""Routes of packets: look, prove, commit. Sends and grabs are answered by `cluster.gateway.hot`."""

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from actors.ids import User
from actors.ledger.transfer import Refusal
from actors.packet.messages import PacketView
from actors.wallet.messages import Commit
from cluster.gateway import answers, hot, stream
from cluster.gateway.problems import Problem, refused
from cluster.gateway.schemas import CommitBody, CommitmentBody, PacketBody, ProofBody

router = APIRouter(tags=["packets"])
hot.document(router)
stream.document(router)


APART_COUNT_MIN = 1_000
"""Shares of a packet whose proof is computed in a thread: the loop is not held for more than 2 ms."""

Rank = Annotated[int, Query(ge=0, le=2**31 - 1)]


@router.get("/v1/packets/{packet_id}", response_model=PacketBody, response_model_exclude_none=True)
async def read_packet(request: Request, packet_id: str, after_rank: Rank = 0) -> Response:
    """Look at a packet; `after_rank`: at the lines of its list behind that one."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    lanes = await _seen(gateway, packet_id, reader, after_rank=after_rank)
    return answers.json_response(answers.packet(lanes, reader.user, gateway.settings.bounds.list_lines_max))


@router.get("/v1/packets/{packet_id}/proof", response_model=ProofBody, response_model_exclude_none=True)
async def read_proof(
    request: Request, packet_id: str, lane: Annotated[int, Query(ge=0)] = 0, after_rank: Rank = 0
) -> Response:
    """Get what is needed to recompute every share: of a packet in lanes one lane, of a big one a page of ranks."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    lines_max = gateway.settings.bounds.proof_lines_max
    seen = await _seen(gateway, packet_id, reader, after_rank=after_rank, lines_max=lines_max, links=after_rank == 0)
    if lane >= len(seen):
        raise Problem("invalid", "Correct the named fields.", {"lane": f"0 to {len(seen) - 1}"})
    proved = seen[lane], lines_max, after_rank
    if seen[lane].funding.count <= APART_COUNT_MIN:
        return answers.json_response(answers.proof(*proved))
    return answers.json_response(await asyncio.to_thread(answers.proof, *proved))


@router.post("/v1/commitments", status_code=201, response_model=CommitmentBody)
async def commit(request: Request, body: CommitBody | None = None) -> Response:
    """Have the platform commit to the next packet's seed, so that its sender can add a nonce chosen after it."""
    gateway = request.app.state.gateway
    sender = gateway.auth.acting_user(request)
    algorithm = (body or CommitBody()).algorithm
    made = await gateway.service.commit(Commit(sender.tenant, sender.user, secrets.token_hex(16), algorithm))
    told = {
        "commitment_id": made.packet_id,
        "algorithm": made.algorithm,
        "commitment": made.commitment.hex(),
        "expires_at_ms": made.expires_at_ms,
    }
    return answers.json_response(told, 201)


async def _seen(gateway: Any, packet_id: str, reader: User, **page: Any) -> list[PacketView]:
    """Look at a packet as somebody. Raises Problem: what he may not see does not exist for him."""
    lanes: list[PacketView] = await gateway.service.view(packet_id, reader, **page)
    if not answers.may_see(lanes[0], reader.user):
        raise refused(Refusal.PACKET_NOT_FOUND)
    return lanes
