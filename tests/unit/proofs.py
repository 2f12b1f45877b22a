"""Proofs: made from their written description, sharing no code with the page that checks them.

Nonce, blocks, chain, lanes and pages are made here; one block of shares by the platform's own `split`.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from actors.packet.split import split

Proof = dict[str, Any]
BLOCK_RANKS = 10_000
PACKET_ID = "a" * 32
START_MS = 1_451_577_900_000


def hmac_of(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, b"\x00".join(parts), "sha256")


def shares_of(proof: Proof, seed: bytes) -> list[int]:
    """Make the shares of a proof's terms, of blocks if it is long."""
    algorithm, total, count = proof["algorithm"], proof["total_fen"], proof["count"]
    limits = proof["share_fen_min"], proof["share_fen_max"]
    if proof["sender_nonce"] is not None:
        seed = hmac_of(seed, b"nonce", proof["sender_nonce"].encode())
    if count <= BLOCK_RANKS or algorithm == "equal/1":
        return split(algorithm, seed, total, count, *limits)
    bounds = [*range(0, count, BLOCK_RANKS), count]
    shares: list[int] = []
    for k in range(len(bounds) - 1):
        block_fen = total * bounds[k + 1] // count - total * bounds[k] // count
        block_seed = hmac_of(seed, b"block", k.to_bytes(8, "big"))
        shares.extend(split(algorithm, block_seed, block_fen, bounds[k + 1] - bounds[k], *limits))
    return shares


def heads_of(proof: Proof) -> list[str]:
    """Chain the grabs of a proof link by link; return every head, that before the first grab first."""
    terms = [proof["algorithm"], proof["total_fen"], proof["count"], proof["share_fen_min"], proof["share_fen_max"]]
    text = "\n".join(map(str, [*terms, proof["sender_nonce"] or ""]))
    found, rest = [hashlib.sha256(bytes.fromhex(proof["commitment"]) + text.encode()).hexdigest()], list(proof["grabs"])
    for size in proof["chain_links"]:
        link, rest = rest[:size], rest[size:]
        rows = b"".join(g["amount_fen"].to_bytes(4, "little") + g["at_ms"].to_bytes(8, "little") for g in link)
        users = "\n".join(g["user"] for g in link).encode()
        found.append(hashlib.sha256(bytes.fromhex(found[-1]) + size.to_bytes(4, "little") + rows + users).hexdigest())
    return found


def proof_of(
    *,
    algorithm: str = "even/1",
    total_fen: int = 1_000,
    count: int = 5,
    taken: int | None = None,
    nonce: str | None = None,
    links: Sequence[int] | None = None,
    limits: tuple[int, int] = (1, 20_000),
    seed: bytes = bytes(range(32)),
    packet_id: str = PACKET_ID,
    lanes: int = 1,
    rank_base: int = 0,
) -> Proof:
    """Return the proof of an ended packet (a lane of one); `taken` None: all shares; `links` None: one a grab."""
    taken = count if taken is None else taken
    proof: Proof = {
        "packet_id": packet_id,
        "algorithm": algorithm,
        "commitment": hashlib.sha256(b"\x00".join((algorithm.encode(), packet_id.encode(), seed))).hexdigest(),
        "sender_nonce": nonce,
        "total_fen": total_fen,
        "count": count,
        "share_fen_min": limits[0],
        "share_fen_max": limits[1],
        "state": "drained" if taken == count else "expired",
        "rank_base": rank_base,
        "chain_links": list(links) if links is not None else [1] * taken,
        "next_after_rank": None,
        "lanes": lanes,
        "seed": seed.hex(),
    }
    proof["shares_fen"] = shares_of(proof, seed)
    proof["grabs"] = [
        {"rank": rank, "user": f"用户{rank}", "amount_fen": proof["shares_fen"][place], "at_ms": START_MS + place // 2}
        for place, rank in enumerate(range(rank_base + 1, rank_base + taken + 1))
    ]
    proof["chain_head"] = heads_of(proof)[-1]
    return proof


def opened(proof: Proof) -> Proof:
    """Return what was told of it while it was open."""
    hidden = {"seed", "shares_fen", "grabs", "chain_links"}
    return {name: told for name, told in proof.items() if name not in hidden} | {"state": "open"}


def lanes_of(lanes: int = 3, **terms: Any) -> list[Proof]:
    """Return the proofs of a packet in lanes, each of a size and a seed of its own."""
    found: list[Proof] = []
    for lane in range(lanes):
        found.append(
            proof_of(
                packet_id=f"{PACKET_ID}.{lane}",
                lanes=lanes,
                rank_base=sum(proof["count"] for proof in found),
                seed=bytes([lane]) * 32,
                **{"count": 4 + lane} | terms,
            )
        )
    return found


def pages_of(proof: Proof, size: int) -> list[Proof]:
    """Cut a proof into pages of so many ranks."""
    pages = []
    for start in range(0, proof["count"], size):
        end = start + size
        cut = {name: proof[name][start:end] for name in ("shares_fen", "grabs")}
        cut["chain_links"] = [] if start else proof["chain_links"]
        pages.append(proof | cut | {"next_after_rank": proof["rank_base"] + end if end < proof["count"] else None})
    return pages
