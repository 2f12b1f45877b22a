"""Stream rows: grabs as lines of long requests, beside peer (a)'s single requests; and one line at a time."""

import statistics

from loadtest.bench.ground import CONNECTIONS, SHARES, WINDOW_S, Ground
from loadtest.bench.load import Load
from loadtest.bench.result import BenchRow, bounded, compare
from loadtest.bench.rows.idle import call_p50_ms
from loadtest.bench.traffic import BareActor

STREAMS = 8
WINDOW = 224
"""Grabs under way on each connection."""
P99_MS_MAX = 50.0
IDLE_S = 2.0
IDLE_RATE_MAX = 2_000


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure the stream; nothing where the platform has none yet."""
    bed = ground.bed
    bare = BareActor()
    await bare.ask()
    ours, p99_ms, idle_ms, call_ms, peers = [], [], [], [], []
    for turn in range(ground.rounds):
        packets = await bed.open(bed.sends(ground.packets_for("stream"), SHARES))

        async def over_streams(packets: list[str] = packets) -> Load:
            report = await ground.stream(packets, SHARES, connections=STREAMS, window=WINDOW)
            p99_ms.append(report.p99_ms)
            return Load(report.seconds, report.answers, 0, report.p50_ms, report.p99_ms, report.cpu_s)

        seen = await ground.costed("stream", 1, over_streams())
        ours.append(seen.per_second)
        ground.rates["stream"] = max(ground.rates["stream"], seen.per_second)
        ground.say(f"stream, round {turn + 1} of {ground.rounds}: {seen.per_second:,.0f}/s, p99 {seen.p99_ms:.1f} ms")
        await bed.drain_rest(packets, SHARES)
        requests = await ground.lua().fill(ground.packets_for("peer"), SHARES)
        single = await ground.drive("peer", requests, url=ground.lua().url)
        await ground.lua().check(single.answers, CONNECTIONS + 1)
        peers.append(single.per_second)
        packets = await bed.open(bed.sends(int(IDLE_S * IDLE_RATE_MAX) // SHARES, SHARES))
        await ground.settled()
        alone = await ground.stream(packets, SHARES, connections=1, window=1, seconds=IDLE_S)
        idle_ms.append(alone.p50_ms)
        call_ms.append(await call_p50_ms(bare.ask))
        await bed.drain_rest(packets, SHARES)
    bare.end()
    note = f"{STREAMS} connections, {WINDOW} under way on each, {WINDOW_S:g} s"
    return [
        compare(
            f"stream over {STREAMS} connections / FastAPI + Redis Lua, single",
            ours,
            peers,
            "grabs/s",
            at_least=20,
            note=note,
        ),
        bounded("the same: p99", statistics.median(p99_ms), P99_MS_MAX, "ms", note),
        compare("one idle stream, p50 / bare actor call", idle_ms, call_ms, "ms", at_most=1.5),
    ]
