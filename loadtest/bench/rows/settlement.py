"""Settlement rows: do wallets keep up with grabs? Lag at nine tenths of the peak, and how fast a backlog is credited.

The peak is the batch door's in a closed loop over some seconds, so that settlement must run beside it; then the same
client offers nine tenths of it in an open loop. For the backlog the settlement tasks are stopped (SIGSTOP) while grabs
go on, then go on themselves with nothing else to do. What is under way at the stop may time out and is delivered again.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

from loadtest.bench.bed import POLL_S, REPEATED_STATUSES
from loadtest.bench.ground import BATCH_CONNECTIONS, BATCH_SIZE, Ground
from loadtest.bench.result import BenchRow, bounded, compare
from loadtest.bench.wire import drive_http

SHARES = 1_000
"""Of a packet here: fewer sends beforehand, as many takers."""

PEAK_S = 6.0
OFFERED = 0.9
LAG_S = 10.0
LAG_MS_MAX = 1_000.0
BACKLOG_S = 3.0
DRAIN_POLL_S = 0.05


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure the peak, the lag below it, then the backlog."""
    peak = await _peak(ground)
    lag_ms, offered, accepted, late_ms = await _lag(ground, peak * OFFERED)
    drained, accepted_alone, backlog = [], [], 0
    for turn in range(ground.rounds):
        ground.say(f"backlog, round {turn + 1} of {ground.rounds}")
        taken, backlog, credited = await _backlog(ground)
        accepted_alone.append(taken)
        drained.append(credited)
    ground.say(f"  credited {drained[-1]:,.0f}/s of a backlog of {backlog:,}, accepted {accepted_alone[-1]:,.0f}/s")
    note = f"offered {offered:,.0f} grabs/s, accepted {accepted:,.0f}, p99 from due time {late_ms:.0f} ms"
    beside = f"backlog {backlog:,}; accepted while settlement stood still"
    return [
        bounded("settlement lag at 90 % of the batch peak", lag_ms, LAG_MS_MAX, "ms", note),
        compare("wallets credited / grabs accepted", drained, accepted_alone, "grabs/s", at_least=1.5, note=beside),
    ]


async def _peak(ground: Ground) -> float:
    """Return the grabs a second that are accepted while settlement runs beside them."""
    bed = ground.bed
    ground.say("batch peak beside settlement")
    packets = await bed.open(bed.sends(ground.count_for("batch", PEAK_S) // SHARES + 1, SHARES))
    requests = bed.batch_grabs(packets, SHARES, BATCH_SIZE)
    await ground.settled()
    run = await drive_http(bed.url, iter(requests), connections=BATCH_CONNECTIONS, seconds=PEAK_S)
    await bed.drain_rest(packets, SHARES)
    return run.statuses[200] / run.seconds * BATCH_SIZE


async def _lag(ground: Ground, rate: float) -> tuple[float, float, float, float]:
    """Offer grabs at a rate; return (greatest lag in ms, offered, accepted a second, p99 in ms from when due)."""
    bed = ground.bed
    ground.say(f"settlement lag at {rate:,.0f} grabs/s")
    packets = await bed.open(bed.sends(int(rate * LAG_S) // SHARES + 1, SHARES))
    requests = bed.batch_grabs(packets, SHARES, BATCH_SIZE)
    await ground.settled()
    lag_ms = 0

    async def watch() -> None:
        nonlocal lag_ms
        while True:
            lag_ms = max(lag_ms, (await ground.unsettled())[1])
            await asyncio.sleep(POLL_S)

    watching = asyncio.ensure_future(watch())
    try:
        run = await drive_http(
            bed.url, iter(requests), connections=2 * BATCH_CONNECTIONS, seconds=4 * LAG_S, per_second=rate / BATCH_SIZE
        )
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert set(run.statuses) <= {200, *REPEATED_STATUSES}, f"the load was answered {run.statuses}"
    await bed.drain_rest(packets, SHARES)
    return float(lag_ms), rate, run.statuses[200] / run.seconds * BATCH_SIZE, run.percentile_ms(0.99)


async def _backlog(ground: Ground) -> tuple[float, int, float]:
    """Return (grabs accepted a second without settlement, backlog, grabs credited a second without grabs)."""
    bed = ground.bed
    packets = await bed.open(bed.sends(ground.count_for("batch", BACKLOG_S) // SHARES + 1, SHARES))
    requests = bed.batch_grabs(packets, SHARES, BATCH_SIZE)
    await ground.settled()
    with settlement_stopped(ground):
        run = await ground.drive("batch", requests, seconds=BACKLOG_S)
        backlog, _ = await ground.unsettled()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await ground.settled(DRAIN_POLL_S)
    credited = backlog / (loop.time() - began_s)
    await bed.drain_rest(packets, SHARES)
    return run.per_second * BATCH_SIZE, backlog, credited


@contextlib.contextmanager
def settlement_stopped(ground: Ground) -> Iterator[None]:
    """Stop the settlement tasks' processes meanwhile."""
    pids = ground.pids_of("settlement")
    assert pids, "a settlement task lingers while there was work just now"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
