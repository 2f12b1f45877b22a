"""Flood rows: how a user of another tenant fares beside what strangers and one greedy tenant do to the door."""

import time

from cluster.tokens import mint
from loadtest.bench.floods import FLOODS, GREEDY, HALVES, IDLE, Fared, beside, fare
from loadtest.bench.ground import Ground
from loadtest.bench.result import BenchRow, compare

SECONDS = 6.0
FLOOD_S = 30.0
PART_MIN, P99_TIMES_MAX = 0.9, 3.0
KINDS = {
    "idle": f"{IDLE:,} silent connections",
    "halves": f"{HALVES:,} half bodies of one user",
    "floods": f"{FLOODS} floods of 260 KB without a token",
    "greedy": f"{GREEDY} connections of one greedy tenant",
}


async def rows(ground: Ground) -> list[BenchRow]:
    """Compare a user's successes and p99 with and without each flood."""
    now_s = int(time.time())
    quiet, greedy = (
        mint(ground.keys, user="somebody", tenant=tenant, scope="user", now_s=now_s, ttl_s=3_600)
        for tenant in ("quiet", "greedy")
    )

    async def measured() -> Fared:
        return await fare(ground.bed.url, quiet, SECONDS)

    made = []
    for kind, name in KINDS.items():
        without, during = [], []
        for turn in range(ground.rounds):
            without.append(await measured())
            during.append(await beside(kind, ground.bed.url, greedy, FLOOD_S, measured))
            ground.say(f"{name}, round {turn + 1} of {ground.rounds}: {during[-1]}, without it {without[-1]}")
        parts = [one.part for one in during], [one.part for one in without]
        made.append(compare(f"{name}: another tenant's successes / without", *parts, "part", at_least=PART_MIN))
        p99_ms = [one.p99_ms for one in during], [one.p99_ms for one in without]
        made.append(compare(f"{name}: its p99 / without", *p99_ms, "ms", at_most=P99_TIMES_MAX))
    return made
