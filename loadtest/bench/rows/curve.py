"""Curve: throughput and p99 of each system from one connection to 256, for the plot. It has no rows of its own."""

from loadtest.bench.ground import BATCH_SIZE, SHARES, Ground, Point
from loadtest.bench.peers.no_op import ROUTE
from loadtest.bench.result import BenchRow
from loadtest.bench.rows.stream import WINDOW

CONNECTIONS = (1, 4, 16, 64, 256)
BATCHES = (1, 4, 16, 64)
STREAMS = (1, 4, 16)
SECONDS = 2.0
SINGLE, BATCH, STREAM = "hongbao, single", "hongbao, batch of 200", f"hongbao, stream ({WINDOW} under way each)"
LUA, NO_OP = "FastAPI + Redis Lua, single", "Serve raw no-op, single"


async def rows(ground: Ground) -> list[BenchRow]:
    """Collect the points."""
    bed = ground.bed

    def note(system: str, connections: int, per_second: float, p99_ms: float) -> None:
        ground.points.append(Point(system, connections, round(per_second), round(p99_ms, 2)))

    no_op = [bed.single_grab("no-op", "taker-1", ROUTE)]
    for connections in CONNECTIONS:
        ground.say(f"curve, {connections} connections")
        packets = await bed.open(bed.sends(ground.packets_for("single", SECONDS), SHARES))
        requests = bed.single_grabs(packets, SHARES)
        await ground.settled()
        seen = await ground.drive("single", requests, connections=connections, seconds=SECONDS)
        note(SINGLE, connections, seen.per_second, seen.p99_ms)
        requests = await ground.lua().fill(ground.packets_for("peer", SECONDS), SHARES)
        seen = await ground.drive("peer", requests, url=ground.lua().url, connections=connections, seconds=SECONDS)
        note(LUA, connections, seen.per_second, seen.p99_ms)
        await ground.lua().check(seen.answers, connections + 1)
        seen = await ground.drive("no-op", no_op, connections=connections, seconds=SECONDS, again=True)
        note(NO_OP, connections, seen.per_second, seen.p99_ms)
    for connections in BATCHES:
        packets = await bed.open(bed.sends(ground.packets_for("batch", SECONDS), SHARES))
        requests = bed.batch_grabs(packets, SHARES, BATCH_SIZE)
        await ground.settled()
        seen = await ground.drive("batch", requests, connections=connections, seconds=SECONDS)
        note(BATCH, connections, seen.per_second * BATCH_SIZE, seen.p99_ms)
    for connections in STREAMS:
        packets = await bed.open(bed.sends(ground.packets_for("stream", SECONDS), SHARES))
        await ground.settled()
        report = await ground.stream(packets, SHARES, connections=connections, window=WINDOW, seconds=SECONDS)
        note(STREAM, connections, report.answers / report.seconds, report.p99_ms)
    await ground.bed.check()
    return []
