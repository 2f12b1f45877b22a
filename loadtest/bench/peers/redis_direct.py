"""Redis Lua directly: the same script without HTTP, from `redis-benchmark` where it is installed, else from our client.

50 connections, 16 commands deep: what a service written in C around the script could reach at best.
"""

import asyncio
import csv
import shutil

import redis.asyncio as redis

from cluster.local.processes import end_with_parent
from loadtest.bench.peers.lua_http import LUA, SHARE_FEN
from loadtest.bench.peers.store import PeerStore
from loadtest.bench.wire import drive_resp, resp

CONNECTIONS = 50
DEPTH = 16
FILL = 10_000
USERS_MAX = 2_147_483_647
TWICE_SHARE_MAX = 0.001
"""redis-benchmark draws users at random; a user who is drawn twice is overwritten: two or three of 100,000."""


def client_name() -> str:
    """Say which client drives it."""
    return "redis-benchmark" if shutil.which("redis-benchmark") else "the bundled client (no redis-benchmark installed)"


async def drain(store: PeerStore, count: int) -> float:
    """Take `count` shares of one packet; return grabs a second. Checks that each was paid once."""
    client = redis.Redis.from_url(store.url)
    try:
        for _ in range(0, count, FILL):
            await client.rpush("shares", *([SHARE_FEN] * FILL))
        sha = await client.script_load(LUA)
        if shutil.which("redis-benchmark"):
            per_second = await _by_redis_benchmark(store, sha, count)
        else:
            commands = [resp("EVALSHA", sha, 2, "shares", "takers", f"user{number}") for number in range(count)]
            seconds, values = await drive_resp(str(store.socket), commands, connections=CONNECTIONS, depth=DEPTH)
            assert values == count, "everybody is answered"
            per_second = count / seconds
        amounts = [int(text) for text in await client.hvals("takers")]
        assert await client.llen("shares") == 0, "every share is taken"
        assert count * (1 - TWICE_SHARE_MAX) <= len(amounts) <= count, f"{len(amounts)} takers of {count} shares"
        assert sum(amounts) == len(amounts) * SHARE_FEN, "every taker has a share"
        await client.delete("shares", "takers")
        return per_second
    finally:
        await client.aclose()


async def _by_redis_benchmark(store: PeerStore, sha: str, count: int) -> float:
    command = ["redis-benchmark", "-s", str(store.socket), "-c", str(CONNECTIONS), "-P", str(DEPTH), "-n", str(count)]
    command += ["-r", str(USERS_MAX), "--csv", "EVALSHA", sha, "2", "shares", "takers", "user:__rand_int__"]
    program = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, preexec_fn=end_with_parent
    )
    output, complaint = await program.communicate()
    assert program.returncode == 0, f"redis-benchmark failed: {complaint.decode()[-300:]}"
    return parse_redis_benchmark(output.decode())


def parse_redis_benchmark(output: str) -> float:
    """Read the requests a second from `redis-benchmark --csv`. Raises ValueError if there are none."""
    lines = list(csv.DictReader(line for line in output.splitlines() if line.startswith('"')))
    if len(lines) != 1 or "rps" not in lines[0]:
        raise ValueError(f"redis-benchmark printed no result: {output[-300:]}")
    return float(lines[0]["rps"])
