"""Million rows: one packet with a million shares, drained in batches over HTTP, exact to the fen."""

from loadtest.bench.bed import assert_paid_out
from loadtest.bench.ground import Ground
from loadtest.bench.result import BenchRow, stated

SHARES = 1_000_000
SIZE = 1_000
CONNECTIONS = 8


async def rows(ground: Ground) -> list[BenchRow]:
    """Drain it, then add everything up. The first grab makes the split of the whole packet, and is part of the rate."""
    bed = ground.bed
    ground.say(f"one packet with {SHARES:,} shares")
    [packet_id] = await bed.open(bed.sends(1, SHARES))
    users = (f"crowd-{number}" for number in range(SHARES))
    seconds, items = await bed.take(packet_id, users, size=SIZE, connections=CONNECTIONS, first_alone=True)
    assert not any(item.replayed for item in items.values()), "everybody takes a fresh share"
    assert_paid_out(packet_id, SHARES, items)
    await bed.check()
    note = f"exact: every share once, to {SHARES:,} users in {seconds:.1f} s"
    return [stated("one packet with 1 M shares, drained by batch over HTTP", SHARES / seconds, "grabs/s", note)]
