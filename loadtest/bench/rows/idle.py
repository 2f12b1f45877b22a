"""Idle rows: what one client alone waits for, beside the no-op and a bare Ray actor call in the same run."""

import statistics
import time
from collections.abc import Awaitable, Callable

from loadtest.bench.ground import SHARES, Ground
from loadtest.bench.peers.no_op import ROUTE
from loadtest.bench.result import BenchRow, compare
from loadtest.bench.traffic import BareActor

SECONDS = 2.0
CALLS = 400
RATE_MAX = 1_000
"""One client alone gets no more answers a second; so many grabs are made."""


async def call_p50_ms(ask: Callable[[], Awaitable[object]]) -> float:
    """Return the median time of a call, one after another."""
    for _ in range(CALLS // 4):
        await ask()
    taken_ms = []
    for _ in range(CALLS):
        began_s = time.perf_counter()
        await ask()
        taken_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(taken_ms)


async def rows(ground: Ground) -> list[BenchRow]:
    """Compare the medians of one idle client."""
    bed = ground.bed
    bare = BareActor()
    await bare.ask()
    ours, no_op, call = [], [], []
    beside = [bed.single_grab("no-op", "taker-1", ROUTE)]
    for turn in range(ground.rounds):
        ground.say(f"one idle client, round {turn + 1} of {ground.rounds}")
        packets = await bed.open(bed.sends(int(SECONDS * RATE_MAX) // SHARES, SHARES))
        await ground.settled()
        grabs = bed.single_grabs(packets, SHARES)
        ours.append((await ground.drive("idle", grabs, connections=1, seconds=SECONDS)).p50_ms)
        await ground.settled()
        seen = await ground.drive("idle no-op", beside, connections=1, seconds=SECONDS, again=True)
        no_op.append(seen.p50_ms)
        call.append(await call_p50_ms(bare.ask))
        await bed.drain_rest(packets, SHARES)
    bare.end()
    floor = [request + one for request, one in zip(no_op, call, strict=True)]
    note = f"no-op {statistics.median(no_op):.2f} + call {statistics.median(call):.2f} ms"
    name = "one idle client, p50: HTTP single / raw no-op + bare actor call"
    return [compare(name, ours, floor, "ms", at_most=1.25, note=note)]
