"""Star rows: a star's packet in 1, 2 and 4 lanes, with a fifth more users than shares, by batch over HTTP, exact.

The packet of a million shares has four lanes; those of fewer lanes have as many shares a lane.
"""

from actors.wallet.rules import WalletRules
from loadtest.bench.bed import assert_paid_out
from loadtest.bench.ground import Ground
from loadtest.bench.result import BenchRow, stated

LANES = (1, 2, 4)
SIZE = 1_000
CONNECTIONS = 8


async def rows(ground: Ground) -> list[BenchRow]:
    """Drain a packet of each number of lanes, round after round, and add everything up every time."""
    rates: dict[int, list[float]] = {lanes: [] for lanes in LANES}
    for turn in range(ground.rounds):
        for lanes in LANES[:: -1 if turn % 2 else 1]:
            rates[lanes].append(await drained(ground, lanes, turn))
    medians = {lanes: sorted(found)[len(found) // 2] for lanes, found in rates.items()}
    per_lane = ground.settings.rules(WalletRules).sends.lane_count_max
    note = "exact: every rank once, nobody twice, the total to the fen; this machine's cores are shared by all"
    return [
        stated(f"star packet in {lanes} lanes: {lanes * per_lane:,} shares, a fifth more users", rate, "grabs/s", note)
        for lanes, rate in medians.items()
    ]


async def drained(ground: Ground, lanes: int, turn: int) -> float:
    """Send one packet and let everybody grab; return grabs a second, those told `drained` among them."""
    bed = ground.bed
    shares = lanes * ground.settings.rules(WalletRules).sends.lane_count_max
    packet = await bed.send("star", shares, f"sender-{ground.run}-{turn}", f"{ground.run}-star-{lanes}-{turn}")
    assert packet.lanes == lanes, f"{shares} shares are {lanes} lanes, not {packet.lanes}"
    fans = [f"fan-{number}" for number in range(shares + shares // 5)]
    seconds, items = await bed.take(packet.packet_id, fans, size=SIZE, connections=CONNECTIONS)
    assert_paid_out(packet.packet_id, shares, items)
    assert {item.code for item in items.values() if not item.rank} == {"drained"}, "nobody else is told anything else"
    await bed.check()
    ground.say(f"  {lanes} lanes: {len(fans):,} users in {seconds:.1f} s, {shares:,} winners")
    return len(fans) / seconds
