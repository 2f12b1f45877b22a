"""Verify packet: recomputes every share of an ended red packet from its proof, with nothing but Python 3.9 or newer.

The proof is the JSON of `GET /v1/packets/{id}/proof`; of a packet in lanes a list of all, `?lane=0` first. Nothing is
imported from the platform: a user who does not trust it reads this and runs `python3 -I verify_packet.py proof.json`.
Page one recomputes, page two reads and compares. Amounts are fen, instants Unix milliseconds, ranks count from 1.
"""

import argparse
import hashlib
import hmac
import json
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

Proof = dict[str, Any]
BLOCK = 10_000


# The first page: what shares, order and money must be.


def mac(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA256."""
    return hmac.new(key, message, hashlib.sha256).digest()


def random_words(seed: bytes) -> Iterator[int]:
    """Yield 32-bit words: HMAC-SHA256(seed, counter) for counter = 0, 1, 2, ..., eight words of each, big-endian."""
    counter = 0
    while True:
        yield from struct.unpack(">8I", mac(seed, counter.to_bytes(8, "big")))
        counter += 1


def draw(words: Iterator[int], n: int) -> int:
    """Draw 0 to n - 1, each as likely: a word modulo n, words beyond the last full stretch of n left out."""
    return 0 if n == 1 else next(word for word in words if word < 2**32 // n * n) % n


def split(algorithm: str, seed: bytes, total: int, count: int, low: int, high: int) -> list[int]:
    """Return the shares by rank."""
    if algorithm == "equal/1":
        return [total // count] * count
    words, shares, rest = random_words(seed), [], total
    for people in range(count, 1, -1):  # the taker of this turn, and all after
        mean, remainder = divmod(rest, people)
        if remainder and draw(words, people) < remainder:
            mean += 1
        later = rest - mean
        width = min(mean - low, high - mean, high * (people - 1) - later, later - low * (people - 1))
        shares.append(mean - width + draw(words, 2 * width + 1))
        rest -= shares[-1]
    shares.append(rest)
    for place in range(count - 1, 0, -1) if algorithm == "even/1" else ():  # shuffled, from the back
        other = draw(words, place + 1)
        shares[place], shares[other] = shares[other], shares[place]
    return shares


def recompute(proof: Proof) -> list[int]:
    """Return the shares by rank from the seed and the sender's nonce; those of a long packet block by block."""
    algorithm, seed, total, count = proof["algorithm"], bytes.fromhex(proof["seed"]), proof["total_fen"], proof["count"]
    limits, shares = (proof["share_fen_min"], proof["share_fen_max"]), []
    if proof.get("sender_nonce") is not None:
        seed = mac(seed, b"nonce\0" + proof["sender_nonce"].encode())
    if count <= BLOCK or algorithm == "equal/1":
        return split(algorithm, seed, total, count, *limits)
    for block, start in enumerate(range(0, count, BLOCK)):
        end, block_seed = min(start + BLOCK, count), mac(seed, b"block\0" + block.to_bytes(8, "big"))
        shares += split(algorithm, block_seed, total * end // count - total * start // count, end - start, *limits)
    return shares


def heads(proof: Proof) -> Iterator[str]:
    """Yield the heads of the chain: before the first grab, and after each link of grabs that were decided together."""
    names = ("algorithm", "total_fen", "count", "share_fen_min", "share_fen_max")
    terms = "\n".join([*(str(proof[name]) for name in names), proof.get("sender_nonce") or ""])
    head, start = hashlib.sha256(bytes.fromhex(proof["commitment"]) + terms.encode()).digest(), 0
    yield head.hex()
    for size in proof["chain_links"]:
        link, start = proof["grabs"][start : start + size], start + size
        rows = b"".join(struct.pack("<IQ", grab["amount_fen"], grab["at_ms"]) for grab in link)
        users = "\n".join(grab["user"] for grab in link).encode()
        head = hashlib.sha256(head + struct.pack("<I", size) + rows + users).digest()
        yield head.hex()


def verify(proof: Proof, head: str) -> Iterator[str]:
    """Yield what does not match in the proof of an ended packet or lane whose chain ends in that head."""
    told, grabs, total, count = proof["shares_fen"], proof["grabs"], proof["total_fen"], proof["count"]
    low, high, first, shares = proof["share_fen_min"], proof["share_fen_max"], proof["rank_base"] + 1, told
    named = b"\0".join((proof["algorithm"].encode(), proof["packet_id"].encode(), bytes.fromhex(proof["seed"])))
    if proof["commitment"] != hashlib.sha256(named).hexdigest():
        yield f"commitment: told {proof['commitment']}, recomputed {hashlib.sha256(named).hexdigest()}"
    if len(told) != count:
        yield f"count: told {count}, but shares_fen lists {len(told)}"
    elif not low * count <= total <= high * count:
        yield f"total_fen: {total} cannot be {count} shares of {low} to {high} fen"
    else:
        shares = recompute(proof)
    if sum(shares) != total:
        yield f"total_fen: told {total}, its shares sum to {sum(shares)}"
    for place, share in enumerate(shares):
        rank, grab = first + place, grabs[place] if place < len(grabs) else None
        if told[place] != share:
            yield f"share of rank {rank}: told {told[place]} fen, recomputed {share} fen"
        if grab and (grab["rank"], grab["amount_fen"]) != (rank, share):
            yield f"grab {rank}: told rank {grab['rank']} and {grab['amount_fen']} fen, recomputed {share} fen"
        if grab and place and grab["at_ms"] < grabs[place - 1]["at_ms"]:
            yield f"grab {rank}: told at_ms {grab['at_ms']}, before the grab before it"
    if len(grabs) > count or (proof["state"] == "drained") != (len(grabs) == count):
        yield f"state: told {proof['state']}, but {len(grabs)} of {count} shares are taken"
    if sum(proof["chain_links"]) != len(grabs) or proof["chain_head"] != head:
        yield f"chain: told {sum(proof['chain_links'])} grabs, head {proof['chain_head']}; recomputed {head}"


def verify_lanes(proofs: list[Proof]) -> Iterator[str]:
    """Yield what does not match from lane to lane: other terms, ranks that overlap, a user who took twice."""
    base, users = 0, set()
    for proof in proofs:
        if proof["rank_base"] != base:
            yield f"rank_base: told {proof['rank_base']}, but {base} shares come before"
        base += proof["count"]
        for name in ("lanes", "algorithm", "sender_nonce", "share_fen_min", "share_fen_max"):
            if proof.get(name) != proofs[0].get(name):
                yield f"{name}: {proof['packet_id']} tells another one than {proofs[0]['packet_id']}"
        for grab in proof["grabs"] if proof["state"] != "open" else ():
            if grab["user"] in users:
                yield f"grab {grab['rank']}: user {grab['user']!a} has taken another"
            users.add(grab["user"])


# The second page: what a proof is made of, how it is read and held against what somebody noted.

MATCHES, DIFFERS, NO_PROOF, NOT_ENDED = 0, 1, 2, 3
CODES = "exit codes: 0 everything matches, 1 something does not, 2 no proof that can be checked, 3 not ended yet"
LINES_MAX, BYTES_MAX = 20, 2**28
HEX, TEXT, WHOLE, FEN = "[0-9a-f]{64}", r"[^\ud800-\udfff]*", range(2**63), range(1, 2**31)
GRAB = {"rank": WHOLE, "user": r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}", "amount_fen": FEN, "at_ms": WHOLE}
ENDED = {"seed": HEX, "chain_links": [FEN], "shares_fen": [FEN], "grabs": [GRAB]}
PROOF = {
    **{"packet_id": "[!-~]{1,64}", "algorithm": "equal/1|double-mean/1|even/1", "state": "open|drained|expired"},
    **{"commitment": HEX, "chain_head": HEX, "total_fen": WHOLE, "count": WHOLE[1:], "rank_base": WHOLE},
    **{"lanes": range(1, 10_001), "share_fen_min": FEN, "share_fen_max": FEN},
}


class NotAProof(ValueError):
    """What was given cannot be checked; the sentence says why."""


def check(value: Any, rule: Any, where: str) -> None:
    """Raise NotAProof unless a value is as its rule: a pattern, a range, a list of one rule, an object of many."""
    if isinstance(rule, dict):
        fits, wanted = isinstance(value, dict), "a JSON object"
        for name, inner in rule.items() if fits else ():
            check(value.get(name), inner, f"{name} of {where}")
    elif isinstance(rule, list):
        fits, wanted = isinstance(value, list), "a list"
        for place, one in enumerate(value if fits else (), 1):
            check(one, rule[0], f"entry {place} of {where}")
    elif isinstance(rule, str):
        fits, wanted = isinstance(value, str) and re.fullmatch(rule, value) is not None, f"a text like {rule}"
    else:
        fits, wanted = type(value) is int and value in rule, f"an integer from {rule[0]} to {rule[-1]}"
    if not fits:
        told = f"{value!a:.70}" if isinstance(value, (str, int)) else type(value).__name__
        raise NotAProof(f"{where} must be {wanted}, not {told}")


def check_proof(proof: Any) -> None:
    """Raise NotAProof unless this is a whole proof, of a kind that this page knows."""
    check(proof, PROOF, "the proof")
    check(proof, ENDED if proof["state"] != "open" else {}, "the proof")
    check(proof, {"sender_nonce": TEXT} if proof.get("sender_nonce") is not None else {}, "the proof")
    if proof.get("next_after_rank") is not None:
        raise NotAProof("only a part of the proof: add shares_fen and grabs of ?after_rank=, with its next_after_rank")


def judge(
    proofs: Any, commitments: Sequence[str] = (), noted: Sequence[str] = (), total_fen: "int | None" = None
) -> tuple[int, list[str]]:
    """Return the exit code and what to tell of a proof or of all lanes', held against what somebody noted down."""
    proofs = proofs if isinstance(proofs, list) else [proofs]
    for proof in proofs:
        check_proof(proof)
    names, lanes = [proof["packet_id"] for proof in proofs], proofs[0]["lanes"] if proofs else 1
    packet_id = "".join(names[:1]) if lanes == 1 else names[0].rpartition(".")[0]
    if names != ([packet_id] if lanes == 1 else [f"{packet_id}.{lane}" for lane in range(lanes)]):
        raise NotAProof(f"wanted is one packet, with all its lanes in order; given are {len(names)}: {names!a:.200}")
    wrong, facts, told, is_open = list(verify_lanes(proofs)), [], set(), False
    for proof in proofs:
        total, nonce = proof["total_fen"], ascii(proof.get("sender_nonce"))  # None: the sender added nothing
        facts.append(f"  {proof['packet_id']}: {proof['count']} shares, {total} fen, commitment {proof['commitment']}")
        if proof["state"] == "open":
            is_open = True
            facts.append(f"    open; note down its commitment and the head of its chain, {proof['chain_head']}")
            continue
        chain, paid = list(heads(proof)), sum(grab["amount_fen"] for grab in proof["grabs"])
        told.update(chain)
        wrong += (f"{proof['packet_id']}: {line}" for line in verify(proof, chain[-1]))
        facts.append(f"    shares recomputed by {proof['algorithm']} with the seed committed to, nonce {nonce:.70}")
        facts.append(f"    {len(proof['grabs'])} grabs, no user twice; {paid} fen paid, {total - paid} fen never taken")
        facts.append(f"    chain of {len(chain) - 1} links, head {chain[-1]}")
    committed, sent = {proof["commitment"] for proof in proofs}, sum(proof["total_fen"] for proof in proofs)
    wrong += (f"commitment: {one!a} was noted, told is another" for one in commitments if one.lower() not in committed)
    wrong += (f"head: {one!a} was noted, told are others" for one in noted if not is_open and one.lower() not in told)
    wrong += [f"total_fen: {total_fen} was noted, told is {sent}"] if total_fen not in (None, sent) else []
    if wrong:
        more = [f"  ... and {len(wrong) - LINES_MAX} more"] if len(wrong) > LINES_MAX else []
        return DIFFERS, [f"packet {packet_id}: DOES NOT MATCH", *(f"  {line}" for line in wrong[:LINES_MAX]), *more]
    if is_open:
        return NOT_ENDED, [f"packet {packet_id}: not ended yet: its seed is published when it ends", *facts]
    shares = sum(proof["count"] for proof in proofs)
    return MATCHES, [f"packet {packet_id}: everything matches: {shares} shares, {sent} fen", *facts]


def read(name: str) -> Any:
    """Return the JSON of a file, - for standard input. Raises NotAProof, OSError."""
    with open(0 if name == "-" else name, "rb") as file:
        content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise NotAProof(f"the file is longer than {BYTES_MAX} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as failure:
        raise NotAProof("this is not JSON") from failure


def main() -> int:
    """Check one file; return the exit code."""
    parser = argparse.ArgumentParser(description="Recompute a red packet's shares from its proof.", epilog=CODES)
    parser.add_argument("file", help="JSON of GET /v1/packets/{id}/proof, or a list of all lanes'; - is standard input")
    parser.add_argument("--commitment", action="append", default=[], help="as told when the packet was sent")
    parser.add_argument("--head", action="append", default=[], help="a chain_head seen while the packet was open")
    parser.add_argument("--total-fen", type=int, help="what the sender paid")
    asked = parser.parse_args()
    try:
        code, lines = judge(read(asked.file), asked.commitment, asked.head, asked.total_fen)
    except (NotAProof, OSError, MemoryError) as failure:
        code, lines = NO_PROOF, [f"no proof that can be checked: {str(failure) or 'it does not fit into memory'}"]
    (sys.stdout if code != NO_PROOF else sys.stderr).write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
