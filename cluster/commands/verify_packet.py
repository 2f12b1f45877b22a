"""Verify-packet command: it recomputes a packet's shares from a file or from the running system's proof.

What is checked, what is printed and the exit codes are those of `actors.packet.verify_packet`, the page that
runs without us.
"""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.packet import verify_packet as page
from cluster.commands.terminal import Data, Failure, out, progress
from cluster.commands.tokens import SANDBOX_TENANT, reader_at

if TYPE_CHECKING:
    from cluster.client import Client

DEADLINE_S = 20.0
LANES_MAX = 10_000
PAGES_MAX = 10_000
PAGED = ("chain_links", "shares_fen", "grabs")


def verify_packet(
    proof: Annotated[str, typer.Argument(metavar="FILE|ID", help="A proof's file, - for stdin, or a packet's id.")],
    commitment: Annotated[list[str] | None, typer.Option(help="As told when it was sent; of each lane.")] = None,
    head: Annotated[list[str] | None, typer.Option(help="A chain_head seen while the packet was open.")] = None,
    total_fen: Annotated[int | None, typer.Option(help="What the sender paid.")] = None,
    save: Annotated[Path | None, typer.Option(help="With an id: write the proof to this file.")] = None,
    tenant: Annotated[str, typer.Option(help="With an id and without --token: the packet's tenant.")] = SANDBOX_TENANT,
    url: Annotated[str | None, typer.Option(help="Address of the system, with --token.")] = None,
    token: Annotated[str | None, typer.Option(help="A user's token, of the packet's tenant.")] = None,
    data: Data = None,
) -> None:
    """Recompute every share of an ended packet from its proof; exit code 0 matches, 1 does not, 3 not ended yet."""
    try:
        if proof == "-" or Path(proof).is_file():
            if save is not None:
                raise Failure("--save goes with a packet's id: what is in a file is saved already")
            content = page.read(proof)
        else:
            content = _fetch(proof, tenant, url, token, data)
            if save is not None:
                save.write_text(json.dumps(content, indent=1) + "\n")
        code, lines = page.judge(content, commitment or (), head or (), total_fen)
    except page.NotAProof as failure:
        raise Failure(f"no proof that can be checked: {failure}") from failure
    out.print("\n".join(lines), highlight=False, soft_wrap=True)
    if code != page.MATCHES:
        raise typer.Exit(code)


def _fetch(packet_id: str, tenant: str, url: str | None, token: str | None, data: Path | None) -> list[page.Proof]:
    from actors.transfers.ids import parse_packet_id
    from cluster.client import Client

    if parse_packet_id(packet_id) is None:
        raise Failure(f"{packet_id!r} is neither a file nor a packet id")
    address, reader_token = reader_at(url, token, data, tenant)

    async def ask() -> list[page.Proof]:
        async with Client(address, reader_token, deadline_s=DEADLINE_S) as client:
            return await _lanes(client, packet_id)

    with progress("Asking for the proof"):
        return asyncio.run(ask())


async def _lanes(client: "Client", packet_id: str) -> list[page.Proof]:
    """Return the proof, or that of each lane in order. Raises Failure, NotAProof."""
    first = await _ask(client, packet_id)
    lanes = first.get("lanes")
    if type(lanes) is not int or not 1 <= lanes <= LANES_MAX:
        raise Failure(f"the proof of {packet_id} tells no number of lanes from 1 to {LANES_MAX}")
    if lanes == 1:
        return [await _pages(client, packet_id, None, first)]
    return [await _pages(client, packet_id, lane, await _ask(client, packet_id, lane)) for lane in range(lanes)]


async def _pages(client: "Client", packet_id: str, lane: int | None, proof: page.Proof) -> page.Proof:
    """Return a proof with the pages that follow its first one put behind it. Raises Failure, NotAProof."""
    name = packet_id if lane is None else f"{packet_id}.{lane}"
    if proof.get("packet_id") != name:
        raise Failure(f"asked for the proof of {name}, got that of another packet")
    after_rank = proof.pop("next_after_rank", None)
    page.check_proof(proof)
    rank = proof["rank_base"]
    for _ in range(PAGES_MAX):
        if after_rank is None:
            return proof
        if (
            type(after_rank) is not int
            or not rank < after_rank < proof["rank_base"] + proof["count"]
            or proof["state"] == "open"
        ):
            raise Failure(f"the proof of {name} does not go on after rank {after_rank!a:.70}, as it tells")
        rank = after_rank
        more = await _ask(client, packet_id, lane, rank)
        after_rank = more.pop("next_after_rank", None)
        page.check_proof(more)
        if any(more.get(field) != told for field, told in proof.items() if field not in PAGED):
            raise Failure(f"the pages of the proof of {name} are of different proofs; ask again")
        for field in PAGED:
            proof[field] += more[field]
    raise Failure(f"the proof of {name} has more than {PAGES_MAX} pages")


async def _ask(client: "Client", packet_id: str, lane: int | None = None, after_rank: int | None = None) -> page.Proof:
    from cluster.client import ApiProblem

    answer = await client.proof(packet_id, lane=lane, after_rank=after_rank)
    if isinstance(answer, ApiProblem):
        raise Failure(f"{packet_id} is not proven: the system {answer.told}")
    if not isinstance(answer, dict):
        raise Failure(f"what is told of {packet_id} is not a proof")
    return answer
