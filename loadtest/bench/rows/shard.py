"""Shard rows: one shard actor, called as a gateway would, beside the Lua script that does the same in a store."""

from loadtest.bench.ground import Ground
from loadtest.bench.own_shard import OwnShard
from loadtest.bench.peers import redis_direct
from loadtest.bench.result import BenchRow, compare

SHARES = 200_000
LUA_SHARES = 100_000
SIZE = 1_000
ROUNDS_MIN = 5


async def rows(ground: Ground) -> list[BenchRow]:
    """Drain big packets by turns."""
    shard = OwnShard("packet-000", ground.settings, ground.keys, f"{ground.run}-shard")
    await shard.start()
    ours, peer = [], []
    rounds = max(ROUNDS_MIN, ground.rounds)
    for turn in range(rounds):
        ours.append(await shard.drain(SHARES, SIZE))
        peer.append(await redis_direct.drain(ground.peer_store(), LUA_SHARES))
        ground.say(f"shard, round {turn + 1} of {rounds}: {ours[-1]:,.0f} grabs/s, Redis Lua {peer[-1]:,.0f}/s")
    shard.stop()
    deep = f"{redis_direct.DEPTH} deep x {redis_direct.CONNECTIONS} connections by {redis_direct.client_name()}"
    name = "one shard actor, 1,000 grabs a call / Redis Lua directly"
    return [compare(name, ours, peer, "grabs/s", at_least=4, note=deep)]
